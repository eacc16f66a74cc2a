package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloakroom-io/cloakroom/store"
)

// TestDiskFull fills a real file system, and then a real limit on the size of a file, each in a process of its own.
func TestDiskFull(t *testing.T) {
	ways := []string{"tmpfs", "fsize"}
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVar+"="+way+"="+t.TempDir())
			if way == "tmpfs" {
				cmd.SysProcAttr = ownMounts()
			}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			if way == "tmpfs" && (cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == refusedCode) {
				// Only the second way is open to everybody.
				t.Logf("no file system of its own: %v %s", err, out.String())
				return
			}
			if err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// ownMounts starts a process that may mount, seen by nobody else. Who is not root becomes it in a user namespace.
func ownMounts() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Geteuid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

func fillDisk(way, dir string) error {
	if way == "tmpfs" {
		return fillTmpfs(dir)
	}
	return fillToLimit(dir)
}

func fillTmpfs(dir string) error {
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"))
	if err != nil {
		return fmt.Errorf("mount: %w: %w", errRefused, err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 6<<20), 0o600); err != nil {
		return err
	}
	return fillUp(dir, func() error { return os.Remove(ballast) })
}

func fillToLimit(dir string) error {
	signal.Ignore(unix.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := limit
	full.Cur = 20 << 20 // the first 16 MiB are taken at once
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	return fillUp(dir, func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) })
}

// fillUp writes until no more fits, looks, makes room and goes on.
func fillUp(dir string, makeRoom func() error) error {
	const size = 4000 // with the digits about 25 KB a row
	path := filepath.Join(dir, "store.db")
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	var kept []entry
	for n := uint32(0); ; n++ {
		if err = (entry{0, n}).write(s, size); err != nil {
			break
		}
		kept = append(kept, entry{0, n})
	}
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknown) {
		return fmt.Errorf("after %d entries: %w", len(kept), err)
	}
	if strings.Contains(err.Error(), ".0.0;") {
		return errors.New("the error shows a value")
	}
	lost := entry{0, uint32(len(kept))}

	// Full stays full, for many at once, and nothing breaks meanwhile.
	done := make(chan error)
	for w := range uint32(8) {
		go func() { done <- (entry{1, w}).write(s, 4*size) }()
	}
	for range 8 {
		if err := <-done; !errors.Is(err, store.ErrUnavailable) {
			return fmt.Errorf("while full: %w", err)
		}
	}
	if s.unready.Load() == nil {
		return errors.New("the store takes itself for ready")
	}
	if err := checkFull(s, kept, lost, size); err != nil {
		return fmt.Errorf("while full: %w", err)
	}

	if err := makeRoom(); err != nil {
		return err
	}
	if err := s.Ready(); err != nil {
		return fmt.Errorf("after room was made: not ready: %w", err)
	}
	for range 40 {
		e := entry{0, uint32(len(kept))}
		if err := e.write(s, size); err != nil {
			return fmt.Errorf("after room was made: %w", err)
		}
		kept = append(kept, e)
	}
	lost = entry{0, uint32(len(kept))}
	if err := errors.Join(checkFull(s, kept, lost, size), s.Close()); err != nil {
		return err
	}
	if s, err = Open(path, Options{}); err != nil {
		return err
	}
	return errors.Join(checkFull(s, kept, lost, size), s.Close())
}

func checkFull(s *Store, kept []entry, lost entry, size int) error {
	for _, e := range kept {
		if there, err := e.present(s, size); !there || err != nil {
			return fmt.Errorf("acknowledged entry %v: there %t, %w", e, there, err)
		}
	}
	if there, err := lost.present(s, size); there || err != nil {
		return fmt.Errorf("entry %v that was refused: there %t, %w", lost, there, err)
	}
	select {
	case <-s.Failed():
		return errors.New("the store gave up")
	default:
		return consistent(s)
	}
}
