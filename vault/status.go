package vault

import (
	"context"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Part is one thing the vault cannot work without, and what is wrong with it.
type Part struct {
	Name string // store, kms, audit, ledger
	Err  error
}

// readyTimeout bounds how long a probe waits for the key service.
const readyTimeout = 2 * time.Second

// Ready probes the parts, each named.
func (v *Vault) Ready(ctx context.Context) []Part {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	probe := func(tx store.ReadTx) error { _, err := currentPolicy(tx); return err }
	st := v.store.View(ctx, probe)
	if r, ok := v.store.(interface{ Ready() error }); ok && st == nil {
		st = r.Ready()
	}
	_, kms := v.kms.Versions(ctx, keys.RootKey)
	ledger := v.ledger.Ready()
	if ledger == nil && st == nil {
		ledger = v.flushLedger(ctx) // what an earlier failure left in the outbox
	}
	return []Part{{"store", st}, {"kms", kms}, {"audit", v.audit.Ready()}, {"ledger", ledger}}
}

// KeyStatus is the state of the key hierarchy.
type KeyStatus struct {
	Instance, KMS               string
	Epoch, RootVersion          uint64
	RootLatest, DEKLatest       int // newest versions at the key service
	Buckets, DirtyBuckets       int
	Partitions, DirtyPartitions int
	CachedKeys                  int
	LastClose                   *time.Time // of an epoch; nil = none was closed yet
}

// KeyStatus reports versions, the epoch and what waits for the next close.
func (v *Vault) KeyStatus(ctx context.Context, call Call) (KeyStatus, error) {
	rec := v.record(call, policy.Keys)
	if _, err := v.admit(ctx, rec, call, policy.Keys); err != nil {
		return KeyStatus{}, err
	}
	out := KeyStatus{Instance: v.keys.Instance().String(), KMS: v.kms.Name(), CachedKeys: v.deks.Len()}
	for _, k := range []struct {
		name keys.KeyName
		into *int
	}{{keys.RootKey, &out.RootLatest}, {keys.DEKKey, &out.DEKLatest}} {
		versions, err := v.kms.Versions(ctx, k.name)
		if err != nil {
			return KeyStatus{}, rec.refuse(ctx, ErrKeyService.because(err))
		}
		*k.into = versions.Latest
	}
	err := v.store.View(ctx, func(tx store.ReadTx) error {
		row, err := tx.Get(store.Keys, keys.RootRowKey())
		if err != nil {
			return err
		}
		root, err := keys.UnmarshalRoot(row)
		if err != nil {
			return err
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
	if _, err := rec.commit(ctx); err != nil {
		return KeyStatus{}, err
	}
	return out, nil
}
