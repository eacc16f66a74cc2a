package vault

import (
	"errors"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// idempotencyTTL is how long a change can be repeated without being done twice.
const idempotencyTTL = 24 * time.Hour

// replay is what is known of a call's idempotency key. The answer of the first time is never stored: pointers say
// where to find what it is rebuilt from.
type replay struct {
	row      [16]byte
	digest   [32]byte
	seen     bool // the same request was done before
	pointers []byte
}

// replayOf looks the call's idempotency key up; nil when the call has none.
func (v *Vault) replayOf(tx store.ReadTx, call Call) (*replay, error) {
	i := call.Idempotency
	if i == nil {
		return nil, nil
	}
	r := &replay{row: v.keys.IdempotencyRowKey(call.Principal.Credential, i.Key), digest: v.keys.IdempotencyDigest(i.Request...)}
	value, err := tx.Get(store.Idempotency, r.row[:])
	if errors.Is(err, store.ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	row, err := v.keys.OpenIdempotencyRow(r.row, value)
	if err != nil {
		return nil, err
	}
	if row.Expiry <= millis(v.now()) {
		return r, nil
	}
	if row.Digest != r.digest {
		return nil, ErrIdempotency
	}
	r.seen, r.pointers = true, row.Pointers
	return r, nil
}

// seal makes the row that remembers the change.
func (v *Vault) sealReplay(r *replay, pointers []byte) ([]byte, error) {
	return v.keys.SealIdempotencyRow(v.random, r.row, keys.IdempotencyRow{
		Expiry: millis(v.now().Add(idempotencyTTL)), Digest: r.digest, Pointers: pointers,
	})
}

// remember writes the row in the transaction of the change. Another call that got there first is a conflict: the
// caller begins again and then finds what to replay.
func (v *Vault) remember(tx store.Tx, r *replay, value []byte) error {
	old, err := tx.Get(store.Idempotency, r.row[:])
	if err == nil {
		head, err := keys.ParseIdempotencyRow(old)
		if err != nil {
			return err
		}
		if head.Expiry > millis(v.now()) {
			return store.ErrConflict
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err := v.checkBucket(tx, keys.IdempotencyBucket, false); err != nil {
		return err
	}
	return tx.Put(store.Idempotency, r.row[:], value)
}
