//go:build linux || darwin

package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// childRole tells the test binary that it was started by one of these tests, and as what.
const childRole = "CLOAKROOM_LEDGER_TEST_CHILD"

func TestMain(m *testing.M) {
	switch role, path, _ := strings.Cut(os.Getenv(childRole), ":"); role {
	case "":
		os.Exit(m.Run())
	case "load":
		fmt.Println("failed:", childLoad(path))
	case "full":
		if err := childFull(path); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
}

func child(role, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role+":"+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// childLoad appends without end and prints each entry's hash once it is acknowledged.
func childLoad(path string) error {
	l, err := Open(path, testKey(), testOptions())
	if err != nil {
		return err
	}
	var mu sync.Mutex
	head := l.Head()
	var tail []Entry
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				mu.Lock()
				e := Entry{head.Seq + 1, head.Hash, fmt.Appendf(nil, "%d of %d", head.Seq+1, os.Getpid())}
				head = e.Head()
				tail = append(tail, e)
				entries := tail[max(0, len(tail)-16):]
				mu.Unlock()
				err := l.Append(context.Background(), entries)
				mu.Lock()
				if err != nil {
					fmt.Println("failed:", err)
				} else {
					fmt.Printf("%d %x\n", e.Seq, e.Hash())
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

func TestKilledProcessKeepsWhatItAcknowledged(t *testing.T) {
	p := path(t)
	acknowledged := map[uint64]string{}
	for round := range 12 {
		cmd := child("load", p)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
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
			var seq uint64
			var hash string
			if _, err := fmt.Sscanln(line, &seq, &hash); err != nil {
				t.Fatalf("child says %q", line)
			}
			if other, ok := acknowledged[seq]; ok && other != hash {
				t.Fatalf("entry %d was two entries", seq)
			}
			acknowledged[seq] = hash
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	mustClose(t, mustOpen(t, p))
	for _, e := range scanAll(t, p) {
		if hash, ok := acknowledged[e.Seq]; ok && hash != fmt.Sprintf("%x", e.Hash()) {
			t.Errorf("entry %d is another than the one acknowledged", e.Seq)
		}
		delete(acknowledged, e.Seq)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged entries are not there", len(acknowledged))
	}
}

// childFull writes to a ledger that cannot grow beyond a limit, as on a full disk, until it can again.
func childFull(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	l, err := Open(path, testKey(), testOptions())
	if err != nil {
		return err
	}
	entries := after(Head{}, 4)
	if err := l.Append(context.Background(), entries[:3]); err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	full := limit
	full.Cur = uint64(info.Size()) + 50 // a part of the next entry fits
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	for range 3 {
		if err := l.Append(context.Background(), entries[3:]); !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("append on a full disk: %v", err)
		}
		if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("ready on a full disk: %v", err)
		}
		if now, err := os.Stat(path); err != nil || now.Size() != info.Size() || l.Head().Seq != 3 {
			return fmt.Errorf("%d bytes, head %d, %v", now.Size(), l.Head().Seq, err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := l.Ready(); err != nil {
		return fmt.Errorf("ready with room again: %w", err)
	}
	if err := l.Append(context.Background(), entries); err != nil {
		return fmt.Errorf("append with room again: %w", err)
	}
	report, err := Scan(path, testPublic(), nil)
	if err == nil && report.Head != entries[3].Head() {
		err = fmt.Errorf("head %d", report.Head.Seq)
	}
	return err
}

func TestFullDisk(t *testing.T) {
	if out, err := child("full", path(t)).Output(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
