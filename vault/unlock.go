package vault

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

const (
	layoutVersion = 1
	log2P         = 6 // 64 index partitions
)

var rowInstance = []byte("instance")

// What Init and Unlock can find wrong with the store.
var (
	ErrNotInitialised = errors.New("the store is empty: run `cloakroom init` or `cloakroom serve` to set it up")
	ErrInitialised    = errors.New("the store is set up already")
)

// Instance returns the id of the installation that the store holds; false when it is empty.
func Instance(ctx context.Context, st store.Store) (inst keys.InstanceID, there bool, err error) {
	err = st.View(ctx, func(tx store.ReadTx) (err error) {
		inst, _, err = readInstance(tx)
		there = err == nil
		if errors.Is(err, ErrNotInitialised) {
			return nil
		}
		return err
	})
	return inst, there, err
}

func readInstance(tx store.ReadTx) (inst keys.InstanceID, log2P uint8, err error) {
	row, err := tx.Get(store.Meta, rowInstance)
	if errors.Is(err, store.ErrNotFound) {
		return inst, 0, ErrNotInitialised
	}
	if err != nil {
		return inst, 0, err
	}
	if len(row) != 1+16+1+8 || row[0] != layoutVersion {
		return inst, 0, fmt.Errorf("instance row: not of layout %d; this store was made by another version of Cloakroom", layoutVersion)
	}
	copy(inst[:], row[1:])
	return inst, row[17], nil
}

// Unlocked is a store's key hierarchy, opened.
type Unlocked struct {
	Instance keys.InstanceID
	Buried   uint64   // entries that the erasure ledger must have
	Warnings []string // about the settings of the key service, for the log
	keys     *keys.Hierarchy
	checked  bool // the store has a check row
}

// Signer returns the signing key of the audit log ("audit") or of the erasure ledger ("ledger").
func (u *Unlocked) Signer(purpose string) ed25519.PrivateKey { return u.keys.Signer(purpose) }

// Wipe ends the hierarchy; a Vault made of it answers errors from then on.
func (u *Unlocked) Wipe() { u.keys.Wipe() }

// Unlock opens the store's key hierarchy: one call to the key service for the epoch root, everything else lies below.
// Before, it makes the key service that the store says the primary one, and holds it to its settings; a second call
// tries the dek key. Nothing is written.
func Unlock(ctx context.Context, st store.Store, services *keys.Services) (*Unlocked, error) {
	return unlock(ctx, st, services, false)
}

// UnlockLeaving is Unlock for a process that does nothing but move all keys to another key service. It is how keys leave one
// that Unlock refuses for its settings, which some faults make for good: keys.ErrSettings of the primary one is a
// warning, everything else stays refused.
func UnlockLeaving(ctx context.Context, st store.Store, services *keys.Services) (*Unlocked, error) {
	return unlock(ctx, st, services, true)
}

func unlock(ctx context.Context, st store.Store, services *keys.Services, leaving bool) (*Unlocked, error) {
	s, err := readSealed(ctx, st)
	if err != nil {
		return nil, err
	}
	primary, err := s.choose(services)
	if err != nil {
		return nil, err
	}
	warnings, err := services.CheckSettings(ctx)
	if leaving && errors.Is(err, keys.ErrSettings) {
		warnings, err = append(warnings, err.Error()), nil
	}
	if err != nil {
		return nil, s.refused(primary, ErrWrongKeys, err)
	}
	h, err := s.open(ctx, services, s.checks())
	if err != nil {
		return nil, err
	}
	return &Unlocked{Instance: s.inst, Buried: s.head.Seq, Warnings: warnings, keys: h, checked: s.check != nil}, nil
}

// open asks for the epoch root and the check keys, and opens what lies below the root.
func (s *sealed) open(ctx context.Context, kms keys.KMS, checks []*check) (*keys.Hierarchy, error) {
	er, err := unwrapRoot(ctx, kms, s.inst, s.root)
	if err != nil {
		return nil, s.refused(s.root.Wrapped.Scheme(), ErrWrongKeys, err)
	}
	defer er.Wipe()
	for _, c := range checks {
		if err := c.open(ctx, kms, s.inst); err != nil {
			return nil, s.refused(c.wrapped.Scheme(), ErrWrongDEK, err)
		}
	}
	h, err := keys.Load(s.inst, s.partitions, s.root, er, s.rows)
	if err != nil {
		return nil, fmt.Errorf("key hierarchy: %w", err)
	}
	return h, nil
}

