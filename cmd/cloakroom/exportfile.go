package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// wholeFile is a file of mode 0600 that gets its name only once it is whole: until then it has another one in the same
// folder, which ends in .partial.
type wholeFile struct {
	f     *os.File
	path  string
	force bool // replaces a file that is there
}

func makeWhole(path string, force bool) (*wholeFile, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case !force:
		return nil, alreadyThere(path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.partial")
	if err != nil {
		return nil, err
	}
	return &wholeFile{f, path, force}, nil
}

func alreadyThere(path string) error {
	return fmt.Errorf("%s is there already; nothing was done: give another name, or --force to write over it", path)
}

// finish makes the file safe and names it.
func (w *wholeFile) finish() error {
	if err := w.f.Sync(); err != nil {
		return errors.Join(err, w.drop())
	}
	tmp := w.f.Name()
	err := w.f.Close()
	if err == nil {
		err = w.name(tmp)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncFolder(filepath.Dir(w.path))
}

// name puts the file in its place. A link fails where a file of that name has come meanwhile; some file systems have none.
func (w *wholeFile) name(tmp string) error {
	if w.force {
		return os.Rename(tmp, w.path)
	}
	err := os.Link(tmp, w.path)
	if err == nil {
		return os.Remove(tmp)
	}
	if _, there := os.Lstat(w.path); !errors.Is(there, fs.ErrNotExist) {
		return alreadyThere(w.path)
	}
	return os.Rename(tmp, w.path)
}

// drop removes the file again.
func (w *wholeFile) drop() error { return errors.Join(w.f.Close(), os.Remove(w.f.Name())) }

// exportTo is where an export goes.
type exportTo struct {
	out        string // file; "" = standard output
	force      bool
	recipients []age.Recipient // nil = readable
}

// export calls write with the place where the export goes. When it fails no file is left. On standard output an encrypted one
// then lacks its end, which age notices, and a readable one ends with the last whole piece that was written.
func (p *program) export(to exportTo, write func(io.Writer) error) error {
	if to.out == "" {
		return to.fill(p.out, write)
	}
	file, err := makeWhole(to.out, to.force)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if err := to.fill(file.f, write); err != nil {
		return errors.Join(err, file.drop())
	}
	if err := file.finish(); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}

func (to exportTo) fill(w io.Writer, write func(io.Writer) error) error {
	if to.recipients == nil {
		lines := bufio.NewWriterSize(w, 64<<10)
		return errors.Join(write(lines), lines.Flush())
	}
	sealed, err := age.Encrypt(w, to.recipients...)
	if err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	if err := write(sealed); err != nil {
		return err // without its last piece the file does not open to the end
	}
	return sealed.Close()
}
