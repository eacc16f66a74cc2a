package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// newFile is a file that a command's answer goes to. It is made before the work is done: an answer that comes only
// once needs a place, and what is there already is never written over. A nil *newFile is none.
type newFile struct{ f *os.File }

// makeNew makes the file at path, which must not be there; "" makes none.
func makeNew(path string, mode fs.FileMode) (*newFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already; nothing was done: give another name, or move it away first", path)
	}
	if err != nil {
		return nil, err
	}
	return &newFile{f}, nil
}

// keep writes a line and closes the file.
func (n *newFile) keep(line []byte) error {
	if n == nil {
		return nil
	}
	_, err := n.f.Write(append(line[:len(line):len(line)], '\n'))
	return errors.Join(err, n.f.Sync(), n.f.Close())
}

// drop removes the file again: there is no answer.
func (n *newFile) drop() error {
	if n == nil {
		return nil
	}
	return errors.Join(n.f.Close(), os.Remove(n.f.Name()))
}
