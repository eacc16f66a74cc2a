package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// start loads, heals or makes the keyring. The lock is held.
func (k *Keyring) start(opt Options) error {
	// A crash may have left keys here that have been trimmed since.
	if err := errors.Join(discard(k.path+".new"), discard(k.mirror+".new")); err != nil {
		return fmt.Errorf("open keyring: remove an unfinished write: %w", err)
	}
	main, err := readImage(k.path)
	defer main.wipe()
	if err == nil {
		return k.adopt(main, opt.Passphrase)
	}
	gone := errors.Is(err, fs.ErrNotExist)
	if !gone && !errors.Is(err, errTorn) {
		return fmt.Errorf("open keyring %s: %w", k.path, err)
	}
	mirror, mirrorErr := readImage(k.mirror)
	defer mirror.wipe()
	switch {
	case mirrorErr == nil:
		return k.heal(mirror, opt.Passphrase, err)
	case gone && errors.Is(mirrorErr, fs.ErrNotExist):
		if !opt.Create {
			return k.noKeyring()
		}
		return k.make(opt.Passphrase)
	default:
		return fmt.Errorf("%w: %s: %w; its mirror can't help: %w", ErrDamaged, k.path, err, mirrorErr)
	}
}

// make writes a keyring without keys.
func (k *Keyring) make(passphrase secret.Bytes) error {
	r := &ring{serial: 1}
	if _, err := io.ReadFull(k.random, r.id[:]); err != nil {
		return fmt.Errorf("make keyring: random: %w", err)
	}
	var s *seal
	if passphrase.Len() > 0 {
		var err error
		if s, err = k.freshSeal(passphrase); err != nil {
			return err
		}
	}
	return k.commit(r, s)
}

// heal writes the main file anew from its mirror.
func (k *Keyring) heal(mirror image, passphrase secret.Bytes, why error) error {
	s, r, err := k.unseal(mirror, passphrase)
	if err != nil {
		return err
	}
	info, err := replace(k.path, mirror.file)
	if err != nil {
		r.wipe()
		return fmt.Errorf("heal keyring from its mirror: %w", err)
	}
	k.log.Warn("keyring healed from its mirror", "keyring", k.path, "serial", mirror.serial, "reason", why)
	k.ring, k.seal, k.info, k.sum = r, s, info, mirror.sum
	return nil
}

// adopt takes main as the keyring and brings the mirror in step with it. Nothing is taken over when it fails.
func (k *Keyring) adopt(main image, passphrase secret.Bytes) error {
	s, r, err := k.unseal(main, passphrase)
	if err != nil {
		return err
	}
	if err := k.bringMirror(main); err != nil {
		r.wipe()
		return err
	}
	k.ring.wipe()
	k.ring, k.seal, k.info, k.sum = r, s, main.info, main.sum
	return nil
}

func (k *Keyring) unseal(i image, passphrase secret.Bytes) (*seal, *ring, error) {
	s := k.seal
	switch {
	case s.fits(i.envelope):
	case k.half != nil && k.half.fits(i.envelope):
		s = k.half
	case k.ring != nil:
		return nil, nil, fmt.Errorf("%w: the keyring was sealed anew by another; restart to open it", ErrPassphrase)
	case passphrase.Len() == 0:
		return nil, nil, fmt.Errorf("%w: %s is sealed and no passphrase was given", ErrPassphrase, k.path)
	default:
		s = newSeal(passphrase, i.cost, i.salt)
	}
	r, err := i.open(s)
	if err != nil {
		return nil, nil, fmt.Errorf("open keyring %s: %w", k.path, err)
	}
	return s, r, nil
}

