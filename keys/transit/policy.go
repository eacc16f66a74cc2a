package transit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cloakroom-io/cloakroom/keys"
)

// An installation has two roles at Vault. The service reads and writes data; the closer destroys key versions. Paths
// are exact, without wildcards, so that neither reaches another installation's keys.

// grant is a path and what a role may do there.
type grant struct {
	path       string
	capability string
	why        string // comment in the policy; "" joins the grant before
	parameters []string
}

// serviceGrants are needed for everything but closing an epoch. `update` without `create` on encrypt: with `create`,
// encrypting under a deleted key would quietly make a new one, which opens nothing old.
func serviceGrants(mount string, inst keys.InstanceID) []grant {
	root, dek := vaultKey(inst, keys.RootKey), vaultKey(inst, keys.DEKKey)
	return []grant{
		{path: mount + "/keys/" + root, capability: "read", why: "See settings and versions of the two keys."},
		{path: mount + "/keys/" + dek, capability: "read"},
		{path: mount + "/encrypt/" + root, capability: "update", why: "Wrap and unwrap. Without \"create\": a deleted key must not come back empty."},
		{path: mount + "/encrypt/" + dek, capability: "update"},
		{path: mount + "/decrypt/" + root, capability: "update"},
		{path: mount + "/decrypt/" + dek, capability: "update"},
		{path: mount + "/rewrap/" + dek, capability: "update"},
	}
}

// closerGrants are needed to close an epoch, beside reading.
func closerGrants(mount string, inst keys.InstanceID) []grant {
	var out []grant
	for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		path := mount + "/keys/" + vaultKey(inst, key)
		out = append(out,
			grant{path: path, capability: "read", why: "Close epochs of the " + string(key) + " key: add a version, refuse the old ones, destroy them."},
			grant{path: path + "/rotate", capability: "update"},
			grant{path: path + "/config", capability: "update", parameters: []string{"min_decryption_version", "min_encryption_version"}},
			grant{path: path + "/trim", capability: "update", parameters: []string{"min_available_version"}},
		)
	}
	return out
}

// selfGrants let a token look after itself where Vault's policy "default" is not attached.
func selfGrants() []grant {
	return []grant{
		{path: "auth/token/lookup-self", capability: "read", why: "Look after its own token."},
		{path: "auth/token/renew-self", capability: "update"},
		{path: "auth/token/revoke-self", capability: "update"},
		{path: "sys/capabilities-self", capability: "update"},
	}
}

// ServicePolicy returns the policy of the service, in HCL, for a Transit engine mounted at mount.
func ServicePolicy(mount string, inst keys.InstanceID) string {
	return policyText("What Cloakroom's service may do at Vault.", append(serviceGrants(mount, inst), selfGrants()...))
}

// CloserPolicy returns the policy of who closes epochs, in HCL.
func CloserPolicy(mount string, inst keys.InstanceID) string {
	return policyText("What Cloakroom may do at Vault to close an epoch, beside the service's policy.",
		append(closerGrants(mount, inst), selfGrants()...))
}

func policyText(head string, grants []grant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", head)
	for _, g := range grants {
		if g.why != "" {
			fmt.Fprintf(&b, "\n# %s\n", g.why)
		}
		if len(g.parameters) == 0 {
			fmt.Fprintf(&b, "path %q { capabilities = [%q] }\n", g.path, g.capability)
			continue
		}
		fmt.Fprintf(&b, "path %q {\n  capabilities       = [%q]\n  allowed_parameters = {\n", g.path, g.capability)
		for _, p := range g.parameters {
			fmt.Fprintf(&b, "    %q = []\n", p)
		}
		b.WriteString("  }\n}\n")
	}
	return b.String()
}

// PolicyNames returns the names under which ApplyPolicies writes the two policies.
func PolicyNames(inst keys.InstanceID) (service, closer string) {
	name := "cloakroom-" + inst.String()
	return name + "-service", name + "-closer"
}

// ApplyPolicies writes both policies to Vault, over older ones. Errors: keys.ErrSettings when this login may not,
// keys.ErrKMSUnavailable.
func (t *Transit) ApplyPolicies(ctx context.Context) error {
	service, closer := PolicyNames(t.instance)
	for _, p := range []struct{ name, text string }{
		{service, ServicePolicy(t.mount, t.instance)},
		{closer, CloserPolicy(t.mount, t.instance)},
	} {
		err := t.applyPolicy(ctx, p.name, p.text)
		if errors.Is(err, errDenied) {
			return fmt.Errorf("%w: this login may not write policies; an operator runs: vault policy write %s FILE",
				keys.ErrSettings, p.name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Transit) applyPolicy(ctx context.Context, name, text string) error {
	body, err := encodeJSON(&t.requests, map[string]string{"policy": text})
	if err != nil {
		return err
	}
	defer body.release()
	r := request{method: http.MethodPut, path: "sys/policies/acl/" + name, body: body}
	a, err := t.call(ctx, r)
	if err != nil {
		return err
	}
	defer a.release()
	if a.status >= 300 {
		return refused(r, a)
	}
	return nil
}
