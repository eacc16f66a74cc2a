package transit

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// TestConfig checks what Open refuses before it asks anybody.
func TestConfig(t *testing.T) {
	good := Config{
		Address: "https://vault.example:8200", Instance: keys.InstanceID{1},
		Login: Login{Method: MethodToken, Token: secret.NewText("hvs.token")},
	}
	login := func(l Login) func(*Config) { return func(c *Config) { c.Login = l } }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		says   string // "" fine
	}{
		{"good", func(*Config) {}, ""},
		{"path", func(c *Config) { c.Address = "https://gate.example/vault" }, ""},
		{"http", func(c *Config) { c.Address = "http://vault.example" }, ""},
		{"IPv6", func(c *Config) { c.Address = "http://[::1]:8200" }, ""},
		{"no address", func(c *Config) { c.Address = "" }, "want https://"},
		{"no scheme", func(c *Config) { c.Address = "vault.example:8200" }, "want https://"},
		{"other scheme", func(c *Config) { c.Address = "unix:///run/vault" }, "want https://"},
		{"no host", func(c *Config) { c.Address = "https://" }, "want https://"},
		{"no URL", func(c *Config) { c.Address = "https://user:secret\x00@v" }, "not a URL"},
		{"user", func(c *Config) { c.Address = "https://user:secret@vault" }, "no user"},
		{"query", func(c *Config) { c.Address = "https://vault?a=secret" }, "no user, query"},
		{"bare query", func(c *Config) { c.Address = "https://vault?" }, "no user, query"},
		{"fragment", func(c *Config) { c.Address = "https://vault#secret" }, "fragment"},
		{"nested mount", func(c *Config) { c.Mount = "team/transit-1.2" }, ""},
		{"mount with slash", func(c *Config) { c.Mount = "transit/" }, "mount"},
		{"mount above", func(c *Config) { c.Mount = "transit/../sys" }, "mount"},
		{"mount with query", func(c *Config) { c.Mount = "transit?x" }, "mount"},
		{"mount with wildcard", func(c *Config) { c.Mount = "+/transit" }, "mount"},
		{"mount with quote", func(c *Config) { c.Mount = `a"b` }, "mount"},
		{"long mount", func(c *Config) { c.Mount = strings.Repeat("a", 257) }, "mount"},
		{"namespace", func(c *Config) { c.Namespace = "admin/team/" }, ""},
		{"namespace with line end", func(c *Config) { c.Namespace = "a\nb" }, "namespace"},
		{"no instance", func(c *Config) { c.Instance = keys.InstanceID{} }, "instance"},
		{"negative timeout", func(c *Config) { c.Timeout = -1 }, "timeout"},
		{"long timeout", func(c *Config) { c.Timeout = time.Hour }, "timeout"},
		{"certificate alone", func(c *Config) { c.TLS.ClientCert = "a" }, "come together"},
		{"key alone", func(c *Config) { c.TLS.ClientKey = "a" }, "come together"},
		{"TLS over http", func(c *Config) { c.Address, c.TLS.CACert = "http://vault", "a" }, "one of http"},
		{"no method", login(Login{}), "login method"},
		{"other method", login(Login{Method: "userpass"}), "login method"},
		{"no token", login(Login{Method: MethodToken}), "needs a token"},
		{"token with line end", login(Login{Method: MethodToken, Token: secret.NewText("secret\n")}), "no token has"},
		{"token and role", login(Login{Method: MethodToken, Token: secret.NewText("secret"), Role: "r"}), "takes no role"},
		{"token and mount", login(Login{Method: MethodToken, Token: secret.NewText("secret"), Mount: "m"}), "takes no login mount"},
		{"token file", login(Login{Method: MethodTokenFile, TokenFile: "f"}), ""},
		{"no token file", login(Login{Method: MethodTokenFile}), "needs a token file"},
		{"token file and token", login(Login{Method: MethodTokenFile, TokenFile: "f", Token: secret.NewText("secret")}), "takes no token"},
		{"approle", login(Login{Method: MethodAppRole, RoleID: "r", SecretIDFile: "f"}), ""},
		{"approle by file", login(Login{Method: MethodAppRole, RoleIDFile: "r", SecretIDFile: "f", Mount: "a/b"}), ""},
		{"approle, two role ids", login(Login{Method: MethodAppRole, RoleID: "r", RoleIDFile: "r", SecretIDFile: "f"}), "role id or"},
		{"approle, no role id", login(Login{Method: MethodAppRole, SecretIDFile: "f"}), "role id or"},
		{"approle, no secret", login(Login{Method: MethodAppRole, RoleID: "r"}), "needs a secret id file"},
		{"approle, bad mount", login(Login{Method: MethodAppRole, RoleID: "r", SecretIDFile: "f", Mount: "../sys"}), "login mount"},
		{"kubernetes", login(Login{Method: MethodKubernetes, Role: "r"}), ""},
		{"kubernetes, no role", login(Login{Method: MethodKubernetes, JWTFile: "f"}), "needs a role"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			err := c.withDefaults().check()
			if tt.says == "" {
				must(t, err)
				return
			}
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("%v", err)
			}
			wantText(t, err.Error(), tt.says)
			if strings.Contains(err.Error(), "secret") && tt.says != "needs a secret id file" {
				t.Errorf("%q shows a secret", err)
			}
		})
	}
}

func TestPlainBeyondLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"https://vault.example": false, "http://vault.example": true, "http://10.0.0.1:8200": true, "http://[fe80::1]": true,
		"http://localhost:8200": false, "http://127.0.0.1:8200": false, "http://127.9.9.9": false, "http://[::1]:8200": false,
		"http://localhost.example": true,
	} {
		if got := plainBeyondLoopback(address); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}
