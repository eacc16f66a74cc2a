package local

import (
	"fmt"
	"io"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

const (
	keySize     = 32
	idSize      = 16
	maxVersions = 4096      // of one key, not destroyed: eleven years of daily rotation without a trim
	maxVersion  = 1<<31 - 1 // an int everywhere
)

// ring is the content of a keyring file. It is replaced, not changed, once it has been written.
type ring struct {
	id     [idSize]byte // random, given when the keyring is made
	serial uint64       // counts writes, from 1
	root   *key         // nil: not created
	dek    *key         // nil: not created
}

// key is one key with its versions.
type key struct {
	latest    int
	minimum   int            // both minima, which only ever rise together; 0: never raised
	available int            // the oldest version that is not destroyed
	material  []secret.Bytes // 32 bytes each; of the versions available to latest
}

func (r *ring) slot(name keys.KeyName) **key {
	switch name {
	case keys.RootKey:
		return &r.root
	case keys.DEKKey:
		return &r.dek
	default:
		return nil
	}
}

func (r *ring) key(name keys.KeyName) (*key, error) {
	if slot := r.slot(name); slot != nil && *slot != nil {
		return *slot, nil
	}
	return nil, keys.ErrNoKey
}

// clone copies everything but the key material, which both then share.
func (r *ring) clone() *ring {
	c := *r
	for _, slot := range []**key{&c.root, &c.dek} {
		if *slot != nil {
			copied := **slot
			copied.material = slices.Clone(copied.material)
			*slot = &copied
		}
	}
	return &c
}

func (r *ring) keys() []*key {
	var all []*key
	for _, k := range []*key{r.root, r.dek} {
		if k != nil {
			all = append(all, k)
		}
	}
	return all
}

func (r *ring) wipe() {
	if r == nil {
		return
	}
	for _, k := range r.keys() {
		for _, m := range k.material {
			m.Wipe()
		}
	}
}

// version returns the material of version v, and whether there is any.
func (k *key) version(v int) (secret.Bytes, bool) {
	if v < k.available || v > k.latest {
		return secret.Bytes{}, false
	}
	return k.material[v-k.available], true
}

// extend adds a version.
func (k *key) extend(random io.Reader) error {
	if len(k.material) >= maxVersions || k.latest >= maxVersion {
		return fmt.Errorf("%w: the key has %d versions; trim first", ErrRequest, len(k.material))
	}
	m := make([]byte, keySize)
	if _, err := io.ReadFull(random, m); err != nil {
		return fmt.Errorf("new key version: random: %w", err)
	}
	k.latest++
	k.material = append(k.material, secret.NewBytes(m))
	return nil
}

func (k *key) versions() keys.Versions {
	return keys.Versions{
		Latest:       k.latest,
		MinAvailable: k.available,
		MinDecrypt:   max(k.minimum, 1),
		MinEncrypt:   k.minimum,
	}
}
