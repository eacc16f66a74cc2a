package installation

import (
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/keys/local"
)

// openKeyring opens the key service's file. A passphrase that is given holds: a keyring that is not sealed is sealed
// with it before anything else uses it.
func (i *Installation) openKeyring(o Options, create bool) (err error) {
	i.keyring, err = local.Open(i.Keyring, local.Options{Create: create, Passphrase: o.Passphrase, Logger: o.Logger})
	switch {
	case errors.Is(err, local.ErrPassphrase) && o.Passphrase.Len() == 0:
		return fmt.Errorf("keyring: %w; give it with --passphrase-file FILE or in CLOAKROOM_PASSPHRASE_FILE=FILE", err)
	case err != nil:
		return fmt.Errorf("keyring: %w", err)
	}
	if o.Passphrase.Len() > 0 && !i.keyring.Sealed() {
		if err := i.keyring.SetPassphrase(o.Passphrase); err != nil {
			return fmt.Errorf("sealing the keyring: %w", err)
		}
		i.SealedNow = true
		o.Logger.Warn("the keyring was not sealed and is now, under the passphrase given; copies of the file made before still open without it: destroy them",
			"keyring", i.Keyring)
	}
	i.Sealed = i.keyring.Sealed()
	return nil
}
