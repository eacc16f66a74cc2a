//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package appendfile

import (
	"errors"
	"os"
	"syscall"
)

// Lock takes an exclusive lock on an open file or folder, or returns ErrLocked. It ends when the file is closed or
// the process dies.
func Lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
