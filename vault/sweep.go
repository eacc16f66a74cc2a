package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// sweep wraps the data keys of people anew, at the key service of one scheme.
type sweep struct {
	v     *Vault
	w     *work
	to    string
	total uint64
	done  uint64 // people whose key is there; over all passes

	// of one pass
	moved   uint64
	left    uint64 // somebody else changed them meanwhile
	refused uint64 // a key service will not open them
	damaged uint64 // rows that do not open
}

// One chunk is what one transaction changes, and how far one snapshot looks for it.
const (
	chunkKeys = 250
	chunkRows = 5000
	keyTime   = 30 * time.Second // for one question to a key service
)

// stray is a data key that is wrapped elsewhere.
type stray struct {
	sid     keys.SID
	ref     keys.DEKRef
	wrapped keys.Wrapped // by the key service moved to; "" when it could not be
}

// pass looks at every person once.
func (s *sweep) pass(ctx context.Context) error {
	first := s.done == 0
	s.moved, s.left, s.refused, s.damaged = 0, 0, 0, 0
	var from []byte
	for {
		var strays []stray
		var next []byte
		var there, damaged uint64
		err := s.w.persist(ctx, func() error {
			return s.v.store.View(ctx, func(tx store.ReadTx) (err error) {
				strays, next, there, damaged, err = s.find(tx, from)
				return err
			})
		})
		if err != nil {
			return jobError(err)
		}
		s.damaged += damaged
		if first {
			s.done += there
		}
		if len(strays) > 0 {
			if err := s.w.persist(ctx, func() error { return s.wrap(ctx, strays) }); err != nil {
				return jobError(err)
			}
			if err := s.w.persist(ctx, func() error { return s.write(ctx, strays) }); err != nil {
				return jobError(err)
			}
		}
		s.w.progress(s.done, s.total)
		if next == nil {
			return nil
		}
		from = next
	}
}

