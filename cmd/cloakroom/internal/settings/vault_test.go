package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

const (
	token = "hvs.a-token-that-nobody-may-see"
	jwt   = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

// home makes a home folder with what `vault login` leaves.
func home(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".vault-token"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func shown(t *testing.T, all []Effective, name string) Effective {
	t.Helper()
	for _, e := range all {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no setting %s", name)
	return Effective{}
}

func TestVaultSettings(t *testing.T) {
	here := home(t, token+"\n")
	base := func(change func(*Vault)) Vault {
		v := Vault{Address: "https://v:8200", Mount: "transit", JWTFile: jwt, Auth: AuthToken, Token: secret.NewText(token), Timeout: 3 * time.Second}
		change(&v)
		return v
	}
	cases := []struct {
		name  string
		flags map[string]string
		env   []string
		want  Vault
		shows map[string]Effective // by name
	}{
		{
			name: "Vault's own variables", flags: map[string]string{"kms": "transit"},
			env: []string{
				"VAULT_ADDR", "https://v:8200", "VAULT_TOKEN", token, "VAULT_NAMESPACE", "n", "VAULT_CACERT", "ca",
				"VAULT_CLIENT_CERT", "c", "VAULT_CLIENT_KEY", "k", "VAULT_TLS_SERVER_NAME", "sn",
			},
			want: base(func(v *Vault) {
				v.Namespace, v.CACert, v.ClientCert, v.ClientKey, v.ServerName = "n", "ca", "c", "k", "sn"
			}),
			shows: map[string]Effective{
				"vault-addr":  {Value: "https://v:8200", Source: "env VAULT_ADDR"},
				"vault-token": {Value: secret.Redacted, Source: "env VAULT_TOKEN"},
				"vault-auth":  {Value: "token", Source: "default"},
			},
		},
		{
			name: "which mean nothing to an installation without Vault",
			env:  []string{"VAULT_ADDR", "https://v:8200", "VAULT_TOKEN", token}, want: Vault{},
			shows: map[string]Effective{"vault-addr": {Source: "default"}, "vault-token": {Source: "default"}},
		},
		{
			name: "nor where the keyring is asked for", flags: map[string]string{"kms": "local"},
			env: []string{"VAULT_ADDR", "https://v:8200", "VAULT_TOKEN", token}, want: Vault{},
		},
		{
			name: "ours before Vault's own", flags: map[string]string{"vault-addr": "https://v:8200/"},
			env:   []string{"VAULT_ADDR", "https://other:1", "CLOAKROOM_VAULT_TOKEN", token, "VAULT_TOKEN", "another"},
			want:  base(func(*Vault) {}),
			shows: map[string]Effective{"vault-token": {Value: secret.Redacted, Source: "env CLOAKROOM_VAULT_TOKEN"}},
		},
		{
			name: "one of ours brings Vault's own in", flags: map[string]string{"vault-mount": "/keys/tr/"},
			env: []string{"VAULT_ADDR", "https://v:8200", "VAULT_TOKEN", token}, want: base(func(v *Vault) { v.Mount = "keys/tr" }),
		},
		{
			name: "the operator's own token", flags: map[string]string{"vault-addr": "https://v:8200"}, env: []string{"HOME", here},
			want:  base(func(*Vault) {}),
			shows: map[string]Effective{"vault-token": {Value: secret.Redacted, Source: "file " + filepath.Join(here, ".vault-token")}},
		},
		{
			name: "token file", flags: map[string]string{"vault-addr": "https://v:8200", "vault-token-file": "tf"}, env: []string{"HOME", here, "VAULT_TOKEN", token},
			want:  base(func(v *Vault) { v.Auth, v.TokenFile, v.Token = AuthTokenFile, "tf", secret.Text{} }),
			shows: map[string]Effective{"vault-auth": {Value: "token-file", Source: "default"}, "vault-token": {Source: "default"}},
		},
		{
			name: "AppRole", flags: map[string]string{"vault-addr": "https://v:8200", "vault-role-id": "r", "vault-secret-id-file": "s"},
			want: base(func(v *Vault) {
				v.Auth, v.AuthMount, v.RoleID, v.SecretIDFile, v.Token = AuthAppRole, AuthAppRole, "r", "s", secret.Text{}
			}),
			shows: map[string]Effective{"vault-auth-mount": {Value: "approle", Source: "default"}},
		},
		{
			name: "AppRole elsewhere", flags: map[string]string{"vault-addr": "https://v:8200", "vault-role-id-file": "r", "vault-secret-id-file": "s", "vault-auth-mount": "apps/"},
			want: base(func(v *Vault) {
				v.Auth, v.AuthMount, v.RoleIDFile, v.SecretIDFile, v.Token = AuthAppRole, "apps", "r", "s", secret.Text{}
			}),
		},
		{
			name: "Kubernetes", flags: map[string]string{"vault-addr": "https://v:8200", "vault-role": "r", "vault-timeout": "8s"},
			want: base(func(v *Vault) {
				v.Auth, v.AuthMount, v.Role, v.Timeout, v.Token = AuthKubernetes, AuthKubernetes, "r", 8*time.Second, secret.Text{}
			}),
		},
		{
			name: "an operator's token where the server uses AppRole", env: []string{"VAULT_TOKEN", token},
			flags: map[string]string{"vault-addr": "https://v:8200", "vault-role-id": "r", "vault-secret-id-file": "s", "vault-auth": "token"},
			want:  base(func(v *Vault) { v.RoleID, v.SecretIDFile = "r", "s" }),
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, all, err := Resolve(Sources{Flags: tc.flags, Lookup: env(tc.env...)})
			if err != nil {
				t.Fatal(err)
			}
			if got.Vault != tc.want {
				t.Errorf("got %+v, want %+v", got.Vault, tc.want)
			}
			if got.Vault.Token.Reveal() != tc.want.Token.Reveal() {
				t.Error("another token")
			}
			if got.Vault.Given() != (tc.want.Address != "") {
				t.Error("given, or not")
			}
			for name, want := range tc.shows {
				if e := shown(t, all, name); e.Value != want.Value || e.Source != want.Source {
					t.Errorf("%s shows %q from %s", name, e.Value, e.Source)
				}
			}
			for _, e := range all {
				if strings.Contains(e.Value, token) {
					t.Errorf("%s shows the token", e.Name)
				}
			}
		})
	}
}

func TestVaultMistakes(t *testing.T) {
	here := home(t, token)
	empty := home(t, "\n")
	long := home(t, strings.Repeat("x", maxToken+1))
	at := "https://v:8200"
	cases := []struct {
		name  string
		flags map[string]string
		env   []string
		file  string
		want  string
	}{
		{"no such key service", map[string]string{"kms": "vault"}, nil, "", "local (the keyring file) or transit"},
		{"transit without an address", map[string]string{"kms": "transit"}, nil, "", "--vault-addr"},
		{"settings without an address", map[string]string{"vault-role": "r"}, nil, "", "not where it is"},
		{"a token without an address", nil, []string{"CLOAKROOM_VAULT_TOKEN", token}, "", "not where it is"},
		{"no URL", map[string]string{"vault-addr": "v:8200"}, nil, "", "setting vault-addr (flag): it is a URL"},
		{"a socket", map[string]string{"vault-addr": "unix:///run/vault"}, nil, "", "it is a URL"},
		{"a password in it", map[string]string{"vault-addr": "https://u:" + token + "@v:8200"}, nil, "", "user or a password"},
		{"a query in it", map[string]string{"vault-addr": at + "?token=" + token}, nil, "", "host and port"},
		{"a broken escape in it", map[string]string{"vault-addr": "https://u:" + token + "%zz@v"}, nil, "", "it is a URL"},
		{"Vault's own variable names its source", map[string]string{"kms": "transit"}, []string{"VAULT_ADDR", "v"}, "", "setting vault-addr (env VAULT_ADDR)"},
		{"no token", map[string]string{"vault-addr": at}, nil, "", "VAULT_TOKEN or with `vault login`"},
		{"no token at home", map[string]string{"vault-addr": at}, []string{"HOME", filepath.Dir(here)}, "", "VAULT_TOKEN or with `vault login`"},
		{"an empty token at home", map[string]string{"vault-addr": at}, []string{"HOME", empty}, "", "holds none"},
		{"a long token at home", map[string]string{"vault-addr": at}, []string{"HOME", long}, "", "holds none"},
		{"token file not named", map[string]string{"vault-addr": at, "vault-auth": "token-file"}, nil, "", "vault-token-file"},
		{"role without secret", map[string]string{"vault-addr": at, "vault-role-id": "r"}, nil, "", "vault-secret-id-file"},
		{"secret without role", map[string]string{"vault-addr": at, "vault-secret-id-file": "s"}, nil, "", "one of vault-role-id and vault-role-id-file"},
		{"two roles", map[string]string{"vault-addr": at, "vault-secret-id-file": "s", "vault-role-id": "r", "vault-role-id-file": "r"}, nil, "", "one of vault-role-id"},
		{"Kubernetes without a role", map[string]string{"vault-addr": at, "vault-auth": "kubernetes"}, nil, "", "vault-role"},
		{"two ways", map[string]string{"vault-addr": at, "vault-role": "r", "vault-token-file": "f"}, nil, "", "token-file and by kubernetes are given: choose with vault-auth"},
		{"no such way", map[string]string{"vault-addr": at, "vault-auth": "ldap"}, nil, "", "token, token-file, approle, kubernetes"},
		{"certificate without key", map[string]string{"vault-addr": at, "vault-client-cert": "c"}, []string{"HOME", here}, "", "go together"},
		{"mount of nothing", map[string]string{"vault-addr": at, "vault-mount": "/"}, nil, "", "vault-mount"},
		{"time", map[string]string{"vault-addr": at, "vault-timeout": "1h"}, nil, "", "vault-timeout"},
		{"a try longer than the call that it is for", map[string]string{"vault-addr": at, "vault-timeout": "8001ms"}, nil, "", "from 100ms to 8s"},
		{"a token in a file of settings", nil, nil, "vault-token: " + token + "\n", "has no place in a file of settings"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			from := Sources{Flags: tc.flags, Lookup: env(tc.env...)}
			if tc.file != "" {
				from.File = yamlFile(t, tc.file)
			}
			_, _, err := Resolve(from)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), token) {
				t.Error("the error shows what was given")
			}
		})
	}
}

// TestATokenIsNoFlag: arguments show in ps.
func TestATokenIsNoFlag(t *testing.T) {
	_, all, err := Resolve(Sources{Flags: map[string]string{"vault-token": token}, Lookup: env()})
	if err != nil || shown(t, all, "vault-token").Value != "" {
		t.Errorf("%+v, %v", shown(t, all, "vault-token"), err)
	}
}

func TestSkippedSettingsStayAtTheirDefaults(t *testing.T) {
	got, _, err := Resolve(Sources{
		Flags: map[string]string{"addr": "https://server.example", "data": "d"}, Lookup: env("CLOAKROOM_ADDR", "https://server.example"),
		File: yamlFile(t, "addr: nonsense\n"), Skip: []string{"addr"},
	})
	if err != nil || got.Addr != DefaultAddr || got.Data != "d" {
		t.Errorf("%+v, %v", got, err)
	}
}
