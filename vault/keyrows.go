package vault

import (
	"errors"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// scanKeyRows visits people's key rows in their order, from a row key on; nil: from the first.
func scanKeyRows(tx store.ReadTx, from []byte, fn func(sid keys.SID, value []byte) error) error {
	return tx.Scan(store.Subjects, from, nil, func(key, value []byte) error {
		var sid keys.SID
		if len(key) != len(sid)+1 || key[len(sid)] != 'k' {
			return nil
		}
		copy(sid[:], key)
		return fn(sid, value)
	})
}

// countPeople counts key rows.
func countPeople(tx store.ReadTx) (n uint64, err error) {
	err = scanKeyRows(tx, nil, func(keys.SID, []byte) error { n++; return nil })
	return n, err
}

// damaged reports whether opening a key row failed for what the row is: such a row opens with no key service.
func damaged(err error) bool {
	return errors.Is(err, keys.ErrCorrupt) || errors.Is(err, keys.ErrGeneration)
}