// refused says what a key service's failure means for a start; wrong is the error of one that answers, and does not open
// the store.
func (s *sealed) refused(scheme string, wrong, err error) error {
	if errors.Is(err, keys.ErrUnwrap) || errors.Is(err, keys.ErrNoKey) {
		err = fmt.Errorf("%w (%w)", wrong, err)
	} else {
		err = startError(scheme, err)
	}
	if hint := s.without(scheme); hint != "" {
		return fmt.Errorf("%w%s", err, hint)
	}
	return err
}

// without says how a store gets over the loss of a key service that it needs for the sake of a move alone.
func (s *sealed) without(scheme string) string {
	home := s.root.Wrapped.Scheme()
	if s.move == nil || scheme == home {
		return ""
	}
	return fmt.Sprintf("; where %s is lost for good, and has nobody's key yet, end the move without it, with no server running: cloakroom keys move --from %s --to %s",
		keyServiceOf(scheme).name, keyServiceOf(scheme).option, keyServiceOf(home).option)
}

// sealed is what a start reads: the hierarchy at rest and what tells which key service opens it.
type sealed struct {
	inst       keys.InstanceID
	partitions uint8
	root       keys.Root
	rows       keys.Rows
	head       ledger.Head
	check      *check // nil: none yet
	move       *move  // nil: no keys are being moved
}

func readSealed(ctx context.Context, st store.Store) (s sealed, err error) {
	err = st.View(ctx, func(tx store.ReadTx) (err error) {
		s.rows = keys.Rows{}
		if s.inst, s.partitions, err = readInstance(tx); err != nil {
			return err
		}
		if s.root, err = readRoot(tx); err != nil {
			return err
		}
		if s.head, err = readLedgerHead(tx); err != nil {
			return err
		}
		if s.check, err = readCheck(tx); err != nil {
			return err
		}
		if s.move, err = readMove(tx); err != nil {
			return err
		}
		err = tx.Scan(store.Keys, nil, nil, func(k, value []byte) error {
			if string(k) != string(keys.RootRowKey()) {
				s.rows.Keys = append(s.rows.Keys, keys.Row{Key: append([]byte(nil), k...), Value: append([]byte(nil), value...)})
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Scan(store.Generations, nil, nil, func(k, value []byte) error {
			s.rows.Generations = append(s.rows.Generations, keys.Row{Key: append([]byte(nil), k...), Value: append([]byte(nil), value...)})
			return nil
		})
	})
	return s, err
}

func readRoot(tx store.ReadTx) (keys.Root, error) {
	row, err := tx.Get(store.Keys, keys.RootRowKey())
	if err != nil {
		return keys.Root{}, fmt.Errorf("root row: %w", err)
	}
	return keys.UnmarshalRoot(row)
}

// choose makes the key service the primary that wrapped the root or, while keys move, the one they move to: new keys
// are wrapped there. While they move both are needed.
func (s *sealed) choose(services *keys.Services) (primary string, err error) {
	primary = s.root.Wrapped.Scheme()
	if m := s.move; m != nil {
		for _, scheme := range []string{m.from, m.to} {
			if !among(services, scheme) {
				return "", fmt.Errorf("%w: %s; start with the settings of both%s", ErrOtherService, m, s.without(scheme))
			}
		}
		primary = m.to
	}
	// A root is of one of the two between which keys move.
	if root := keyServiceOf(s.root.Wrapped.Scheme()); !among(services, root.scheme) {
		return "", fmt.Errorf("%w: its keys are wrapped by %s; %s", ErrOtherService, root.name, root.start)
	}
	return primary, services.Use(primary)
}

func (s *sealed) checks() []*check {
	var out []*check
	if s.check != nil {
		out = append(out, s.check)
	}
	if s.move != nil {
		out = append(out, &s.move.check)
	}
	return out
}
