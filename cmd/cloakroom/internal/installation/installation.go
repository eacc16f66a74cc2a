package installation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/local"
	"github.com/cloakroom-io/cloakroom/keys/transit"
	"github.com/cloakroom-io/cloakroom/store/bolt"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

// Options says how to open an installation.
type Options struct {
	Data         string
	Passphrase   secret.Bytes    // of the keyring, which is sealed with it if it is not yet; empty = not sealed
	KMS          string          // local or transit; "" = what the store uses, local for a new one
	Transit      *transit.Config // HashiCorp Vault, without instance, logger and clock; nil = it has no part
	Operator     bool            // the login there is an operator's, who may do more than a server should: no warnings of it
	Leaving      bool            // a process that only moves the keys away from Vault: unsafe keys there are a warning
	CacheEntries int             // data keys in memory; 0 = the default
	CacheTTL     time.Duration
	Now          func() time.Time
	Logger       *slog.Logger
}

// Installation is an open one.
type Installation struct {
	Paths
	Vault     *vault.Vault
	New       bool // it was made by this Open
	Sealed    bool // the keyring is sealed under a passphrase
	SealedNow bool // it was there before and not sealed, until this Open

	store    *bolt.Store
	keyring  *local.Keyring   // nil: has no part
	transit  *transit.Transit // nil: has no part
	services *keys.Services   // of these two

	vaultConfig   transit.Config // that transit was opened with
	madeVaultKeys bool           // by this Open or since

	unlocked *vault.Unlocked
	ledger   *ledger.Ledger
	audit    *audit.Log
}

// Open opens the installation in o.Data, and makes it when the folder is empty or missing.
func Open(ctx context.Context, o Options) (*Installation, error) {
	paths, err := PathsOf(o.Data)
	if err != nil {
		return nil, err
	}
	i := &Installation{Paths: paths}
	if err := i.open(ctx, o); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Installation) open(ctx context.Context, o Options) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer i.damaged(&err)
	loose, err := makeFolder(i.Data)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if loose {
		o.Logger.Warn("others may look into the data folder, and its mode cannot be changed; its files are for the owner alone", "data", i.Data)
	}
	if !exists(i.Store) {
		if err := i.checkVirgin(); err != nil {
			return err
		}
		if err := i.checkStrangers(); err != nil {
			return err
		}
	}
	if i.store, err = bolt.Open(i.Store, bolt.Options{}); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	inst, there, err := vault.Instance(ctx, i.store)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if !there {
		if err := i.checkVirgin(); err != nil {
			return err
		}
		if inst, err = i.begin(ctx, o); err != nil {
			return fmt.Errorf("first start: %w", err)
		}
	}
	if err := i.settle(ctx, o, inst); err != nil {
		return err
	}
	noLedger := !exists(i.Ledger)
	i.ledger, err = ledger.Open(i.Ledger, i.unlocked.Signer("ledger"), ledger.Options{Instance: i.unlocked.Instance, Now: o.Now, Logger: o.Logger})
	if errors.Is(err, ledger.ErrForeign) {
		return fmt.Errorf("%s belongs to another installation; put back the ledger of this one: %w", i.Ledger, err)
	}
	if err != nil {
		return fmt.Errorf("erasure ledger %s: %w", i.Ledger, err)
	}
	if err := i.openAudit(o); err != nil {
		return err
	}
	i.Vault, err = vault.New(ctx, vault.Config{
		Store: i.store, KMS: i.services, Unlocked: i.unlocked, Audit: i.audit, Ledger: i.ledger,
		CacheEntries: o.CacheEntries, CacheTTL: o.CacheTTL, Pool: i.pool(), Random: rand.Reader, Now: o.Now, Logger: o.Logger,
	})
	if errors.Is(err, vault.ErrOldLedger) {
		if noLedger {
			err = errors.Join(err, os.Remove(i.Ledger))
		}
		return fmt.Errorf("erasure ledger %s: %w", i.Ledger, err)
	}
	if err != nil {
		return err
	}
	if _, err := makeFolder(i.Backup); err != nil {
		return fmt.Errorf("backup folder: %w", err)
	}
	// Last: from now on a missing store, or a missing log, is a loss and no first start.
	if err := publish(i.AuditKey, i.audit.VerifierKey(), o.Logger); err != nil {
		return fmt.Errorf("audit key: %w", err)
	}
	if err := publish(i.CertificateKey, i.Vault.CertificateKey(), o.Logger); err != nil {
		return fmt.Errorf("certificate key: %w", err)
	}
	return nil
}

// damaged, deferred, makes an error of a panic: bbolt panics when the pages of its file contradict each other, and reads
// outside of it when they point there.
func (p Paths) damaged(err *error) {
	if found := recover(); found != nil {
		*err = fmt.Errorf("%s is damaged, or this is a fault of the program: put back a copy of the whole of %s (%v)", p.Store, p.Data, found)
	}
}

// openAudit never begins a second log quietly: once audit.pub is there, so was a log.
func (i *Installation) openAudit(o Options) (err error) {
	if exists(i.AuditKey) && i.auditEmpty() {
		return fmt.Errorf("the audit log %s is gone: put it back; to begin a new one, after noting the loss, remove %s", i.Audit, i.AuditKey)
	}
	i.audit, err = audit.Open(i.Audit, audit.Options{
		Signer: i.unlocked.Signer("audit"), Instance: i.unlocked.Instance.String(), Now: o.Now, Logger: o.Logger,
	})
	var damage *audit.CorruptError
	switch {
	case errors.As(err, &damage):
		return fmt.Errorf("audit log %s was altered or damaged: %w; move that folder away and keep it as it is for the investigation, "+
			"put a copy of it in its place, and check the copy with: cloakroom audit verify %s --key %s (better: the copy of this key that auditors keep)",
			i.Audit, err, shell.Quote(i.Audit), shell.Quote(i.AuditKey))
	case err != nil:
		return fmt.Errorf("audit log %s: %w", i.Audit, err)
	}
	return nil
}

func (i *Installation) auditEmpty() bool {
	entries, err := os.ReadDir(i.Audit)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

// publish writes a public key, 0644. One that differs is replaced and reported: auditors keep copies of their own.
func publish(path, line string, log *slog.Logger) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil && strings.TrimSpace(string(old)) == line:
		return nil
	case err == nil:
		log.Warn("the public key's file held another key and was written anew; compare it with the copy that auditors have", "file", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return writeFile(path, line+"\n", 0o644)
}

// Failed is closed when the store cannot tell whether a commit holds: the process has to end and begin again.
func (i *Installation) Failed() <-chan struct{} { return i.store.Failed() }

// Close releases everything, the vault first.
func (i *Installation) Close() error {
	var errs []error
	if i.Vault != nil {
		i.Vault.Close()
	}
	if i.ledger != nil {
		errs = append(errs, i.ledger.Close())
	}
	if i.audit != nil {
		errs = append(errs, i.audit.Close())
	}
	if i.store != nil {
		errs = append(errs, i.store.Close())
	}
	if i.unlocked != nil {
		i.unlocked.Wipe()
	}
	if i.keyring != nil {
		errs = append(errs, i.keyring.Close())
	}
	if i.transit != nil {
		errs = append(errs, i.transit.Close())
	}
	return errors.Join(errs...)
}
