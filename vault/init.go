package vault

import (
	"context"
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
)

// InitConfig is what a new installation begins with.
type InitConfig struct {
	Policy      []byte          // YAML
	Credentials []NewCredential // one service each, from Mint; their holders must have them before Init commits
	Instance    keys.InstanceID // zero: drawn; given where keys at the key service are named after it
	Random      io.Reader
	Now         time.Time
}

// Init makes a new installation in an empty store: instance id, the two keys at the key service, the whole key
// hierarchy, the policy and the first services, in one transaction. Cut short, it leaves an empty store. Keys that
// are set up so that they could leave the key service are refused before.
func Init(ctx context.Context, st store.Store, kms keys.KMS, c InitConfig) error {
	if _, err := policy.Parse(c.Policy, kindKnown(newKinds())); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	inst := c.Instance
	if inst == (keys.InstanceID{}) {
		if _, err := io.ReadFull(c.Random, inst[:]); err != nil {
			return err
		}
	}
	for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		if err := kms.Create(ctx, key); err != nil {
			return fmt.Errorf("making the %s key: %w", key, err)
		}
	}
	if checker, ok := kms.(keys.SettingsChecker); ok {
		if _, err := checker.CheckSettings(ctx); err != nil {
			return err // its warnings are told by the Unlock that follows
		}
	}
	test, err := newCheck(ctx, kms, keys.DEKKey, inst, c.Random)
	if err != nil {
		return err
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
		if err := tx.Put(store.Meta, rowCheck, test.marshal()); err != nil {
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
		return nil, errOtherKey
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
