package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Erasure returns the certificate of one erasure.
func (v *Vault) Erasure(ctx context.Context, call Call, id string) ([]byte, error) {
	rec := v.record(call, policy.Certificates)
	if _, err := v.admit(ctx, rec, call, policy.Certificates); err != nil {
		return nil, err
	}
	parsed, ok := parseErasureID(id)
	if !ok {
		return nil, rec.refuse(ctx, ErrNotFound.saying("there is no erasure with that id"))
	}
	out, err := v.certificate(ctx, parsed)
	if err != nil {
		return nil, rec.fail(ctx, err)
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

// certificate reads the certificate of one erasure.
func (v *Vault) certificate(ctx context.Context, id erasureID) (out []byte, err error) {
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		row, err := tx.Get(store.Tombstones, erasureRow(id[:]))
		if errors.Is(err, store.ErrNotFound) {
			return ErrNotFound.saying("there is no erasure with that id")
		}
		if err == nil {
			out, err = v.certificateOf(id, row)
		}
		return err
	})
	return out, storeError(err)
}

// certificateOf returns the certificate in a row, as it was signed.
func (v *Vault) certificateOf(id erasureID, row []byte) ([]byte, error) {
	if _, err := v.openCertificate(id, row); err != nil {
		return nil, err
	}
	return append([]byte(nil), row[1:]...), nil
}

// openCertificate reads the certificate in a row. Nothing seals these rows, so it is verified, and that it is the one
// asked for.
func (v *Vault) openCertificate(id erasureID, row []byte) (Certificate, error) {
	if len(row) < 2 || row[0] != 1 {
		return Certificate{}, fmt.Errorf("certificate: %w", ErrCorrupt)
	}
	c, err := VerifyCertificate(row[1:], v.cert.PublicKey())
	if err != nil || c.Erasure != id.String() {
		return Certificate{}, fmt.Errorf("certificate: %w", ErrCorrupt)
	}
	return c, nil
}

// ErasureQuery asks for certificates, oldest first.
type ErasureQuery struct {
	Page
	Subject string // "" = of everybody
}

// Erasures lists certificates, of everybody or of one subject and its fields.
func (v *Vault) Erasures(ctx context.Context, call Call, q ErasureQuery) (out [][]byte, next string, err error) {
	if q.Subject != "" {
		if err := checkSubjectID(q.Subject); err != nil {
			return nil, "", err
		}
	}
	rec := v.record(call, policy.Certificates)
	if _, err := v.admit(ctx, rec, call, policy.Certificates); err != nil {
		return nil, "", err
	}
	limit, err := q.limit()
	if err != nil {
		return nil, "", err
	}
	prefix := []byte{'e'}
	if q.Subject != "" {
		sid := v.keys.SID(q.Subject)
		rec.item(&sid, "", "", "", nil)
		prefix = erasureOfRow(sid, nil)
	}
	from := prefix
	if q.Cursor != "" {
		id, ok := parseErasureID(q.Cursor)
		if !ok {
			return nil, "", errCursor
		}
		from = append(append(append([]byte(nil), prefix...), id[:]...), 0)
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, "", err
	}
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		ids, err := erasureIDs(tx, prefix, from, limit+1)
		if err != nil {
			return err
		}
		out, next = nil, ""
		if len(ids) > limit {
			ids = ids[:limit]
			next = ids[limit-1].String()
		}
		for _, id := range ids {
			row, err := tx.Get(store.Tombstones, erasureRow(id[:]))
			if err != nil {
				return err
			}
			c, err := v.certificateOf(id, row)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, next, storeError(err)
}

// erasureIDs returns the first n ids that follow prefix, from a row on; all when n is below 0.
func erasureIDs(tx store.ReadTx, prefix, from []byte, n int) ([]erasureID, error) {
	var ids []erasureID
	err := tx.Scan(store.Tombstones, from, prefixEnd(prefix), func(key, _ []byte) error {
		if len(key) != len(prefix)+len(erasureID{}) {
			return ErrCorrupt
		}
		ids = append(ids, erasureID(key[len(prefix):]))
		if len(ids) == n {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return ids, err
}
