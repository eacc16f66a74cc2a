package keys

import (
	"encoding/binary"
	"encoding/hex"
)

const (
	// Tenant is the one tenant there is so far; it is bound into every SID and every record.
	Tenant = "default"
	// Buckets is the number of subject buckets.
	Buckets = 4096
	// IdempotencyBucket is the bucket that follows them, of the idempotency rows.
	IdempotencyBucket = 4096
	// DefaultLog2P gives 64 index partitions.
	DefaultLog2P = 6
	// MaxLog2P gives 256, as many as the one byte in an index row's key can name.
	MaxLog2P = 8

	bucketCount = Buckets + 1
)

// Limits of what a row holds. A part above its limit answers ErrTooLarge when sealed, ErrCorrupt when opened.
const (
	MaxRow      = 8 << 20 // bytes of a row's value
	MaxValue    = 8 << 20 // bytes of a field's value
	MaxField    = 255     // bytes of a field's name
	MaxAudience = 1024    // bytes of a token's audience
	MaxWrapped  = 1024    // bytes of a key as the key service wrapped it
)

// InstanceID is an installation: 16 random bytes made when it is set up. Every context and every associated data names it.
type InstanceID [16]byte

// String returns it in hexadecimal.
func (i InstanceID) String() string { return hex.EncodeToString(i[:]) }

// SID is a subject inside the store: a keyed digest of its external id (Hierarchy.SID).
type SID [16]byte

// Bucket returns the subject's bucket, the first 12 bits: 0 to 4095.
func (s SID) Bucket() uint16 { return binary.BigEndian.Uint16(s[:]) >> 4 }

// Partition returns the subject's index partition, the log2P bits after the first 12; log2P is at most MaxLog2P.
func (s SID) Partition(log2P uint8) uint16 {
	if log2P > MaxLog2P {
		log2P = MaxLog2P
	}
	return binary.BigEndian.Uint16(s[1:]) & 0x0FFF >> (12 - log2P)
}

// KID is a data key's own id, 16 random bytes: part of the context it is wrapped with, so that it can be made before
// it is known whose it will be.
type KID [16]byte

// RootContext returns the associated data of the epoch root at the key service: "cloakroom/root/1\0" ‖ inst ‖ u64 epoch.
func RootContext(inst InstanceID, epoch uint64) []byte {
	b := make([]byte, 0, 41)
	b = append(b, "cloakroom/root/1\x00"...)
	b = append(b, inst[:]...)
	return binary.BigEndian.AppendUint64(b, epoch)
}

// DEKContext returns the context of a data key at the key service: "cloakroom/dek/1\0" ‖ inst ‖ kid.
func DEKContext(inst InstanceID, kid KID) []byte {
	return appendDEKContext(make([]byte, 0, dekContextSize), inst, kid)
}

// dekContextSize is the length of every DEKContext.
const dekContextSize = 16 + len(InstanceID{}) + len(KID{})

func appendDEKContext(b []byte, inst InstanceID, kid KID) []byte {
	b = append(b, "cloakroom/dek/1\x00"...)
	b = append(b, inst[:]...)
	return append(b, kid[:]...)
}
