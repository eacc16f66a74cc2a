package vault

import (
	"context"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// KeyStatus is the state of the key hierarchy.
type KeyStatus struct {
	Instance, KMS               string
	Epoch, RootVersion          uint64
	RootLatest, DEKLatest       int // newest versions at the key service
	Buckets, DirtyBuckets       int
	Partitions, DirtyPartitions int
	CachedKeys                  int
	LastClose                   *time.Time // of an epoch; nil = none was closed yet
	Move                        *KeyMove   // nil = no keys are being moved
}

// KeyMove is a move of all keys from one key service to another that has begun and not ended. KMS is then the one moved
// to; RootVersion and RootLatest are of the one that still has the root.
type KeyMove struct {
	Job, From, To string // From and To as options of a job name them
}

// KeyStatus reports versions, the epoch and what waits for the next close.
func (v *Vault) KeyStatus(ctx context.Context, call Call) (KeyStatus, error) {
	rec := v.record(call, policy.Keys)
	if _, err := v.admit(ctx, rec, call, policy.Keys); err != nil {
		return KeyStatus{}, err
	}
	out := KeyStatus{Instance: v.keys.Instance().String(), KMS: v.kms.Name(), CachedKeys: v.deks.Len()}
	var root keys.Root
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if root, err = readRoot(tx); err != nil {
			return err
		}
		m, err := readMove(tx)
		if err != nil {
			return err
		}
		if out.Move = nil; m != nil {
			out.Move = &KeyMove{m.job.String(), keyServiceOf(m.from).option, keyServiceOf(m.to).option}
		}
		out.Epoch, out.RootVersion = root.Epoch, root.Version
		out.Buckets, out.DirtyBuckets, out.Partitions, out.DirtyPartitions = 0, 0, 0, 0
		return tx.Scan(store.Generations, nil, nil, func(key, value []byte) error {
			g, err := keys.UnmarshalGeneration(value)
			if err != nil {
				return err
			}
			all, dirty := &out.Buckets, &out.DirtyBuckets
			if key[0] == 'x' {
				all, dirty = &out.Partitions, &out.DirtyPartitions
			}
			*all++
			if g.Dirty() {
				*dirty++
			}
			return nil
		})
	})
	if err != nil {
		return KeyStatus{}, storeError(err)
	}
	if err := v.keyVersions(ctx, root, &out); err != nil {
		return KeyStatus{}, rec.refuse(ctx, ErrKeyService.because(err))
	}
	if _, err := rec.commit(ctx); err != nil {
		return KeyStatus{}, err
	}
	return out, nil
}

// keyVersions asks each key's own key service for its newest version.
func (v *Vault) keyVersions(ctx context.Context, root keys.Root, out *KeyStatus) error {
	at, ok := v.kms.Of(root.Wrapped.Scheme())
	if !ok {
		return keys.ErrUnknownScheme
	}
	versions, err := at.Versions(ctx, keys.RootKey)
	if err != nil {
		return err
	}
	out.RootLatest = versions.Latest
	if versions, err = v.kms.Versions(ctx, keys.DEKKey); err != nil {
		return err
	}
	out.DEKLatest = versions.Latest
	return nil
}
