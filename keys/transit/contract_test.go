package transit

import (
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/kmstest"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// contractPolicy may make keys, but not by encrypting: what the two roles and init are together.
const contractPolicy = `
path "transit/keys/*"    { capabilities = ["create", "read", "update"] }
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/rewrap/*"  { capabilities = ["update"] }
path "auth/token/*-self" { capabilities = ["read", "update"] }
`

// TestContract runs every subtest with keys of its own at one real Vault, by a given token and by a login, which makes
// a token that is renewed.
func TestContract(t *testing.T) {
	s := transittest.Start(t, transittest.Options{})
	s.PutPolicy(t, "contract", contractPolicy)
	stand := &stand{Server: s, service: "contract"}
	for _, kind := range []struct {
		name string
		open func(t *testing.T) Config
	}{
		{"given token", func(t *testing.T) Config {
			return withToken(s.URL, s.Token(t, time.Hour, "contract"), newInstance(t))
		}},
		{"login", func(t *testing.T) Config {
			c := stand.appRole(t, s.URL, "contract", map[string]any{"token_ttl": "2s", "token_max_ttl": "5s"})
			c.Instance = newInstance(t)
			return c
		}},
		{"batch token", func(t *testing.T) Config {
			c := stand.appRole(t, s.URL, "batch", map[string]any{"token_ttl": "2s", "token_type": "batch"})
			c.Instance = newInstance(t)
			return c
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			kmstest.Run(t, func(t *testing.T) keys.KMS { return open(t, kind.open(t)) })
		})
	}
}
