package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxTombstone is the most bytes of a tombstone; it has at least one.
	MaxTombstone = 4096

	fixedBytes = 8 + 32 + 2 // an unsigned entry without its tombstone
	minEntry   = fixedBytes + 1 + ed25519.SignatureSize
	maxEntry   = fixedBytes + MaxTombstone + ed25519.SignatureSize
)

// ErrInvalid: an entry is malformed or outside the limits.
var ErrInvalid = errors.New("ledger: invalid entry")

// Entry is one erasure.
type Entry struct {
	Seq       uint64   // from 1
	Prev      [32]byte // Hash of the entry before; zeros for the first
	Tombstone []byte   // opaque, 1 to MaxTombstone bytes
}

// Head is the newest entry; the zero value means that there is none.
type Head struct {
	Seq  uint64
	Hash [32]byte
}

// Hash is SHA-256 over the unsigned form. It means nothing for an entry that Marshal refuses.
func (e Entry) Hash() [32]byte {
	return sha256.Sum256(e.appendTo(make([]byte, 0, fixedBytes+len(e.Tombstone))))
}

// Head is the head of a ledger that ends with e.
func (e Entry) Head() Head { return Head{e.Seq, e.Hash()} }

// Marshal returns the unsigned form: u64 seq || prev (32) || LP(tombstone).
func (e Entry) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return e.appendTo(make([]byte, 0, fixedBytes+len(e.Tombstone))), nil
}

// Unmarshal reads the unsigned form, all of b. The Entry holds a copy.
func Unmarshal(b []byte) (Entry, error) {
	if len(b) < fixedBytes || len(b) != fixedBytes+int(binary.BigEndian.Uint16(b[40:])) {
		return Entry{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(b))
	}
	e := Entry{
		Seq:       binary.BigEndian.Uint64(b),
		Prev:      [32]byte(b[8:40]),
		Tombstone: append([]byte(nil), b[fixedBytes:]...),
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	return e, nil
}

func (e Entry) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = append(b, e.Prev[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Tombstone)))
	return append(b, e.Tombstone...)
}

func (e Entry) check() error {
	switch {
	case e.Seq == 0:
		return fmt.Errorf("%w: seq 0", ErrInvalid)
	case e.Seq == 1 && e.Prev != [32]byte{}:
		return fmt.Errorf("%w: the first entry follows another", ErrInvalid)
	case len(e.Tombstone) == 0 || len(e.Tombstone) > MaxTombstone:
		return fmt.Errorf("%w: tombstone of %d bytes", ErrInvalid, len(e.Tombstone))
	}
	return nil
}
