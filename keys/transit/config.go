package transit

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// Config says where Vault is and who asks. The environment variables of Vault's own tools (VAULT_ADDR,
// VAULT_SKIP_VERIFY and so on) have no influence, except that Vault's client can't be made while one is malformed.
type Config struct {
	Address   string           // https://host:8200, a path is allowed; http is meant for a Vault or agent on this machine
	Namespace string           // "" = none
	Mount     string           // path of the Transit engine; "" = "transit"
	Instance  keys.InstanceID  // names the keys: cloakroom-<hexadecimal>-root and -dek
	TLS       TLS              // the zero value trusts what the system trusts
	Login     Login            // how to get a token
	Timeout   time.Duration    // of one try at Vault, half a millisecond more for each item; 0 = 3 s, at most 5 min
	Logger    *slog.Logger     // nil = slog.Default()
	Now       func() time.Time // nil = time.Now
}

// TLS names PEM files. The client's certificate is read anew for each connection.
type TLS struct {
	CACert     string // who signs Vault's certificate; one or several in a file
	ClientCert string // shown to Vault, with ClientKey
	ClientKey  string
	ServerName string // expected in Vault's certificate; "" = the host of the address
}

// Methods of Login.
const (
	MethodToken      = "token"
	MethodTokenFile  = "token-file"
	MethodAppRole    = "approle"
	MethodKubernetes = "kubernetes"
)

// Login says how to get a token. Files are read anew at each login; each holds one line of at most 8 KiB.
type Login struct {
	Method string

	Token     secret.Text // MethodToken. It is renewed, but nothing takes its place when it ends
	TokenFile string      // MethodTokenFile: what Vault Agent writes (its sink)

	Mount string // of the other methods, below auth/; "" = the method's name

	RoleID       string // MethodAppRole
	RoleIDFile   string // in place of RoleID
	SecretIDFile string

	Role    string // MethodKubernetes
	JWTFile string // "" = /var/run/secrets/kubernetes.io/serviceaccount/token
}

const (
	defaultTimeout = 3 * time.Second
	maxTimeout     = 5 * time.Minute
	defaultJWT     = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

func (c Config) withDefaults() Config {
	if c.Mount == "" {
		c.Mount = "transit"
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Login.Mount == "" && (c.Login.Method == MethodAppRole || c.Login.Method == MethodKubernetes) {
		c.Login.Mount = c.Login.Method
	}
	if c.Login.Method == MethodKubernetes && c.Login.JWTFile == "" {
		c.Login.JWTFile = defaultJWT
	}
	return c
}

// check is strict, since a mount or address that is nearly right fails later and far from its cause.
func (c Config) check() error {
	if err := checkAddress(c.Address); err != nil {
		return err
	}
	if !pathLike(c.Mount) {
		return fmt.Errorf("%w: mount %q: want names of letters, digits, '.', '_' and '-' with '/' between them", ErrConfig, c.Mount)
	}
	if c.Namespace != "" && !pathLike(strings.TrimSuffix(c.Namespace, "/")) {
		return fmt.Errorf("%w: namespace %q: want names of letters, digits, '.', '_' and '-' with '/' between them", ErrConfig, c.Namespace)
	}
	if c.Instance == (keys.InstanceID{}) {
		return fmt.Errorf("%w: no instance", ErrConfig)
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		return fmt.Errorf("%w: timeout %v: want above 0 and at most %v", ErrConfig, c.Timeout, maxTimeout)
	}
	if (c.TLS.ClientCert == "") != (c.TLS.ClientKey == "") {
		return fmt.Errorf("%w: a client certificate and its key come together", ErrConfig)
	}
	if c.TLS != (TLS{}) && strings.HasPrefix(c.Address, "http:") {
		return fmt.Errorf("%w: TLS is set up, but the address is one of http", ErrConfig)
	}
	return c.Login.check()
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil { // its text would quote what may be a password
		return fmt.Errorf("%w: the address is not a URL", ErrConfig)
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("%w: the address must have no user, query or fragment", ErrConfig)
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return fmt.Errorf("%w: address %q: want https://host:port", ErrConfig, bounded(address))
	}
	return nil
}

// plainBeyondLoopback reports whether what is sent to address can be read on a network.
func plainBeyondLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "https" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

func (l Login) check() error {
	given := map[string]bool{
		"token": !l.Token.Empty(), "token file": l.TokenFile != "", "login mount": l.Mount != "", "role id": l.RoleID != "",
		"role id file": l.RoleIDFile != "", "secret id file": l.SecretIDFile != "", "role": l.Role != "", "jwt file": l.JWTFile != "",
	}
	needs, takes := map[string][]string{
		MethodToken:      {"token"},
		MethodTokenFile:  {"token file"},
		MethodAppRole:    {"login mount", "secret id file"},
		MethodKubernetes: {"login mount", "role", "jwt file"},
	}, map[string][]string{
		MethodAppRole: {"role id", "role id file"},
	}
	wanted, ok := needs[l.Method]
	if !ok {
		return fmt.Errorf("%w: login method %q: want %s, %s, %s or %s", ErrConfig, bounded(l.Method),
			MethodToken, MethodTokenFile, MethodAppRole, MethodKubernetes)
	}
	for _, name := range wanted {
		if !given[name] {
			return fmt.Errorf("%w: the login method %s needs a %s", ErrConfig, l.Method, name)
		}
		delete(given, name)
	}
	if l.Method == MethodAppRole && given["role id"] == given["role id file"] {
		return fmt.Errorf("%w: the login method approle needs a role id or a role id file", ErrConfig)
	}
	for _, name := range takes[l.Method] {
		delete(given, name)
	}
	for _, name := range []string{"token", "token file", "login mount", "role id", "role id file", "secret id file", "role", "jwt file"} {
		if given[name] {
			return fmt.Errorf("%w: the login method %s takes no %s", ErrConfig, l.Method, name)
		}
	}
	if l.Mount != "" && !pathLike(l.Mount) {
		return fmt.Errorf("%w: login mount %q: want names of letters, digits, '.', '_' and '-' with '/' between them", ErrConfig, bounded(l.Mount))
	}
	if l.Method == MethodToken && !tokenLike(l.Token.Reveal()) {
		return fmt.Errorf("%w: the token holds a space or another character that no token has, or is too long", ErrConfig)
	}
	return nil
}

// pathLike reports whether p can stand in a path at Vault as it is.
func pathLike(p string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	if len(p) > 256 {
		return false
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name[0] == '.' || strings.Trim(name, letters+".") != "" {
			return false
		}
	}
	return true
}

// tokenLike reports whether s can be a token, secret id or JWT: printable ASCII without spaces, at most 8 KiB.
func tokenLike(s string) bool {
	if len(s) < 1 || len(s) > maxSecretFile {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
