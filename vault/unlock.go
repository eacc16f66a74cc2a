package vault

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

const (
	layoutVersion = 1
	log2P         = 6 // 64 index partitions
)

var rowInstance = []byte("instance")

// What Init and Unlock can find wrong.
var (
	ErrNotInitialised = errors.New("the store is empty: run `cloakroom init` or `cloakroom serve` to set it up")
	ErrInitialised    = errors.New("the store is set up already")
	ErrWrongKeys      = errors.New("the key service does not open this store's root key: it is another installation's, or its keys were replaced; bring back the right keyring or key service")
)

// Initialised reports whether the store holds an installation.
func Initialised(ctx context.Context, st store.Store) (bool, error) {
	var ok bool
	err := st.View(ctx, func(tx store.ReadTx) error {
		_, err := tx.Get(store.Meta, rowInstance)
		ok = err == nil
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return ok, err
}

// InitConfig is what a new installation begins with.
type InitConfig struct {
	Policy      []byte          // YAML
	Credentials []NewCredential // one service each, from Mint; their holders must have them before Init commits
	Random      io.Reader
	Now         time.Time
}

// Init makes a new installation in an empty store: instance id, the two keys at the key service, the whole key
// hierarchy, the policy and the first services, in one transaction. Cut short, it leaves an empty store.
func Init(ctx context.Context, st store.Store, kms keys.KMS, c InitConfig) error {
	if _, err := policy.Parse(c.Policy, kindKnown(newKinds())); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	var inst keys.InstanceID
	if _, err := io.ReadFull(c.Random, inst[:]); err != nil {
		return err
	}
	for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		if err := kms.Create(ctx, key); err != nil {
			return fmt.Errorf("making the %s key: %w", key, err)
		}
	}
	h, er, err := keys.Generate(c.Random, inst, log2P)
	if err != nil {
		return err
	}
	defer h.Wipe()
	defer er.Wipe()
	root, err := wrapRoot(ctx, kms, inst, h.Epoch(), er)
	if err != nil {
		return err
	}
	rows, err := h.Rows(c.Random)
	if err != nil {
		return err
	}
	return st.Update(ctx, func(tx store.Tx) error {
		instance := append([]byte{layoutVersion}, inst[:]...)
		instance = append(instance, log2P)
		instance = binary.BigEndian.AppendUint64(instance, millis(c.Now))
		if err := tx.Create(store.Meta, rowInstance, instance); errors.Is(err, store.ErrExists) {
			return ErrInitialised
		} else if err != nil {
			return err
		}
		if err := tx.Put(store.Keys, keys.RootRowKey(), root); err != nil {
			return err
		}
		for _, r := range rows.Keys {
			if err := tx.Put(store.Keys, r.Key, r.Value); err != nil {
				return err
			}
		}
		for _, r := range rows.Generations {
			if err := tx.Put(store.Generations, r.Key, r.Value); err != nil {
				return err
			}
		}
		if err := tx.Put(store.Policy, policyRow(1), append([]byte{1}, c.Policy...)); err != nil {
			return err
		}
		if err := tx.Put(store.Policy, rowPolicyCurrent, binary.BigEndian.AppendUint64([]byte{1}, 1)); err != nil {
			return err
		}
		for _, n := range c.Credentials {
			s := serviceRow{role: n.Role, created: millis(c.Now)}
			if err := tx.Put(store.Services, serviceKey(n.Service), s.marshal()); err != nil {
				return err
			}
			if err := tx.Put(store.Services, credentialKey(n.ID), newCredentialRow(n, c.Now)); err != nil {
				return err
			}
		}
		return nil
	})
}

func newCredentialRow(n NewCredential, now time.Time) []byte {
	row := credentialRow{service: n.Service, digest: sha256.Sum256([]byte(n.Key.Reveal())), created: millis(now)}
	return row.marshal()
}

// wrapRoot wraps the epoch root at the key service, opens the result again to be sure, and returns the root row.
func wrapRoot(ctx context.Context, kms keys.KMS, inst keys.InstanceID, epoch uint64, er secret.Bytes) ([]byte, error) {
	versions, err := kms.Versions(ctx, keys.RootKey)
	if err != nil {
		return nil, err
	}
	at := keys.RootContext(inst, epoch)
	out, err := kms.Wrap(ctx, keys.RootKey, versions.Latest, []keys.WrapItem{{Context: at, Plaintext: er}})
	if err != nil {
		return nil, err
	}
	if out[0].Err != nil {
		return nil, out[0].Err
	}
	root := keys.Root{Epoch: epoch, Version: uint64(versions.Latest), MaxVersion: uint64(versions.Latest), Wrapped: out[0].Wrapped}
	back, err := unwrapRoot(ctx, kms, inst, root)
	if err != nil {
		return nil, err
	}
	defer back.Wipe()
	if !back.Equal(er) {
		return nil, errors.New("the key service gave back another key than it was given")
	}
	return root.Marshal()
}

func unwrapRoot(ctx context.Context, kms keys.KMS, inst keys.InstanceID, root keys.Root) (secret.Bytes, error) {
	out, err := kms.Unwrap(ctx, keys.RootKey, []keys.UnwrapItem{{Context: keys.RootContext(inst, root.Epoch), Wrapped: root.Wrapped}})
	if err != nil {
		return secret.Bytes{}, err
	}
	return out[0].Plaintext, out[0].Err
}

// Unlocked is a store's key hierarchy, opened.
type Unlocked struct {
	Instance keys.InstanceID
	Buried   uint64 // entries that the erasure ledger must have
	keys     *keys.Hierarchy
}

// Signer returns the signing key of the audit log ("audit") or of the erasure ledger ("ledger").
func (u *Unlocked) Signer(purpose string) ed25519.PrivateKey { return u.keys.Signer(purpose) }

// Wipe ends the hierarchy; a Vault made of it answers errors from then on.
func (u *Unlocked) Wipe() { u.keys.Wipe() }

// Unlock opens the store's key hierarchy: one call to the key service for the epoch root, everything else lies below.
func Unlock(ctx context.Context, st store.Store, kms keys.KMS) (*Unlocked, error) {
	var inst keys.InstanceID
	var partitions uint8
	var root keys.Root
	var rows keys.Rows
	var head ledger.Head
	err := st.View(ctx, func(tx store.ReadTx) error {
		rows = keys.Rows{}
		row, err := tx.Get(store.Meta, rowInstance)
		if errors.Is(err, store.ErrNotFound) {
			return ErrNotInitialised
		}
		if err != nil {
			return err
		}
		if len(row) != 1+16+1+8 || row[0] != layoutVersion {
			return fmt.Errorf("instance row: not of layout %d; this store was made by another version of Cloakroom", layoutVersion)
		}
		copy(inst[:], row[1:])
		partitions = row[17]
		if row, err = tx.Get(store.Keys, keys.RootRowKey()); err != nil {
			return fmt.Errorf("root row: %w", err)
		}
		if root, err = keys.UnmarshalRoot(row); err != nil {
			return err
		}
		if head, err = readLedgerHead(tx); err != nil {
			return err
		}
		err = tx.Scan(store.Keys, nil, nil, func(k, value []byte) error {
			if string(k) != string(keys.RootRowKey()) {
				rows.Keys = append(rows.Keys, keys.Row{Key: append([]byte(nil), k...), Value: append([]byte(nil), value...)})
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Scan(store.Generations, nil, nil, func(k, value []byte) error {
			rows.Generations = append(rows.Generations, keys.Row{Key: append([]byte(nil), k...), Value: append([]byte(nil), value...)})
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	er, err := unwrapRoot(ctx, kms, inst, root)
	if errors.Is(err, keys.ErrUnwrap) || errors.Is(err, keys.ErrNoKey) {
		return nil, fmt.Errorf("%w (%w)", ErrWrongKeys, err)
	}
	if err != nil {
		return nil, err
	}
	defer er.Wipe()
	h, err := keys.Load(inst, partitions, root, er, rows)
	if err != nil {
		return nil, fmt.Errorf("key hierarchy: %w", err)
	}
	return &Unlocked{Instance: inst, Buried: head.Seq, keys: h}, nil
}
