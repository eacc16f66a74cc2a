package local

import (
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Cost is what argon2id spends on a passphrase (RFC 9106). The zero value stands for the second recommended option of
// RFC 9106, section 4: 3 passes over 64 MiB in 4 lanes.
type Cost struct {
	Time   uint32 // passes, 1 to 16
	Memory uint32 // KiB, 8 per lane to 1 GiB
	Lanes  uint8  // 1 to 16
}

const (
	maxPassphrase = 1024
	maxTime       = 16
	maxMemory     = 1 << 20 // KiB; a file must not be able to exhaust the machine that opens it
	maxLanes      = 16
	saltSize      = 16
	nonceSize     = chacha20poly1305.NonceSizeX
	tagSize       = chacha20poly1305.Overhead
)

func (c Cost) orDefault() Cost {
	if c == (Cost{}) {
		return Cost{Time: 3, Memory: 64 << 10, Lanes: 4}
	}
	return c
}

func (c Cost) check() error {
	if c.Time < 1 || c.Time > maxTime || c.Lanes < 1 || c.Lanes > maxLanes ||
		c.Memory < 8*uint32(c.Lanes) || c.Memory > maxMemory {
		return fmt.Errorf("%w: argon2id cost outside its limits", ErrRequest)
	}
	return nil
}

// seal is a passphrase after argon2id. The passphrase itself is not kept: writing needs only this.
type seal struct {
	cost Cost
	salt [saltSize]byte
	key  secret.Bytes
}

func newSeal(passphrase secret.Bytes, cost Cost, salt [saltSize]byte) *seal {
	key := argon2.IDKey(passphrase.Reveal(), salt[:], cost.Time, cost.Memory, cost.Lanes, keySize)
	return &seal{cost: cost, salt: salt, key: secret.NewBytes(key)}
}

func (k *Keyring) freshSeal(passphrase secret.Bytes) (*seal, error) {
	var salt [saltSize]byte
	if _, err := io.ReadFull(k.random, salt[:]); err != nil {
		return nil, fmt.Errorf("seal keyring: random: %w", err)
	}
	return newSeal(passphrase, k.cost, salt), nil
}

// fits reports whether e was sealed under this very key. Nil fits what is not sealed.
func (s *seal) fits(e envelope) bool {
	if s == nil || !e.sealed {
		return s == nil && !e.sealed
	}
	return s.cost == e.cost && s.salt == e.salt
}

func (s *seal) wipe() {
	if s != nil {
		s.key.Wipe()
	}
}
