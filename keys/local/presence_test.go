package local

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// everyCall makes each call of the interface that needs the key w was wrapped with.
func everyCall(t *testing.T, k *Keyring, w keys.Wrapped) map[string]error {
	ctx := t.Context()
	_, wrap := k.Wrap(ctx, keys.DEKKey, 0, []keys.WrapItem{{Context: testContext, Plaintext: canaryKey()}})
	_, rewrap := k.Rewrap(ctx, keys.DEKKey, []keys.UnwrapItem{{Context: testContext, Wrapped: w}})
	_, versions := k.Versions(ctx, keys.DEKKey)
	return map[string]error{
		"wrap": wrap, "unwrap": sing(t, k, keys.DEKKey, w), "rewrap": rewrap, "versions": versions,
		"create": k.Create(ctx, keys.DEKKey), "rotate": k.Rotate(ctx, keys.DEKKey),
		"raise minima": k.RaiseMinima(ctx, keys.DEKKey, 1), "trim": k.Trim(ctx, keys.DEKKey, 1),
		"passphrase": k.SetPassphrase(passphrase("p")),
	}
}

func TestTakenAwayAndPutBack(t *testing.T) {
	path := newPath(t)
	away := path + ".away"
	different := newPath(t)
	closeRing(t, ready(t, different, ""))
	for _, c := range []struct {
		name       string
		take, back func(t *testing.T)
		says       string
	}{
		{
			"renamed",
			func(t *testing.T) { must(t, os.Rename(path, away)) },
			func(t *testing.T) { must(t, os.Rename(away, path)) },
			"no such file",
		},
		{
			"deleted, copy put back",
			func(t *testing.T) { write(t, away, read(t, path)); must(t, os.Remove(path)) },
			func(t *testing.T) { must(t, os.Rename(away, path)) },
			"no such file",
		},
		{
			"opened to others",
			func(t *testing.T) { must(t, os.Chmod(path, 0o644)) },
			func(t *testing.T) { must(t, os.Chmod(path, 0o600)) },
			"chmod 600",
		},
		{
			"torn",
			func(t *testing.T) { must(t, os.Rename(path, away)); write(t, path, read(t, away)[:50]) },
			func(t *testing.T) { must(t, os.Rename(away, path)) },
			"torn",
		},
		{
			"replaced by a different keyring",
			func(t *testing.T) { must(t, os.Rename(path, away)); write(t, path, read(t, different)) },
			func(t *testing.T) { must(t, os.Rename(away, path)) },
			"a different keyring lies at " + path,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := ready(t, path, "")
			w := canary(t, k, keys.DEKKey)
			c.take(t)
			for range 2 {
				for call, err := range everyCall(t, k, w) {
					if !errors.Is(err, keys.ErrKMSUnavailable) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%s: %v, want ErrKMSUnavailable that says %q", call, err, c.says)
					}
				}
			}
			c.back(t)
			must(t, sing(t, k, keys.DEKKey, w), k.Rotate(t.Context(), keys.DEKKey))
			closeRing(t, k)
			must(t, discard(path), discard(path+".mirror"))
		})
	}
}

// later returns the bytes of the keyring at path after change, made on a copy elsewhere.
func later(t *testing.T, path, pass string, change func(*Keyring)) []byte {
	t.Helper()
	elsewhere := newPath(t)
	write(t, elsewhere, read(t, path))
	k := openAt(t, elsewhere, pass)
	change(k)
	closeRing(t, k)
	return read(t, elsewhere)
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	write(t, path+".put", b)
	must(t, os.Rename(path+".put", path))
}

func TestNewerFileIsLoaded(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			path := newPath(t)
			k := ready(t, path, s.passphrase)
			w := canary(t, k, keys.DEKKey)
			put(t, path, later(t, path, s.passphrase, func(k *Keyring) { must(t, k.Rotate(t.Context(), keys.DEKKey)) }))
			wantLatest(t, k, keys.DEKKey, 2)
			must(t, sing(t, k, keys.DEKKey, w))
			if !bytes.Equal(read(t, path), read(t, path+".mirror")) {
				t.Fatal("the mirror did not follow")
			}
		})
	}
}

func TestNewerFileSealedOtherwiseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		pass string
		make func(t *testing.T, path string) []byte
	}{
		"other passphrase": {"p", func(t *testing.T, path string) []byte {
			return later(t, path, "p", func(k *Keyring) { must(t, k.SetPassphrase(passphrase("q"))) })
		}},
		"sealed by another": {"", func(t *testing.T, path string) []byte {
			return later(t, path, "", func(k *Keyring) { must(t, k.SetPassphrase(passphrase("q"))) })
		}},
		"unsealed by another": {"p", func(t *testing.T, path string) []byte {
			e, err := parse(read(t, path))
			must(t, err)
			file, err := (&ring{id: e.id, serial: e.serial + 1}).encode(nil, zeros{})
			must(t, err)
			return file
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			k := ready(t, path, c.pass)
			put(t, path, c.make(t, path))
			_, err := k.Versions(t.Context(), keys.DEKKey)
			if !errors.Is(err, keys.ErrKMSUnavailable) || !errors.Is(err, ErrPassphrase) ||
				!strings.Contains(err.Error(), "sealed anew by another") {
				t.Fatal(err)
			}
		})
	}
}

func TestOlderFileOrTwinIsRefused(t *testing.T) {
	path := newPath(t)
	k := ready(t, path, "")
	older := read(t, path)
	rotate := func(k *Keyring) { must(t, k.Rotate(t.Context(), keys.DEKKey)) }
	twin := later(t, path, "", rotate)
	rotate(k)
	w := canary(t, k, keys.DEKKey)
	current := read(t, path)
	for name, b := range map[string][]byte{"older": older, "twin": twin} {
		put(t, path, b)
		err := sing(t, k, keys.DEKKey, w)
		if !errors.Is(err, keys.ErrKMSUnavailable) || !strings.Contains(err.Error(), "older than the keyring in use") {
			t.Fatalf("%s: %v", name, err)
		}
	}
	put(t, path, current)
	must(t, sing(t, k, keys.DEKKey, w))
}

func TestTrimLeavesNothing(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			ctx := t.Context()
			path := newPath(t)
			k := ready(t, path, s.passphrase)
			for range 3 {
				must(t, k.Rotate(ctx, keys.DEKKey))
			}
			copies := material(k, keys.DEKKey)
			var inMemory []secret.Bytes
			for v := 1; v <= 4; v++ {
				m, _ := k.ring.dek.version(v)
				inMemory = append(inMemory, m)
			}
			must(t, k.RaiseMinima(ctx, keys.DEKKey, 3), k.Trim(ctx, keys.DEKKey, 3))
			zero := secret.NewBytes(make([]byte, keySize))
			for v := 1; v <= 4; v++ {
				if wiped := inMemory[v-1].Equal(zero); wiped != (v < 3) {
					t.Errorf("version %d wiped from memory: %t", v, wiped)
				}
				if v < 3 {
					wantFilesWithout(t, path, copies[v])
				} else if s.passphrase == "" && !bytes.Contains(read(t, path+".mirror"), copies[v]) {
					t.Errorf("version %d is not in the mirror", v)
				}
			}
			write(t, path+".mirror", []byte("an old copy, say"))
			must(t, k.Trim(ctx, keys.DEKKey, 3)) // again: for whoever does not know whether the first one got through
			if !bytes.Equal(read(t, path), read(t, path+".mirror")) {
				t.Error("repeating a trim left the mirror alone")
			}
			closeRing(t, k)
			for _, m := range inMemory {
				if !m.Equal(zero) {
					t.Error("close left a key in memory")
				}
			}
		})
	}
}

func wantFilesWithout(t *testing.T, path string, key []byte) {
	t.Helper()
	for _, file := range []string{path, path + ".mirror"} {
		if bytes.Contains(read(t, file), key) {
			t.Errorf("%s holds a destroyed version", file)
		}
	}
}
