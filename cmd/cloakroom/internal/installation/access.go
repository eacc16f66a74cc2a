package installation

import (
	"context"
	"fmt"

	"github.com/cloakroom-io/cloakroom/keys/transit"
)

// VaultAccess is what HashiCorp Vault needs to know of an installation.
type VaultAccess struct {
	Made     bool          `json:"made"`           // a key was made by this call, or by the Open before it
	Service  string        `json:"service_policy"` // the name of the server's policy
	Closer   string        `json:"closer_policy"`  // that of whoever closes epochs
	Policies []VaultPolicy `json:"policies"`       // these two
	Applied  bool          `json:"applied"`        // Vault has them now
}

// VaultPolicy is an access policy for Vault.
type VaultPolicy struct {
	Name string `json:"name"`
	Text string `json:"text"` // HCL
}

// PrepareVault makes the keys at HashiCorp Vault that are not there yet, which an installation that uses the keyring
// needs before its keys can move, and writes the two policies when apply is set. The login must be allowed to.
func (i *Installation) PrepareVault(ctx context.Context, apply bool) (*VaultAccess, error) {
	inst := i.unlocked.Instance
	if err := i.makeVaultKeys(ctx, inst); err != nil {
		return nil, err
	}
	service, closer := transit.PolicyNames(inst)
	out := &VaultAccess{Made: i.madeVaultKeys, Service: service, Closer: closer, Policies: []VaultPolicy{
		{service, transit.ServicePolicy(i.vaultConfig.Mount, inst)},
		{closer, transit.CloserPolicy(i.vaultConfig.Mount, inst)},
	}}
	if apply {
		if err := i.transit.ApplyPolicies(ctx); err != nil {
			return nil, fmt.Errorf("writing the policies to HashiCorp Vault: %w", err)
		}
		out.Applied = true
	}
	return out, nil
}
