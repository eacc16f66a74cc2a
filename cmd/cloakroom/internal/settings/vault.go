package settings

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Key services, as they are named in settings.
const (
	Local   = "local"
	Transit = "transit"
)

// Ways to log in to HashiCorp Vault.
const (
	AuthToken      = "token"
	AuthTokenFile  = "token-file"
	AuthAppRole    = "approle"
	AuthKubernetes = "kubernetes"
)

// maxToken bounds a file with a token, in bytes.
const maxToken = 8 << 10

// maxTry bounds one try at Vault: a call of this program is given up after ten seconds, so a longer one would only keep
// the next from being made.
const maxTry = 8 * time.Second

// Vault says how HashiCorp Vault is reached and logged in to. The zero value: not at all.
type Vault struct {
	Address    string // URL
	Namespace  string
	Mount      string // of the Transit engine
	CACert     string // PEM files
	ClientCert string
	ClientKey  string
	ServerName string

	Auth         string // one of the ways above
	AuthMount    string
	Token        secret.Text // for AuthToken
	TokenFile    string
	RoleID       string
	RoleIDFile   string
	SecretIDFile string
	Role         string // for AuthKubernetes
	JWTFile      string

	Timeout time.Duration // of one try
}

// Given reports whether Vault has a part.
func (v Vault) Given() bool { return v.Address != "" }

func vaultSettings() []Setting {
	text := func(at func(*Vault) *string) func(*Settings, string) error {
		return func(s *Settings, v string) error { *at(&s.Vault) = v; return nil }
	}
	return []Setting{
		{Name: "vault-addr", Also: "VAULT_ADDR", Usage: "`URL` of HashiCorp Vault", set: func(s *Settings, v string) error { return vaultURL(&s.Vault.Address, v) }},
		{Name: "vault-namespace", Also: "VAULT_NAMESPACE", Usage: "`namespace` there", set: text(func(v *Vault) *string { return &v.Namespace })},
		{Name: "vault-mount", Default: "transit", Usage: "`path` of the Transit engine", set: func(s *Settings, v string) error {
			if s.Vault.Mount = strings.Trim(v, "/"); s.Vault.Mount == "" {
				return errors.New("it is empty; Vault's own default is transit")
			}
			return nil
		}},
		{Name: "vault-ca-cert", Also: "VAULT_CACERT", Usage: "PEM `file` of the authority that signed Vault's certificate; default is the system's", set: text(func(v *Vault) *string { return &v.CACert })},
		{Name: "vault-client-cert", Also: "VAULT_CLIENT_CERT", Usage: "certificate to show to Vault, PEM `file`", set: text(func(v *Vault) *string { return &v.ClientCert })},
		{Name: "vault-client-key", Also: "VAULT_CLIENT_KEY", Usage: "that certificate's key, PEM `file`", set: text(func(v *Vault) *string { return &v.ClientKey })},
		{Name: "vault-tls-server-name", Also: "VAULT_TLS_SERVER_NAME", Usage: "`name` that Vault's certificate must bear, when it is not the address's", set: text(func(v *Vault) *string { return &v.ServerName })},
		{Name: "vault-auth", Usage: "`way` to log in: token, token-file, approle or kubernetes; default is the one that the settings below belong to", set: func(s *Settings, v string) error {
			if v != "" && !slices.Contains(ways(), v) {
				return errors.New("it is " + strings.Join(ways(), ", "))
			}
			s.Vault.Auth = v
			return nil
		}},
		{Name: "vault-auth-mount", Usage: "`path` of the auth method; default is its name", set: func(s *Settings, v string) error { s.Vault.AuthMount = strings.Trim(v, "/"); return nil }},
		{Name: "vault-token", Also: "VAULT_TOKEN", Secret: true, Usage: "token to log in with", set: func(s *Settings, v string) error { s.Vault.Token = secret.NewText(strings.TrimSpace(v)); return nil }},
		{Name: "vault-token-file", Usage: "`file` with a token, such as a Vault agent's sink; read anew when the token ends", set: text(func(v *Vault) *string { return &v.TokenFile })},
		{Name: "vault-role-id", Usage: "AppRole's role `id`", set: text(func(v *Vault) *string { return &v.RoleID })},
		{Name: "vault-role-id-file", Usage: "`file` with AppRole's role id", set: text(func(v *Vault) *string { return &v.RoleIDFile })},
		{Name: "vault-secret-id-file", Usage: "`file` with AppRole's secret id, read at each login", set: text(func(v *Vault) *string { return &v.SecretIDFile })},
		{Name: "vault-role", Usage: "`role` of the Kubernetes auth method", set: text(func(v *Vault) *string { return &v.Role })},
		{Name: "vault-jwt-file", Default: "/var/run/secrets/kubernetes.io/serviceaccount/token", Usage: "`file` with the service account's token, read at each login", set: text(func(v *Vault) *string { return &v.JWTFile })},
		{Name: "vault-timeout", Default: "3s", Usage: "how long one try at Vault may take, at most 8s", set: duration(100*time.Millisecond, maxTry, func(s *Settings) *time.Duration { return &s.Vault.Timeout })},
	}
}

