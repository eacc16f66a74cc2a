package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/keys/transit"
)

// keyServiceFlags adds the settings of the key services to a client command that may have to open them itself.
func keyServiceFlags(c *cobra.Command) {
	flagsOf(c, ofKeyService)
	configFlag(c)
}

func ofKeyService(s settings.Setting) bool {
	return s.Name == "kms" || s.Name == "passphrase-file" || strings.HasPrefix(s.Name, "vault-")
}

// keyServiceSettings are the settings of such a command, whose --addr is the server's.
func (p *program) keyServiceSettings(c *cobra.Command) (settings.Settings, error) {
	s, _, err := p.settings(c, "addr", "insecure-http", "tls-cert", "tls-key")
	if err == nil {
		p.conn.data = s.Data
	}
	return s, err
}

// transitConfig says what the settings say; nil: HashiCorp Vault has no part.
func transitConfig(v settings.Vault) *transit.Config {
	if !v.Given() {
		return nil
	}
	login := transit.Login{Method: v.Auth}
	switch v.Auth {
	case settings.AuthToken:
		login.Token = v.Token
	case settings.AuthTokenFile:
		login.TokenFile = v.TokenFile
	case settings.AuthAppRole:
		login.Mount, login.RoleID, login.RoleIDFile, login.SecretIDFile = v.AuthMount, v.RoleID, v.RoleIDFile, v.SecretIDFile
	case settings.AuthKubernetes:
		login.Mount, login.Role, login.JWTFile = v.AuthMount, v.Role, v.JWTFile
	}
	return &transit.Config{
		Address: v.Address, Namespace: v.Namespace, Mount: v.Mount, Login: login, Timeout: v.Timeout,
		TLS: transit.TLS{CACert: v.CACert, ClientCert: v.ClientCert, ClientKey: v.ClientKey, ServerName: v.ServerName},
	}
}

// keyServiceRows tell of the key services, one line each: name and what there is to say.
func keyServiceRows(k installation.KeyService, seal string) [][2]string {
	var out [][2]string
	if k.Keyring != "" {
		note := k.Keyring + seal
		if k.InUse != installation.LocalFile {
			note += " (not in use: keys can move to it)"
		}
		out = append(out, [2]string{"keyring", note})
	}
	if k.Vault == nil {
		return out
	}
	where := "HashiCorp Vault at " + k.Vault.Address + ", mount " + k.Vault.Mount
	if k.Vault.Namespace != "" {
		where += ", namespace " + k.Vault.Namespace
	}
	if k.InUse != installation.VaultTransit {
		where += " (not in use: keys can move to it)"
	}
	out = append(out, [2]string{"vault", where})
	for _, key := range k.Vault.Keys {
		out = append(out, [2]string{"", describeVaultKey(key)})
	}
	return out
}

func describeVaultKey(k installation.VaultKey) string {
	if k.Latest == 0 {
		return k.Name
	}
	return fmt.Sprintf("%s, version %d, from %d on opened", k.Name, k.Latest, max(k.MinDecrypt, k.MinAvailable, 1))
}
