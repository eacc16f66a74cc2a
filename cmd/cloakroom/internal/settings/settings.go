// Package settings finds out how a server is to be run. Each setting has one name with four ways to say it: a flag
// (--cache-ttl), an environment variable (CLOAKROOM_CACHE_TTL), a member of a YAML file (cache-ttl), a default. The
// first of these that says something counts.
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Defaults that commands of the client side share.
const (
	DefaultData = "./cloakroom-data"
	DefaultAddr = "127.0.0.1:8440"
)

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// Settings is what a server is run with.
type Settings struct {
	Data           string
	Addr           string // host:port
	TLSCert        string // PEM files; both or none
	TLSKey         string
	InsecureHTTP   bool // plain HTTP beyond loopback is wanted
	PassphraseFile string
	BodyTimeout    time.Duration
	LogLevel       slog.Level
	LogFormat      string // text or json
	CacheTTL       time.Duration
	CacheEntries   int
	KMS            string // local or transit; "" = the one that the store uses, local for a new one
	Vault          Vault  // zero: HashiCorp Vault has no part in it
}

// Setting is one name.
type Setting struct {
	Name    string
	Default string
	Usage   string
	Bool    bool   // the flag may stand alone
	Secret  bool   // from the environment only: arguments show in ps, and a file of settings is copied about
	Also    string // variable of HashiCorp Vault's own tools, asked last and only where Vault has a part
	set     func(s *Settings, text string) error
}

// Env is the environment variable of the setting.
func (s Setting) Env() string {
	return "CLOAKROOM_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// All returns every setting in the order in which they are shown.
func All() []Setting {
	return append([]Setting{
		{Name: "data", Default: DefaultData, Usage: "data `folder`; keyring, ledger and backups lie beside it", set: func(s *Settings, v string) error {
			if v == "" {
				return errors.New("it is empty")
			}
			s.Data = v
			return nil
		}},
		{Name: "addr", Default: DefaultAddr, Usage: "`host:port` to listen on; port 0 takes a free one", set: func(s *Settings, v string) (err error) {
			s.Addr, err = hostPort(v)
			return err
		}},
		{Name: "tls-cert", Usage: "certificate, PEM `file`; with it the server speaks HTTPS", set: func(s *Settings, v string) error { s.TLSCert = v; return nil }},
		{Name: "tls-key", Usage: "the certificate's key, PEM `file`", set: func(s *Settings, v string) error { s.TLSKey = v; return nil }},
		{Name: "insecure-http", Default: "false", Bool: true, Usage: "allow plain HTTP beyond this machine: keys and values travel readable", set: func(s *Settings, v string) (err error) {
			s.InsecureHTTP, err = parseBool(v)
			return err
		}},
		{Name: "passphrase-file", Usage: "`file` with the passphrase that seals the keyring, one line", set: func(s *Settings, v string) error { s.PassphraseFile = v; return nil }},
		{Name: "body-timeout", Default: "20s", Usage: "how long a request's body may take", set: duration(time.Millisecond, time.Hour, func(s *Settings) *time.Duration { return &s.BodyTimeout })},
		{Name: "log-level", Default: "info", Usage: "debug, info, warn or error", set: func(s *Settings, v string) error { return level(&s.LogLevel, v) }},
		{Name: "log-format", Default: "text", Usage: "text or json", set: func(s *Settings, v string) error {
			if v != "text" && v != "json" {
				return errors.New("it is text or json")
			}
			s.LogFormat = v
			return nil
		}},
		{Name: "cache-ttl", Default: "60s", Usage: "how long a person's key stays in memory, at most 60s", set: duration(time.Millisecond, time.Minute, func(s *Settings) *time.Duration { return &s.CacheTTL })},
		{Name: "cache-entries", Default: "10000", Usage: "how many persons' keys stay in memory", set: func(s *Settings, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > 10_000_000 {
				return errors.New("it is a number from 1 to 10000000")
			}
			s.CacheEntries = n
			return nil
		}},
		{Name: "kms", Usage: "key `service`: local (the keyring file) or transit (HashiCorp Vault); default is the one in use, local for a new one", set: func(s *Settings, v string) error {
			if v != "" && v != Local && v != Transit {
				return errors.New("it is local (the keyring file) or transit (HashiCorp Vault)")
			}
			s.KMS = v
			return nil
		}},
	}, vaultSettings()...)
}

// Effective is one setting's value and where it came from.
type Effective struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // "flag", "env CLOAKROOM_...", "file PATH" or "default"
}

