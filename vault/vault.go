// Package vault is the domain: people (subjects), their fields, the tokens that stand for these, and erasure. It is
// the only place where keys, rows, policy and audit meet, and it opens every store transaction.
//
// Every method takes a Call, which says who asks and why, and has the same six steps:
//
//  1. read what is needed in one snapshot of the store;
//  2. authorise: role, purpose, view, the state of token and subject;
//  3. compute: unwrap keys, open or seal records, mint tokens; no transaction is open meanwhile;
//  4. append to the audit log and wait until the entry is on disk;
//  5. for a change, one Update that first checks that what step 1 read still stands, else begin again;
//  6. answer.
//
// So no plaintext leaves and no change commits without a durable audit entry, and no caller of this package can skip
// authorisation. A cached key never grants access: the row that wraps it is read in the same snapshot as the
// ciphertext, and where the row is gone, so is the person.
package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/tokenizer"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

// AuditLog is what the vault needs of the audit log.
type AuditLog interface {
	// Append returns once the entry is durable.
	Append(ctx context.Context, e *audit.Event) (index uint64, err error)
	// Ready reports why entries cannot be written, or nil.
	Ready() error
}

// ErasureLedger is what the vault needs of the erasure ledger.
type ErasureLedger interface {
	// Append makes the entries durable; entries that are there already are passed over.
	Append(ctx context.Context, entries []ledger.Entry) error
	// Head is the newest entry's place.
	Head() ledger.Head
	// Ready reports why entries cannot be written, or nil.
	Ready() error
}

// Config is what a Vault is made of. Store, KMS, Unlocked, Audit and Ledger must be set.
type Config struct {
	Store    store.Store
	KMS      *keys.Services // as Unlock was given
	Unlocked *Unlocked      // from Unlock
	Audit    AuditLog
	Ledger   ErasureLedger

	CacheEntries int           // data keys kept in memory; 0 = the default of package keys
	CacheTTL     time.Duration // and for how long; 0 = 60 s
	Pool         int           // data keys for new people made ahead at most; 0 = none

	Random io.Reader        // nil = crypto/rand
	Now    func() time.Time // nil = time.Now
	Logger *slog.Logger     // nil = none; never sees a value, a key or a token
}

// Vault is an open vault. Its methods may be called from any goroutine.
type Vault struct {
	store  store.Store
	kms    *keys.Services
	keys   *keys.Hierarchy
	deks   *keys.DEKs
	audit  AuditLog
	ledger ErasureLedger
	cert   certifier
	kinds  tokenizer.Kinds
	random io.Reader
	now    func() time.Time
	log    *slog.Logger

	turns      *turns
	jobs       *jobs
	probe      probe
	background *background
	policies   atomic.Pointer[policyInForce]
}

// New joins the parts. It refuses a ledger that is older than the store (someone put an old ledger back) and sends
// what the ledger may have missed.
func New(ctx context.Context, c Config) (*Vault, error) {
	v := &Vault{
		store: c.Store, kms: c.KMS, keys: c.Unlocked.keys, audit: c.Audit, ledger: c.Ledger,
		cert:   newCertifier(c.Unlocked.keys.Signer("certificate")),
		kinds:  newKinds(),
		random: c.Random, now: c.Now, log: c.Logger, turns: newTurns(), jobs: newJobs(), background: newBackground(),
	}
	if v.random == nil {
		v.random = rand.Reader
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.deks = keys.NewDEKs(c.KMS, c.Unlocked.Instance, keys.DEKOptions{Entries: c.CacheEntries, TTL: c.CacheTTL, Pool: c.Pool, Random: v.random, Now: v.now})
	if err := v.begin(ctx, c.Unlocked); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// begin compares store and ledger, and takes up what the last process left.
func (v *Vault) begin(ctx context.Context, u *Unlocked) error {
	if err := v.checkLedger(ctx); err != nil {
		return err
	}
	if !u.checked {
		if err := v.addCheck(ctx); err != nil {
			return err
		}
	}
	return v.resume(ctx)
}

// ErrOldLedger: the erasure ledger lacks entries that the store knows it had.
var ErrOldLedger = errors.New("the erasure ledger is older than the store, or another one: put the newest copy of the ledger file back")

// ErrOldStore: the erasure ledger has entries that the store does not know. Serving it would bring back the erased.
var ErrOldStore = errors.New("the store is older than the erasure ledger and still holds who was erased since: put the newest copy of the data folder back")

func (v *Vault) checkLedger(ctx context.Context) error {
	if err := v.flushLedger(ctx); err != nil {
		if errors.Is(err, ledger.ErrGap) || errors.Is(err, ledger.ErrDiverged) {
			return fmt.Errorf("%w (%w)", ErrOldLedger, err)
		}
		return err
	}
	var head ledger.Head
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		head, err = readLedgerHead(tx)
		return err
	})
	if err != nil {
		return err
	}
	got := v.ledger.Head()
	if got.Seq > head.Seq {
		return fmt.Errorf("%w: the store ends at entry %d, the ledger at %d", ErrOldStore, head.Seq, got.Seq)
	}
	if got != head {
		return fmt.Errorf("%w: the store ends at entry %d, the ledger at %d", ErrOldLedger, head.Seq, got.Seq)
	}
	return nil
}

// Close stops jobs, for the next start to go on with, and wipes the cached keys. The parts given in Config are their
// owner's to close.
func (v *Vault) Close() {
	v.background.close()
	v.deks.Close()
}

// CertificateKey is the line that certificates are verified with.
func (v *Vault) CertificateKey() string { return v.cert.PublicKey() }

func newKinds() tokenizer.Kinds { return tokenizer.NewKinds(tokenizer.Options{DefaultRegion: "CN"}) }

// policyInForce is a parsed policy and the number of its row.
type policyInForce struct {
	version uint64
	*policy.Policy
}

// policy returns the policy in force in the snapshot. A text is parsed once.
func (v *Vault) policy(tx store.ReadTx) (*policyInForce, error) {
	n, err := currentPolicy(tx)
	if err != nil {
		return nil, err
	}
	if p := v.policies.Load(); p != nil && p.version == n {
		return p, nil
	}
	row, err := tx.Get(store.Policy, policyRow(n))
	if err != nil {
		return nil, err
	}
	if len(row) == 0 || row[0] != 1 {
		return nil, fmt.Errorf("policy %d: %w", n, ErrCorrupt)
	}
	parsed, err := policy.Parse(row[1:], kindKnown(v.kinds))
	if err != nil {
		return nil, fmt.Errorf("policy %d: %w", n, err)
	}
	p := &policyInForce{n, parsed}
	v.policies.Store(p)
	return p, nil
}

func kindKnown(kinds tokenizer.Kinds) func(string) bool {
	return func(name string) bool { _, ok := kinds.Lookup(name); return ok }
}

// storeError turns what a driver answers into what a caller is told. Errors of this package pass through.
func storeError(err error) error {
	var known *Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, keys.ErrCorrupt), errors.Is(err, keys.ErrGeneration), errors.Is(err, errBody), errors.Is(err, errTombstone),
		errors.Is(err, store.ErrNotFound): // a row that another one says must be there
		return ErrCorrupt.because(err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrUnknown), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrConflict):
		return ErrStoreUnavailable.because(err)
	default:
		return ErrInternal.because(err)
	}
}

func millis(t time.Time) uint64     { return uint64(t.UnixMilli()) }
func fromMillis(n uint64) time.Time { return time.UnixMilli(int64(n)).UTC() }
