package appendfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrLocked: another process, or another opening in this one, has the file open for appending.
var ErrLocked = errors.New("in use by another process")

var (
	errMoved   = errors.New("the file at the path is not the one that was written")
	errShort   = errors.New("the file is shorter than what was written to it")
	errLong    = errors.New("the file is longer than what was written to it")
	errNoFile  = errors.New("not a regular file")
	errNotOpen = errors.New("not open")
)

// Check verifies the first size bytes of r against what the owner of the file wrote there. replaced tells that it is
// another file than before (a copy brought back), so that every byte has to be looked at; else the tail will do.
type Check func(r io.ReaderAt, size int64, replaced bool) error

// maxProbe bounds the room that is asked for before a failed file counts as mended.
const maxProbe = 1 << 20

// File is a file open for appending, used by one goroutine at a time.
type File struct {
	path  string
	check Check

	file   *os.File
	info   os.FileInfo
	end    int64 // durable
	staged int64 // bytes behind end that are written but not synced
	failed error
	probe  int64 // bytes of the stage that failed

	sync func(*os.File) error // (*os.File).Sync; tests make it fail
}

// Open opens the regular file at path, locked against other writers. With create it makes a file (0600) when there is
// none; without, a missing file is fs.ErrNotExist. All its bytes count as durable until Cut says otherwise.
func Open(path string, create bool) (*File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	file, info, err := openLocked(path, flags)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, file: file, info: info, end: info.Size(), sync: (*os.File).Sync}
	// What a crashed process wrote may still be in the page cache alone.
	if err := f.sync(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	if err := SyncFolder(filepath.Dir(path)); err != nil {
		_ = file.Close()
		return nil, err
	}
	return f, nil
}

func openLocked(path string, flags int) (*os.File, os.FileInfo, error) {
	// Looked at before it is opened: opening a pipe for writing would wait for a reader.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: %w", path, errNoFile)
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := Lock(file); err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errNoFile)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// SetCheck sets what Begin asks before it goes on after a failure. Without one only the size is compared.
func (f *File) SetCheck(check Check) { f.check = check }

// Cut drops everything behind size, which becomes the durable end.
func (f *File) Cut(size int64) error {
	if size > f.end {
		return fmt.Errorf("%s: %w", f.path, errShort)
	}
	if size == f.end {
		return nil
	}
	if err := f.file.Truncate(size); err != nil {
		return err
	}
	if err := f.sync(f.file); err != nil {
		return err
	}
	f.end = size
	return nil
}

// Size is the durable end.
func (f *File) Size() int64 { return f.end }

// Path is where the file was opened.
func (f *File) Path() string { return f.path }

// ReadAt reads from the open file, whatever lies at the path by now.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.file.ReadAt(p, off) }

// Begin starts an empty stage. It fails when the file is not at its path, and after a failure until the file could be
// mended: found again, checked, cut back, and a trial write of the size that failed succeeded.
func (f *File) Begin() error {
	if f.file == nil {
		return errNotOpen
	}
	if err := f.present(); err != nil {
		_ = f.fail(err)
	}
	if f.failed != nil {
		if err := f.mend(); err != nil {
			f.failed = err
			return err
		}
		f.failed, f.probe = nil, 0
	}
	f.staged = 0
	return nil
}

// present returns nil when the open file is at the path and nobody else has cut or extended it.
func (f *File) present() error {
	now, err := os.Stat(f.path)
	switch {
	case err != nil:
		return err
	case !os.SameFile(now, f.info):
		return fmt.Errorf("%s: %w", f.path, errMoved)
	case now.Size() < f.end:
		return fmt.Errorf("%s: %w", f.path, errShort)
	case now.Size() > f.end:
		return fmt.Errorf("%s: %w", f.path, errLong)
	}
	return nil
}

// Stage writes p behind what is staged already.
func (f *File) Stage(p []byte) error {
	if f.failed != nil {
		return f.failed
	}
	n, err := f.file.WriteAt(p, f.end+f.staged)
	f.staged += int64(n)
	if err != nil {
		f.staged += int64(len(p) - n)
		return f.fail(err)
	}
	return nil
}

// Commit makes the stage durable. After an error none of it counts.
func (f *File) Commit() error {
	if f.failed != nil {
		return f.failed
	}
	if err := f.sync(f.file); err != nil {
		return f.fail(err)
	}
	f.end += f.staged
	f.staged = 0
	return nil
}

// Abandon drops the stage, as a failure of its owner's own.
func (f *File) Abandon(err error) { _ = f.fail(err) }

func (f *File) fail(err error) error {
	if f.staged > 0 {
		// So that a crash before the next Begin does not leave entries on disk whose writers were told that there
		// are none. Begin does it again and looks at the outcome.
		_ = f.file.Truncate(f.end)
	}
	f.probe = max(f.probe, f.staged)
	f.staged = 0
	f.failed = err
	return err
}

func (f *File) mend() error {
	file, info, replaced := f.file, f.info, false
	now, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if !os.SameFile(now, f.info) {
		replaced = true
		if file, info, err = openLocked(f.path, os.O_RDWR); err != nil {
			return err
		}
	}
	if err := f.restore(file, replaced); err != nil {
		if replaced {
			_ = file.Close()
		}
		return err
	}
	if replaced {
		_ = f.file.Close()
		f.file, f.info = file, info
	}
	return nil
}

// restore brings file to the durable end, or says why that cannot be done.
func (f *File) restore(file *os.File, replaced bool) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < f.end {
		return fmt.Errorf("%s: %w", f.path, errShort)
	}
	if f.check != nil {
		if err := f.check(file, f.end, replaced); err != nil {
			return err
		}
	}
	// Zeros are what a crash in the middle leaves behind; the owner's reader takes them for a torn end.
	zeros := make([]byte, min(max(f.probe, 4<<10), maxProbe))
	_, err = file.WriteAt(zeros, f.end)
	if err == nil {
		err = f.sync(file)
	}
	if cut := file.Truncate(f.end); err == nil {
		err = cut
	}
	if err == nil {
		err = f.sync(file)
	}
	if err == nil && replaced {
		err = SyncFolder(filepath.Dir(f.path))
	}
	return err
}

// Close releases the file and its lock.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// Mark returns what is needed to look for the file without touching it.
func (f *File) Mark() Mark { return Mark{f.path, f.info} }

// Mark is an open file's identity.
type Mark struct {
	path string
	info os.FileInfo
}

// Present returns nil when the file at the path is the one that is open.
func (m Mark) Present() error {
	now, err := os.Stat(m.path)
	if err != nil {
		return err
	}
	if !os.SameFile(now, m.info) {
		return fmt.Errorf("%s: %w", m.path, errMoved)
	}
	return nil
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	err = folder.Sync()
	return errors.Join(err, folder.Close())
}

// Replace writes content to path in one step: a reader finds the file of before or all of the new one, also after a
// crash. It leaves nothing but path and, after a failure, path + ".tmp".
func Replace(path string, content []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}