// bringMirror writes the mirror anew unless it holds what main holds. A mirror that is ahead of main means that
// somebody put an old keyring in its place, with keys that have been destroyed since.
func (k *Keyring) bringMirror(main image) error {
	mirror, err := readImage(k.mirror)
	defer mirror.wipe()
	why := "missing or torn"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errTorn):
	case err != nil:
		return fmt.Errorf("open keyring mirror %s: %w", k.mirror, err)
	case mirror.id != main.id:
		return fmt.Errorf("%w: %s is the mirror of another keyring", ErrDamaged, k.mirror)
	case mirror.sum == main.sum:
		return nil
	case mirror.serial < main.serial:
		why = "older than the keyring"
	case mirror.serial > main.serial:
		return fmt.Errorf("%w: %s (serial %d) is older than its mirror (serial %d): an old copy was put back; "+
			"remove the older of the two only if you are sure", ErrDamaged, k.path, main.serial, mirror.serial)
	default:
		return fmt.Errorf("%w: %s and its mirror have serial %d but differ", ErrDamaged, k.path, main.serial)
	}
	if _, err := replace(k.mirror, main.file); err != nil {
		return fmt.Errorf("write keyring mirror: %w", err)
	}
	k.log.Warn("keyring mirror written anew", "mirror", k.mirror, "serial", main.serial, "reason", why)
	return nil
}

// commit writes next under s, main file first, and takes it over. After an error the main file decides what holds: if
// it was replaced, the next call sees that and reads it again.
func (k *Keyring) commit(next *ring, s *seal) error {
	file, err := next.encode(s, k.random)
	if err != nil {
		return err
	}
	defer clear(file)
	e, err := parse(file)
	if err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	info, err := replace(k.path, file)
	if err != nil {
		return fmt.Errorf("%w: write keyring: %w", keys.ErrKMSUnavailable, err)
	}
	if _, err := replace(k.mirror, file); err != nil {
		return fmt.Errorf("%w: write keyring mirror: %w", keys.ErrKMSUnavailable, err)
	}
	k.ring, k.seal, k.info, k.sum = next, s, info, e.sum
	return nil
}

// view calls f with the ring, once it is sure that the file is in its place.
func (k *Keyring) view(ctx context.Context, f func(*ring) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("local keyring: %w", err)
	}
	k.mu.RLock()
	if k.inPlace() {
		defer k.mu.RUnlock()
		return f(k.ring)
	}
	k.mu.RUnlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ensure(); err != nil {
		return err
	}
	return f(k.ring)
}

// update calls f with a copy of the ring and writes it unless f returns false.
func (k *Keyring) update(ctx context.Context, f func(next *ring) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("local keyring: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ensure(); err != nil {
		return err
	}
	next := k.ring.clone()
	if changed, err := f(next); err != nil || !changed {
		return err
	}
	next.serial++
	return k.commit(next, k.seal)
}

// inPlace reports whether the file that was loaded still lies there. It costs one stat.
func (k *Keyring) inPlace() bool {
	if k.info == nil {
		return false
	}
	info, err := os.Stat(k.path)
	return err == nil && os.SameFile(info, k.info) && info.Mode() == k.info.Mode() &&
		info.Size() == k.info.Size() && info.ModTime().Equal(k.info.ModTime())
}

// ensure looks closer when inPlace says no: a file put back is taken up again, a newer one of the same ring loaded.
// It never heals: the operator is to notice.
func (k *Keyring) ensure() error {
	if k.ring == nil {
		return fmt.Errorf("%w: the keyring is closed", keys.ErrKMSUnavailable)
	}
	if k.inPlace() {
		return nil
	}
	main, err := readImage(k.path)
	defer main.wipe()
	switch {
	case err != nil:
		return fmt.Errorf("%w: keyring %s: %w; put the file back, the keys are lost when this process ends "+
			"unless the mirror is there", keys.ErrKMSUnavailable, k.path, err)
	case main.id != k.ring.id:
		return fmt.Errorf("%w: a different keyring lies at %s; put the right one back", keys.ErrKMSUnavailable, k.path)
	case main.sum == k.sum:
		k.info = main.info
		return nil
	case main.serial <= k.ring.serial:
		return fmt.Errorf("%w: %s (serial %d) is older than the keyring in use (serial %d) or a twin of it; "+
			"put the right one back", keys.ErrKMSUnavailable, k.path, main.serial, k.ring.serial)
	}
	if err := k.adopt(main, secret.Bytes{}); err != nil {
		return fmt.Errorf("%w: %w", keys.ErrKMSUnavailable, err)
	}
	k.log.Info("keyring read again", "keyring", k.path, "serial", main.serial)
	return nil
}
