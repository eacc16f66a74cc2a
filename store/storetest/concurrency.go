package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cloakroom-io/cloakroom/store"
)

const callers = 64

// parallel runs fn in many goroutines and reports their errors.
func (b *bench) parallel(fn func(caller int) error) {
	b.Helper()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if err := fn(i); err != nil {
				b.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// add changes the counter at key by n.
func add(tx store.Tx, key string, n uint64) error {
	v, err := tx.Get(store.Jobs, []byte(key))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if len(v) == 8 {
		n += binary.BigEndian.Uint64(v)
	}
	return tx.Put(store.Jobs, []byte(key), binary.BigEndian.AppendUint64(nil, n))
}

func counter(tx store.ReadTx, key string) (uint64, error) {
	v, err := tx.Get(store.Jobs, []byte(key))
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

func (b *bench) counts(key string, want uint64) {
	b.Helper()
	b.view(func(tx store.ReadTx) error {
		got, err := counter(tx, key)
		if err == nil && got != want {
			err = fmt.Errorf("%s is %d, want %d", key, got, want)
		}
		return err
	})
}

var errOwn = errors.New("own")

var concurrency = []contract{
	{"counters lose nothing", func(b *bench) {
		const each = 8
		b.parallel(func(i int) error {
			for range each {
				err := b.try(func(tx store.Tx) error {
					return errors.Join(add(tx, "shared", 1), add(tx, fmt.Sprint("own", i), 1))
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		b.counts("shared", callers*each)
		b.counts("own0", each)
	}},
	{"only one of many creates a row", func(b *bench) {
		var mu sync.Mutex
		winners := 0
		b.parallel(func(i int) error {
			err := b.try(func(tx store.Tx) error {
				return tx.Create(store.Subjects, []byte("a"), []byte(fmt.Sprint(i)))
			})
			if errors.Is(err, store.ErrExists) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			winners++
			return err
		})
		if winners != 1 {
			b.Errorf("%d winners", winners)
		}
	}},
	{"a decision on rows that it only read still holds at commit", func(b *bench) {
		// Each caller may leave if another stays. Were reads not part of the transaction, all would leave.
		b.update(func(tx store.Tx) error {
			for i := range callers {
				if err := tx.Put(store.Subjects, fmt.Appendf(nil, "%02d", i), nil); err != nil {
					return err
				}
			}
			return nil
		})
		b.parallel(func(i int) error {
			return b.try(func(tx store.Tx) error {
				present, err := list(tx, store.Subjects, nil, nil)
				if err != nil || len(present) < 2 {
					return err
				}
				return tx.Delete(store.Subjects, fmt.Appendf(nil, "%02d", i))
			})
		})
		b.view(func(tx store.ReadTx) error {
			left, err := list(tx, store.Subjects, nil, nil)
			if err == nil && len(left) != 1 {
				err = fmt.Errorf("%d left", len(left))
			}
			return err
		})
	}},
	{"a failing update leaves its neighbours alone", func(b *bench) {
		const each = 6
		b.parallel(func(i int) error {
			for n := range each {
				err := func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = errOwn
						}
					}()
					return b.try(func(tx store.Tx) error {
						row := fmt.Appendf(nil, "%02d/%d", i, n)
						if err := errors.Join(add(tx, "shared", 1), tx.Put(store.Subjects, row, nil)); err != nil {
							return err
						}
						switch i % 4 {
						case 1:
							return errOwn
						case 2:
							return errors.Join(tx.Put(store.Jobs, []byte("shared"), []byte("nonsense")), errOwn)
						case 3:
							_ = tx.Delete(store.Jobs, []byte("shared"))
							panic("own")
						}
						return nil
					})
				}()
				if want := i%4 != 0; want != errors.Is(err, errOwn) || !want && err != nil {
					return fmt.Errorf("got %w", err)
				}
			}
			return nil
		})
		b.counts("shared", callers/4*each)
		b.view(func(tx store.ReadTx) error {
			rows := 0
			err := tx.Scan(store.Subjects, nil, nil, func(key, _ []byte) error {
				var caller int
				if _, err := fmt.Sscanf(string(key), "%d/", &caller); err != nil || caller%4 != 0 {
					return fmt.Errorf("row %s of a failed update, %v", key, err)
				}
				rows++
				return nil
			})
			if err == nil && rows != callers/4*each {
				err = fmt.Errorf("%d rows", rows)
			}
			return err
		})
	}},
	{"a view stays on its snapshot", func(b *bench) {
		b.put(store.Subjects, "a", "1", "b", "2")
		b.view(func(tx store.ReadTx) error {
			done := make(chan error)
			go func() {
				done <- b.try(func(tx store.Tx) error { return changeAll(tx) })
			}()
			if err := <-done; err != nil {
				return err
			}
			return errors.Join(shows(tx, store.Subjects, "a=1", "b=2"), expect(tx, store.Subjects, "b", "2"),
				expectNone(tx, store.Tokens, "t"))
		})
		b.holds(store.Subjects, "0=new", "a=changed again")
	}},
	{"views see all of an update or nothing", func(b *bench) {
		// Money moves between two rows; whoever looks finds the same sum.
		b.update(func(tx store.Tx) error { return errors.Join(add(tx, "left", 1000), add(tx, "right", 1000)) })
		b.parallel(func(i int) error {
			for range 6 {
				if i%2 == 0 {
					if err := b.try(func(tx store.Tx) error {
						return errors.Join(add(tx, "left", ^uint64(0)), add(tx, "right", 1))
					}); err != nil {
						return err
					}
					continue
				}
				err := b.s.View(context.Background(), func(tx store.ReadTx) error {
					left, err := counter(tx, "left")
					if err != nil {
						return err
					}
					right, err := counter(tx, "right")
					if err == nil && left+right != 2000 {
						err = fmt.Errorf("%d and %d", left, right)
					}
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}},
}
