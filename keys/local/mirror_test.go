package local

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
)

// withSum gives bytes a fitting digest, as somebody would who alters a file on purpose.
func withSum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

func flipped(b []byte, at int) []byte {
	c := bytes.Clone(b)
	c[at] ^= 0xff
	return c
}

func TestHealing(t *testing.T) {
	for _, s := range sealings {
		path := newPath(t)
		k := ready(t, path, s.passphrase)
		w := canary(t, k, keys.DEKKey)
		before := read(t, path)
		must(t, k.Rotate(t.Context(), keys.DEKKey))
		closeRing(t, k)
		good := read(t, path)
		foreign := newPath(t)
		closeRing(t, ready(t, foreign, s.passphrase))
		other := read(t, foreign)
		futureFormat := bytes.Clone(good[:len(good)-sumSize])
		futureFormat[4]++
		gone := []byte(nil)

		for _, c := range []struct {
			name         string
			main, mirror []byte
			log          string
			err          error
		}{
			{"both fine", good, good, "", nil},
			{"main gone", gone, good, "healed from its mirror", nil},
			{"main empty", []byte{}, good, "healed from its mirror", nil},
			{"main torn", good[:len(good)/2], good, "healed from its mirror", nil},
			{"main with bytes added", append(bytes.Clone(good), 0), good, "healed from its mirror", nil},
			{"main far too long", make([]byte, maxFile+1), good, "healed from its mirror", nil},
			{"mirror gone", good, gone, "mirror written anew", nil},
			{"mirror torn", good, good[:40], "mirror written anew", nil},
			{"mirror older", good, before, "mirror written anew", nil},
			{"main older", before, good, "", ErrDamaged},
			{"mirror of another ring", good, other, "", ErrDamaged},
			{"both torn", good[:40], good[:50], "", ErrDamaged},
			{"main torn, mirror gone", good[:40], gone, "", ErrDamaged},
			{"main gone, mirror torn", gone, good[:40], "", ErrDamaged},
			{"main of a later format", withSum(futureFormat), good, "", ErrDamaged},
			{"mirror of a later format", good, withSum(futureFormat), "", ErrDamaged},
			{"main is some other file", withSum(make([]byte, 100)), good, "", ErrDamaged},
		} {
			t.Run(s.name+" "+c.name, func(t *testing.T) {
				must(t, discard(path), discard(path+".mirror"))
				if c.main != nil {
					write(t, path, c.main)
				}
				if c.mirror != nil {
					write(t, path+".mirror", c.mirror)
				}
				var log bytes.Buffer
				k, err := Open(path, options(s.passphrase, &log))
				if c.err != nil {
					if !errors.Is(err, c.err) {
						t.Fatalf("open: %v, want %v", err, c.err)
					}
					if c.main != nil && !bytes.Equal(read(t, path), c.main) {
						t.Fatal("a refused open changed the file")
					}
					return
				}
				must(t, err)
				defer closeRing(t, k)
				if !strings.Contains(log.String(), c.log) {
					t.Fatalf("log: %s", log.String())
				}
				must(t, sing(t, k, keys.DEKKey, w))
				wantLatest(t, k, keys.DEKKey, 2)
				if !bytes.Equal(read(t, path), good) || !bytes.Equal(read(t, path+".mirror"), good) {
					t.Fatal("file and mirror are not what they should be")
				}
				must(t, k.Rotate(t.Context(), keys.DEKKey))
			})
		}
	}
}

func TestSameSerialDifferentContent(t *testing.T) {
	path, twin := newPath(t), newPath(t)
	closeRing(t, openAt(t, path, ""))
	write(t, twin, read(t, path))
	a, b := openAt(t, path, ""), openAt(t, twin, "")
	must(t, a.Create(t.Context(), keys.RootKey), b.Create(t.Context(), keys.RootKey))
	closeRing(t, a)
	write(t, path+".mirror", read(t, twin))
	if _, err := Open(path, options("", nil)); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

// Any flipped byte of the main file is healed; of both files, an error. No byte lets another key through.
func TestFlippedBytes(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			path := newPath(t)
			k := ready(t, path, s.passphrase)
			w := canary(t, k, keys.DEKKey)
			closeRing(t, k)
			good := read(t, path)
			for at := range good {
				bad := flipped(good, at)
				write(t, path, bad)
				write(t, path+".mirror", bad)
				if _, err := Open(path, options(s.passphrase, nil)); !errors.Is(err, ErrDamaged) {
					t.Fatalf("byte %d flipped in both: %v", at, err)
				}
				if at%7 != 0 { // healing waits for the disk; the parser is the same for each byte
					continue
				}
				write(t, path+".mirror", good)
				k, err := Open(path, options(s.passphrase, nil))
				if err != nil {
					t.Fatalf("byte %d flipped: %v", at, err)
				}
				must(t, sing(t, k, keys.DEKKey, w))
				closeRing(t, k)
				if !bytes.Equal(read(t, path), good) {
					t.Fatalf("byte %d flipped: not healed", at)
				}
			}
		})
	}
}

