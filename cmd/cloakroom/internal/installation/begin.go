package installation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/vault"
)

// Roles of the first credentials: a service of the same name for each.
func firstServices() []string { return []string{"operator", "app", "officer"} }

// begin makes the installation. Keys at the key service come first: where they cannot be made or must not be used,
// nothing else is written. The credentials are in their files before the store knows them: a crash in between leaves an
// empty store and files that the next start replaces.
func (i *Installation) begin(ctx context.Context, o Options) (keys.InstanceID, error) {
	var none keys.InstanceID
	if o.KMS == "" && o.Transit != nil {
		return none, errors.New("there are settings for HashiCorp Vault, but not whether it is to wrap the keys of this new installation: say --kms transit or --kms local")
	}
	if info, err := os.Stat(i.Ledger); err == nil && info.Size() <= ledgerHeader {
		o.Logger.Warn("an empty erasure ledger of an earlier installation is replaced", "ledger", i.Ledger)
		if err := os.Remove(i.Ledger); err != nil {
			return none, err
		}
	}
	if _, err := os.Stat(i.Audit); err == nil && !i.auditEmpty() {
		return none, fmt.Errorf("%s is the audit log of an earlier installation; move it away", i.Audit)
	}
	inst, err := i.drawInstance(o)
	if err != nil {
		return none, err
	}
	if err := i.firstKeys(ctx, o, inst); err != nil {
		return none, err
	}
	var credentials []vault.NewCredential
	for _, name := range firstServices() {
		c, err := vault.Mint(rand.Reader, name, name)
		if err != nil {
			return none, err
		}
		if err := writeFile(i.Credential(name), c.Key.Reveal()+"\n", 0o600); err != nil {
			return none, fmt.Errorf("credential of %s: %w", name, err)
		}
		credentials = append(credentials, c)
	}
	err = vault.Init(ctx, i.store, i.services, vault.InitConfig{
		Instance: inst, Policy: policy.Starter(), Credentials: credentials, Random: rand.Reader, Now: o.Now(),
	})
	if err != nil {
		return none, err
	}
	i.New = true
	return inst, nil
}

// drawInstance makes the installation's id. At HashiCorp Vault the keys bear it in their names: there it is on disk
// before the keys are made, so that a start which is cut short leaves none that nobody knows of.
func (i *Installation) drawInstance(o Options) (inst keys.InstanceID, err error) {
	f, err := os.Open(i.NewInstance)
	if err == nil {
		text, err := io.ReadAll(io.LimitReader(f, 2*int64(len(inst))+2))
		if err = errors.Join(err, f.Close()); err != nil {
			return inst, err
		}
		id, err := hex.DecodeString(strings.TrimSuffix(string(text), "\n"))
		if err != nil || len(id) != len(inst) {
			return inst, fmt.Errorf("%s does not hold the id of an installation; remove it, and at HashiCorp Vault the keys that an earlier try may have made", i.NewInstance)
		}
		copy(inst[:], id)
		return inst, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return inst, err
	}
	if _, err := rand.Read(inst[:]); err != nil {
		return inst, err
	}
	if o.KMS != kmsTransit {
		return inst, nil
	}
	return inst, writeFile(i.NewInstance, inst.String()+"\n", 0o600)
}

// forgetInstance removes what drawInstance left, once the store holds it.
func (i *Installation) forgetInstance() error {
	if err := os.Remove(i.NewInstance); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
