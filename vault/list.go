package vault

import (
	"context"
	"encoding/base64"
	"errors"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

var (
	errStop   = errors.New("enough")
	errCursor = ErrMalformed.saying("cursor is not one that a list of this kind gave")
)

func (p Page) limit() (int, error) {
	switch {
	case p.Limit == 0:
		return 100, nil
	case p.Limit < 0 || p.Limit > MaxPageLimit:
		return 0, ErrMalformed.saying("limit is from 1 to 1000")
	default:
		return p.Limit, nil
	}
}

// bounds reads a page of a list of subjects: how many at most, and the row key that it begins at (nil: the first).
func (p Page) bounds() (limit int, from []byte, err error) {
	if limit, err = p.limit(); err != nil || p.Cursor == "" {
		return limit, nil, err
	}
	after, err := base64.RawURLEncoding.Strict().DecodeString(p.Cursor)
	if err != nil || len(after) != len(keys.SID{}) {
		return 0, nil, errCursor
	}
	return limit, behind(keys.SID(after)), nil
}

// cursorAt asks for the page that begins behind a subject.
func cursorAt(sid keys.SID) string { return base64.RawURLEncoding.EncodeToString(sid[:]) }

// behind is a row key past every row of a subject, and before those of any other.
func behind(sid keys.SID) []byte { return append(keys.SubjectValueRow(sid, "\xff"), 0xff) }

// List names subjects with their times, in an order of the store's own. The ids lie under the subjects' own keys, so
// that each one listed needs the key service.
func (v *Vault) List(ctx context.Context, call Call, page Page) ([]SubjectEntry, string, error) {
	rec := v.record(call, policy.List)
	if _, err := v.admit(ctx, rec, call, policy.List); err != nil {
		return nil, "", err
	}
	limit, from, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	var subjects []*subject
	var next string
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		next = ""
		sids, err := scanSIDs(tx, from, limit+1)
		if err != nil {
			return err
		}
		if len(sids) > limit {
			sids = sids[:limit]
			next = cursorAt(sids[limit-1])
		}
		subjects, err = v.load(tx, sids, nil)
		return err
	})
	if err != nil {
		return nil, "", storeError(err)
	}
	out := make([]SubjectEntry, 0, len(subjects))
	defer wipeKeys(subjects)
	errs := v.unwrap(ctx, subjects)
	for i, s := range subjects {
		if errs[i] != nil {
			return nil, "", rec.refuse(ctx, ErrKeyService.because(errs[i]))
		}
		id, err := v.externalID(s)
		if err != nil {
			return nil, "", storeError(err)
		}
		rec.item(&s.sid, "", "", "", nil)
		out = append(out, SubjectEntry{id, fromMillis(s.body.created), fromMillis(s.body.updated)})
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, "", err
	}
	return out, next, nil
}

// scanSIDs returns the first n subjects from a row key on.
func scanSIDs(tx store.ReadTx, from []byte, n int) ([]keys.SID, error) {
	var sids []keys.SID
	err := tx.Scan(store.Subjects, from, nil, func(key, _ []byte) error {
		if len(key) == len(keys.SID{})+1 && key[len(key)-1] == 'k' {
			sids = append(sids, keys.SID(key[:len(key)-1]))
			if len(sids) == n {
				return errStop
			}
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return sids, err
}
