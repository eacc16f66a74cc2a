package installation

import (
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/keys/local"
)

// openKeyring opens the keyring file.
func (i *Installation) openKeyring(o Options, create bool) error {
	if i.keyring != nil {
		return nil
	}
	k, err := local.Open(i.Keyring, local.Options{Create: create, Passphrase: o.Passphrase, Logger: o.Logger})
	switch {
	case errors.Is(err, local.ErrPassphrase) && o.Passphrase.Len() == 0:
		return fmt.Errorf("keyring: %w; give it with --passphrase-file FILE or in CLOAKROOM_PASSPHRASE_FILE=FILE", err)
	case err != nil:
		return fmt.Errorf("keyring: %w", err)
	}
	i.keyring = k
	i.Sealed = k.Sealed()
	return nil
}

// sealKeyring: a passphrase that is given holds, also for a keyring that was there before and is not sealed.
func (i *Installation) sealKeyring(o Options) error {
	if i.keyring == nil || o.Passphrase.Len() == 0 || i.keyring.Sealed() {
		return nil
	}
	if err := i.keyring.SetPassphrase(o.Passphrase); err != nil {
		return fmt.Errorf("sealing the keyring: %w", err)
	}
	i.Sealed, i.SealedNow = true, true
	o.Logger.Warn("the keyring was not sealed and is now, under the passphrase given; copies of the file made before still open without it: destroy them",
		"keyring", i.Keyring)
	return nil
}
