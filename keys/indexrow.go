package keys

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxIndexSIDs is how many subjects of one partition can share a value.
const MaxIndexSIDs = 0xFFFF

// IndexRow names the subjects of one partition that have a value, sealed under the partition key:
//
//	u64 h ‖ wrap(IXK_x/index/1, p ‖ u16 n ‖ n × sid; row key, x, h)
type IndexRow struct {
	P    [32]byte // Hierarchy.IndexInput
	SIDs []SID    // all of partition x
}

// IndexRowKey returns the key of a value's row in partition x: u8 x ‖ HMAC-SHA256(HKDF(IXK_x, "cloakroom/key/1"), p)[:16].
// For an x that is none of the partitions the digest is zero, where no row stands.
func (h *Hierarchy) IndexRowKey(x uint16, p [32]byte) [17]byte {
	out := [17]byte{byte(x)}
	if int(x) >= len(h.partitions) || h.use() != nil {
		return out
	}
	defer h.done()
	sum := h.partitions[x].rows.with(func(in []byte) []byte { return append(in, p[:]...) })
	copy(out[1:], sum[:16])
	return out
}

// SealIndexRow returns the value of the row at rowKey, which IndexRowKey gave.
func (h *Hierarchy) SealIndexRow(rand io.Reader, rowKey [17]byte, row IndexRow) ([]byte, error) {
	x := uint16(rowKey[0])
	if int(x) >= len(h.partitions) || !h.allIn(x, row.SIDs) {
		return nil, fmt.Errorf("index row: %w", ErrInvalid)
	}
	if len(row.SIDs) > MaxIndexSIDs {
		return nil, fmt.Errorf("index row: %w", ErrTooLarge)
	}
	if err := h.use(); err != nil {
		return nil, err
	}
	defer h.done()
	plain := make([]byte, 0, len(row.P)+2+len(SID{})*len(row.SIDs))
	plain = append(plain, row.P[:]...)
	plain = binary.BigEndian.AppendUint16(plain, uint16(len(row.SIDs)))
	for i := range row.SIDs {
		plain = append(plain, row.SIDs[i][:]...)
	}
	p := &h.partitions[x]
	value, err := seal(rand, &p.index, h.indexPlace(rowKey[:], x, p), binary.BigEndian.AppendUint64(nil, p.generation), plain)
	if err != nil {
		return nil, fmt.Errorf("index row: %w", err)
	}
	return value, nil
}

// OpenIndexRow opens the row at rowKey.
func (h *Hierarchy) OpenIndexRow(rowKey [17]byte, value []byte) (IndexRow, error) {
	x := uint16(rowKey[0])
	head := reader{b: value}
	g := head.u64()
	if int(x) >= len(h.partitions) || head.bad {
		return IndexRow{}, fmt.Errorf("index row: %w", ErrCorrupt)
	}
	if err := h.use(); err != nil {
		return IndexRow{}, err
	}
	defer h.done()
	p := &h.partitions[x]
	if g != p.generation {
		return IndexRow{}, fmt.Errorf("index row: %w", ErrGeneration)
	}
	plain, err := open(&p.index, h.indexPlace(rowKey[:], x, p), head.b)
	if err != nil {
		return IndexRow{}, fmt.Errorf("index row: %w", err)
	}
	in := reader{b: plain}
	var row IndexRow
	copy(row.P[:], in.take(len(row.P)))
	row.SIDs = make([]SID, in.u16())
	for i := range row.SIDs {
		copy(row.SIDs[i][:], in.take(len(SID{})))
	}
	if !in.done() || !h.allIn(x, row.SIDs) {
		return IndexRow{}, fmt.Errorf("index row: %w", ErrCorrupt)
	}
	return row, nil
}

func (h *Hierarchy) allIn(x uint16, sids []SID) bool {
	for _, s := range sids {
		if s.Partition(h.log2P) != x {
			return false
		}
	}
	return true
}

func (h *Hierarchy) indexPlace(rowKey []byte, x uint16, p *partition) place {
	return place{label: labelIndex, inst: h.inst, row: rowKey, counted: true, n: x, generation: p.generation}
}
