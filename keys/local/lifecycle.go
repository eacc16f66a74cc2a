package local

import (
	"context"
	"fmt"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// Create makes the key with its version 1 where it is absent. Errors: ErrRequest for a name that is none of the two.
func (k *Keyring) Create(ctx context.Context, name keys.KeyName) error {
	return k.update(ctx, func(next *ring) (bool, error) {
		slot := next.slot(name)
		if slot == nil {
			return false, fmt.Errorf("%w: a keyring holds the keys root and dek only", ErrRequest)
		}
		if *slot != nil {
			return false, nil
		}
		*slot = &key{available: 1}
		return true, (*slot).extend(k.random)
	})
}

// Versions reports the key's state.
func (k *Keyring) Versions(ctx context.Context, name keys.KeyName) (keys.Versions, error) {
	var v keys.Versions
	err := k.view(ctx, func(r *ring) error {
		found, err := r.key(name)
		if err != nil {
			return err
		}
		v = found.versions()
		return nil
	})
	return v, err
}

// Rotate adds a version. At most 4096 may be there that are not trimmed (ErrRequest).
func (k *Keyring) Rotate(ctx context.Context, name keys.KeyName) error {
	return k.update(ctx, func(next *ring) (bool, error) {
		found, err := next.key(name)
		if err != nil {
			return false, err
		}
		return true, found.extend(k.random)
	})
}

// RaiseMinima refuses versions below version from now on. ErrRequest when that would lower the minima or is beyond
// the latest version; raising to where they stand changes nothing.
func (k *Keyring) RaiseMinima(ctx context.Context, name keys.KeyName, version int) error {
	return k.update(ctx, func(next *ring) (bool, error) {
		found, err := next.key(name)
		if err != nil {
			return false, err
		}
		if version < max(found.minimum, 1) || version > found.latest {
			return false, fmt.Errorf("%w: minima can go from %d to %d, not to %d",
				ErrRequest, found.minimum, found.latest, version)
		}
		changed := version != found.minimum
		found.minimum = version
		return changed, nil
	})
}

// Trim destroys all versions below version in file, mirror and memory. ErrRequest when a minimum is below version, or
// version below what was trimmed before. Repeating it writes both files again.
func (k *Keyring) Trim(ctx context.Context, name keys.KeyName, version int) error {
	var destroyed []secret.Bytes
	err := k.update(ctx, func(next *ring) (bool, error) {
		found, err := next.key(name)
		if err != nil {
			return false, err
		}
		if version < found.available || version > found.minimum {
			return false, fmt.Errorf("%w: can trim to a version from %d to %d, the minima, not to %d",
				ErrRequest, found.available, found.minimum, version)
		}
		n := version - found.available
		destroyed, found.material, found.available = found.material[:n], found.material[n:], version
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, m := range destroyed {
		m.Wipe()
	}
	return nil
}

// SetPassphrase seals the file and its mirror anew, 1 to 1024 bytes, or for the first time. The caller keeps and wipes
// passphrase. Copies made before still open with the old one, or with none.
func (k *Keyring) SetPassphrase(passphrase secret.Bytes) error {
	if passphrase.Len() < 1 || passphrase.Len() > maxPassphrase {
		return fmt.Errorf("%w: a passphrase has 1 to %d bytes", ErrRequest, maxPassphrase)
	}
	s, err := k.freshSeal(passphrase)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ensure(); err != nil {
		return err
	}
	next, old := k.ring.clone(), k.seal
	next.serial++
	if err := k.commit(next, s); err != nil {
		k.half = s
		return err
	}
	old.wipe()
	k.half = nil
	return nil
}
