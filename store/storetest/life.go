package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cloakroom-io/cloakroom/store"
)

var life = []contract{
	{"rows outlive the process that wrote them", func(b *bench) {
		b.put(store.Subjects, "a", "1", "b", "2")
		b.reopen()
		b.holds(store.Subjects, "a=1", "b=2")
		b.update(changeAll)
		b.reopen()
		b.holds(store.Subjects, "0=new", "a=changed again")
		b.reopen()
		b.put(store.Subjects, "c", "3")
		b.holds(store.Subjects, "0=new", "a=changed again", "c=3")
	}},
	{"a closed store answers ErrClosed", func(b *bench) {
		b.put(store.Subjects, "a", "1")
		if err := b.s.Close(); err != nil {
			b.Fatal(err)
		}
		ran := false
		for call, err := range map[string]error{
			"view":   b.s.View(context.Background(), func(store.ReadTx) error { ran = true; return nil }),
			"update": b.s.Update(context.Background(), func(store.Tx) error { ran = true; return nil }),
			"close":  b.s.Close(),
		} {
			if !errors.Is(err, store.ErrClosed) || ran {
				b.Errorf("%s: ran %t, %v", call, ran, err)
			}
		}
	}},
	{"close waits for a running view", func(b *bench) {
		b.put(store.Subjects, "a", "1")
		var finished atomic.Bool
		closed := make(chan error, 1)
		b.view(func(tx store.ReadTx) error {
			go func() {
				err := b.s.Close()
				if !finished.Load() {
					err = errors.Join(err, errors.New("closed under a running view"))
				}
				closed <- err
			}()
			b.awaitClosing()
			defer finished.Store(true)
			return expect(tx, store.Subjects, "a", "1")
		})
		if err := <-closed; err != nil {
			b.Error(err)
		}
	}},
	{"close waits for a running update", func(b *bench) {
		var finished atomic.Bool
		closed := make(chan error, 1)
		b.update(func(tx store.Tx) error {
			go func() {
				err := b.s.Close()
				if !finished.Load() {
					err = errors.Join(err, errors.New("closed under a running update"))
				}
				closed <- err
			}()
			b.awaitClosing()
			defer finished.Store(true)
			return tx.Put(store.Subjects, []byte("a"), []byte("1"))
		})
		if err := <-closed; err != nil {
			b.Error(err)
		}
		b.s = b.open(b.T, b.dir)
		b.holds(store.Subjects, "a=1")
	}},
	{"what is acknowledged while the store closes is there", func(b *bench) {
		var mu sync.Mutex
		acknowledged := map[string]bool{}
		var some sync.WaitGroup
		some.Add(callers)
		closed := make(chan error, 1)
		go func() {
			some.Wait()
			closed <- b.s.Close()
		}()
		b.parallel(func(i int) error {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%02d/%d", i, n)
				err := b.try(func(tx store.Tx) error { return tx.Put(store.Subjects, []byte(key), nil) })
				if n == 0 {
					some.Done()
				}
				if errors.Is(err, store.ErrClosed) {
					return nil
				}
				if err != nil {
					return err
				}
				mu.Lock()
				acknowledged[key] = true
				mu.Unlock()
			}
		})
		if err := <-closed; err != nil {
			b.Fatal(err)
		}
		b.s = b.open(b.T, b.dir)
		b.view(func(tx store.ReadTx) error {
			return tx.Scan(store.Subjects, nil, nil, func(key, _ []byte) error {
				if !acknowledged[string(key)] {
					return fmt.Errorf("row %s of an update that failed", key)
				}
				delete(acknowledged, string(key))
				return nil
			})
		})
		if len(acknowledged) > 0 {
			b.Errorf("%d acknowledged rows are gone", len(acknowledged))
		}
	}},
}

// awaitClosing returns once a Close in another goroutine has begun: from then on calls are refused, while it waits.
func (b *bench) awaitClosing() {
	for !errors.Is(b.s.View(context.Background(), func(store.ReadTx) error { return nil }), store.ErrClosed) {
	}
}
