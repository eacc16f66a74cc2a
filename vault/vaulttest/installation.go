// Package vaulttest sets up whole installations for tests, of real parts in a temporary folder: the bolt store, the
// keyring file, the audit log and the erasure ledger.
package vaulttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/local"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/store/bolt"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

// Options change one part of an installation, to force a fault or to move the clock.
type Options struct {
	Now      func() time.Time
	KMS      func(keys.KMS) keys.KMS             // wraps the key service
	First    func(dir string) (keys.KMS, error)  // a key service opened in the folder in the keyring's place
	Other    func(dir string) (keys.KMS, error)  // one more; OtherKeyring is one
	Store    func(store.Store) store.Store       // wraps the store
	Audit    func(vault.AuditLog) vault.AuditLog // wraps the log
	Leaving  bool                                // opens with vault.UnlockLeaving
	CacheTTL time.Duration                       // of data keys
	Pool     int                                 // of data keys made ahead
	Logger   *slog.Logger
	Policy   []byte // nil: the starter policy
}

// Installation is a vault and its parts. Keyring is nil where the key service is another one.
type Installation struct {
	*vault.Vault
	Store    store.Store
	Bolt     *bolt.Store
	Keyring  *local.Keyring
	KMS      *keys.Services
	Log      *audit.Log
	Ledger   *ledger.Ledger
	Dir      string // data folder
	Unlocked *vault.Unlocked

	closers []func() error // of the key services

	// Key is the credential of each of the first services, known when this process made the installation.
	Key map[string]secret.Text
}

// Services are the names of the first services, each in the role of its name.
func Services() []string { return []string{"app", "support", "officer", "operator"} }

// Open opens the installation below dir, making it when there is none, and closes it at the end of the test.
func Open(t testing.TB, dir string, opt Options) *Installation {
	t.Helper()
	in, err := Start(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	return in
}

// Start is Open without a test: for child processes and for failures that are expected.
func Start(dir string, opt Options) (in *Installation, err error) {
	in = &Installation{Dir: dir, Key: map[string]secret.Text{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	ctx := context.Background()
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if in.Bolt, err = bolt.Open(filepath.Join(dir, "store.db"), bolt.Options{}); err != nil {
		return in, err
	}
	in.Store = in.Bolt
	if opt.Store != nil {
		in.Store = opt.Store(in.Store)
	}
	inst, old, err := vault.Instance(ctx, in.Store)
	if err != nil {
		return in, err
	}
	if !old {
		if _, err := rand.Read(inst[:]); err != nil {
			return in, err
		}
	}
	if err := in.openKeyServices(inst, opt); err != nil {
		return in, err
	}
	if !old {
		if err := in.init(ctx, inst, opt.Policy); err != nil {
			return in, err
		}
	}
	unlock := vault.Unlock
	if opt.Leaving {
		unlock = vault.UnlockLeaving
	}
	if in.Unlocked, err = unlock(ctx, in.Store, in.KMS); err != nil {
		return in, err
	}
	in.Log, err = audit.Open(filepath.Join(dir, "audit"), audit.Options{Signer: in.Unlocked.Signer("audit"), Instance: in.Unlocked.Instance.String(), Logger: opt.Logger})
	if err != nil {
		return in, err
	}
	in.Ledger, err = ledger.Open(filepath.Join(dir, "ledger"), in.Unlocked.Signer("ledger"), ledger.Options{Instance: in.Unlocked.Instance, MustExist: in.Unlocked.Buried > 0})
	if err != nil {
		return in, err
	}
	var log vault.AuditLog = in.Log
	if opt.Audit != nil {
		log = opt.Audit(log)
	}
	in.Vault, err = vault.New(ctx, vault.Config{
		Store: in.Store, KMS: in.KMS, Unlocked: in.Unlocked, Audit: log, Ledger: in.Ledger,
		CacheTTL: opt.CacheTTL, Pool: opt.Pool, Now: opt.Now, Logger: opt.Logger,
	})
	return in, err
}

func (in *Installation) init(ctx context.Context, inst keys.InstanceID, text []byte) error {
	if text == nil {
		text = policy.Starter()
	}
	c := vault.InitConfig{Policy: text, Instance: inst, Random: rand.Reader, Now: time.Now()}
	for _, name := range Services() {
		made, err := vault.Mint(rand.Reader, name, name)
		if err != nil {
			return err
		}
		in.Key[name] = made.Key
		c.Credentials = append(c.Credentials, made)
	}
	return vault.Init(ctx, in.Store, in.KMS, c)
}

// Close closes what was opened, the vault first.
func (in *Installation) Close() error {
	var errs []error
	if in.Vault != nil {
		in.Vault.Close()
	}
	if in.Log != nil {
		errs = append(errs, in.Log.Close())
	}
	if in.Ledger != nil {
		errs = append(errs, in.Ledger.Close())
	}
	if in.Unlocked != nil {
		in.Unlocked.Wipe()
	}
	if in.Bolt != nil {
		if err := in.Bolt.Close(); !errors.Is(err, store.ErrClosed) && !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, close := range in.closers {
		errs = append(errs, close())
	}
	in.closers = nil
	return errors.Join(errs...)
}

// Call is a call by one of the first services for a purpose.
func Call(service, purpose string) vault.Call {
	return vault.Call{Principal: vault.Principal{Service: service, Role: service, Credential: service + "-key"}, Purpose: purpose, RequestID: "test"}
}

// Fields makes the fields of a write from name and value in turn.
func Fields(pairs ...string) []vault.FieldInput {
	if len(pairs)%2 != 0 {
		panic(fmt.Sprintf("%d words are no pairs", len(pairs)))
	}
	var out []vault.FieldInput
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, vault.FieldInput{Field: pairs[i], Value: secret.NewText(pairs[i+1])})
	}
	return out
}
