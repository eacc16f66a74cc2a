package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

// tombstone says what was erased and which generations have to be replaced before no copy of the store can open it:
//
//	01 ‖ u8 what ‖ sid ‖ LP(field) ‖ u32 dek_ver ‖ u64 rec_ver ‖ u32 day ‖ u16 b ‖ u64 g ‖ u16 x ‖ u64 h
type tombstone struct {
	what  uint8
	sid   keys.SID
	field string
	// dekVer is the subject's data key: it and all before it are gone (subject), or the one that the field's records
	// were under. A subject that is made again counts its fields anew, under a higher one.
	dekVer uint32
	recVer uint64 // the field's versions up to this one are gone; 0 for a subject
	day    uint32 // days since 1970-01-01 UTC
	b      uint16 // bucket
	g      uint64 // its generation then
	x      uint16 // index partition
	h      uint64 // its generation then
}

const (
	tombSubject uint8 = 1
	tombField   uint8 = 2

	tombVersion = 1
)

var errTombstone = errors.New("tombstone does not parse")

func (t *tombstone) marshal() []byte {
	be := binary.BigEndian
	out := make([]byte, 0, 64+len(t.field))
	out = append(out, tombVersion, t.what)
	out = append(out, t.sid[:]...)
	out = appendLP(out, t.field)
	out = be.AppendUint32(out, t.dekVer)
	out = be.AppendUint64(out, t.recVer)
	out = be.AppendUint32(out, t.day)
	out = be.AppendUint16(out, t.b)
	out = be.AppendUint64(out, t.g)
	out = be.AppendUint16(out, t.x)
	return be.AppendUint64(out, t.h)
}

func parseTombstone(data []byte) (tombstone, error) {
	var t tombstone
	var version uint8
	var field cryptobyte.String
	s := cryptobyte.String(data)
	if !s.ReadUint8(&version) || version != tombVersion || !s.ReadUint8(&t.what) || !s.CopyBytes(t.sid[:]) ||
		!s.ReadUint16LengthPrefixed(&field) || !s.ReadUint32(&t.dekVer) || !s.ReadUint64(&t.recVer) || !s.ReadUint32(&t.day) || !s.ReadUint16(&t.b) ||
		!s.ReadUint64(&t.g) || !s.ReadUint16(&t.x) || !s.ReadUint64(&t.h) || !s.Empty() ||
		(t.what != tombSubject && t.what != tombField) || (t.what == tombSubject) != (len(field) == 0) {
		return tombstone{}, errTombstone
	}
	t.field = string(field)
	return t, nil
}

// row is the key of the tombstone in its keyspace.
func (t *tombstone) row() []byte {
	if t.what == tombSubject {
		return subjectTombRow(t.sid)
	}
	return append(append([]byte{'f'}, t.sid[:]...), t.field...)
}

func subjectTombRow(sid keys.SID) []byte { return append([]byte{'s'}, sid[:]...) }

func erasureRow(id []byte) []byte { return append([]byte{'e'}, id...) }

// erasureOfRow leads from a subject to its certificates.
func erasureOfRow(sid keys.SID, id []byte) []byte {
	return append(append([]byte{'c'}, sid[:]...), id...)
}

// day counts days since 1970-01-01 UTC.
func day(t time.Time) uint32 { return uint32(t.Unix() / 86400) }

var (
	rowLedgerHead = []byte("ledger/head")
	ledgerOutbox  = []byte("ledger/out/")
)

func outboxRow(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), ledgerOutbox...), seq)
}

// readLedgerHead returns the newest entry's place in the chain; before the first it is zero.
func readLedgerHead(tx store.ReadTx) (ledger.Head, error) {
	var h ledger.Head
	row, err := tx.Get(store.Meta, rowLedgerHead)
	if errors.Is(err, store.ErrNotFound) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if len(row) != 1+8+32 || row[0] != 1 {
		return h, fmt.Errorf("ledger head: %w", ErrCorrupt)
	}
	h.Seq = binary.BigEndian.Uint64(row[1:])
	copy(h.Hash[:], row[9:])
	return h, nil
}

// bury writes the tombstones and chains each into the ledger's outbox, in the same transaction as what they stand for.
func bury(tx store.Tx, tombs []tombstone) error {
	if len(tombs) == 0 {
		return nil
	}
	head, err := readLedgerHead(tx)
	if err != nil {
		return err
	}
	for i := range tombs {
		row := tombs[i].marshal()
		if err := tx.Put(store.Tombstones, tombs[i].row(), row); err != nil {
			return err
		}
		e := ledger.Entry{Seq: head.Seq + 1, Prev: head.Hash, Tombstone: row}
		head = ledger.Head{Seq: e.Seq, Hash: e.Hash()}
		out, err := e.Marshal()
		if err != nil {
			return err
		}
		if err := tx.Put(store.Meta, outboxRow(e.Seq), out); err != nil {
			return err
		}
	}
	row := binary.BigEndian.AppendUint64([]byte{1}, head.Seq)
	return tx.Put(store.Meta, rowLedgerHead, append(row, head.Hash[:]...))
}

// flushLedger brings every outbox entry into the ledger file and returns when they are on disk. Rows that are there
// are dropped from the outbox later, a group at a time: an entry that is sent twice changes nothing.
//
// It is called after the change has committed, so it goes on when the caller has gone: else the entry would wait for
// the next erasure.
func (v *Vault) flushLedger(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var pending []ledger.Entry
	err := v.store.View(ctx, func(tx store.ReadTx) error {
		pending = pending[:0]
		return tx.Scan(store.Meta, ledgerOutbox, prefixEnd(ledgerOutbox), func(_, row []byte) error {
			e, err := ledger.Unmarshal(row)
			if err != nil {
				return err
			}
			pending = append(pending, e)
			return nil
		})
	})
	if err != nil {
		return storeError(err)
	}
	if len(pending) == 0 {
		return nil
	}
	if err := v.ledger.Append(ctx, pending); err != nil {
		return ErrStoreUnavailable.saying("the erasure is done, but the erasure ledger cannot be written; free disk space or mend the ledger file").because(err)
	}
	err = v.store.Update(ctx, func(tx store.Tx) error {
		for i := range pending {
			if err := tx.Delete(store.Meta, outboxRow(pending[i].Seq)); err != nil {
				return err
			}
		}
		return nil
	})
	return storeError(err)
}

// ledgerReady refuses an erasure that the ledger could not take down, before anything is changed.
func (v *Vault) ledgerReady() error {
	if err := v.ledger.Ready(); err != nil {
		return ErrStoreUnavailable.saying("the erasure ledger cannot be written, so nothing was erased or replaced; free disk space or mend the ledger file").because(err)
	}
	return nil
}

// prefixEnd is the first key after all that begin with prefix, which is not all FF: its first byte is a letter.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for end[len(end)-1] == 0xFF {
		end = end[:len(end)-1]
	}
	end[len(end)-1]++
	return end
}
