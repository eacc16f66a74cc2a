package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// change is everything that one transaction writes, sealed beforehand: the callback only compares and puts.
type change struct {
	edits  []*sealedEdit
	replay *replay // nil: the call has no idempotency key
	memory []byte  // the row that remembers it
}

type sealedEdit struct {
	*edit
	keyRow, bodyRow []byte
	tokens, values  []keys.Row
}

// seal turns edits into rows. Edits that changed nothing fall out.
func (v *Vault) seal(edits []*edit, r *replay, pointers []byte) (*change, error) {
	c := &change{replay: r}
	for _, e := range edits {
		s, err := v.sealEdit(e)
		if err != nil {
			return nil, err
		}
		if s != nil {
			c.edits = append(c.edits, s)
		}
	}
	if r != nil && !r.seen {
		memory, err := v.sealReplay(r, pointers)
		if err != nil {
			return nil, err
		}
		c.memory = memory
	}
	return c, nil
}

// sealEdit takes a new SK, so that the body as it was dies with its bucket's generation. An edit that changed nothing
// gives nil. It refuses to replace or remove values while the erasure ledger cannot be written.
func (v *Vault) sealEdit(e *edit) (*sealedEdit, error) {
	if !e.changed {
		return nil, nil
	}
	if len(e.tombs) > 0 {
		if err := v.ledgerReady(); err != nil {
			return nil, err
		}
	}
	s := &sealedEdit{edit: e}
	sk, err := random32(v.random)
	if err != nil {
		return nil, err
	}
	defer sk.Wipe()
	row := e.key
	row.SK = sk
	if s.keyRow, err = v.keys.SealKeyRow(v.random, e.sid, row); err != nil {
		return nil, err
	}
	plain, err := e.body.marshal()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	if s.bodyRow, err = v.keys.SealBody(v.random, sk, e.sid, secret.NewBytes(plain)); err != nil {
		return nil, err
	}
	for i := range e.minted {
		m := &e.minted[i]
		value, err := v.keys.SealTokenRow(v.random, m.row, keys.TokenRow{
			SID: e.sid, Field: m.body.field, Audience: m.body.audience, Format: m.body.format, Expiry: m.body.expiry, Flags: m.body.flags,
		})
		if err != nil {
			return nil, err
		}
		s.tokens = append(s.tokens, keys.Row{Key: m.row[:], Value: value})
	}
	for _, l := range e.puts {
		value, err := v.keys.SealValue(v.random, l.vk, e.sid, l.field, l.record)
		if err != nil {
			return nil, err
		}
		s.values = append(s.values, keys.Row{Key: keys.SubjectValueRow(e.sid, l.field), Value: value})
	}
	return s, nil
}

// commit writes the change and, where something was erased by it, waits for the erasure ledger. It answers
// store.ErrConflict when what was read no longer stands.
func (v *Vault) commit(ctx context.Context, c *change) error {
	if len(c.edits) == 0 && c.memory == nil {
		return v.flushLedger(ctx) // perhaps this repeats a change whose entry could not be written
	}
	var tombs []tombstone
	err := v.store.Update(ctx, func(tx store.Tx) error {
		if err := v.write(tx, c.edits...); err != nil {
			return err
		}
		tombs = tombs[:0]
		for _, s := range c.edits {
			tombs = append(tombs, s.tombs...)
		}
		if err := bury(tx, tombs); err != nil {
			return err
		}
		if c.memory != nil {
			return v.remember(tx, c.replay, c.memory)
		}
		return nil
	})
	if err != nil || len(tombs) == 0 {
		return err
	}
	return v.flushLedger(ctx)
}

// write puts the rows of subjects after checking that these are still as they were read.
func (v *Vault) write(tx store.Tx, edits ...*sealedEdit) error {
	var index []indexChange
	scheme := "" // of new keys, found to be the one in use
	for _, s := range edits {
		if s.created && s.key.Wrapped.Scheme() != scheme {
			if err := checkScheme(tx, s.key.Wrapped); err != nil {
				return err
			}
			scheme = s.key.Wrapped.Scheme()
		}
		if err := v.writeOne(tx, s); err != nil {
			return err
		}
		index = append(index, s.index...)
	}
	return v.reindex(tx, index)
}

// writeOne is write for one subject, without the index.
func (v *Vault) writeOne(tx store.Tx, s *sealedEdit) error {
	if err := v.unchanged(tx, s.subject); err != nil {
		return err
	}
	if err := v.checkBucket(tx, s.sid.Bucket(), len(s.tombs) > 0); err != nil {
		return err
	}
	if err := tx.Put(store.Subjects, keys.SubjectKeyRow(s.sid), s.keyRow); err != nil {
		return err
	}
	if err := tx.Put(store.Subjects, keys.SubjectBodyRow(s.sid), s.bodyRow); err != nil {
		return err
	}
	for _, r := range s.values {
		if err := tx.Put(store.Subjects, r.Key, r.Value); err != nil {
			return err
		}
	}
	for _, field := range s.drops {
		if err := tx.Delete(store.Subjects, keys.SubjectValueRow(s.sid, field)); err != nil {
			return err
		}
	}
	for _, r := range s.tokens {
		if err := tx.Create(store.Tokens, r.Key, r.Value); errors.Is(err, store.ErrExists) {
			return store.ErrConflict // minted again with other random bits
		} else if err != nil {
			return err
		}
	}
	return v.markTokens(tx, s.dead)
}

