package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

// An import's files beside OUT.
const (
	errorsSuffix   = ".errors.csv"
	progressSuffix = ".progress"
	newSuffix      = ".new" // of OUT and OUT.errors.csv while --force has not given up the old ones
)

// importProgress is the progress file: where an import is, so that another run can go on.
type importProgress struct {
	Version  int                `json:"version"` // 1
	Input    string             `json:"input"`   // absolute path, "-" for standard input
	Size     int64              `json:"size"`    // of the input; -1 = not known
	Modified time.Time          `json:"modified,omitzero"`
	Plan     importPlan         `json:"plan"`
	Next     tablefile.Position `json:"next"`         // of the first row that is not done
	Out      int64              `json:"out_bytes"`    // length of OUT that belongs to the rows done
	Errors   int64              `json:"errors_bytes"` // likewise of OUT.errors.csv
	Totals   importTotals       `json:"totals"`
}

// maxProgress is far above what a progress file can need: a thousand names of columns and reasons.
const maxProgress = 4 << 20

// readProgress reads the file strictly: what it says is cut off the outputs.
func readProgress(path string) (importProgress, error) {
	var s importProgress
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxProgress+1))
	if err != nil {
		return s, err
	}
	if len(text) > maxProgress || json.Unmarshal(text, &s, json.RejectUnknownMembers(true)) != nil || !s.sound() {
		return s, fmt.Errorf("%s is no progress file of an import", path)
	}
	return s, nil
}

func (s importProgress) sound() bool {
	_, format := tablefile.ParseFormat(string(s.Plan.Format))
	_, encoding := tablefile.ParseEncoding(string(s.Plan.Encoding))
	return s.Version == 1 && s.Input != "" && s.Out >= 0 && s.Errors >= 0 && format && (encoding || s.Plan.Encoding == tablefile.Detect) &&
		s.Plan.Subject != "" && len(s.Plan.Fields) > 0 && s.Plan.check() == nil
}

// counted is a file that is written at its end.
type counted struct {
	f *os.File
	n int64 // its length
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.f.Write(b)
	c.n += int64(n)
	return n, err
}

// importFiles are the outputs of an import and its progress file.
type importFiles struct {
	path        string // OUT
	beside      bool   // the outputs still have the names with newSuffix, and there is no progress file of theirs
	answered    bool   // by the server, of a row
	out, errs   *counted
	good, bad   *tablefile.Writer
	state       importProgress
	record, err []tablefile.Cell // reused
}

// makeFiles makes the outputs new, with their headers. Without force nothing that is there is touched, with it not before
// the server has answered of a row: what it refuses, and a mistake in the command, cost nobody the old outputs.
func makeFiles(path string, state importProgress, force bool) (*importFiles, error) {
	progress := path + progressSuffix
	if _, err := os.Lstat(progress); err == nil && !force {
		return nil, fmt.Errorf("an import to %s was not finished; go on with: cloakroom import --resume %s; or give it up with --force", path, shellWord(progress))
	}
	f := &importFiles{path: path, beside: force, state: state}
	names := f.names()
	if force {
		if info, err := os.Lstat(path); err == nil && info.IsDir() {
			return nil, fmt.Errorf("%s is a folder", path)
		}
		for _, left := range names { // by a run that was killed
			if err := remove(left); err != nil {
				return nil, err
			}
		}
	}
	out, err := makeOutput(names[0])
	if err != nil {
		return nil, err
	}
	errs, err := makeOutput(names[1])
	if err != nil {
		return nil, errors.Join(err, out.Close(), os.Remove(names[0]))
	}
	f.out, f.errs = &counted{f: out}, &counted{f: errs}
	f.writers()
	if err := errors.Join(f.good.Header(), f.bad.Header(), f.checkpoint()); err != nil {
		return nil, errors.Join(err, f.drop())
	}
	return f, nil
}

// names are those of the outputs as they are now.
func (f *importFiles) names() []string {
	if f.beside {
		return []string{f.path + newSuffix, f.path + errorsSuffix + newSuffix}
	}
	return []string{f.path, f.path + errorsSuffix}
}

// settle gives up what --force gives up, and gives the outputs their names.
func (f *importFiles) settle() error {
	if !f.beside {
		return nil
	}
	// The progress file goes first: what it speaks of goes too.
	err := remove(f.path + progressSuffix)
	if err == nil {
		err = os.Rename(f.path+errorsSuffix+newSuffix, f.path+errorsSuffix)
	}
	if err == nil {
		err = os.Rename(f.path+newSuffix, f.path)
	}
	f.beside = err != nil
	return err
}

