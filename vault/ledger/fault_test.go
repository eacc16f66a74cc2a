package ledger

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestUnavailableAndBack(t *testing.T) {
	for _, test := range []struct {
		name        string
		spoil, mend func(t *testing.T, p string)
	}{
		{"file renamed and back",
			func(t *testing.T, p string) { rename(t, p, p+".away") },
			func(t *testing.T, p string) { rename(t, p+".away", p) }},
		{"folder renamed and back",
			func(t *testing.T, p string) { rename(t, filepath.Dir(p), filepath.Dir(p)+".away") },
			func(t *testing.T, p string) { rename(t, filepath.Dir(p)+".away", filepath.Dir(p)) }},
		{"replaced by an empty file, then by a copy",
			func(t *testing.T, p string) { rename(t, p, p+".away"); write(t, p, nil) },
			func(t *testing.T, p string) { write(t, p, read(t, p+".away")) }},
		{"replaced by a changed copy, then by one with a torn end",
			func(t *testing.T, p string) {
				b := read(t, p)
				rename(t, p, p+".away")
				b[headerBytes+45] ^= 1
				write(t, p, b)
			},
			func(t *testing.T, p string) { write(t, p, append(read(t, p+".away"), 0, 0, 0)) }},
		{"replaced by an older copy, then by the newest",
			func(t *testing.T, p string) {
				b := read(t, p)
				rename(t, p, p+".away")
				write(t, p, b[:len(b)-len("tombstone 3")-fixedBytes-64])
			},
			func(t *testing.T, p string) { write(t, p, read(t, p+".away")) }},
		{"replaced by a ledger that is as well signed",
			func(t *testing.T, p string) {
				rename(t, p, p+".away")
				other := mustOpen(t, p)
				entries := after(Head{}, 3)
				entries[2].Tombstone = []byte("tombstone X")
				mustAppend(t, other, entries...)
				mustClose(t, other)
			},
			func(t *testing.T, p string) { write(t, p, read(t, p+".away")) }},
		{"replaced by the ledger of another instance",
			func(t *testing.T, p string) {
				b := read(t, p)
				rename(t, p, p+".away")
				b[len(magic)] ^= 1
				write(t, p, b)
			},
			func(t *testing.T, p string) { write(t, p, read(t, p+".away")) }},
		{"cut, then brought back",
			func(t *testing.T, p string) {
				write(t, p+".copy", read(t, p))
				if err := os.Truncate(p, 30); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, p string) { rename(t, p+".copy", p) }},
	} {
		for _, by := range []string{"Append", "Ready"} {
			t.Run(test.name+", mended by "+by, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "outside")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				p := filepath.Join(dir, "erasures")
				l := mustOpen(t, p)
				entries := after(Head{}, 4)
				mustAppend(t, l, entries[:3]...)
				test.spoil(t, p)
				for range 2 {
					for _, again := range [][]Entry{entries, entries[:3]} {
						if err := l.Append(context.Background(), again); !errors.Is(err, ErrUnavailable) {
							t.Fatalf("append: %v", err)
						}
					}
					if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
						t.Fatalf("ready: %v", err)
					}
				}
				if l.Head() != entries[2].Head() {
					t.Error("the head moved")
				}
				test.mend(t, p)
				if by == "Ready" {
					if err := l.Ready(); err != nil {
						t.Fatal(err)
					}
				}
				mustAppend(t, l, entries...)
				if err := l.Ready(); err != nil {
					t.Error(err)
				}
				if got := scanAll(t, p); !reflect.DeepEqual(got, entries) {
					t.Errorf("%d entries", len(got))
				}
			})
		}
	}
}

// The writer is stopped between two goes: a file of ours whose end was changed in place is not gone on with.
func TestChangedEndIsNotContinued(t *testing.T) {
	p := path(t)
	l := mustOpen(t, p)
	entries := after(Head{}, 3)
	mustAppend(t, l, entries[:2]...)
	good := read(t, p)
	for name, i := range map[string]int{"signature": len(good) - 1, "tombstone": len(good) - 65, "instance": len(magic)} {
		bad := append(bytes.Clone(good), 'x') // longer, so that it is looked at
		bad[i] ^= 1
		write(t, p, bad)
		if err := l.Append(context.Background(), entries[2:]); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, p, good)
	mustAppend(t, l, entries[2:]...)
}
