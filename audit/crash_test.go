//go:build linux || darwin

package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childRole tells the test binary that it was started by one of these tests, and as what.
const childRole = "CLOAKROOM_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch role, dir, _ := strings.Cut(os.Getenv(childRole), ":"); role {
	case "":
		os.Exit(m.Run())
	case "load":
		fmt.Println("failed:", childLoad(dir))
	case "full":
		if err := childFull(dir); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
}

func child(role, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role+":"+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// childLoad appends without end and prints each index once it is acknowledged.
func childLoad(dir string) error {
	opt := testOptions()
	opt.segmentBytes = 20 << 10
	opt.checkpointEvery = 5 * time.Millisecond
	l, err := Open(dir, opt)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				e := event(i, w)
				e.RequestID = fmt.Sprintf("%d/%d/%d", os.Getpid(), w, i)
				index, err := l.Append(context.Background(), e)
				mu.Lock()
				if err != nil {
					fmt.Println("failed:", err)
				} else {
					fmt.Println(index, e.RequestID)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

func TestKilledProcessKeepsWhatItAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	acknowledged := map[uint64]string{}
	for round := range 12 {
		cmd := child("load", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
			// Killed after some acknowledgements, then read on: what was printed counts.
			if n == 20+7*round {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var index uint64
			var id string
			if _, err := fmt.Sscanln(line, &index, &id); err != nil {
				t.Fatalf("child says %q", line)
			}
			if other, ok := acknowledged[index]; ok {
				t.Fatalf("index %d was given to %s and %s", index, other, id)
			}
			acknowledged[index] = id
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	opt := testOptions()
	opt.segmentBytes = 20 << 10
	l := mustOpen(t, dir, opt)
	records := scanAll(t, l, 0)
	for index, id := range acknowledged {
		if index >= uint64(len(records)) || records[index].Event.RequestID != id {
			t.Errorf("entry %d, acknowledged to %s, is not there", index, id)
		}
	}
	mustClose(t, l)
	if report, err := Verify(dir, l.VerifierKey()); err != nil || report.Checkpointed != uint64(len(records)) {
		t.Errorf("%+v, %v", report, err)
	}
}

// childFull writes to a log whose file cannot grow beyond a limit, as on a full disk, until it can again.
func childFull(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	now := start
	opt := testOptions()
	opt.Now = func() time.Time { now = now.Add(time.Minute); return now }
	l, err := Open(dir, opt)
	if err != nil {
		return err
	}
	for i := range 3 {
		if _, err := l.Append(context.Background(), event(i, 2)); err != nil {
			return err
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	info, err := os.Stat(l.path(newSegment(0)))
	if err != nil {
		return err
	}
	full := limit
	full.Cur = uint64(info.Size()) + 100 // a part of the next entry fits
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	for i := range 3 {
		if _, err := l.Append(context.Background(), event(i, 2)); !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("append on a full disk: %v", err)
		}
		if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("ready on a full disk: %v", err)
		}
		if info, err := os.Stat(l.path(newSegment(0))); err != nil || info.Size() != int64(full.Cur)-100 || l.Size() != 3 {
			return fmt.Errorf("%d bytes, %d entries, %v", info.Size(), l.Size(), err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := l.Ready(); err != nil {
		return fmt.Errorf("ready with room again: %w", err)
	}
	if index, err := l.Append(context.Background(), event(3, 2)); err != nil || index != 3 {
		return fmt.Errorf("append with room again: %d, %v", index, err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	report, err := Verify(dir, l.VerifierKey())
	if err == nil && report.Checkpointed != 4 {
		err = fmt.Errorf("%+v", report)
	}
	return err
}

func TestFullDisk(t *testing.T) {
	if out, err := child("full", t.TempDir()).Output(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
