// Package local is the embedded key service: a keyring in one file.
//
// It does what HashiCorp Vault Transit does for Cloakroom, for an installation that has no Vault. The file holds the
// versions of two keys. Beside it lies a mirror with the same bytes, so that one damaged file does not lose every
// person's data. Trimming rewrites both before it returns: from then on no file of this package holds the destroyed
// versions. Copies that somebody made, and what a disk keeps of replaced files, are beyond its reach.
//
// The file is the key service, not just its storage. Every call first looks whether the file that was loaded is still
// in its place, and is refused with [keys.ErrKMSUnavailable] while it is not. An operator so learns of a lost keyring
// while the keys are still in memory, not at the next start.
//
//	PATH              the keyring, 0600
//	PATH.mirror       the same bytes; may be a symbolic link to another disk
//	PATH.lock         held by the process that uses the keyring
//	PATH.new, PATH.mirror.new   a file being written; removed at the next open
//
// The main file is always written first. So after a crash the mirror may be one step behind, never ahead, and a main
// file older than its mirror was put there by somebody. What a call has acknowledged is in both files.
//
// The bytes of the file are drawn in format.go, those of a wrapped key in wrap.go.
package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

var (
	// ErrNoKeyring: neither the keyring nor its mirror is there, and Options.Create was not set.
	ErrNoKeyring = errors.New("no keyring")
	// ErrPassphrase: the passphrase is missing or wrong, or a sealed file was altered on purpose.
	ErrPassphrase = errors.New("keyring passphrase")
	// ErrPermissions: group or others may read the keyring or its mirror.
	ErrPermissions = errors.New("keyring permissions")
	// ErrLocked: another process uses the keyring.
	ErrLocked = errors.New("keyring in use")
	// ErrDamaged: the file and its mirror can't be read, or contradict each other.
	ErrDamaged = errors.New("keyring damaged")
	// ErrRequest: the caller asked for something outside the limits or the order of things.
	ErrRequest = errors.New("keyring request refused")
)

// Options says how to open a keyring.
type Options struct {
	Create bool // make a keyring when neither file nor mirror is there
	// Passphrase is at most 1024 bytes; empty: a new keyring is not sealed. The caller keeps and wipes it. A keyring that
	// is not sealed opens under any: Sealed tells, and SetPassphrase seals it.
	Passphrase secret.Bytes
	Cost       Cost         // of sealing a new keyring or under a new passphrase; zero: the default of Cost
	Logger     *slog.Logger // nil: slog.Default()
	Random     io.Reader    // keys, nonces and salts, safe for concurrent use; nil: crypto/rand
}

// Keyring is an open keyring file. It is safe for concurrent use.
type Keyring struct {
	path, mirror string // absolute, symbolic links resolved
	cost         Cost
	log          *slog.Logger
	random       io.Reader
	lock         *os.File

	mu   sync.RWMutex
	ring *ring       // nil once closed
	seal *seal       // nil: not sealed
	half *seal       // of a SetPassphrase that failed after the main file was written, maybe; else nil
	info os.FileInfo // of the file that ring was read from or written to
	sum  [sumSize]byte
}

var _ keys.KMS = (*Keyring)(nil)

// Open opens the keyring at path and locks it against other processes. A missing or torn file is healed from a valid
// mirror, and a missing, torn or older mirror is written anew; both are reported as warnings.
//
// Errors: ErrNoKeyring, ErrPassphrase, ErrPermissions, ErrLocked, ErrDamaged, ErrRequest (options outside their
// limits), or what the file system says.
func Open(path string, opt Options) (*Keyring, error) {
	k := &Keyring{cost: opt.Cost.orDefault(), log: opt.Logger, random: opt.Random}
	if k.log == nil {
		k.log = slog.Default()
	}
	if k.random == nil {
		k.random = rand.Reader
	}
	if err := k.cost.check(); err != nil {
		return nil, err
	}
	if opt.Passphrase.Len() > maxPassphrase {
		return nil, fmt.Errorf("%w: passphrase above %d bytes", ErrRequest, maxPassphrase)
	}
	var err error
	if k.path, err = resolve(path); err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	if k.mirror, err = resolve(k.path + ".mirror"); err != nil {
		return nil, fmt.Errorf("open keyring: mirror: %w", err)
	}
	if k.path == k.mirror {
		return nil, fmt.Errorf("%w: the mirror of %s is a link to the keyring itself", ErrRequest, k.path)
	}
	if !opt.Create && absent(k.path) && absent(k.mirror) {
		return nil, k.noKeyring()
	}
	if k.lock, err = lockFile(k.path + ".lock"); err != nil {
		return nil, err
	}
	if err := k.start(opt); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if k.seal == nil && opt.Passphrase.Len() == 0 {
		k.log.Warn("THE KEYRING IS NOT SEALED: whoever reads this file can read all data. Set a passphrase.", "keyring", k.path)
	}
	return k, nil
}

func (k *Keyring) noKeyring() error {
	return fmt.Errorf("%w at %s, and no mirror beside it: put the file back, or give the path where it lies; "+
		"make a new one only for an installation that has no data yet, since a new keyring opens nothing old",
		ErrNoKeyring, k.path)
}

// Name is "local-file".
func (k *Keyring) Name() string { return "local-file" }

// Scheme is "local".
func (k *Keyring) Scheme() string { return "local" }

// Sealed reports whether the file is sealed under a passphrase.
func (k *Keyring) Sealed() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.seal != nil
}

// Inside reports whether the keyring or its mirror lies in dir or below it, symbolic links resolved. A copy of such
// a folder is a copy of the keys. When it can't tell, it says true.
func (k *Keyring) Inside(dir string) bool {
	want, err := os.Stat(dir)
	if err != nil {
		return true
	}
	return below(filepath.Dir(k.path), want) || below(filepath.Dir(k.mirror), want)
}

// below climbs from dir to the root. Comparing what the file system says, not names, sees through links, bind mounts
// and folders whose names ignore case.
func below(dir string, want os.FileInfo) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || os.SameFile(info, want) {
			return true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return false
		}
		dir = parent
	}
}

// Close wipes the keys from memory and releases the lock. Later calls answer keys.ErrKMSUnavailable.
func (k *Keyring) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ring.wipe()
	k.seal.wipe()
	k.half.wipe()
	k.ring, k.seal, k.half, k.info = nil, nil, nil, nil
	if k.lock == nil {
		return nil
	}
	err := k.lock.Close()
	k.lock = nil
	if err != nil {
		return fmt.Errorf("release keyring lock: %w", err)
	}
	return nil
}
