package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

// held is a store whose writer stands still in a callback, so that a test decides who waits, and in which order.
type held struct {
	t    *testing.T
	s    *Store
	goOn chan struct{}
	done chan error
}

func hold(t *testing.T, s *Store) *held {
	t.Helper()
	h := &held{t, s, make(chan struct{}), make(chan error, 1)}
	begun := make(chan struct{})
	go func() {
		h.done <- s.Update(context.Background(), func(store.Tx) error {
			close(begun)
			<-h.goOn
			return nil
		})
	}()
	<-begun
	return h
}

// queue starts an Update and returns once it waits for its turn.
func (h *held) queue(ctx context.Context, fn func(store.Tx) error) chan error {
	before := h.waiting()
	done := make(chan error, 1)
	go func() { done <- h.s.Update(ctx, fn) }()
	for h.waiting() == before {
		runtime.Gosched()
	}
	return done
}

func (h *held) waiting() int {
	h.s.queue.mu.Lock()
	defer h.s.queue.mu.Unlock()
	return len(h.s.queue.waiting)
}

// release lets the writer go on; the group is that of the held callback, then of those who waited.
func (h *held) release() {
	close(h.goOn)
	<-h.done
}

func TestWaitingUpdatesShareACommit(t *testing.T) {
	for _, c := range []struct {
		name    string
		callers int
		size    int
		commits int64
	}{
		{"few", 10, 10, 1},
		{"callbacks bound the group", 2*maxGroup - 1, 10, 2},
		{"bytes bound the group", 5, store.MaxValue, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "store.db"))
			defer s.Close()
			h := hold(t, s)
			commits := counted(s)
			var answers []chan error
			for i := range c.callers {
				answers = append(answers, h.queue(context.Background(), func(tx store.Tx) error {
					return tx.Put(store.Subjects, fmt.Appendf(nil, "%d", i), make([]byte, c.size))
				}))
			}
			h.release()
			for _, answer := range answers {
				if err := <-answer; err != nil {
					t.Error(err)
				}
			}
			if got := commits.Load(); got != c.commits {
				t.Errorf("%d commits, want %d", got, c.commits)
			}
		})
	}
}

func TestUpdatesRunInOrderAndSeeEachOther(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	h := hold(t, s)
	key := []byte("a")
	var answers []chan error
	for i := range 20 {
		answers = append(answers, h.queue(context.Background(), func(tx store.Tx) error {
			v, err := tx.Get(store.Subjects, key)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			// Every third call fails after it changed the row, and leaves no trace for the next.
			if err := tx.Put(store.Subjects, key, append(v[:len(v):len(v)], byte('a'+i))); err != nil {
				return err
			}
			if i%3 == 0 {
				return errDisk
			}
			return nil
		}))
	}
	h.release()
	for i, answer := range answers {
		if err := <-answer; i%3 == 0 != errors.Is(err, errDisk) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	err := s.View(context.Background(), func(tx store.ReadTx) error {
		v, err := tx.Get(store.Subjects, key)
		if string(v) != "bcefhiklnoqrt" {
			t.Errorf("row %q", v)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestUpdateThatIsCancelledWhileItWaits(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	h := hold(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	ran := false
	answer := h.queue(ctx, func(store.Tx) error { ran = true; return nil })
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	h.release()
	if err := put(s, "a"); err != nil || ran {
		t.Errorf("ran %t, %v", ran, err)
	}
}

// That the last commit fails while the store closes does not change what later calls are told.
func TestCloseIsTheLastWord(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	h := hold(t, s)
	s.commit = func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), errDisk) }
	answer := h.queue(context.Background(), func(tx store.Tx) error { return tx.Put(store.Subjects, []byte("a"), nil) })
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for s.queue.refusal() == nil {
		runtime.Gosched()
	}
	if err := put(s, "b"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("late update: %v", err)
	}
	close(h.goOn)
	if err := <-answer; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("waiting update: %v", err)
	}
	if err := <-h.done; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("running update: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := put(s, "b"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestCloseRefusesThoseWhoCome(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	h := hold(t, s)
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for s.queue.refusal() == nil {
		runtime.Gosched()
	}
	if err := put(s, "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("late update: %v", err)
	}
	h.release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestTransactionEndsWithItsCallback(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	var read store.ReadTx
	var write store.Tx
	err := errors.Join(
		s.View(context.Background(), func(tx store.ReadTx) error { read = tx; return nil }),
		s.Update(context.Background(), func(tx store.Tx) error { write = tx; return nil }),
	)
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("a")
	check := func(call string, err error) {
		if !errors.Is(err, errEnded) {
			t.Errorf("%s: %v", call, err)
		}
	}
	for _, tx := range []store.ReadTx{read, write} {
		_, err := tx.Get(store.Meta, key)
		check("get", err)
		_, err = tx.GetMulti(store.Meta, [][]byte{key})
		check("get multi", err)
		check("scan", tx.Scan(store.Meta, nil, nil, func(_, _ []byte) error { return nil }))
	}
	check("put", write.Put(store.Meta, key, nil))
	check("create", write.Create(store.Meta, key, nil))
	check("delete", write.Delete(store.Meta, key))
}