// Sources is where values may come from.
type Sources struct {
	Flags  map[string]string                // flags that were given
	Lookup func(name string) (string, bool) // environment; a variable that is set but empty says nothing
	File   string                           // YAML; "" for none
	// Skip names settings that stay at their defaults: those that mean something else to the command.
	Skip []string
}

// Resolve finds every setting's value. Its errors name the setting and its source.
func Resolve(from Sources) (Settings, []Effective, error) {
	var s Settings
	file, err := readFile(from.File)
	if err != nil {
		return s, nil, err
	}
	all := All()
	effective := make([]Effective, len(all))
	for i, one := range all {
		effective[i] = from.find(one, file)
	}
	// The variables of HashiCorp Vault's own tools are there for these: alone they must not make this program turn to it.
	if turnsToVault(effective) {
		for i, one := range all {
			if v, ok := from.Lookup(one.Also); effective[i].Source == sourceDefault && one.Also != "" && ok && v != "" {
				effective[i] = Effective{one.Name, v, "env " + one.Also}
			}
		}
	}
	for i, one := range all {
		if err := one.set(&s, effective[i].Value); err != nil {
			return s, nil, fmt.Errorf("setting %s (%s): %w", one.Name, effective[i].Source, err)
		}
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return s, nil, errors.New("tls-cert and tls-key go together: give both or none")
	}
	if err := s.settleVault(from.Lookup, effective); err != nil {
		return s, nil, err
	}
	for i, one := range all {
		if one.Secret && effective[i].Value != "" {
			effective[i].Value = secret.Redacted
		}
	}
	return s, effective, nil
}

const sourceDefault = "default"

// find asks one setting's own sources.
func (from Sources) find(one Setting, file map[string]string) Effective {
	if slices.Contains(from.Skip, one.Name) {
		return Effective{one.Name, one.Default, sourceDefault}
	}
	if v, ok := from.Flags[one.Name]; ok && !one.Secret {
		return Effective{one.Name, v, "flag"}
	}
	if v, ok := from.Lookup(one.Env()); ok && v != "" {
		return Effective{one.Name, v, "env " + one.Env()}
	}
	if v, ok := file[one.Name]; ok {
		return Effective{one.Name, v, "file " + from.File}
	}
	return Effective{one.Name, one.Default, sourceDefault}
}

// readFile reads a flat YAML mapping of known names to scalars.
func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("configuration %s: longer than %d bytes", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return parseFile(path, text)
}

func parseFile(path string, text []byte) (map[string]string, error) {
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("configuration %s: %s", path, firstLine(yaml.FormatError(err, false, false)))
	}
	known := map[string]bool{}
	for _, s := range All() {
		if _, there := raw[s.Name]; s.Secret && there {
			return nil, fmt.Errorf("configuration %s: %s has no place in a file of settings; give %s in the environment, or name a file of its own with vault-token-file", path, s.Name, s.Env())
		}
		known[s.Name] = true
	}
	out := make(map[string]string, len(raw))
	for name, v := range raw {
		if !known[name] {
			return nil, fmt.Errorf("configuration %s: unknown setting %q; `cloakroom config` lists those there are", path, name)
		}
		switch v := v.(type) {
		case string, bool, int, int64, uint64:
			out[name] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("configuration %s: %s must be one plain value", path, name)
		}
	}
	return out, nil
}
