// Package storetest is the contract of store.Store, as a test that every driver runs.
//
// It uses nothing but the interface and a folder: what a driver does behind it, how it packs transactions and where
// its files lie, is for the driver's own tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cloakroom-io/cloakroom/store"
)

// Open opens the store that lives in dir, creating it when dir is empty. After a Close it is called again with the
// same dir.
type Open func(t *testing.T, dir string) store.Store

// Run holds a driver to the contract.
func Run(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	for _, group := range []struct {
		name  string
		cases []contract
	}{
		{"rows", rows},
		{"scan", scans},
		{"limits", limits},
		{"update", updates},
		{"concurrency", concurrency},
		{"life", life},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					dir := t.TempDir()
					b := bench{T: t, dir: dir, open: open}
					b.reopen()
					t.Cleanup(func() {
						if err := b.s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
							t.Errorf("close: %v", err)
						}
					})
					c.run(&b)
				})
			}
		})
	}
}

type contract struct {
	name string
	run  func(b *bench)
}

// bench is one open store under test.
type bench struct {
	*testing.T
	s    store.Store
	dir  string
	open Open
}

func (b *bench) reopen() {
	b.Helper()
	if b.s != nil {
		if err := b.s.Close(); err != nil {
			b.Fatalf("close: %v", err)
		}
	}
	b.s = b.open(b.T, b.dir)
}

// try runs an Update as callers do: a conflict that the driver reports means once more.
func (b *bench) try(fn func(store.Tx) error) error {
	for {
		if err := b.s.Update(context.Background(), fn); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func (b *bench) update(fn func(store.Tx) error) {
	b.Helper()
	if err := b.try(fn); err != nil {
		b.Fatalf("update: %v", err)
	}
}

func (b *bench) view(fn func(store.ReadTx) error) {
	b.Helper()
	if err := b.s.View(context.Background(), fn); err != nil {
		b.Fatalf("view: %v", err)
	}
}

func (b *bench) put(ks store.Keyspace, pairs ...string) {
	b.Helper()
	b.update(func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(ks, []byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// rows returns what a Scan shows, as "key=value".
func list(tx store.ReadTx, ks store.Keyspace, from, to []byte) ([]string, error) {
	var got []string
	err := tx.Scan(ks, from, to, func(key, value []byte) error {
		got = append(got, string(key)+"="+string(value))
		return nil
	})
	return got, err
}

// holds fails unless the whole keyspace shows exactly want.
func (b *bench) holds(ks store.Keyspace, want ...string) {
	b.Helper()
	b.view(func(tx store.ReadTx) error { return shows(tx, ks, want...) })
}

func shows(tx store.ReadTx, ks store.Keyspace, want ...string) error {
	got, err := list(tx, ks, nil, nil)
	if err != nil {
		return err
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s holds %v, want %v", ks, got, want)
	}
	return nil
}

func expect(tx store.ReadTx, ks store.Keyspace, key, want string) error {
	got, err := tx.Get(ks, []byte(key))
	if err != nil {
		return fmt.Errorf("get %q: %w", key, err)
	}
	if !bytes.Equal(got, []byte(want)) {
		return fmt.Errorf("get %q: %q, want %q", key, got, want)
	}
	return nil
}

func expectNone(tx store.ReadTx, ks store.Keyspace, key string) error {
	if got, err := tx.Get(ks, []byte(key)); !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("get %q: %q and %v, want ErrNotFound", key, got, err)
	}
	return nil
}
