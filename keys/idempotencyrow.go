package keys

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxPointers is how many bytes of pointers an idempotency row holds.
const MaxPointers = 1 << 20

// IdempotencyRow is what a repeated change answers from, sealed under the key of IdempotencyBucket:
//
//	u64 expiry ‖ u64 g ‖ wrap(BK_4096/idem/1, digest ‖ u64 expiry ‖ pointers; row key, 4096, g)
//
// The expiry in front is for sweeping, which has no key; the one inside is what counts.
type IdempotencyRow struct {
	Expiry   uint64   // ms since 1970-01-01 UTC
	Digest   [32]byte // Hierarchy.IdempotencyDigest of the request
	Pointers []byte   // where the answer is found, at most MaxPointers bytes
}

// IdempotencyHead is what an idempotency row tells without a key.
type IdempotencyHead struct{ Expiry, Generation uint64 }

const (
	idempotencyHeader = 8 + 8
	idempotencyInner  = 32 + 8 // what stands before the pointers
)

// ParseIdempotencyRow reads an idempotency row's head, or answers ErrCorrupt.
func ParseIdempotencyRow(value []byte) (IdempotencyHead, error) {
	in := reader{b: value}
	head := IdempotencyHead{Expiry: in.u64(), Generation: in.u64()}
	if in.bad || head.Generation == 0 || len(in.b) < wrapOverhead+idempotencyInner {
		return IdempotencyHead{}, fmt.Errorf("idempotency row: %w", ErrCorrupt)
	}
	return head, nil
}

// SealIdempotencyRow returns the value of the row at rowKey, which IdempotencyRowKey gave.
func (h *Hierarchy) SealIdempotencyRow(rand io.Reader, rowKey [16]byte, row IdempotencyRow) ([]byte, error) {
	if len(row.Pointers) > MaxPointers {
		return nil, fmt.Errorf("idempotency row: %w", ErrTooLarge)
	}
	if err := h.use(); err != nil {
		return nil, err
	}
	defer h.done()
	g := h.buckets[IdempotencyBucket].generation
	head := binary.BigEndian.AppendUint64(make([]byte, 0, idempotencyHeader), row.Expiry)
	head = binary.BigEndian.AppendUint64(head, g)
	plain := append(make([]byte, 0, idempotencyInner+len(row.Pointers)), row.Digest[:]...)
	plain = append(binary.BigEndian.AppendUint64(plain, row.Expiry), row.Pointers...)
	value, err := seal(rand, &h.idem, h.idempotencyPlace(rowKey[:], g), head, plain)
	if err != nil {
		return nil, fmt.Errorf("idempotency row: %w", err)
	}
	return value, nil
}

// OpenIdempotencyRow opens the row at rowKey.
func (h *Hierarchy) OpenIdempotencyRow(rowKey [16]byte, value []byte) (IdempotencyRow, error) {
	head, err := ParseIdempotencyRow(value)
	if err != nil {
		return IdempotencyRow{}, err
	}
	if err := h.use(); err != nil {
		return IdempotencyRow{}, err
	}
	defer h.done()
	if head.Generation != h.buckets[IdempotencyBucket].generation {
		return IdempotencyRow{}, fmt.Errorf("idempotency row: %w", ErrGeneration)
	}
	plain, err := open(&h.idem, h.idempotencyPlace(rowKey[:], head.Generation), value[idempotencyHeader:])
	if err != nil {
		return IdempotencyRow{}, fmt.Errorf("idempotency row: %w", err)
	}
	if len(plain) < idempotencyInner || len(plain) > idempotencyInner+MaxPointers || binary.BigEndian.Uint64(plain[32:]) != head.Expiry {
		return IdempotencyRow{}, fmt.Errorf("idempotency row: %w", ErrCorrupt)
	}
	return IdempotencyRow{Expiry: head.Expiry, Digest: [32]byte(plain[:32]), Pointers: plain[idempotencyInner:]}, nil
}

func (h *Hierarchy) idempotencyPlace(rowKey []byte, g uint64) place {
	return place{label: labelIdem, inst: h.inst, row: rowKey, counted: true, n: IdempotencyBucket, generation: g}
}
