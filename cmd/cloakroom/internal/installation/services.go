package installation

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
)

// The two key services: as Options.KMS names them, and what the keys that they wrapped begin with.
const (
	kmsLocal   = "local"
	kmsTransit = "transit"

	schemeLocal = "local"
	schemeVault = "vault"
)

// readyKeys is how many data keys are made ahead where the key service is across a network: a few seconds' worth of
// new people at full speed.
const readyKeys = 2000

// errContrary: Options.KMS names another key service than the store uses.
var errContrary = errors.New("--kms contradicts the data folder")

var errNoVault = fmt.Errorf("%w: its keys are wrapped by HashiCorp Vault; start with --kms transit and the Vault settings", vault.ErrOtherService)

// settle opens the key services of an installation that is there, and with them the store's keys. The store decides
// which one is in use; what was asked for must work.
func (i *Installation) settle(ctx context.Context, o Options, inst keys.InstanceID) error {
	uses, err := i.scheme(ctx)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if uses == schemeVault && o.Transit == nil {
		return errNoVault
	}
	if uses == schemeLocal {
		if err := i.openKeyring(o, false); err != nil {
			return err
		}
	}
	err = i.openTransit(ctx, o, inst)
	if uses == schemeLocal && errors.Is(err, keys.ErrKMSUnavailable) {
		return fmt.Errorf("%w. The keyring is in use: it also starts without the Vault settings, unless keys are being moved", err)
	}
	if err != nil {
		return err
	}
	i.join(uses)
	if err := i.unlock(ctx, o, uses); err != nil {
		return err
	}
	if err := i.checkAsked(o, uses); err != nil {
		return err
	}
	if o.KMS == kmsLocal && i.keyring == nil {
		// Vault is in use, and the keyring is asked for as well: keys are to move there.
		if err := i.openKeyring(o, true); err != nil {
			return err
		}
		i.join(uses)
	}
	for _, w := range i.unlocked.Warnings {
		if !o.Operator {
			o.Logger.Warn(w)
		}
	}
	if err := i.forgetInstance(); err != nil {
		return err
	}
	return i.sealKeyring(o)
}

// unlock opens the store's keys. With Vault in use, a keyring that merely lies there stays shut: whoever holds an
// operator's key could move everybody's keys into it. It is opened where the store says that keys are being moved and
// that it has a part of them, or, in settle, where it was asked for.
func (i *Installation) unlock(ctx context.Context, o Options, uses string) error {
	err := i.tryUnlock(ctx, o)
	if !errors.Is(err, vault.ErrOtherService) || i.keyring != nil || !i.hasKeyring() {
		return err
	}
	if unusable := i.openKeyring(o, false); unusable != nil {
		return errors.Join(err, unusable)
	}
	i.join(uses)
	return i.tryUnlock(ctx, o)
}

func (i *Installation) tryUnlock(ctx context.Context, o Options) (err error) {
	i.unlocked, err = vault.Unlock(ctx, i.store, i.services)
	if o.Leaving && errors.Is(err, keys.ErrSettings) {
		o.Logger.Warn("THE KEYS AT HASHICORP VAULT ARE NOT SAFE. They are used to move everybody's keys away from there, and no server starts with them.",
			"reason", strings.ReplaceAll(err.Error(), "\n", " "))
		i.unlocked, err = vault.UnlockLeaving(ctx, i.store, i.services)
	}
	return err
}

// pool is how many data keys are made ahead. The keyring answers at once: where it is the primary one at the start, none.
// When keys move while the server runs this stays as it is until the next start: after a move to Vault each new person
// waits for Vault meanwhile, after one to the keyring the pool costs some memory.
func (i *Installation) pool() int {
	if i.services.Scheme() != schemeVault {
		return 0
	}
	return readyKeys
}

// scheme tells which key service wraps the store's root.
func (i *Installation) scheme(ctx context.Context) (string, error) {
	var root keys.Root
	err := i.store.View(ctx, func(tx store.ReadTx) error {
		row, err := tx.Get(store.Keys, keys.RootRowKey())
		if err != nil {
			return fmt.Errorf("root row: %w", err)
		}
		root, err = keys.UnmarshalRoot(row)
		return err
	})
	return root.Wrapped.Scheme(), err
}

// checkAsked refuses a key service by name that the store does not use: who says so believes something of this
// installation that is not so. While keys move both are right, and so is the keyring beside Vault's settings, which is
// how a move to it begins.
func (i *Installation) checkAsked(o Options, uses string) error {
	moving := i.services.Scheme() != uses
	if o.KMS == kmsTransit && uses == schemeLocal && !moving {
		return fmt.Errorf("%w: its keys are wrapped by the keyring, not by HashiCorp Vault. Start without --kms (the Vault settings may stay), "+
			"then move them: cloakroom keys move --from local --to transit", errContrary)
	}
	return nil
}

// join makes one key service of those that are open; uses is the scheme of the one in use.
func (i *Installation) join(uses string) {
	var all []keys.KMS
	if i.keyring != nil {
		all = append(all, i.keyring)
	}
	if i.transit != nil {
		all = append(all, i.transit)
	}
	if len(all) == 2 && uses == schemeVault {
		all[0], all[1] = all[1], all[0]
	}
	i.services = keys.NewServices(all[0], all[1:]...)
}

func (i *Installation) hasKeyring() bool { return exists(i.Keyring) || exists(i.Keyring+".mirror") }

// openTransit opens HashiCorp Vault if it has a part.
func (i *Installation) openTransit(ctx context.Context, o Options, inst keys.InstanceID) (err error) {
	if o.Transit == nil || i.transit != nil {
		return nil
	}
	c := *o.Transit
	c.Instance, c.Logger, c.Now = inst, o.Logger, o.Now
	i.vaultConfig = c
	i.transit, err = transit.Open(ctx, c)
	switch {
	case errors.Is(err, keys.ErrKMSUnavailable):
		return fmt.Errorf("HashiCorp Vault does not answer; see that it runs, is unsealed and can be reached at %s, then start again: %w", c.Address, err)
	case err != nil:
		return fmt.Errorf("HashiCorp Vault: %w", err)
	}
	return nil
}
