package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/cloakroom-io/cloakroom/store"
)

var updates = []contract{
	{"an error undoes everything and is returned as it is", func(b *bench) {
		b.put(store.Subjects, "a", "1", "b", "2")
		for _, want := range []error{errors.New("own"), store.ErrConflict, store.ErrNotFound, store.ErrExists, context.Canceled} {
			err := b.s.Update(context.Background(), func(tx store.Tx) error {
				_ = changeAll(tx)
				return want
			})
			if err != want {
				b.Errorf("got %v, want %v", err, want)
			}
			b.holds(store.Subjects, "a=1", "b=2")
			b.holds(store.Tokens)
		}
	}},
	{"a view returns the error as it is", func(b *bench) {
		want := errors.New("own")
		if err := b.s.View(context.Background(), func(store.ReadTx) error { return want }); err != want {
			b.Errorf("got %v", err)
		}
	}},
	{"a panic undoes everything and reaches the caller", func(b *bench) {
		b.put(store.Subjects, "a", "1", "b", "2")
		type mark struct{ int }
		caught := func(run func()) (p any) {
			defer func() { p = recover() }()
			run()
			return nil
		}
		p := caught(func() {
			_ = b.s.Update(context.Background(), func(tx store.Tx) error {
				_ = changeAll(tx)
				panic(mark{7})
			})
		})
		if p != (mark{7}) {
			b.Errorf("update: panic %v", p)
		}
		p = caught(func() {
			_ = b.s.View(context.Background(), func(tx store.ReadTx) error { panic(mark{8}) })
		})
		if p != (mark{8}) {
			b.Errorf("view: panic %v", p)
		}
		b.holds(store.Subjects, "a=1", "b=2")
		b.put(store.Subjects, "c", "3")
		b.holds(store.Subjects, "a=1", "b=2", "c=3")
	}},
	{"a goroutine that ends in its callback harms nobody", func(b *bench) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.s.Update(context.Background(), func(tx store.Tx) error {
				_ = changeAll(tx)
				runtime.Goexit()
				return nil
			})
		}()
		<-ended
		b.put(store.Subjects, "c", "3")
		b.holds(store.Subjects, "c=3")
	}},
	{"an update that changes nothing succeeds", func(b *bench) {
		b.update(func(store.Tx) error { return nil })
		b.update(func(tx store.Tx) error { return tx.Delete(store.Meta, []byte("none")) })
	}},
	{"a change is seen by the next transaction", func(b *bench) {
		for i := range 20 {
			want := fmt.Sprint(i)
			b.put(store.Subjects, "k", want)
			b.view(func(tx store.ReadTx) error { return expect(tx, store.Subjects, "k", want) })
			b.update(func(tx store.Tx) error { return expect(tx, store.Subjects, "k", want) })
		}
	}},
	{"many rows in one update", func(b *bench) {
		const n = 20_000
		b.update(func(tx store.Tx) error {
			for i := range n {
				if err := tx.Put(store.Index, fmt.Appendf(nil, "%08d", i*7919%n), fmt.Appendf(nil, "%d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		b.update(func(tx store.Tx) error {
			for i := 0; i < n; i += 2 {
				if err := tx.Delete(store.Index, fmt.Appendf(nil, "%08d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		b.view(func(tx store.ReadTx) error {
			next := 1
			return tx.Scan(store.Index, nil, nil, func(key, _ []byte) error {
				if want := fmt.Sprintf("%08d", next); string(key) != want {
					return fmt.Errorf("row %s, want %s", key, want)
				}
				next += 2
				return nil
			})
		})
	}},
	{"a context that has ended prevents the transaction", func(b *bench) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		ran := false
		err := b.s.Update(ctx, func(store.Tx) error { ran = true; return nil })
		if ran || !errors.Is(err, context.Canceled) {
			b.Errorf("update: ran %t, %v", ran, err)
		}
		err = b.s.View(ctx, func(store.ReadTx) error { ran = true; return nil })
		if ran || !errors.Is(err, context.Canceled) {
			b.Errorf("view: ran %t, %v", ran, err)
		}
	}},
	{"a context that ends later changes nothing", func(b *bench) {
		ctx, cancel := context.WithCancel(context.Background())
		err := b.s.Update(ctx, func(tx store.Tx) error {
			cancel()
			return tx.Put(store.Subjects, []byte("a"), []byte("1"))
		})
		if err != nil {
			b.Fatal(err)
		}
		b.holds(store.Subjects, "a=1")
	}},
}

// changeAll changes a store that holds a and b in every way there is.
func changeAll(tx store.Tx) error {
	return errors.Join(
		tx.Put(store.Subjects, []byte("a"), []byte("changed")),
		tx.Put(store.Subjects, []byte("a"), []byte("changed again")),
		tx.Delete(store.Subjects, []byte("b")),
		tx.Create(store.Subjects, []byte("0"), []byte("new")),
		tx.Put(store.Subjects, []byte("ab"), []byte("new")),
		tx.Delete(store.Subjects, []byte("ab")),
		tx.Put(store.Tokens, []byte("t"), []byte("new")),
	)
}
