package bolt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
)

const (
	loadWorkers = 16
	loadSize    = 40
)

// load writes entries until it is killed, and prints each after it was acknowledged. It goes on where the file ends.
func load(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	var out sync.Mutex
	for w := range uint32(loadWorkers) {
		go func() {
			for n := uint32(0); ; n++ {
				e := entry{w, n}
				there, err := e.present(s, loadSize)
				if there && err == nil {
					continue
				}
				if err == nil {
					err = e.write(s, loadSize)
				}
				if err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(e.worker, e.n)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKill kills a process that commits under load, a dozen times on the same file.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	r := rand.New(rand.NewPCG(3, 4))
	acknowledged := map[entry]bool{}
	for round := range 12 {
		for _, e := range killAfter(t, path, 1+r.IntN(300)) {
			acknowledged[e] = true
		}
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for e := range acknowledged {
			if there, err := e.present(s, loadSize); !there || err != nil {
				t.Errorf("round %d: acknowledged entry %v: there %t, %v", round, e, there, err)
			}
		}
		if err := consistent(s); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acknowledged) < 12 {
		t.Errorf("only %d entries", len(acknowledged))
	}
}

// killAfter runs load until it has acknowledged n entries, kills it, and returns all it has acknowledged.
func killAfter(t *testing.T, path string, n int) []entry {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"=load="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var entries []entry
	in := bufio.NewReader(out)
	for {
		var e entry
		// A last line that the kill cut short has no line end, and does not count.
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(line, "%d %d\n", &e.worker, &e.n); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if entries = append(entries, e); len(entries) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); len(entries) < n {
		t.Fatalf("ended after %d entries: %v", len(entries), err)
	}
	return entries
}

// consistent walks the pages of the file.
func consistent(s *Store) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}
