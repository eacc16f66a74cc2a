package keys

import (
	"fmt"
	"io"
	"sync"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Hierarchy is an installation's unlocked keys: all that lies under the epoch root. It does not change after Generate
// or Load, except that Wipe ends it, and serves any number of goroutines. It takes about 1 MB.
type Hierarchy struct {
	inst  InstanceID
	log2P uint8
	epoch uint64

	mu    sync.RWMutex // held for reading while a key is in use, so that Wipe never pulls one from under a seal
	wiped bool

	er         [keySize]byte
	service    [serviceCount][keySize]byte
	buckets    []bucket    // bucketCount
	partitions []partition // 1 << log2P
	idem       [keySize]byte

	sid, token, idemRow, idemDigest, audit, index, sign *mac
}

// bucket is a bucket key and the subkeys that every call needs.
type bucket struct {
	key            [keySize]byte
	subject, token [keySize]byte
	generation     uint64
}

// partition is an index partition key, likewise.
type partition struct {
	key        [keySize]byte
	index      [keySize]byte
	rows       *mac
	generation uint64
}

// The service keys, in the order of serviceNames. K_sid, K_tok and K_audit never change.
const (
	serviceSID = iota
	serviceToken
	serviceIdem
	serviceAudit
	serviceIndex
	serviceSign
	serviceCount
)

func serviceNames() [serviceCount]string {
	return [serviceCount]string{"sid", "tok", "idem", "audit", "index", "sign"}
}

func serviceRowKey(name string) []byte { return append([]byte{'s'}, name...) }

// Generate makes all keys of a new installation from rand: epoch 1, every generation 1, 1 << log2P index partitions. It
// also returns the epoch root (32 bytes), to be wrapped at the key service and then wiped.
func Generate(rand io.Reader, inst InstanceID, log2P uint8) (*Hierarchy, secret.Bytes, error) {
	h, err := newHierarchy(inst, log2P, 1)
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	targets := [][]byte{h.er[:]}
	for i := range h.service {
		targets = append(targets, h.service[i][:])
	}
	for i := range h.buckets {
		h.buckets[i].generation = 1
		targets = append(targets, h.buckets[i].key[:])
	}
	for i := range h.partitions {
		h.partitions[i].generation = 1
		targets = append(targets, h.partitions[i].key[:])
	}
	for _, t := range targets {
		if _, err := io.ReadFull(rand, t); err != nil {
			return nil, secret.Bytes{}, fmt.Errorf("reading randomness: %w", err)
		}
	}
	h.prepare()
	return h, secret.NewBytes(append([]byte(nil), h.er[:]...)), nil
}

func newHierarchy(inst InstanceID, log2P uint8, epoch uint64) (*Hierarchy, error) {
	if log2P > MaxLog2P {
		return nil, fmt.Errorf("number of index partitions: %w", ErrInvalid)
	}
	return &Hierarchy{
		inst: inst, log2P: log2P, epoch: epoch,
		buckets:    make([]bucket, bucketCount),
		partitions: make([]partition, 1<<log2P),
	}, nil
}

// prepare derives what every call would else derive again.
func (h *Hierarchy) prepare() {
	sub := func(key *[keySize]byte, label string) [keySize]byte { return derive(key[:], label) }
	for i := range h.buckets[:Buckets] {
		b := &h.buckets[i]
		b.subject, b.token = sub(&b.key, labelSubject), sub(&b.key, labelToken)
	}
	h.idem = sub(&h.buckets[IdempotencyBucket].key, labelIdem)
	for i := range h.partitions {
		p := &h.partitions[i]
		p.index = sub(&p.key, labelIndex)
		rows := sub(&p.key, "cloakroom/key/1")
		p.rows = newMAC(&rows)
	}
	digest := sub(&h.service[serviceIdem], "cloakroom/digest/1")
	h.sid = newMAC(&h.service[serviceSID])
	h.token = newMAC(&h.service[serviceToken])
	h.idemRow = newMAC(&h.service[serviceIdem])
	h.idemDigest = newMAC(&digest)
	h.audit = newMAC(&h.service[serviceAudit])
	h.index = newMAC(&h.service[serviceIndex])
	h.sign = newMAC(&h.service[serviceSign])
}

// Instance returns the installation these keys are of.
func (h *Hierarchy) Instance() InstanceID { return h.inst }

// Epoch returns the epoch these keys were loaded in.
func (h *Hierarchy) Epoch() uint64 { return h.epoch }

// Log2P returns the binary logarithm of the number of index partitions.
func (h *Hierarchy) Log2P() uint8 { return h.log2P }

// Partitions returns the number of index partitions.
func (h *Hierarchy) Partitions() int { return 1 << h.log2P }

// BucketGeneration returns the loaded generation of bucket b, 0 to IdempotencyBucket; 0 for any other b. A transaction
// that writes a row of the bucket compares it with the generation row.
func (h *Hierarchy) BucketGeneration(b uint16) uint64 {
	if int(b) >= len(h.buckets) {
		return 0
	}
	return h.buckets[b].generation
}

// PartitionGeneration returns the loaded generation of index partition x, likewise.
func (h *Hierarchy) PartitionGeneration(x uint16) uint64 {
	if int(x) >= len(h.partitions) {
		return 0
	}
	return h.partitions[x].generation
}

// Wipe overwrites the keys. It waits for calls that run; later ones answer ErrWiped, and those without an error in
// their answer give zeros. What Go cannot promise about other copies stands in SECURITY.md.
func (h *Hierarchy) Wipe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wiped {
		return
	}
	h.wiped = true
	clear(h.er[:])
	clear(h.service[:])
	clear(h.idem[:])
	for i := range h.buckets {
		b := &h.buckets[i]
		clear(b.key[:])
		clear(b.subject[:])
		clear(b.token[:])
	}
	for i := range h.partitions {
		p := &h.partitions[i]
		clear(p.key[:])
		clear(p.index[:])
		p.rows.wipe()
	}
	for _, m := range []*mac{h.sid, h.token, h.idemRow, h.idemDigest, h.audit, h.index, h.sign} {
		m.wipe()
	}
}

// use keeps the keys from being wiped until done is called.
func (h *Hierarchy) use() error {
	h.mu.RLock()
	if h.wiped {
		h.mu.RUnlock()
		return ErrWiped
	}
	return nil
}

func (h *Hierarchy) done() { h.mu.RUnlock() }
