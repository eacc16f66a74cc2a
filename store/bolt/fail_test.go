package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

var errDisk = errors.New("disk says no")

func put(s *Store, key string) error {
	return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(store.Subjects, []byte(key), nil) })
}

func has(t *testing.T, s *Store, key string) bool {
	t.Helper()
	err := s.View(context.Background(), func(tx store.ReadTx) error {
		_, err := tx.Get(store.Subjects, []byte(key))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func isFailed(s *Store) bool {
	select {
	case <-s.Failed():
		return true
	default:
		return false
	}
}

func TestCommitFailsBeforeMeta(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	fail := true
	s.commit = func(tx *bbolt.Tx) error {
		if fail {
			return errors.Join(errDisk, tx.Rollback())
		}
		return tx.Commit()
	}
	for range 3 {
		if err := put(s, "a"); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, errDisk) {
			t.Fatalf("put: %v", err)
		}
		if err := s.Ready(); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("ready: %v", err)
		}
		if has(t, s, "a") || isFailed(s) {
			t.Fatal("changed, or gave up")
		}
	}
	fail = false
	if err := s.Ready(); err != nil {
		t.Fatalf("ready after recovery: %v", err)
	}
	if err := put(s, "b"); err != nil || !has(t, s, "b") || has(t, s, "a") {
		t.Fatalf("after recovery: %v", err)
	}
}

func TestCommitFailsAfterMeta(t *testing.T) {
	for _, c := range []struct {
		name   string
		commit func(*bbolt.Tx) error
		want   error
		kept   bool
	}{
		{"meta page written", func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), errDisk) }, errDisk, true},
		{"bbolt panics", func(tx *bbolt.Tx) error { panic("inconsistent") }, store.ErrUnknown, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			s := open(t, path)
			if err := put(s, "before"); err != nil {
				t.Fatal(err)
			}
			g := hold(t, s)
			s.commit = c.commit // the writer waits in the held callback, and goes on after a channel operation
			var answers []chan error
			for _, key := range []string{"a", "b", "c"} {
				answers = append(answers, g.queue(context.Background(), func(tx store.Tx) error {
					return tx.Put(store.Subjects, []byte(key), nil)
				}))
			}
			g.release()
			for _, answer := range answers {
				if err := <-answer; !errors.Is(err, store.ErrUnknown) || !errors.Is(err, c.want) {
					t.Errorf("waiting update: %v", err)
				}
			}
			if !isFailed(s) {
				t.Error("Failed is open")
			}
			ran := false
			for call, err := range map[string]error{
				"update": s.Update(context.Background(), func(store.Tx) error { ran = true; return nil }),
				"view":   s.View(context.Background(), func(store.ReadTx) error { ran = true; return nil }),
				"ready":  s.Ready(),
			} {
				if !errors.Is(err, store.ErrUnknown) || ran {
					t.Errorf("%s: ran %t, %v", call, ran, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if err := put(s, "d"); !errors.Is(err, store.ErrClosed) {
				t.Errorf("after close: %v", err)
			}
			// A copy: the mapping that a panic left behind keeps the lock as long as the process.
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			path = filepath.Join(t.TempDir(), "copy.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, path)
			defer s.Close()
			if !has(t, s, "before") || has(t, s, "a") != c.kept || has(t, s, "c") != c.kept {
				t.Error("the file holds something else")
			}
		})
	}
}

// What a callback saw of others counts only once it is durable: neither may its error tell of it before.
func TestErrorOfCallbackWaitsForOthers(t *testing.T) {
	create := func(tx store.Tx) error { return tx.Create(store.Subjects, []byte("a"), nil) }
	for _, c := range []struct {
		name          string
		commit        func(*bbolt.Tx) error
		first, second error
	}{
		{"committed", (*bbolt.Tx).Commit, nil, store.ErrExists},
		{"not committed", func(tx *bbolt.Tx) error { return errors.Join(errDisk, tx.Rollback()) }, store.ErrUnavailable, store.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "store.db"))
			defer s.Close()
			g := hold(t, s)
			s.commit = c.commit
			first, second := g.queue(context.Background(), create), g.queue(context.Background(), create)
			g.release()
			if err := <-first; !errors.Is(err, c.first) {
				t.Errorf("first: %v", err)
			}
			if err := <-second; !errors.Is(err, c.second) {
				t.Errorf("second: %v", err)
			}
		})
	}
}

func TestErrorsNameNoKeyOrValue(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	secret := strings.Repeat("secret", store.MaxKey)
	for name, fn := range map[string]func(store.Tx) error{
		"long key": func(tx store.Tx) error { return tx.Put(store.Subjects, []byte(secret), nil) },
		"long value": func(tx store.Tx) error {
			return tx.Put(store.Subjects, []byte("secret"), make([]byte, store.MaxValue+1))
		},
		"exists": func(tx store.Tx) error {
			return errors.Join(tx.Put(store.Subjects, []byte("secret"), nil), tx.Create(store.Subjects, []byte("secret"), nil))
		},
		"no row": func(tx store.Tx) error { _, err := tx.Get(store.Subjects, []byte("secret!")); return err },
	} {
		if err := s.Update(context.Background(), fn); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
