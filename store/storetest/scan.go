package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cloakroom-io/cloakroom/store"
)

var scans = []contract{
	{"bounds", func(b *bench) {
		write := puts("a", "", "ab", "", "b", "", "b\x00", "", "c", "", "\xff", "")
		all := []string{"a=", "ab=", "b=", "b\x00=", "c=", "\xff="}
		b.both(write, func(tx store.ReadTx) error {
			for _, c := range []struct {
				name     string
				from, to []byte
				want     []string
			}{
				{"open", nil, nil, all},
				{"from is included", []byte("b"), nil, all[2:]},
				{"from between rows", []byte("aa"), nil, all[1:]},
				{"from before all", []byte{0}, nil, all},
				{"from after all", []byte("\xff\x00"), nil, nil},
				{"empty from", []byte{}, nil, all},
				{"to is left out", nil, []byte("b"), all[:2]},
				{"to between rows", nil, []byte("b\x00\x00"), all[:4]},
				{"to after all", nil, []byte("\xff\xff"), all},
				{"empty to", nil, []byte{}, nil},
				{"both", []byte("ab"), []byte("c"), all[1:4]},
				{"one row", []byte("b"), []byte("b\x00"), all[2:3]},
				{"from equals to", []byte("b"), []byte("b"), nil},
				{"from above to", []byte("c"), []byte("a"), nil},
				{"bounds longer than a key may be", bytes.Repeat([]byte("b"), store.MaxKey+1), bytes.Repeat([]byte("c"), store.MaxKey+1), all[4:5]},
			} {
				got, err := list(tx, store.Subjects, c.from, c.to)
				if err != nil || !slices.Equal(got, c.want) {
					return fmt.Errorf("%s: %q and %v, want %q", c.name, got, err, c.want)
				}
			}
			return nil
		})
	}},
	{"order is that of bytes", func(b *bench) {
		b.both(puts("b", "", "\xc3\xa4", "", "B", "", "a", "", "a\x00", "", "10", "", "9", ""), func(tx store.ReadTx) error {
			return shows(tx, store.Subjects, "10=", "9=", "B=", "a=", "a\x00=", "b=", "\xc3\xa4=")
		})
	}},
	{"an error ends the scan and is returned", func(b *bench) {
		stop := errors.New("stop")
		b.both(puts("a", "", "b", "", "c", ""), func(tx store.ReadTx) error {
			seen := 0
			err := tx.Scan(store.Subjects, nil, nil, func(_, _ []byte) error {
				if seen++; seen == 2 {
					return stop
				}
				return nil
			})
			if err != stop || seen != 2 {
				return fmt.Errorf("error %v after %d rows", err, seen)
			}
			return nil
		})
	}},
	{"own changes are merged in", func(b *bench) {
		b.put(store.Subjects, "b", "old", "d", "old", "f", "old", "h", "old")
		b.update(func(tx store.Tx) error {
			err := errors.Join(
				tx.Put(store.Subjects, []byte("a"), []byte("new")),
				tx.Put(store.Subjects, []byte("d"), []byte("new")),
				tx.Delete(store.Subjects, []byte("b")),
				tx.Delete(store.Subjects, []byte("h")),
				tx.Put(store.Subjects, []byte("e"), []byte("new")),
				tx.Put(store.Subjects, []byte("g"), []byte("new")),
				tx.Delete(store.Subjects, []byte("g")),
				tx.Put(store.Subjects, []byte("z"), []byte("new")),
			)
			if err != nil {
				return err
			}
			return shows(tx, store.Subjects, "a=new", "d=new", "e=new", "f=old", "z=new")
		})
		b.holds(store.Subjects, "a=new", "d=new", "e=new", "f=old", "z=new")
	}},
	{"rows may be changed while they are scanned", func(b *bench) {
		b.put(store.Subjects, "a", "1", "b", "2", "c", "3")
		b.update(func(tx store.Tx) error {
			if err := tx.Put(store.Subjects, []byte("bb"), []byte("4")); err != nil {
				return err
			}
			var seen []string
			if err := shows(tx, store.Subjects, "a=1", "b=2", "bb=4", "c=3"); err != nil {
				return err
			}
			err := tx.Scan(store.Subjects, nil, nil, func(key, value []byte) error {
				seen = append(seen, string(key)+"="+string(value))
				nested, err := list(tx, store.Subjects, nil, nil)
				if err != nil || len(nested) == 0 || nested[0] != seen[len(seen)-1] {
					return fmt.Errorf("nested scan: %q, %v", nested, err)
				}
				return tx.Delete(store.Subjects, key)
			})
			if err != nil {
				return err
			}
			if fmt.Sprint(seen) != "[a=1 b=2 bb=4 c=3]" {
				return fmt.Errorf("saw %q", seen)
			}
			return shows(tx, store.Subjects)
		})
		b.holds(store.Subjects)
	}},
	{"random changes read like a sorted map", func(b *bench) {
		r := rand.New(rand.NewPCG(1, 2))
		model := map[string]string{}
		for range 60 {
			keep := r.IntN(4) > 0
			undo := errors.New("undo")
			var next map[string]string
			err := b.try(func(tx store.Tx) error {
				next = map[string]string{}
				for k, v := range model {
					next[k] = v
				}
				for range 1 + r.IntN(60) {
					if err := randomStep(r, tx, next); err != nil {
						return err
					}
				}
				if !keep {
					return undo
				}
				return nil
			})
			if keep {
				model = next
			} else if err == undo {
				err = nil
			}
			if err != nil {
				b.Fatal(err)
			}
			b.holds(store.Index, render(model, "", "\xff")...)
		}
	}},
}

// randomStep changes or reads tx and model alike, and compares.
func randomStep(r *rand.Rand, tx store.Tx, model map[string]string) error {
	key := func() string { return fmt.Sprintf("%02d", r.IntN(80)) }
	k := key()
	_, there := model[k]
	switch r.IntN(8) {
	case 0, 1, 2:
		model[k] = fmt.Sprint(r.IntN(1000))
		return tx.Put(store.Index, []byte(k), []byte(model[k]))
	case 3:
		err := tx.Create(store.Index, []byte(k), []byte("created"))
		if there != errors.Is(err, store.ErrExists) {
			return fmt.Errorf("create %s: %v", k, err)
		}
		if there {
			return nil
		}
		model[k] = "created"
		return err
	case 4, 5:
		delete(model, k)
		return tx.Delete(store.Index, []byte(k))
	case 6:
		if !there {
			return expectNone(tx, store.Index, k)
		}
		return expect(tx, store.Index, k, model[k])
	default:
		to := key()
		got, err := list(tx, store.Index, []byte(k), []byte(to))
		if want := render(model, k, to); err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("scan %s to %s: %q and %v, want %q", k, to, got, err, want)
		}
		return nil
	}
}

func render(model map[string]string, from, to string) []string {
	var rows []string
	for k, v := range model {
		if k >= from && k < to {
			rows = append(rows, k+"="+v)
		}
	}
	slices.Sort(rows)
	return rows
}
