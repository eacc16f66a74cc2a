package keys

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// SubjectKeyRow returns the key of a subject's key row: sid ‖ 'k'.
func SubjectKeyRow(sid SID) []byte { return subjectRow(sid, 'k', "") }

// SubjectBodyRow returns the key of a subject's body row: sid ‖ 's'.
func SubjectBodyRow(sid SID) []byte { return subjectRow(sid, 's', "") }

// SubjectValueRow returns the key of the row of a subject's large value: sid ‖ 'v' ‖ field.
func SubjectValueRow(sid SID, field string) []byte { return subjectRow(sid, 'v', field) }

func subjectRow(sid SID, sort byte, field string) []byte {
	b := make([]byte, 0, len(sid)+1+len(field))
	return append(append(append(b, sid[:]...), sort), field...)
}

// KeyRow is a subject's key row, sealed under the bucket key:
//
//	u64 g ‖ wrap(BK_b/subject/1, SK ‖ u32 dek version ‖ kid ‖ LP(wrapped DEK); row key, b, g)
type KeyRow struct {
	SK         secret.Bytes // 32 random bytes, new with each write of the body
	DEKVersion uint32       // from 1; goes on when an erased subject is made again
	KID        KID
	Wrapped    Wrapped // the data key, 1 to MaxWrapped bytes
}

// SealKeyRow returns the row's value.
func (h *Hierarchy) SealKeyRow(rand io.Reader, sid SID, row KeyRow) ([]byte, error) {
	if row.SK.Len() != keySize || len(row.Wrapped) == 0 {
		return nil, fmt.Errorf("subject key row: %w", ErrInvalid)
	}
	if len(row.Wrapped) > MaxWrapped {
		return nil, fmt.Errorf("subject key row: %w", ErrTooLarge)
	}
	if err := h.use(); err != nil {
		return nil, err
	}
	defer h.done()
	plain := make([]byte, 0, keySize+4+len(row.KID)+2+len(row.Wrapped))
	plain = append(plain, row.SK.Reveal()...)
	plain = binary.BigEndian.AppendUint32(plain, row.DEKVersion)
	plain = append(plain, row.KID[:]...)
	plain = appendLP(plain, string(row.Wrapped))
	defer clear(plain)
	b := &h.buckets[sid.Bucket()]
	value, err := seal(rand, &b.subject, h.keyRowPlace(sid, b), binary.BigEndian.AppendUint64(nil, b.generation), plain)
	if err != nil {
		return nil, fmt.Errorf("subject key row: %w", err)
	}
	return value, nil
}

// OpenKeyRow opens the row's value. The caller wipes SK.
func (h *Hierarchy) OpenKeyRow(sid SID, value []byte) (KeyRow, error) {
	if err := h.use(); err != nil {
		return KeyRow{}, err
	}
	defer h.done()
	b := &h.buckets[sid.Bucket()]
	head := reader{b: value}
	if g := head.u64(); head.bad {
		return KeyRow{}, fmt.Errorf("subject key row: %w", ErrCorrupt)
	} else if g != b.generation {
		return KeyRow{}, fmt.Errorf("subject key row: %w", ErrGeneration)
	}
	plain, err := open(&b.subject, h.keyRowPlace(sid, b), head.b)
	if err != nil {
		return KeyRow{}, fmt.Errorf("subject key row: %w", err)
	}
	in := reader{b: plain}
	row := KeyRow{SK: secret.NewBytes(in.take(keySize)), DEKVersion: in.u32()}
	copy(row.KID[:], in.take(len(row.KID)))
	row.Wrapped = Wrapped(in.lp(MaxWrapped))
	if !in.done() || len(row.Wrapped) == 0 {
		return KeyRow{}, fmt.Errorf("subject key row: %w", ErrCorrupt)
	}
	return row, nil
}

func (h *Hierarchy) keyRowPlace(sid SID, b *bucket) place {
	return place{label: labelSubject, inst: h.inst, row: SubjectKeyRow(sid), counted: true, n: sid.Bucket(), generation: b.generation}
}

// SealBody seals a subject's body under the SK of its key row: wrap(SK/body/1, body; row key).
func (h *Hierarchy) SealBody(rand io.Reader, sk secret.Bytes, sid SID, body secret.Bytes) ([]byte, error) {
	p := place{label: labelBody, inst: h.inst, row: SubjectBodyRow(sid)}
	return sealUnder(rand, sk, p, "subject body row", body.Reveal())
}

// OpenBody opens a subject's body. The caller wipes it.
func (h *Hierarchy) OpenBody(sk secret.Bytes, sid SID, value []byte) (secret.Bytes, error) {
	p := place{label: labelBody, inst: h.inst, row: SubjectBodyRow(sid)}
	body, err := openUnder(sk, p, "subject body row", value)
	return secret.NewBytes(body), err
}

// SealValue seals the record of a large value under the VK kept for it in the body: wrap(VK/value/1, record; row key).
func (h *Hierarchy) SealValue(rand io.Reader, vk secret.Bytes, sid SID, field string, record []byte) ([]byte, error) {
	if len(field) > MaxField {
		return nil, fmt.Errorf("large value row: %w", ErrTooLarge)
	}
	p := place{label: labelValue, inst: h.inst, row: SubjectValueRow(sid, field)}
	return sealUnder(rand, vk, p, "large value row", record)
}

// OpenValue opens the record of a large value, itself still sealed under the data key.
func (h *Hierarchy) OpenValue(vk secret.Bytes, sid SID, field string, value []byte) ([]byte, error) {
	p := place{label: labelValue, inst: h.inst, row: SubjectValueRow(sid, field)}
	return openUnder(vk, p, "large value row", value)
}

// sealUnder seals with a key that came out of another row.
func sealUnder(rand io.Reader, key secret.Bytes, p place, sort string, plaintext []byte) ([]byte, error) {
	if key.Len() != keySize {
		return nil, fmt.Errorf("%s: %w", sort, ErrInvalid)
	}
	sub := derive(key.Reveal(), p.label)
	defer clear(sub[:])
	value, err := seal(rand, &sub, p, nil, plaintext)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sort, err)
	}
	return value, nil
}

func openUnder(key secret.Bytes, p place, sort string, value []byte) ([]byte, error) {
	if key.Len() != keySize {
		return nil, fmt.Errorf("%s: %w", sort, ErrInvalid)
	}
	sub := derive(key.Reveal(), p.label)
	defer clear(sub[:])
	plaintext, err := open(&sub, p, value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sort, err)
	}
	return plaintext, nil
}
