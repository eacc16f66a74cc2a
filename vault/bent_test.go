package vault_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// bentStore shows some rows otherwise than they are: another value, or none. It takes no writes.
type bentStore struct {
	store.Store
	bent map[string][]byte // by keyspace and key; nil: the row is missing
}

type bentTx struct {
	store.ReadTx
	bent map[string][]byte
}

func bend(in store.Store, rows ...row) bentStore {
	s := bentStore{in, map[string][]byte{}}
	for _, r := range rows {
		s.bent[string(r.ks)+string(r.key)] = r.value
	}
	return s
}

func (s bentStore) View(ctx context.Context, fn func(store.ReadTx) error) error {
	return s.Store.View(ctx, func(tx store.ReadTx) error { return fn(bentTx{tx, s.bent}) })
}

func (s bentStore) Update(context.Context, func(store.Tx) error) error { return store.ErrUnavailable }

func (t bentTx) Get(ks store.Keyspace, key []byte) ([]byte, error) {
	if v, ok := t.bent[string(ks)+string(key)]; ok && v != nil {
		return v, nil
	} else if ok {
		return nil, store.ErrNotFound
	}
	return t.ReadTx.Get(ks, key)
}

func (t bentTx) GetMulti(ks store.Keyspace, keys [][]byte) ([][]byte, error) {
	out, err := t.ReadTx.GetMulti(ks, keys)
	for i, key := range keys {
		if v, ok := t.bent[string(ks)+string(key)]; ok && err == nil {
			out[i] = v
		}
	}
	return out, err
}

func (t bentTx) Scan(ks store.Keyspace, from, to []byte, fn func(key, value []byte) error) error {
	return t.ReadTx.Scan(ks, from, to, func(key, value []byte) error {
		if v, ok := t.bent[string(ks)+string(key)]; ok && v != nil {
			value = v
		} else if ok {
			return nil
		}
		return fn(key, value)
	})
}

// noLog counts entries and keeps none, where thousands of calls would each wait for a disk.
type noLog struct{ n atomic.Uint64 }

func (l *noLog) Append(context.Context, *audit.Event) (uint64, error) { return l.n.Add(1), nil }
func (l *noLog) Ready() error                                         { return nil }

// bentVault is a vault over a store some of whose rows are bent.
func bentVault(t testing.TB, in *vaulttest.Installation, rows ...row) *vaulttest.Installation {
	t.Helper()
	return another(t, in, func(c *vault.Config) { c.Audit, c.Store = new(noLog), bend(in.Store, rows...) })
}
