package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// resolve follows symbolic links. Renaming over a link would replace the link and leave the file it names, with keys
// that were to be destroyed, where it is.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if !absent(abs) {
		return filepath.EvalSymlinks(abs)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// image is a keyring file as it was read.
type image struct {
	envelope
	file []byte
	info os.FileInfo
}

func (i image) wipe() { clear(i.file) }

// readImage reads the file at path and checks its outside. Errors: fs.ErrNotExist, errTorn, ErrPermissions,
// ErrDamaged, or what the file system says.
func readImage(path string) (image, error) {
	before, err := os.Stat(path)
	if err != nil {
		return image{}, err
	}
	if !before.Mode().IsRegular() { // opening a pipe would wait for ever
		return image{}, fmt.Errorf("%w: %s is not a regular file", ErrDamaged, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return image{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return image{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return image{}, fmt.Errorf("%w: others than its owner may use %s; run: chmod 600 %s", ErrPermissions, path, path)
	}
	if info.Size() > maxFile {
		return image{}, errTorn
	}
	file := make([]byte, info.Size()+1) // one more byte notices that it grew meanwhile
	n, err := io.ReadFull(f, file)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(file)
		return image{}, fmt.Errorf("read keyring: %w", err)
	}
	e, err := parse(file[:n])
	if err != nil {
		clear(file)
		return image{}, err
	}
	return image{envelope: e, file: file[:n], info: info}, nil
}

// replace writes file to path so that a crash leaves the old content or the new, and returns what identifies it. The
// temporary file has a fixed name, so that one left by a crash, with keys in it, is found again.
func replace(path string, file []byte) (os.FileInfo, error) {
	tmp := path + ".new"
	if err := discard(tmp); err != nil {
		return nil, err
	}
	info, err := create(tmp, file)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, discard(tmp))
	}
	return info, syncDir(filepath.Dir(path))
}

func create(path string, file []byte) (os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(file)
	if err == nil {
		err = f.Sync()
	}
	var info os.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	return info, errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func discard(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
