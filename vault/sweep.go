package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
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
	left    uint64         // somebody else changed them meanwhile
	refused uint64         // a key service will not open them
	damaged uint64         // rows that do not open: there is no key in them to move
	named   []audit.Digest // the first of refused
}

// One chunk is what one transaction changes, and how far one snapshot looks for it.
const (
	chunkKeys = 250
	chunkRows = 5000
	keyTime   = 30 * time.Second // for one question to a key service
	maxNamed  = 20
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
	s.moved, s.left, s.refused, s.damaged, s.named = 0, 0, 0, 0, nil
	var from []byte
	for {
		var strays []stray
		var next []byte
		var there, broken uint64
		err := s.w.persist(ctx, func() error {
			return s.v.store.View(ctx, func(tx store.ReadTx) (err error) {
				strays, next, there, broken, err = s.find(tx, from)
				return err
			})
		})
		if err != nil {
			return jobError(err)
		}
		s.damaged += broken
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
func (s *sweep) find(tx store.ReadTx, from []byte) (strays []stray, next []byte, there, broken uint64, err error) {
	rows := 0
	err = scanKeyRows(tx, from, func(sid keys.SID, value []byte) error {
		if rows == chunkRows || len(strays) == chunkKeys {
			next = keys.SubjectKeyRow(sid)
			return errStop
		}
		rows++
		row, err := s.v.keys.OpenKeyRow(sid, value)
		if damaged(err) {
			broken++
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
	return strays, next, there, broken, err
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
		if o.Err != nil {
			return o.Err
		}
		if !o.Plaintext.Equal(fresh[j].Plaintext) || len(again[j].Wrapped) > keys.MaxWrapped || again[j].Wrapped.Scheme() != s.to {
			return errOtherKey
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
	var left uint64
	var moved []keys.DEKRef // as they were
	var refused []keys.SID
	written := func() {}
	err := s.v.store.Update(ctx, func(tx store.Tx) (err error) {
		moved, left, refused = nil, 0, nil
		if err := s.w.stillMoves(tx); err != nil {
			return err
		}
		rows := make([][]byte, len(strays))
		for i := range strays {
			rows[i] = keys.SubjectKeyRow(strays[i].sid)
		}
		values, err := tx.GetMulti(store.Subjects, rows)
		if err != nil {
			return err
		}
		for i := range strays {
			row, err := s.v.keys.OpenKeyRow(strays[i].sid, values[i])
			if err != nil || row.KID != strays[i].ref.KID || row.Wrapped != strays[i].ref.Wrapped {
				row.SK.Wipe()
				left++
				continue
			}
			if strays[i].wrapped == "" {
				row.SK.Wipe()
				refused = append(refused, strays[i].sid)
				continue
			}
			row.Wrapped = strays[i].wrapped
			err = s.put(tx, strays[i].sid, row)
			row.SK.Wipe()
			if err != nil {
				return err
			}
			moved = append(moved, strays[i].ref)
		}
		written, err = s.w.keep(tx, s.done+uint64(len(moved)), s.total)
		return err
	})
	if err != nil {
		return err
	}
	written()
	s.v.deks.Forget(moved...) // who read them during the move had them kept under a name that nobody asks for again
	s.moved, s.done, s.left = s.moved+uint64(len(moved)), s.done+uint64(len(moved)), s.left+left
	s.refused += uint64(len(refused))
	for _, sid := range refused[:min(len(refused), maxNamed-len(s.named))] {
		s.named = append(s.named, s.v.subjectDigest(sid))
	}
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

// failure says how many could not be moved, and nobody's name: the log has what stands for them in the audit log.
func (s *sweep) failure() *Error {
	named := make([]string, len(s.named))
	for i, d := range s.named {
		named[i] = d.String()
	}
	s.v.log.Error("a key service refuses to open people's keys", "job", s.w.id.String(), "people", s.refused, "subjects", named)
	return ErrKey.saying(fmt.Sprintf("the key service that wrapped them refuses to open the keys of %d people; all others have moved, and both key services are needed "+
		"until a job of this kind gets through. The server's log names the first %d of them as the audit log does; erasing them needs no key", s.refused, len(named)))
}

// remark tells of damaged rows, which a move leaves as they are; nil when there are none.
func (s *sweep) remark() *Error {
	if s.damaged == 0 {
		return nil
	}
	return ErrCorrupt.saying(fmt.Sprintf("key rows that are damaged and were left as they are: %d; no key service opens them. "+
		"One that is brought back from a backup of before the move needs the key service moved from", s.damaged))
}
