package settings

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func yamlFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	got, effective, err := Resolve(Sources{Lookup: env()})
	want := Settings{
		Data: "./cloakroom-data", Addr: "127.0.0.1:8440", BodyTimeout: 20 * time.Second, LogLevel: slog.LevelInfo,
		LogFormat: "text", CacheTTL: time.Minute, CacheEntries: 10000,
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, e := range effective {
		if e.Source != "default" {
			t.Errorf("%+v", e)
		}
	}
}

func TestPrecedence(t *testing.T) {
	path := yamlFile(t, "cache-entries: 2\nlog-format: json\ninsecure-http: true\n")
	cases := []struct {
		name        string
		file        string
		environment string
		flag        string
		want        int
		source      string
	}{
		{"default", "", "", "", 10000, "default"},
		{"file over default", path, "", "", 2, "file " + path},
		{"environment over file", path, "3", "", 3, "env CLOAKROOM_CACHE_ENTRIES"},
		{"flag over environment", path, "3", "4", 4, "flag"},
		{"flag over default", "", "", "4", 4, "flag"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			from := Sources{Flags: map[string]string{}, File: tc.file, Lookup: env("CLOAKROOM_CACHE_ENTRIES", tc.environment)}
			if tc.flag != "" {
				from.Flags["cache-entries"] = tc.flag
			}
			got, effective, err := Resolve(from)
			if err != nil || got.CacheEntries != tc.want {
				t.Fatalf("%d, %v", got.CacheEntries, err)
			}
			for _, e := range effective {
				if e.Name == "cache-entries" && e.Source != tc.source {
					t.Errorf("source %q, want %q", e.Source, tc.source)
				}
			}
		})
	}
}

func TestEverySettingHasEachSource(t *testing.T) {
	values := map[string]string{
		"data": "d", "addr": "127.0.0.1:1", "tls-cert": "c", "tls-key": "k", "insecure-http": "true", "passphrase-file": "p",
		"body-timeout": "1s", "log-level": "warn", "log-format": "json", "cache-ttl": "1s", "cache-entries": "1", "kms": "transit",
		"vault-addr": "https://v:1", "vault-namespace": "n", "vault-mount": "m", "vault-ca-cert": "ca", "vault-client-cert": "cc",
		"vault-client-key": "ck", "vault-tls-server-name": "sn", "vault-auth": "approle", "vault-auth-mount": "am",
		"vault-token-file": "tf", "vault-role-id": "ri", "vault-role-id-file": "", "vault-secret-id-file": "sf", "vault-role": "r",
		"vault-jwt-file": "j", "vault-timeout": "1s",
	}
	want := Settings{
		"d", "127.0.0.1:1", "c", "k", true, "p", time.Second, slog.LevelWarn, "json", time.Second, 1, Transit,
		Vault{
			"https://v:1", "n", "m", "ca", "cc", "ck", "sn", AuthAppRole, "am", secret.Text{}, "tf", "ri", "", "sf", "r", "j", time.Second,
		},
	}
	var pairs []string
	var text strings.Builder
	for _, s := range All() {
		v, ok := values[s.Name]
		if s.Secret {
			continue
		}
		if !ok {
			t.Fatalf("no value for %s", s.Name)
		}
		pairs = append(pairs, s.Env(), v)
		text.WriteString(s.Name + ": \"" + v + "\"\n")
	}
	for name, from := range map[string]Sources{
		"flags":       {Flags: values, Lookup: env()},
		"environment": {Lookup: env(pairs...)},
		"file":        {File: yamlFile(t, text.String()), Lookup: env()},
	} {
		if got, _, err := Resolve(from); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	cases := []struct{ name, setting, value, want string }{
		{"empty data", "data", "", "setting data (flag)"},
		{"no port", "addr", "127.0.0.1", "host:port"},
		{"port too large", "addr", "127.0.0.1:65536", "0 to 65535"},
		{"port name", "addr", "127.0.0.1:http", "0 to 65535"},
		{"cache longer than promised", "cache-ttl", "61s", "setting cache-ttl (flag)"},
		{"no cache time", "cache-ttl", "0s", "setting cache-ttl"},
		{"time without unit", "body-timeout", "20", "setting body-timeout"},
		{"no entries", "cache-entries", "0", "setting cache-entries"},
		{"level", "log-level", "loud", "debug, info, warn or error"},
		{"format", "log-format", "xml", "text or json"},
		{"bool", "insecure-http", "yes", "true or false"},
		{"certificate without key", "tls-cert", "c.pem", "go together"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Resolve(Sources{Flags: map[string]string{tc.setting: tc.value}, Lookup: env()})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestFileMistakes(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"unknown", "adress: 127.0.0.1:1", `unknown setting "adress"`},
		{"twice", "cache-ttl: 1s\ncache-ttl: 2s", "configuration"},
		{"list", "addr: [1, 2]", "one plain value"},
		{"mapping", "addr: {a: b}", "one plain value"},
		{"null", "addr:", "one plain value"},
		{"no mapping", "- addr", "configuration"},
		{"broken", "addr: [", "configuration"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Resolve(Sources{File: yamlFile(t, tc.text), Lookup: env()})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, _, err := Resolve(Sources{File: yamlFile(t, "#"+strings.Repeat("x", maxFile)), Lookup: env()}); err == nil {
		t.Error("a file beyond the limit was read")
	}
	if s, _, err := Resolve(Sources{File: yamlFile(t, "# nothing\n"), Lookup: env()}); err != nil || s.CacheEntries != 10000 {
		t.Errorf("an empty file: %v", err)
	}
}

func TestAddressMayBeAURL(t *testing.T) {
	for _, v := range []string{"127.0.0.1:8441", "http://127.0.0.1:8441", "https://127.0.0.1:8441/"} {
		s, _, err := Resolve(Sources{Lookup: env("CLOAKROOM_ADDR", v)})
		if err != nil || s.Addr != "127.0.0.1:8441" {
			t.Errorf("%s: %q, %v", v, s.Addr, err)
		}
	}
}

func TestKeyName(t *testing.T) {
	for name, want := range map[string]bool{
		"app": true, "desk-2": true, "a.b_C": true, "": false, ".": false, "..": false, "../app": false, "a/b": false,
		"a\x00": false, "é": false, strings.Repeat("a", 65): false,
	} {
		if KeyName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	for _, seed := range []string{"", "addr: 127.0.0.1:1\n", "cache-entries: 5", "a: &x [*x]", "{", "? a", "cache-ttl: 1s\ncache-ttl: 1s"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseFile("c.yaml", text)
		if err != nil {
			return
		}
		for name := range got {
			known := false
			for _, s := range All() {
				known = known || s.Name == name
			}
			if !known {
				t.Errorf("took %q", name)
			}
		}
	})
}
