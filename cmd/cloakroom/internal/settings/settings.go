// Package settings finds out how a server is to be run. Each setting has one name with four ways to say it: a flag
// (--cache-ttl), an environment variable (CLOAKROOM_CACHE_TTL), a member of a YAML file (cache-ttl), a default. The
// first of these that says something counts.
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
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
}

// Setting is one name.
type Setting struct {
	Name    string
	Default string
	Usage   string
	Bool    bool // the flag may stand alone
	set     func(s *Settings, text string) error
}

// Env is the environment variable of the setting.
func (s Setting) Env() string {
	return "CLOAKROOM_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// All returns every setting in the order in which they are shown.
func All() []Setting {
	return []Setting{
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
	}
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
}

// Resolve finds every setting's value. Its errors name the setting and its source.
func Resolve(from Sources) (Settings, []Effective, error) {
	var s Settings
	file, err := readFile(from.File)
	if err != nil {
		return s, nil, err
	}
	all := All()
	effective := make([]Effective, 0, len(all))
	for _, one := range all {
		value, source := one.Default, "default"
		if v, ok := file[one.Name]; ok {
			value, source = v, "file "+from.File
		}
		if v, ok := from.Lookup(one.Env()); ok && v != "" {
			value, source = v, "env "+one.Env()
		}
		if v, ok := from.Flags[one.Name]; ok {
			value, source = v, "flag"
		}
		if err := one.set(&s, value); err != nil {
			return s, nil, fmt.Errorf("setting %s (%s): %w", one.Name, source, err)
		}
		effective = append(effective, Effective{one.Name, value, source})
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return s, nil, errors.New("tls-cert and tls-key go together: give both or none")
	}
	return s, effective, nil
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

func duration(low, high time.Duration, at func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < low || d > high {
			return fmt.Errorf("it is a time from %v to %v, such as 20s", low, high)
		}
		*at(s) = d
		return nil
	}
}

func level(out *slog.Level, v string) error {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(l.String(), v) {
			*out = l
			return nil
		}
	}
	return errors.New("it is debug, info, warn or error")
}

func parseBool(v string) (bool, error) {
	switch v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, errors.New("it is true or false")
	}
}

// hostPort takes host:port, and a URL of it too: CLOAKROOM_ADDR is also what client commands read.
func hostPort(v string) (string, error) {
	v = strings.TrimPrefix(strings.TrimPrefix(v, "http://"), "https://")
	v = strings.TrimSuffix(v, "/")
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", errors.New("it is host:port, such as " + DefaultAddr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", errors.New("its port is a number from 0 to 65535")
	}
	return v, nil
}

// KeyName reports whether name may be the NAME of a key file NAME.key: 1 to 64 of A-Z a-z 0-9 _ - and, not first, dots.
func KeyName(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