func ways() []string { return []string{AuthToken, AuthTokenFile, AuthAppRole, AuthKubernetes} }

// vaultURL takes the address without repeating it in its error: a password may stand in it.
func vaultURL(into *string, v string) error {
	*into = strings.TrimRight(v, "/")
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("it is a URL such as https://vault.example:8200")
	case u.User != nil:
		return errors.New("it must not hold a user or a password; vault-auth says how to log in")
	case u.RawQuery != "", u.Fragment != "":
		return errors.New("it must end after host and port")
	}
	return nil
}

// turnsToVault reports whether Vault was asked for: by name, or by a setting about it.
func turnsToVault(all []Effective) bool {
	return slices.ContainsFunc(all, func(e Effective) bool {
		return e.Name == "kms" && e.Value == Transit || strings.HasPrefix(e.Name, "vault-") && e.Source != sourceDefault && e.Value != ""
	})
}

// settleVault finds what follows from other settings, refuses what contradicts itself, and writes both down in all.
func (s *Settings) settleVault(lookup func(string) (string, bool), all []Effective) error {
	at := func(name string) *Effective {
		return &all[slices.IndexFunc(all, func(e Effective) bool { return e.Name == name })]
	}
	if !turnsToVault(all) {
		s.Vault = Vault{}
		return nil
	}
	v := &s.Vault
	switch {
	case v.Address == "" && s.KMS == Transit:
		return errors.New("kms is transit, but where HashiCorp Vault is was not said: give its URL with --vault-addr, in CLOAKROOM_VAULT_ADDR or in VAULT_ADDR")
	case v.Address == "":
		return errors.New("there are settings for HashiCorp Vault, but not where it is: give its URL with --vault-addr, or leave them out")
	case (v.ClientCert == "") != (v.ClientKey == ""):
		return errors.New("vault-client-cert and vault-client-key go together: give both or none")
	}
	if err := v.chooseWay(); err != nil {
		return err
	}
	if e := at("vault-auth"); e.Value == "" {
		e.Value = v.Auth
	}
	if v.AuthMount == "" && (v.Auth == AuthAppRole || v.Auth == AuthKubernetes) {
		v.AuthMount = v.Auth
		at("vault-auth-mount").Value = v.Auth
	}
	token := at("vault-token")
	if v.Auth != AuthToken {
		// One that is there for others is none of this program's.
		v.Token = secret.Text{}
		*token = Effective{token.Name, "", sourceDefault}
		return nil
	}
	if v.Token.Empty() {
		path, found, err := homeToken(lookup)
		if err != nil {
			return err
		}
		v.Token = found
		*token = Effective{token.Name, secret.Redacted, "file " + path}
	}
	return nil
}

// chooseWay finds how to log in, and whether what that needs is there.
func (v *Vault) chooseWay() error {
	if v.Auth == "" {
		var meant []string
		for _, way := range []struct {
			name  string
			given bool
		}{
			{AuthTokenFile, v.TokenFile != ""},
			{AuthAppRole, v.RoleID != "" || v.RoleIDFile != "" || v.SecretIDFile != ""},
			{AuthKubernetes, v.Role != ""},
		} {
			if way.given {
				meant = append(meant, way.name)
			}
		}
		switch len(meant) {
		case 0:
			v.Auth = AuthToken
		case 1:
			v.Auth = meant[0]
		default:
			return fmt.Errorf("settings for logging in to Vault by %s are given: choose with vault-auth", strings.Join(meant, " and by "))
		}
	}
	switch {
	case v.Auth == AuthTokenFile && v.TokenFile == "":
		return errors.New("vault-auth is token-file: name the file with vault-token-file")
	case v.Auth == AuthAppRole && (v.RoleID == "") == (v.RoleIDFile == ""):
		return errors.New("logging in to Vault by AppRole takes one of vault-role-id and vault-role-id-file")
	case v.Auth == AuthAppRole && v.SecretIDFile == "":
		return errors.New("logging in to Vault by AppRole takes a secret id: put it into a file (chmod 600) and name that with vault-secret-id-file")
	case v.Auth == AuthKubernetes && v.Role == "":
		return errors.New("vault-auth is kubernetes: name the role with vault-role")
	}
	return nil
}

// homeToken finds what `vault login` left: an operator at a terminal has nothing else.
func homeToken(lookup func(string) (string, bool)) (path string, token secret.Text, err error) {
	none := errors.New("there is no token for Vault: give one in VAULT_TOKEN or with `vault login`; a server is better given vault-token-file, or vault-role-id and vault-secret-id-file")
	home, ok := lookup("HOME")
	if !ok || home == "" {
		return "", token, none
	}
	path = filepath.Join(home, ".vault-token")
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", token, none
	}
	if err != nil {
		return "", token, fmt.Errorf("token for Vault: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", token, fmt.Errorf("token for Vault: %w", err)
	}
	line := strings.TrimSpace(string(text))
	if line == "" || len(text) > maxToken {
		return "", token, fmt.Errorf("token for Vault: %s holds none", path)
	}
	return path, secret.NewText(line), nil
}
