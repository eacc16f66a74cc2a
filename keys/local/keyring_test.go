package local

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/kmstest"
)

// cheap keeps tests fast; what argon2id costs does not change what is tested.
var cheap = Cost{Time: 1, Memory: 8, Lanes: 1}

func passphrase(s string) secret.Bytes { return secret.NewBytes([]byte(s)) }

// sealings are the two ways a keyring is stored.
var sealings = []struct {
	name       string
	passphrase string
}{{"unsealed", ""}, {"sealed", "correct horse"}}

func options(pass string, log *bytes.Buffer) Options {
	if log == nil {
		log = new(bytes.Buffer)
	}
	return Options{
		Create:     true,
		Passphrase: passphrase(pass),
		Cost:       cheap,
		Logger:     slog.New(slog.NewTextHandler(log, nil)),
	}
}

func openAt(t *testing.T, path, pass string) *Keyring {
	t.Helper()
	k, err := Open(path, options(pass, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeRing(t, k) })
	return k
}

func closeRing(t *testing.T, k *Keyring) {
	t.Helper()
	if err := k.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// must fails the test at the first error; for steps that are not what is tested.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ready opens a keyring with both keys.
func ready(t *testing.T, path, pass string) *Keyring {
	t.Helper()
	k := openAt(t, path, pass)
	must(t, k.Create(t.Context(), keys.RootKey), k.Create(t.Context(), keys.DEKKey))
	return k
}

var testContext = []byte("context")

// canary wraps a fixed key under the latest version.
func canary(t *testing.T, k *Keyring, name keys.KeyName) keys.Wrapped {
	t.Helper()
	item := keys.WrapItem{Context: testContext, Plaintext: canaryKey()}
	out, err := k.Wrap(t.Context(), name, 0, []keys.WrapItem{item})
	must(t, err, out[0].Err)
	return out[0].Wrapped
}

func canaryKey() secret.Bytes { return secret.NewBytes(bytes.Repeat([]byte{7}, 32)) }

// sing unwraps a canary: the error of the call or of the item.
func sing(t *testing.T, k *Keyring, name keys.KeyName, w keys.Wrapped) error {
	t.Helper()
	out, err := k.Unwrap(t.Context(), name, []keys.UnwrapItem{{Context: testContext, Wrapped: w}})
	if err != nil {
		return err
	}
	if out[0].Err == nil && !out[0].Plaintext.Equal(canaryKey()) {
		t.Fatal("unwrap gave another key")
	}
	return out[0].Err
}

func wantLatest(t *testing.T, k *Keyring, name keys.KeyName, latest int) {
	t.Helper()
	v, err := k.Versions(t.Context(), name)
	if err != nil || v.Latest != latest {
		t.Fatalf("latest = %d, %v; want %d", v.Latest, err, latest)
	}
}

// material copies the keys that a keyring holds, by name and version.
func material(k *Keyring, name keys.KeyName) map[int][]byte {
	all := map[int][]byte{}
	found, err := k.ring.key(name)
	if err != nil {
		return all
	}
	for v := found.available; v <= found.latest; v++ {
		m, _ := found.version(v)
		all[v] = bytes.Clone(m.Reveal())
	}
	return all
}

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "data.keyring") }

func TestContract(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			kmstest.Run(t, func(t *testing.T) keys.KMS { return openAt(t, newPath(t), s.passphrase) })
		})
	}
}

func TestDefaultCostIsRFC9106(t *testing.T) {
	path := newPath(t)
	opt := options("p", nil)
	opt.Cost = Cost{}
	k, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	closeRing(t, k)
	e, err := parse(read(t, path))
	if err != nil || e.cost != (Cost{Time: 3, Memory: 65536, Lanes: 4}) {
		t.Fatalf("cost %+v, %v", e.cost, err)
	}
}
