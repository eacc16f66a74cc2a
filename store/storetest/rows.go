package storetest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/store"
)

// both runs fn where rows are durable, and again where the same rows are changes of the running transaction.
func (b *bench) both(write func(store.Tx) error, fn func(store.ReadTx) error) {
	b.Helper()
	undo := errors.New("undo")
	err := b.try(func(tx store.Tx) error {
		if err := write(tx); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return undo
	})
	if err != undo {
		b.Fatalf("own changes: %v", err)
	}
	b.update(write)
	b.view(fn)
	b.update(func(tx store.Tx) error { return fn(tx) })
}

func puts(pairs ...string) func(store.Tx) error {
	return func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(store.Subjects, []byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}
}

var rows = []contract{
	{"an empty store has every keyspace and no row", func(b *bench) {
		b.view(func(tx store.ReadTx) error {
			for _, ks := range store.Keyspaces() {
				if err := errors.Join(shows(tx, ks), expectNone(tx, ks, "k")); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"get answers what put wrote", func(b *bench) {
		b.both(puts("a", "1", "b", "2"), func(tx store.ReadTx) error {
			return errors.Join(expect(tx, store.Subjects, "a", "1"), expect(tx, store.Subjects, "b", "2"),
				expectNone(tx, store.Subjects, "c"), expectNone(tx, store.Subjects, "aa"))
		})
	}},
	{"the last put counts", func(b *bench) {
		b.put(store.Subjects, "a", "0")
		b.both(puts("a", "1", "a", "22", "a", "3"), func(tx store.ReadTx) error {
			return expect(tx, store.Subjects, "a", "3")
		})
	}},
	{"a keyspace knows nothing of another", func(b *bench) {
		b.update(func(tx store.Tx) error {
			for _, ks := range store.Keyspaces() {
				if err := tx.Put(ks, []byte("k"), []byte(ks)); err != nil {
					return err
				}
			}
			return tx.Delete(store.Tokens, []byte("k"))
		})
		b.view(func(tx store.ReadTx) error {
			for _, ks := range store.Keyspaces() {
				if ks == store.Tokens {
					continue
				}
				if err := shows(tx, ks, "k="+string(ks)); err != nil {
					return err
				}
			}
			return shows(tx, store.Tokens)
		})
	}},
	{"an empty value is not an absent row", func(b *bench) {
		b.both(func(tx store.Tx) error {
			return errors.Join(tx.Put(store.Subjects, []byte("nil"), nil), tx.Put(store.Subjects, []byte("zero"), []byte{}))
		}, func(tx store.ReadTx) error {
			got, err := tx.GetMulti(store.Subjects, [][]byte{[]byte("nil"), []byte("zero"), []byte("none")})
			if err != nil {
				return err
			}
			if got[0] == nil || got[1] == nil || len(got[0])+len(got[1]) != 0 || got[2] != nil {
				return fmt.Errorf("get multi: %#v", got)
			}
			return errors.Join(expect(tx, store.Subjects, "nil", ""), expect(tx, store.Subjects, "zero", ""),
				expectNone(tx, store.Subjects, "none"), shows(tx, store.Subjects, "nil=", "zero="))
		})
		b.update(func(tx store.Tx) error {
			if err := tx.Create(store.Subjects, []byte("nil"), nil); !errors.Is(err, store.ErrExists) {
				return fmt.Errorf("create over an empty value: %v", err)
			}
			return nil
		})
	}},
	{"get multi keeps the order, repeats and gaps of its keys", func(b *bench) {
		b.both(puts("a", "1", "b", "2", "c", "3"), func(tx store.ReadTx) error {
			keys := [][]byte{[]byte("c"), []byte("x"), []byte("a"), []byte("c"), []byte("aa"), []byte("b")}
			got, err := tx.GetMulti(store.Subjects, keys)
			if err != nil {
				return err
			}
			want := [][]byte{[]byte("3"), nil, []byte("1"), []byte("3"), nil, []byte("2")}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
				return fmt.Errorf("got %q, want %q", got, want)
			}
			none, err := tx.GetMulti(store.Subjects, nil)
			if err != nil || len(none) != 0 {
				return fmt.Errorf("no keys: %q, %v", none, err)
			}
			return nil
		})
	}},
	{"create writes once", func(b *bench) {
		key := []byte("a")
		b.update(func(tx store.Tx) error { return tx.Create(store.Subjects, key, []byte("1")) })
		b.update(func(tx store.Tx) error {
			// The transaction goes on after ErrExists.
			if err := tx.Create(store.Subjects, key, []byte("2")); !errors.Is(err, store.ErrExists) {
				return fmt.Errorf("stored row: %v", err)
			}
			if err := tx.Put(store.Subjects, []byte("b"), nil); err != nil {
				return err
			}
			if err := tx.Create(store.Subjects, []byte("b"), nil); !errors.Is(err, store.ErrExists) {
				return fmt.Errorf("own row: %v", err)
			}
			return errors.Join(tx.Delete(store.Subjects, key), tx.Create(store.Subjects, key, []byte("3")))
		})
		b.holds(store.Subjects, "a=3", "b=")
	}},
	{"delete removes, and is content with no row", func(b *bench) {
		b.put(store.Subjects, "a", "1", "b", "2")
		b.update(func(tx store.Tx) error {
			for _, key := range []string{"a", "none", "a"} {
				if err := tx.Delete(store.Subjects, []byte(key)); err != nil {
					return err
				}
			}
			return errors.Join(expectNone(tx, store.Subjects, "a"), shows(tx, store.Subjects, "b=2"))
		})
		b.holds(store.Subjects, "b=2")
	}},
	{"keys and values are any bytes", func(b *bench) {
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		b.both(puts("\x00", "\x00", string(every), string(every), "\xff\xff", "v"), func(tx store.ReadTx) error {
			return shows(tx, store.Subjects, "\x00=\x00", string(every)+"="+string(every), "\xff\xff=v")
		})
	}},
	{"the store keeps copies", func(b *bench) {
		key, value := []byte("key1"), []byte("value1")
		b.update(func(tx store.Tx) error {
			copy(key, "key1")
			copy(value, "value1")
			if err := tx.Put(store.Subjects, key, value); err != nil {
				return err
			}
			copy(key, "key2")
			copy(value, "value2")
			if err := tx.Create(store.Subjects, key, value); err != nil {
				return err
			}
			copy(key, "xxxx")
			copy(value, "xxxxxx")
			return shows(tx, store.Subjects, "key1=value1", "key2=value2")
		})
		b.holds(store.Subjects, "key1=value1", "key2=value2")
	}},
	{"a value that was read can be written elsewhere", func(b *bench) {
		b.put(store.Subjects, "a", "1")
		b.update(func(tx store.Tx) error {
			v, err := tx.Get(store.Subjects, []byte("a"))
			if err != nil {
				return err
			}
			if err := errors.Join(tx.Put(store.Subjects, []byte("b"), v), tx.Delete(store.Subjects, []byte("a"))); err != nil {
				return err
			}
			if v, err = tx.Get(store.Subjects, []byte("b")); err != nil {
				return err
			}
			return errors.Join(tx.Put(store.Subjects, []byte("b"), []byte("9")), tx.Put(store.Subjects, []byte("c"), v))
		})
		b.holds(store.Subjects, "b=9", "c=1")
	}},
	{"large values come back whole", func(b *bench) {
		large := bytes.Repeat([]byte("0123456789abcde\n"), store.MaxValue/16)
		b.update(func(tx store.Tx) error { return tx.Put(store.Subjects, []byte("large"), large) })
		b.reopen()
		b.view(func(tx store.ReadTx) error {
			got, err := tx.Get(store.Subjects, []byte("large"))
			if err == nil && !bytes.Equal(got, large) {
				err = errors.New("differs")
			}
			return err
		})
	}},
}

var limits = []contract{
	{"keys", func(b *bench) {
		longest := bytes.Repeat([]byte{'k'}, store.MaxKey)
		b.update(func(tx store.Tx) error {
			return errors.Join(tx.Put(store.Subjects, longest, nil), tx.Create(store.Subjects, []byte{0}, nil))
		})
		for name, key := range map[string][]byte{"nil": nil, "empty": {}, "long": append(longest, 'k')} {
			b.update(func(tx store.Tx) error {
				_, get := tx.Get(store.Subjects, key)
				_, multi := tx.GetMulti(store.Subjects, [][]byte{{0}, key})
				for op, err := range map[string]error{
					"put": tx.Put(store.Subjects, key, nil), "create": tx.Create(store.Subjects, key, nil),
					"delete": tx.Delete(store.Subjects, key), "get": get, "get multi": multi,
				} {
					if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExists) {
						b.Errorf("%s key: %s: %v", name, op, err)
					}
				}
				return nil
			})
		}
		b.view(func(tx store.ReadTx) error {
			if _, err := tx.Get(store.Subjects, append(longest, 'k')); err == nil || errors.Is(err, store.ErrNotFound) {
				b.Errorf("long key in a view: %v", err)
			}
			return shows(tx, store.Subjects, "\x00=", string(longest)+"=")
		})
	}},
	{"values", func(b *bench) {
		largest := make([]byte, store.MaxValue)
		b.update(func(tx store.Tx) error {
			for op, err := range map[string]error{
				"put":    tx.Put(store.Subjects, []byte("a"), append(largest, 0)),
				"create": tx.Create(store.Subjects, []byte("a"), append(largest, 0)),
			} {
				if err == nil || errors.Is(err, store.ErrExists) {
					b.Errorf("%s: %v", op, err)
				}
			}
			return nil
		})
		b.holds(store.Subjects)
	}},
	{"keyspaces", func(b *bench) {
		for _, ks := range []store.Keyspace{"", "none", "META"} {
			read := func(tx store.ReadTx) error {
				_, get := tx.Get(ks, []byte("k"))
				_, multi := tx.GetMulti(ks, [][]byte{[]byte("k")})
				scan := tx.Scan(ks, nil, nil, func(_, _ []byte) error { return nil })
				for op, err := range map[string]error{"get": get, "get multi": multi, "scan": scan} {
					if err == nil || errors.Is(err, store.ErrNotFound) {
						b.Errorf("%q: %s: %v", ks, op, err)
					}
				}
				return nil
			}
			b.view(read)
			b.update(func(tx store.Tx) error {
				for op, err := range map[string]error{
					"put": tx.Put(ks, []byte("k"), nil), "create": tx.Create(ks, []byte("k"), nil),
					"delete": tx.Delete(ks, []byte("k")),
				} {
					if err == nil {
						b.Errorf("%q: %s succeeded", ks, op)
					}
				}
				return read(tx)
			})
		}
	}},
}
