package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// lost is what was erased of a subject since it was read. The zero value is nothing.
type lost struct {
	all    bool            // the subject, also when it has been made again
	fields map[string]bool // also those that have been set again
}

// lostSince looks at subjects again, whose bodies were read before: of what was erased meanwhile nothing may be shown. Values that
// were only replaced are not lost: a snapshot may be older than its answer.
func (v *Vault) lostSince(ctx context.Context, subjects []*subject) ([]lost, error) {
	out := make([]lost, len(subjects))
	err := v.store.View(ctx, func(tx store.ReadTx) error {
		rows := make([][]byte, len(subjects))
		for i, s := range subjects {
			rows[i] = keys.SubjectKeyRow(s.sid)
		}
		values, err := tx.GetMulti(store.Subjects, rows)
		if err != nil {
			return err
		}
		for i, s := range subjects {
			if bytes.Equal(values[i], s.before) {
				continue
			}
			if out[i], err = v.lostOf(tx, s, values[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return out, storeError(err)
}

// lostOf compares a subject with its rows as they are now. That they are others says nothing: every put writes them.
func (v *Vault) lostOf(tx store.ReadTx, s *subject, keyRow []byte) (l lost, err error) {
	if keyRow == nil {
		return lost{all: true}, nil
	}
	bodyRow, err := tx.Get(store.Subjects, keys.SubjectBodyRow(s.sid))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return l, err
	}
	now := &subject{sid: s.sid}
	if err := now.open(v, keyRow, bodyRow); err != nil {
		return l, err
	}
	if now.key.DEKVersion != s.key.DEKVersion {
		return lost{all: true}, nil
	}
	for i := range s.body.fields {
		f := &s.body.fields[i]
		if !f.present() {
			continue
		}
		is := now.body.field(f.name)
		gone := is == nil || !is.present()
		if !gone && is.recVer != f.recVer {
			if gone, err = v.removedSince(tx, s, f); err != nil {
				return l, err
			}
		}
		if gone {
			if l.fields == nil {
				l.fields = map[string]bool{}
			}
			l.fields[f.name] = true
		}
	}
	return l, nil
}

// removedSince tells whether a field that has a later version now was away in between. Its tokens know, for removing it ends them
// all and replacing its value none. Where all have ended otherwise, a certificate of erasure does.
func (v *Vault) removedSince(tx store.ReadTx, s *subject, f *bodyField) (bool, error) {
	var rows [][]byte
	for i := range s.body.tokens {
		if t := &s.body.tokens[i]; t.field == f.name {
			row := v.keys.TokenRowKey(t.text)
			rows = append(rows, row[:])
		}
	}
	values, err := tx.GetMulti(store.Tokens, rows)
	if err != nil {
		return false, err
	}
	for _, value := range values {
		head, err := keys.ParseTokenRow(value)
		if err != nil {
			return false, err
		}
		if !head.Gone || head.Marker.State == keys.FieldErased {
			return head.Gone, nil
		}
	}
	prefix := erasureOfRow(s.sid, nil)
	ids, err := erasureIDs(tx, prefix, prefix, -1)
	if err != nil {
		return false, err
	}
	for _, id := range slices.Backward(ids) {
		row, err := tx.Get(store.Tombstones, erasureRow(id[:]))
		if err != nil {
			return false, err
		}
		c, err := v.openCertificate(id, row)
		if err != nil {
			return false, err
		}
		if c.KeyVersion != s.key.DEKVersion {
			break // of an earlier life
		}
		if c.Field == f.name {
			return c.FieldVersion >= f.recVer, nil
		}
	}
	return false, nil
}