// Somebody who corrects the digest still does not get past the seal.
func TestSealedAndAlteredOnPurpose(t *testing.T) {
	path := newPath(t)
	closeRing(t, ready(t, path, "p"))
	good := read(t, path)
	content := good[:len(good)-sumSize]
	for at := range content {
		bad := withSum(flipped(content, at))
		write(t, path, bad)
		write(t, path+".mirror", bad)
		_, err := Open(path, options("p", nil))
		if !errors.Is(err, ErrPassphrase) && !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
}

// block makes writing path fail, by something in the way of its temporary file, until the returned func is called.
func block(t *testing.T, path string) (unblock func()) {
	t.Helper()
	must(t, os.MkdirAll(path+".new/in the way", 0o700))
	return func() { must(t, os.RemoveAll(path+".new")) }
}

func TestWriteFailsBeforeMainFile(t *testing.T) {
	path := newPath(t)
	k := ready(t, path, "p")
	unblock := block(t, path)
	before := read(t, path)
	for what, call := range map[string]func() error{
		"rotate":     func() error { return k.Rotate(t.Context(), keys.RootKey) },
		"passphrase": func() error { return k.SetPassphrase(passphrase("q")) },
	} {
		if err := call(); !errors.Is(err, keys.ErrKMSUnavailable) {
			t.Fatalf("%s: %v", what, err)
		}
		wantLatest(t, k, keys.RootKey, 1)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Fatal("the file changed")
	}
	unblock()
	must(t, k.Rotate(t.Context(), keys.RootKey))
	wantLatest(t, k, keys.RootKey, 2)
}

// What is in the main file alone is neither acknowledged nor used: one damaged file could lose it.
func TestWriteFailsBeforeMirror(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			ctx := t.Context()
			path := newPath(t)
			k := ready(t, path, s.passphrase)
			w := canary(t, k, keys.RootKey)
			old := material(k, keys.RootKey)[1]
			fails := func(err error) {
				t.Helper()
				if !errors.Is(err, keys.ErrKMSUnavailable) {
					t.Fatal(err)
				}
			}
			unblock := block(t, path+".mirror")
			fails(k.Rotate(ctx, keys.RootKey))
			fails(sing(t, k, keys.RootKey, w))
			unblock()
			must(t, sing(t, k, keys.RootKey, w))
			wantLatest(t, k, keys.RootKey, 2)
			must(t, k.RaiseMinima(ctx, keys.RootKey, 2))
			unblock = block(t, path+".mirror")
			fails(k.Trim(ctx, keys.RootKey, 2))
			fails(k.Trim(ctx, keys.RootKey, 2))
			unblock()
			v, err := k.Versions(ctx, keys.RootKey)
			if err != nil || v.MinAvailable != 2 {
				t.Fatalf("%+v, %v", v, err)
			}
			if bytes.Contains(read(t, path+".mirror"), old) {
				t.Fatal("the trimmed version is still in the mirror")
			}
			unblock = block(t, path+".mirror")
			fails(k.SetPassphrase(passphrase("new")))
			unblock()
			wantLatest(t, k, keys.RootKey, 2)
			must(t, k.Rotate(ctx, keys.RootKey))
			closeRing(t, k)
			wantLatest(t, openAt(t, path, "new"), keys.RootKey, 3)
		})
	}
}

func TestFailingRandom(t *testing.T) {
	opt := options("", nil)
	opt.Random = strings.NewReader(fmt.Sprintf("%*s", idSize, ""))
	k, err := Open(newPath(t), opt)
	must(t, err)
	defer closeRing(t, k)
	if err := k.Create(t.Context(), keys.RootKey); err == nil {
		t.Fatal("a key was made without randomness")
	}
	if _, err := k.Versions(t.Context(), keys.RootKey); !errors.Is(err, keys.ErrNoKey) {
		t.Fatal(err)
	}
}
