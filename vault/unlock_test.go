package vault_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/local"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/store/bolt"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func emptyParts(t testing.TB, dir string) (*bolt.Store, *local.Keyring) {
	t.Helper()
	st, err := bolt.Open(filepath.Join(dir, "store.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	ring, err := local.Open(filepath.Join(dir, "keyring"), local.Options{Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ring.Close() })
	return st, ring
}

func initConfig() vault.InitConfig {
	return vault.InitConfig{Policy: policy.Starter(), Random: rand.Reader, Now: time.Now()}
}

// failingStore fails, or drops, the put of a keyspace.
type failingStore struct {
	store.Store
	at store.Keyspace
}

type failingTx struct {
	store.Tx
	at store.Keyspace
}

func (s failingStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.Update(ctx, func(tx store.Tx) error { return fn(failingTx{tx, s.at}) })
}

func (t failingTx) Put(ks store.Keyspace, key, value []byte) error {
	if ks == t.at {
		return errFull
	}
	return t.Tx.Put(ks, key, value)
}

// refusingKMS refuses one call, or gives back another key than it was given.
type refusingKMS struct {
	keys.KMS
	create, wrap, unwrap, lies bool
}

func (k refusingKMS) Create(ctx context.Context, key keys.KeyName) error {
	if k.create {
		return keys.ErrKMSUnavailable
	}
	return k.KMS.Create(ctx, key)
}

func (k refusingKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if k.wrap {
		return nil, keys.ErrKMSUnavailable
	}
	return k.KMS.Wrap(ctx, key, version, items)
}

func (k refusingKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if k.unwrap {
		return nil, keys.ErrKMSUnavailable
	}
	out, err := k.KMS.Unwrap(ctx, key, items)
	if k.lies && err == nil {
		out[0].Plaintext.Reveal()[0] ^= 1
	}
	return out, err
}

// TestInitCutShort: whatever fails, the store stays empty, and the next Init goes through.
func TestInitCutShort(t *testing.T) {
	t.Parallel()
	st, ring := emptyParts(t, t.TempDir())
	_, err := vault.Unlock(bg, st, keys.NewServices(ring))
	if !errors.Is(err, vault.ErrNotInitialised) {
		t.Errorf("an empty store: %v", err)
	}
	bad := initConfig()
	bad.Policy = []byte("version: 1\n")
	blind := initConfig()
	blind.Random = strings.NewReader("too little")
	ended, end := context.WithCancel(bg)
	end()
	for name, do := range map[string]func() error{
		"policy":            func() error { return vault.Init(bg, st, ring, bad) },
		"randomness":        func() error { return vault.Init(bg, st, ring, blind) },
		"caller left":       func() error { return vault.Init(ended, st, ring, initConfig()) },
		"create":            func() error { return vault.Init(bg, st, refusingKMS{KMS: ring, create: true}, initConfig()) },
		"wrap":              func() error { return vault.Init(bg, st, refusingKMS{KMS: ring, wrap: true}, initConfig()) },
		"unwrap":            func() error { return vault.Init(bg, st, refusingKMS{KMS: ring, unwrap: true}, initConfig()) },
		"another key":       func() error { return vault.Init(bg, st, refusingKMS{KMS: ring, lies: true}, initConfig()) },
		"store, keys":       func() error { return vault.Init(bg, failingStore{st, store.Keys}, ring, initConfig()) },
		"store, the policy": func() error { return vault.Init(bg, failingStore{st, store.Policy}, ring, initConfig()) },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if rows := dump(t, st); len(rows) != 0 {
			t.Errorf("%s: %d rows are left", name, len(rows))
		}
		if _, ok, err := vault.Instance(bg, st); ok || err != nil {
			t.Errorf("%s: initialised %t, %v", name, ok, err)
		}
	}
	if err := vault.Init(bg, st, ring, initConfig()); err != nil {
		t.Fatal(err)
	}
	before := dump(t, st)
	if err := vault.Init(bg, st, ring, initConfig()); !errors.Is(err, vault.ErrInitialised) || !sameRows(before, dump(t, st)) {
		t.Errorf("a second Init: %v", err)
	}
	if _, ok, err := vault.Instance(bg, st); !ok || err != nil {
		t.Errorf("initialised %t, %v", ok, err)
	}
	if u, err := vault.Unlock(bg, st, keys.NewServices(ring)); err != nil || u.Buried != 0 {
		t.Errorf("after a second Init: %v", err)
	}
}

func TestWrongKeys(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	_, other := emptyParts(t, t.TempDir())
	for _, made := range []bool{false, true} {
		if made {
			for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
				if err := other.Create(bg, key); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, err := vault.Unlock(bg, in.Store, keys.NewServices(other))
		if !errors.Is(err, vault.ErrWrongKeys) || !strings.Contains(err.Error(), "bring back the right keyring") {
			t.Errorf("another keyring, keys made %t: %v", made, err)
		}
	}
	away := &awayKMS{KMS: in.Keyring}
	away.away.Store(true)
	if _, err := vault.Unlock(bg, in.Store, keys.NewServices(away)); !errors.Is(err, keys.ErrKMSUnavailable) || errors.Is(err, vault.ErrWrongKeys) {
		t.Errorf("key service away: %v", err)
	}
	if _, err := vault.Unlock(bg, bend(in.Store, row{store.Meta, []byte("instance"), []byte{9}}), in.KMS); err == nil || !strings.Contains(err.Error(), "another version of Cloakroom") {
		t.Errorf("another layout: %v", err)
	}
}

// TestClosedParts: after the store or the keys are gone every method answers an error and none panics.
func TestClosedParts(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	s := newScene(t, in, "")
	unlocked, err := vault.Unlock(bg, in.Store, in.KMS)
	if err != nil {
		t.Fatal(err)
	}
	wiped := another(t, in, func(c *vault.Config) { c.Unlocked = unlocked })
	unlocked.Wipe()
	for _, m := range everyMethod(s, "") {
		switch m.name {
		case "Put", "Get", "Tokenize", "Detokenize", "Patch", "Erase":
			if shown, err := m.call(wiped, m.as(m.role)); err == nil && m.name != "Detokenize" {
				t.Errorf("%s with wiped keys: %+v", m.name, shown)
			} else if out, ok := shown.([]vault.Revealed); ok && err == nil && out[0].Err == nil {
				t.Errorf("%s with wiped keys shows a value", m.name)
			}
		}
	}
	if err := in.Bolt.Close(); err != nil {
		t.Fatal(err)
	}
	for _, m := range everyMethod(s, "") {
		_, err := m.call(in, m.as(m.role))
		wantCode(t, err, vault.ErrStoreUnavailable)
	}
	for _, p := range in.Ready(bg) {
		if (p.Err != nil) != (p.Name == "store") {
			t.Errorf("%s is reported as %v", p.Name, p.Err)
		}
	}
}