// unchanged compares the key row with what was read: every write of a body writes a new one.
func (v *Vault) unchanged(tx store.ReadTx, s *subject) error {
	now, err := tx.Get(store.Subjects, keys.SubjectKeyRow(s.sid))
	if errors.Is(err, store.ErrNotFound) {
		now, err = nil, nil
	}
	if err != nil {
		return err
	}
	if (now == nil) != (s.before == nil) || !bytes.Equal(now, s.before) {
		return store.ErrConflict
	}
	if s.before != nil {
		return nil
	}
	// An absent subject may have been erased, made and erased again since: then the tombstone is another one.
	again := subject{sid: s.sid}
	if err := again.readTombstone(tx); err != nil {
		return err
	}
	if (again.tomb == nil) != (s.tomb == nil) || again.tomb != nil && *again.tomb != *s.tomb {
		return store.ErrConflict
	}
	return nil
}

// markTokens puts markers in the place of token rows. A token that is dead already keeps what it died of.
func (v *Vault) markTokens(tx store.Tx, dead []deadToken) error {
	for _, d := range dead {
		old, err := tx.Get(store.Tokens, d.row[:])
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if head, err := keys.ParseTokenRow(old); err == nil && head.Gone {
			continue
		}
		m := keys.Marker{State: d.state, Day: day(v.now())}
		if err := tx.Put(store.Tokens, d.row[:], m.Marshal()); err != nil {
			return err
		}
	}
	return nil
}

// reindex moves subjects between index rows. Subjects of a partition may share a value, so a row is read, changed and
// sealed again: once for all of the change, because many rows of an import often share one.
func (v *Vault) reindex(tx store.Tx, changes []indexChange) error {
	type shared struct {
		x uint16
		p [32]byte
	}
	var order []shared
	steps := map[shared][]indexChange{}
	leaves := map[uint16]bool{} // by partition: somebody leaves a row
	for _, c := range changes {
		at := shared{c.sid.Partition(v.keys.Log2P()), c.p}
		if steps[at] == nil {
			order = append(order, at)
		}
		steps[at] = append(steps[at], c)
		leaves[at.x] = leaves[at.x] || !c.add
	}
	for x, dirty := range leaves {
		if err := v.checkPartition(tx, x, dirty); err != nil {
			return err
		}
	}
	for _, at := range order {
		err := v.changeIndexRow(tx, at.x, at.p, func(sids []keys.SID) []keys.SID {
			for _, c := range steps[at] {
				sids = slices.DeleteFunc(sids, func(s keys.SID) bool { return s == c.sid })
				if c.add {
					sids = append(sids, c.sid)
				}
			}
			return sids
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) changeIndexRow(tx store.Tx, x uint16, p [32]byte, change func([]keys.SID) []keys.SID) error {
	at := v.keys.IndexRowKey(x, p)
	row := keys.IndexRow{P: p}
	value, err := tx.Get(store.Index, at[:])
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	default:
		if row, err = v.keys.OpenIndexRow(at, value); err != nil {
			return err
		}
		if row.P != p {
			return keys.ErrCorrupt
		}
	}
	if row.SIDs = change(row.SIDs); len(row.SIDs) == 0 {
		return tx.Delete(store.Index, at[:])
	}
	if value, err = v.keys.SealIndexRow(v.random, at, row); err != nil {
		return err
	}
	return tx.Put(store.Index, at[:], value)
}

// checkBucket reads a bucket's generation row: a row sealed under another generation than the one in force must not
// be written. With dirty it marks the bucket as holding, in older copies, what was erased since.
func (v *Vault) checkBucket(tx store.Tx, b uint16, dirty bool) error {
	key := keys.BucketRowKey(b)
	return v.checkGeneration(tx, key[:], v.keys.BucketGeneration(b), dirty)
}

// checkPartition is checkBucket for an index partition.
func (v *Vault) checkPartition(tx store.Tx, x uint16, dirty bool) error {
	key := keys.PartitionRowKey(x)
	return v.checkGeneration(tx, key[:], v.keys.PartitionGeneration(x), dirty)
}

func (v *Vault) checkGeneration(tx store.Tx, row []byte, sealedWith uint64, dirty bool) error {
	value, err := tx.Get(store.Generations, row)
	if err != nil {
		return err
	}
	g, err := keys.UnmarshalGeneration(value)
	if err != nil {
		return err
	}
	if g.G != sealedWith {
		return store.ErrConflict
	}
	if !dirty || g.Dirty() {
		return nil
	}
	g.DirtyG = g.G
	return tx.Put(store.Generations, row, g.Marshal())
}
