package keys

import (
	"encoding/binary"
	"fmt"
	"io"
)

// TokenRow says where a token's value is, sealed under the key of its subject's bucket:
//
//	u16 b ‖ u64 g ‖ wrap(BK_b/token/1, sid ‖ LP(field) ‖ LP(audience) ‖ u8 format ‖ u64 expiry ‖ u8 flags; row key, b, g)
type TokenRow struct {
	SID      SID
	Field    string // at most MaxField bytes
	Audience string // at most MaxAudience bytes
	Format   uint8  // 0: opaque
	Expiry   uint64 // ms since 1970-01-01 UTC; 0: none
	Flags    uint8
}

// TokenSingleUse is the flag of a token that opens once.
const TokenSingleUse uint8 = 1

// Marker stands in a token row's place once the token is dead: FF ‖ u8 state ‖ u32 day.
type Marker struct {
	State MarkerState
	Day   uint32 // since 1970-01-01 UTC
}

// MarkerState says why a token is dead.
type MarkerState uint8

// The states.
const (
	SubjectErased MarkerState = 1
	FieldErased   MarkerState = 2
	TokenExpired  MarkerState = 3
	TokenRevoked  MarkerState = 4
	TokenUsed     MarkerState = 5
)

const (
	markerByte  = 0xFF // no bucket's first byte: buckets end at 0x0FFF
	tokenHeader = 2 + 8
)

// Marshal returns the row's value, 6 bytes.
func (m Marker) Marshal() []byte {
	return binary.BigEndian.AppendUint32([]byte{markerByte, byte(m.State)}, m.Day)
}

// TokenHead is what a token row tells without a key.
type TokenHead struct {
	Gone       bool // Marker is set; else Bucket and Generation
	Marker     Marker
	Bucket     uint16
	Generation uint64
}

// ParseTokenRow reads a token row's head, or answers ErrCorrupt.
func ParseTokenRow(value []byte) (TokenHead, error) {
	in := reader{b: value}
	if len(value) > 0 && value[0] == markerByte {
		in.take(1)
		m := Marker{State: MarkerState(in.u8()), Day: in.u32()}
		if !in.done() || m.State < SubjectErased || m.State > TokenUsed {
			return TokenHead{}, fmt.Errorf("token marker: %w", ErrCorrupt)
		}
		return TokenHead{Gone: true, Marker: m}, nil
	}
	head := TokenHead{Bucket: in.u16(), Generation: in.u64()}
	if in.bad || head.Bucket >= Buckets || head.Generation == 0 || len(in.b) < wrapOverhead {
		return TokenHead{}, fmt.Errorf("token row: %w", ErrCorrupt)
	}
	return head, nil
}

// SealTokenRow returns the value of the row at rowKey, which TokenRowKey gave.
func (h *Hierarchy) SealTokenRow(rand io.Reader, rowKey [16]byte, row TokenRow) ([]byte, error) {
	if len(row.Field) > MaxField || len(row.Audience) > MaxAudience {
		return nil, fmt.Errorf("token row: %w", ErrTooLarge)
	}
	if err := h.use(); err != nil {
		return nil, err
	}
	defer h.done()
	plain := make([]byte, 0, len(row.SID)+2+len(row.Field)+2+len(row.Audience)+10)
	plain = append(plain, row.SID[:]...)
	plain = appendLP(plain, row.Field)
	plain = appendLP(plain, row.Audience)
	plain = append(plain, row.Format)
	plain = binary.BigEndian.AppendUint64(plain, row.Expiry)
	plain = append(plain, row.Flags)
	n := row.SID.Bucket()
	b := &h.buckets[n]
	head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(make([]byte, 0, tokenHeader), n), b.generation)
	value, err := seal(rand, &b.token, h.tokenPlace(rowKey[:], n, b), head, plain)
	if err != nil {
		return nil, fmt.Errorf("token row: %w", err)
	}
	return value, nil
}

// OpenTokenRow opens a row that is no marker.
func (h *Hierarchy) OpenTokenRow(rowKey [16]byte, value []byte) (TokenRow, error) {
	head, err := ParseTokenRow(value)
	if err != nil {
		return TokenRow{}, err
	}
	if head.Gone {
		return TokenRow{}, fmt.Errorf("token marker: %w", ErrInvalid)
	}
	if err := h.use(); err != nil {
		return TokenRow{}, err
	}
	defer h.done()
	b := &h.buckets[head.Bucket]
	if head.Generation != b.generation {
		return TokenRow{}, fmt.Errorf("token row: %w", ErrGeneration)
	}
	plain, err := open(&b.token, h.tokenPlace(rowKey[:], head.Bucket, b), value[tokenHeader:])
	if err != nil {
		return TokenRow{}, fmt.Errorf("token row: %w", err)
	}
	in := reader{b: plain}
	var row TokenRow
	copy(row.SID[:], in.take(len(row.SID)))
	row.Field, row.Audience = string(in.lp(MaxField)), string(in.lp(MaxAudience))
	row.Format, row.Expiry, row.Flags = in.u8(), in.u64(), in.u8()
	if !in.done() || row.SID.Bucket() != head.Bucket {
		return TokenRow{}, fmt.Errorf("token row: %w", ErrCorrupt)
	}
	return row, nil
}

func (h *Hierarchy) tokenPlace(rowKey []byte, n uint16, b *bucket) place {
	return place{label: labelToken, inst: h.inst, row: rowKey, counted: true, n: n, generation: b.generation}
}