// begun reports whether something was done that can be gone on with.
func (f *importFiles) begun() bool { return f.state.Totals.Rows > 0 && (f.answered || !f.beside) }

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func makeOutput(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already; nothing was done: give another name, or --force to write over it", path)
	}
	return f, err
}

// reopenFiles opens the outputs of an import that stopped and cuts off what belongs to rows that are not done.
func reopenFiles(path string, state importProgress) (*importFiles, error) {
	out, err := reopenOutput(path, state.Out)
	if err != nil {
		return nil, err
	}
	errs, err := reopenOutput(path+errorsSuffix, state.Errors)
	if err != nil {
		return nil, errors.Join(err, out.f.Close())
	}
	f := &importFiles{path: path, out: out, errs: errs, state: state}
	f.writers()
	return f, nil
}

func reopenOutput(path string, length int64) (*counted, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("the import cannot go on: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular() || info.Size() < length:
		err = fmt.Errorf("%s is shorter than when the import stopped; begin anew with --force", path)
	default:
		if err = f.Truncate(length); err == nil {
			_, err = f.Seek(length, io.SeekStart)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &counted{f, length}, nil
}

func (f *importFiles) writers() {
	format, _ := tablefile.FormatOf(f.path)
	heads := f.state.Plan.heads()
	f.good = tablefile.NewWriter(f.out, format, heads)
	f.bad = tablefile.NewWriter(f.errs, tablefile.CSV, []string{"row", "line", "field", "code", "rule", "meaning"})
	f.record, f.err = make([]tablefile.Cell, len(heads)), make([]tablefile.Cell, 6)
}

// fail writes a bad row's line.
func (f *importFiles) fail(row tableRow, fault rowFault) error {
	for i, text := range []string{
		strconv.FormatInt(row.number, 10), strconv.FormatInt(row.line, 10), fault.field, string(fault.code), fault.rule, fault.meaning,
	} {
		f.err[i].Text = text
	}
	f.state.Totals.failed(fault)
	f.state.Next = row.after
	return f.bad.Write(f.err)
}

// store writes a good row's line; tokens stand in the order of the plan's fields.
func (f *importFiles) store(row tableRow, tokens []string, warnings int) error {
	f.record[0] = row.subject
	n := 1 + copy(f.record[1:], row.kept)
	for i, token := range tokens {
		f.record[n+i] = tablefile.Cell{Text: token}
	}
	f.state.Totals.stored(warnings)
	f.state.Next = row.after
	return f.good.Write(f.record)
}

// checkpoint makes all that is done safe, once there is something. The outputs are on disk before the progress file
// speaks of them.
func (f *importFiles) checkpoint() error {
	if f.beside && !f.answered {
		return nil
	}
	return f.save()
}

func (f *importFiles) save() error {
	err := errors.Join(f.good.Flush(), f.bad.Flush())
	if err == nil {
		err = errors.Join(f.out.f.Sync(), f.errs.f.Sync())
	}
	if err == nil {
		err = f.settle()
	}
	if err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	f.state.Out, f.state.Errors = f.out.n, f.errs.n
	text, err := json.Marshal(f.state)
	if err != nil {
		return fmt.Errorf("writing the progress file: %w", err)
	}
	if err := replaceFile(f.path+progressSuffix, append(text, '\n')); err != nil {
		return fmt.Errorf("writing the progress file: %w", err)
	}
	return nil
}

// replaceFile puts a file of mode 0600 in the place of another, whole or not at all. Until then it has one and the same
// other name, so that runs which are killed leave one at most.
func replaceFile(path string, text []byte) error {
	tmp := path + ".tmp"
	if err := remove(tmp); err != nil {
		return err
	}
	// A name that another puts there meanwhile, to lead elsewhere, is not followed.
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes names safe. Some file systems cannot, and say so: then there is nothing more to be done.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}

// finish ends an import that is done. A file of errors stays only when it has one.
func (f *importFiles) finish() error {
	if err := f.save(); err != nil {
		return errors.Join(err, f.close())
	}
	// The progress file goes first: as long as it is there, so must be what it speaks of.
	err := errors.Join(f.close(), os.Remove(f.path+progressSuffix))
	if f.state.Totals.Failed == 0 {
		err = errors.Join(err, os.Remove(f.path+errorsSuffix))
	}
	return errors.Join(err, syncFolder(filepath.Dir(f.path)))
}

func (f *importFiles) close() error { return errors.Join(f.out.f.Close(), f.errs.f.Close()) }

// drop removes everything again that this run made: nothing was done.
func (f *importFiles) drop() error {
	err := f.close()
	for _, path := range f.names() {
		err = errors.Join(err, remove(path))
	}
	if f.beside {
		return err
	}
	return errors.Join(err, remove(f.path+progressSuffix))
}
