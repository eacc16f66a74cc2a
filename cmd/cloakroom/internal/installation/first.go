package installation

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
	"github.com/cloakroom-io/cloakroom/keys"
)

// firstKeys opens the key service of a new installation and makes its two keys there.
func (i *Installation) firstKeys(ctx context.Context, o Options, inst keys.InstanceID) error {
	if o.KMS != kmsTransit {
		if err := i.openKeyring(o, true); err != nil {
			return err
		}
		if err := i.openTransit(ctx, o, inst); err != nil {
			return err
		}
		i.join(schemeLocal)
		return i.sealKeyring(o)
	}
	if err := i.openTransit(ctx, o, inst); err != nil {
		return err
	}
	i.join(schemeVault)
	if err := i.makeVaultKeys(ctx, inst); err != nil {
		return err
	}
	_, err := i.transit.CheckSettings(ctx)
	return err
}

// makeVaultKeys makes the keys that are not there.
func (i *Installation) makeVaultKeys(ctx context.Context, inst keys.InstanceID) error {
	for _, key := range vaultKeys() {
		if _, err := i.transit.Versions(ctx, key); err == nil {
			continue
		}
		if err := i.transit.Create(ctx, key); err != nil {
			return i.cannotCreate(inst, err)
		}
		i.madeVaultKeys = true
	}
	return nil
}

// cannotCreate tells who may not make keys what another has to do. The id stays in its file, so the next try looks for
// the same keys.
func (i *Installation) cannotCreate(inst keys.InstanceID, err error) error {
	if !errors.Is(err, keys.ErrSettings) {
		return fmt.Errorf("making the keys at HashiCorp Vault: %w", err)
	}
	command := func(key keys.KeyName, derived bool) string {
		return fmt.Sprintf("vault write %s type=aes256-gcm96 derived=%t", shell.Quote(i.vaultConfig.Mount+"/keys/"+VaultKeyName(inst, key)), derived)
	}
	return fmt.Errorf("this login may not make the keys at HashiCorp Vault; let somebody who may run: %s && %s; then run this again: it goes on with these keys",
		command(keys.RootKey, false), command(keys.DEKKey, true))
}

// VaultKeyName is what a key of the installation is called at HashiCorp Vault.
func VaultKeyName(inst keys.InstanceID, key keys.KeyName) string {
	return "cloakroom-" + inst.String() + "-" + string(key)
}