// find returns the next strays from a row on, and where to go on; nil at the end.
func (s *sweep) find(tx store.ReadTx, from []byte) (strays []stray, next []byte, there, damaged uint64, err error) {
	rows := 0
	err = tx.Scan(store.Subjects, from, nil, func(key, value []byte) error {
		sid, ok := ofKeyRow(key)
		if !ok {
			return nil
		}
		if rows == chunkRows || len(strays) == chunkKeys {
			next = append([]byte(nil), key...)
			return errStop
		}
		rows++
		row, err := s.v.keys.OpenKeyRow(sid, value)
		if errors.Is(err, keys.ErrCorrupt) || errors.Is(err, keys.ErrGeneration) {
			damaged++
			return nil
		}
		if err != nil {
			return err
		}
		row.SK.Wipe()
		if row.Wrapped.Scheme() == s.to {
			there++
			return nil
		}
		strays = append(strays, stray{sid: sid, ref: keys.DEKRef{KID: row.KID, Wrapped: row.Wrapped}})
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return strays, next, there, damaged, err
}

// ofKeyRow tells a person's key row from the other rows of the keyspace.
func ofKeyRow(key []byte) (sid keys.SID, ok bool) {
	if len(key) != len(sid)+1 || key[len(sid)] != 'k' {
		return sid, false
	}
	return keys.SID(key[:len(sid)]), true
}

// countPeople counts key rows.
func countPeople(tx store.ReadTx) (n uint64, err error) {
	err = tx.Scan(store.Subjects, nil, nil, func(key, _ []byte) error {
		if _, ok := ofKeyRow(key); ok {
			n++
		}
		return nil
	})
	return n, err
}

var errOtherKey = errors.New("the key service gave back another key than it was given")

// wrap opens strays where they are, wraps them at the key service moved to, and opens that again: only what was seen to
// open may take a key's place.
func (s *sweep) wrap(ctx context.Context, strays []stray) error {
	ctx, cancel := context.WithTimeout(ctx, 3*keyTime)
	defer cancel()
	inst := s.v.keys.Instance()
	target, _ := s.v.kms.Of(s.to)
	old := make([]keys.UnwrapItem, len(strays))
	for i := range strays {
		strays[i].wrapped = ""
		old[i] = keys.UnwrapItem{Context: keys.DEKContext(inst, strays[i].ref.KID), Wrapped: strays[i].ref.Wrapped}
	}
	opened, err := s.v.kms.Unwrap(ctx, keys.DEKKey, old)
	defer wipeOutcomes(opened)
	if err := s.whole("the key service moved from", len(old), opened, err); err != nil {
		return err
	}
	var at []int
	var fresh []keys.WrapItem
	for i := range opened {
		if opened[i].Err == nil {
			at, fresh = append(at, i), append(fresh, keys.WrapItem{Context: old[i].Context, Plaintext: opened[i].Plaintext})
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	name := keyServiceOf(s.to).name
	wrapped, err := target.Wrap(ctx, keys.DEKKey, 0, fresh)
	if err := s.whole(name, len(fresh), wrapped, err); err != nil {
		return err
	}
	again := make([]keys.UnwrapItem, len(fresh))
	for j, o := range wrapped {
		if o.Err != nil {
			return awayError{name, o.Err} // it takes any key or none
		}
		again[j] = keys.UnwrapItem{Context: fresh[j].Context, Wrapped: o.Wrapped}
	}
	back, err := target.Unwrap(ctx, keys.DEKKey, again)
	defer wipeOutcomes(back)
	if err := s.whole(name, len(again), back, err); err != nil {
		return err
	}
	for j, o := range back {
		if o.Err != nil || !o.Plaintext.Equal(fresh[j].Plaintext) || len(again[j].Wrapped) > keys.MaxWrapped || again[j].Wrapped.Scheme() != s.to {
			return errors.Join(errOtherKey, o.Err)
		}
		strays[at[j]].wrapped = again[j].Wrapped
	}
	return nil
}

// whole answers an error when a key service is away, for all items or for some.
func (s *sweep) whole(service string, n int, out []keys.Outcome, err error) error {
	if err == nil && len(out) != n {
		err = fmt.Errorf("%w: it answered another number of items", keys.ErrKMSUnavailable)
	}
	if err != nil {
		return awayError{service, err}
	}
	for i := range out {
		if e := out[i].Err; e != nil && !errors.Is(e, keys.ErrUnwrap) {
			return awayError{service, e}
		}
	}
	return nil
}

func wipeOutcomes(out []keys.Outcome) {
	for i := range out {
		out[i].Plaintext.Wipe()
	}
}

// write puts the new wraps in their places. A row's data key must still be the one that was wrapped anew; what else of
// the row has changed meanwhile stays as it is. Who was erased stays erased.
func (s *sweep) write(ctx context.Context, strays []stray) error {
	var moved, left, refused uint64
	written := func() {}
	err := s.v.store.Update(ctx, func(tx store.Tx) (err error) {
		moved, left, refused = 0, 0, 0
		rows := make([][]byte, len(strays))
		for i := range strays {
			rows[i] = keys.SubjectKeyRow(strays[i].sid)
		}
		values, err := tx.GetMulti(store.Subjects, rows)
		if err != nil {
			return err
		}
		for i := range strays {
			if strays[i].wrapped == "" {
				refused++
				continue
			}
			row, err := s.v.keys.OpenKeyRow(strays[i].sid, values[i])
			if err != nil || row.KID != strays[i].ref.KID || row.Wrapped != strays[i].ref.Wrapped {
				row.SK.Wipe()
				left++
				continue
			}
			row.Wrapped = strays[i].wrapped
			err = s.put(tx, strays[i].sid, row)
			row.SK.Wipe()
			if err != nil {
				return err
			}
			moved++
		}
		written, err = s.w.keep(tx, s.done+moved, s.total)
		return err
	})
	if err != nil {
		return err
	}
	written()
	s.moved, s.left, s.refused, s.done = s.moved+moved, s.left+left, s.refused+refused, s.done+moved
	return nil
}

func (s *sweep) put(tx store.Tx, sid keys.SID, row keys.KeyRow) error {
	if err := s.v.checkBucket(tx, sid.Bucket(), false); err != nil {
		return err
	}
	value, err := s.v.keys.SealKeyRow(s.v.random, sid, row)
	if err != nil {
		return err
	}
	return tx.Put(store.Subjects, keys.SubjectKeyRow(sid), value)
}

// failure says how many could not be moved, and nobody's name.
func (s *sweep) failure() *Error {
	var why []string
	if s.refused > 0 {
		why = append(why, fmt.Sprintf("the key service that wrapped them refuses to open the keys of %d people", s.refused))
	}
	if s.damaged > 0 {
		why = append(why, fmt.Sprintf("%d key rows do not authenticate", s.damaged))
	}
	kind := ErrKey
	if s.refused == 0 {
		kind = ErrCorrupt
	}
	return kind.saying(strings.Join(why, ", and ") + "; all others have moved, and both key services are needed until a job of this kind gets through")
}
