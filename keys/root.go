package keys

import (
	"encoding/binary"
	"fmt"
)

// rowFormat is the first byte of every versioned row.
const rowFormat = 1

// Root is the row that says which epoch stands and how its root is wrapped:
//
//	01 ‖ u64 epoch ‖ u64 version ‖ u64 max version ‖ LP(wrapped ER)
type Root struct {
	Epoch      uint64 // from 1
	Version    uint64 // version of the key service's root key that wraps the epoch root, from 1
	MaxVersion uint64 // the highest version ever seen there, at least Version
	Wrapped    Wrapped
}

// RootRowKey returns the row's key in keyspace keys.
func RootRowKey() []byte { return []byte("root") }

func (r Root) sound() bool {
	return r.Epoch > 0 && r.Version > 0 && r.MaxVersion >= r.Version && len(r.Wrapped) > 0 && len(r.Wrapped) <= MaxWrapped
}

// Marshal returns the row's value, or ErrInvalid when a part is outside its range.
func (r Root) Marshal() ([]byte, error) {
	if !r.sound() {
		return nil, fmt.Errorf("root row: %w", ErrInvalid)
	}
	b := make([]byte, 0, 27+len(r.Wrapped))
	b = append(b, rowFormat)
	b = binary.BigEndian.AppendUint64(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, r.Version)
	b = binary.BigEndian.AppendUint64(b, r.MaxVersion)
	return appendLP(b, string(r.Wrapped)), nil
}

// UnmarshalRoot reads the row's value, or answers ErrCorrupt. The row carries no tag of its own: an altered one shows
// when the key service refuses the epoch root.
func UnmarshalRoot(value []byte) (Root, error) {
	in := reader{b: value}
	format := in.u8()
	r := Root{Epoch: in.u64(), Version: in.u64(), MaxVersion: in.u64()}
	r.Wrapped = Wrapped(in.lp(MaxWrapped))
	if !in.done() || format != rowFormat || !r.sound() {
		return Root{}, fmt.Errorf("root row: %w", ErrCorrupt)
	}
	return r, nil
}
