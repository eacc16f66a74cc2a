package installation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit"
	"github.com/cloakroom-io/cloakroom/store/bolt"
	"github.com/cloakroom-io/cloakroom/vault"
)

// KeyService is what people are told of the key services of an installation.
type KeyService struct {
	InUse   string     `json:"in_use"`           // local-file or vault-transit
	Keyring string     `json:"keyring,omitzero"` // its path; "" = it has no part
	Vault   *VaultKeys `json:"vault,omitzero"`   // nil = it has no part
}

// VaultKeys is where keys are at HashiCorp Vault.
type VaultKeys struct {
	Address   string     `json:"address"`
	Namespace string     `json:"namespace,omitzero"`
	Mount     string     `json:"mount"`
	Keys      []VaultKey `json:"keys"` // the root key, then the dek key
}

// VaultKey is one of the two keys there.
type VaultKey struct {
	Name         string `json:"name"`
	Latest       int    `json:"latest"`        // 0 = the key could not be read
	MinAvailable int    `json:"min_available"` // older versions are destroyed
	MinDecrypt   int    `json:"min_decrypt"`   // older versions are refused
}

// KeyService describes the key services that are open. Versions that cannot be read are left out: this is for people to
// look at, and what a server needs of its key service it finds out by other ways.
func (i *Installation) KeyService(ctx context.Context) KeyService {
	out := KeyService{InUse: i.services.Name()}
	if i.keyring != nil {
		out.Keyring = i.Keyring
	}
	if i.transit != nil {
		v := at(i.vaultConfig)
		_ = v.look(ctx, i.transit)
		out.Vault = &v
	}
	return out
}

// at is where the keys of c's instance are, without their versions.
func at(c transit.Config) VaultKeys {
	out := VaultKeys{Address: c.Address, Namespace: c.Namespace, Mount: c.Mount}
	for _, key := range vaultKeys() {
		out.Keys = append(out.Keys, VaultKey{Name: VaultKeyName(c.Instance, key)})
	}
	return out
}

func vaultKeys() []keys.KeyName { return []keys.KeyName{keys.RootKey, keys.DEKKey} }

// look reads the versions.
func (v *VaultKeys) look(ctx context.Context, t *transit.Transit) error {
	for n, key := range vaultKeys() {
		found, err := t.Versions(ctx, key)
		if err != nil {
			return err
		}
		v.Keys[n].Latest, v.Keys[n].MinAvailable, v.Keys[n].MinDecrypt = found.Latest, found.MinAvailable, found.MinDecrypt
	}
	return nil
}

// ExamineVault looks at the keys of an installation at HashiCorp Vault, as a start does, and changes nothing. What was
// found before an error is returned beside it.
func ExamineVault(ctx context.Context, c transit.Config) (v VaultKeys, warnings []string, err error) {
	v = at(c)
	t, err := transit.Open(ctx, c)
	if err != nil {
		return v, nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := v.look(ctx, t); err != nil {
		return v, nil, err
	}
	warnings, err = t.CheckSettings(ctx)
	return v, warnings, err
}

// UsesOf reads from the store which key service it uses: LocalFile or VaultTransit. No server may have it open.
func UsesOf(ctx context.Context, p Paths) (kms string, err error) {
	err = withStore(ctx, p, func(i *Installation, _ keys.InstanceID) error {
		scheme, err := i.scheme(ctx)
		kms = kmsName(scheme)
		return err
	})
	return kms, err
}

// AbandonMove gives up a move of keys to a key service that is lost (vault.AbandonMove). Of the key services in o it
// opens the one that still has the root. No server may have the store open.
func AbandonMove(ctx context.Context, o Options) error {
	p, err := PathsOf(o.Data)
	if err != nil {
		return err
	}
	return withStore(ctx, p, func(i *Installation, inst keys.InstanceID) error {
		uses, err := i.scheme(ctx)
		switch {
		case err != nil:
		case uses == schemeLocal:
			err = i.openKeyring(o, false)
		case o.Transit == nil:
			err = errNoVault
		default:
			err = i.openTransit(ctx, o, inst)
		}
		if err != nil {
			return err
		}
		i.join(uses)
		return vault.AbandonMove(ctx, i.store, i.services)
	})
}

// withStore opens no more of an installation than its store, which must be there, and closes all that do opened.
func withStore(ctx context.Context, p Paths, do func(*Installation, keys.InstanceID) error) (err error) {
	if !exists(p.Store) {
		return fmt.Errorf("%s is not there", p.Store)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer p.damaged(&err)
	i := &Installation{Paths: p}
	if i.store, err = bolt.Open(p.Store, bolt.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	inst, there, err := vault.Instance(ctx, i.store)
	if err != nil || !there {
		return errors.Join(err, vault.ErrNotInitialised)
	}
	return do(i, inst)
}

// InstanceOf reads the installation's id from the header of its erasure ledger (package ledger), which can be read while
// a server has the store open: "CRLEDGR", format 1, then the id.
func InstanceOf(p Paths) (inst keys.InstanceID, err error) {
	f, err := os.Open(p.Ledger)
	if err != nil {
		return inst, err
	}
	defer func() { _ = f.Close() }()
	var header [ledgerHeader]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[:8]) != "CRLEDGR\x01" {
		return inst, fmt.Errorf("%s is no erasure ledger that this version knows", p.Ledger)
	}
	copy(inst[:], header[8:])
	return inst, nil
}

// kmsName is what a key service calls itself, by the scheme of what it wraps.
func kmsName(scheme string) string {
	switch scheme {
	case schemeLocal:
		return LocalFile
	case schemeVault:
		return VaultTransit
	}
	return scheme
}

// Names of key services, as status and certificates have them.
const (
	LocalFile    = "local-file"
	VaultTransit = "vault-transit"
)
