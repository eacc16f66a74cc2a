package keys

import (
	"encoding/binary"
	"fmt"
)

// Generation is the row that counts the keys of one bucket or index partition:
//
//	u64 g ‖ u64 dirty g ‖ u64 replaced in
type Generation struct {
	G          uint64 // the present key's number, from 1
	DirtyG     uint64 // the generation in which something was erased last; 0: none so far
	ReplacedIn uint64 // the epoch in which generation G began; 0: it is the first
}

// Dirty reports whether something was erased that the present key still opens in old copies.
func (g Generation) Dirty() bool { return g.G > 0 && g.DirtyG == g.G }

func (g Generation) sound() bool { return g.G > 0 && g.DirtyG <= g.G }

// Marshal returns the row's value, 24 bytes.
func (g Generation) Marshal() []byte {
	b := make([]byte, 0, 24)
	b = binary.BigEndian.AppendUint64(b, g.G)
	b = binary.BigEndian.AppendUint64(b, g.DirtyG)
	return binary.BigEndian.AppendUint64(b, g.ReplacedIn)
}

// UnmarshalGeneration reads the row's value, or answers ErrCorrupt.
func UnmarshalGeneration(value []byte) (Generation, error) {
	in := reader{b: value}
	g := Generation{G: in.u64(), DirtyG: in.u64(), ReplacedIn: in.u64()}
	if !in.done() || !g.sound() {
		return Generation{}, fmt.Errorf("generation row: %w", ErrCorrupt)
	}
	return g, nil
}

// BucketRowKey returns the key of bucket b's rows in keyspaces keys and generations: 'b' ‖ u16 b.
func BucketRowKey(b uint16) [3]byte { return [3]byte{'b', byte(b >> 8), byte(b)} }

// PartitionRowKey returns the key of index partition x's rows in keyspaces keys and generations: 'x' ‖ u16 x.
func PartitionRowKey(x uint16) [3]byte { return [3]byte{'x', byte(x >> 8), byte(x)} }
