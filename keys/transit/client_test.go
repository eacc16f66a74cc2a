package transit

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{TLS: true})
	good := TLS{CACert: s.CA, ClientCert: s.ClientCert, ClientKey: s.ClientKey}
	for _, tt := range []struct {
		name   string
		change func(*TLS)
		want   error // nil: it works
		says   string
	}{
		{"all", func(*TLS) {}, nil, ""},
		{"name in the certificate", func(c *TLS) { c.ServerName = "vault.test" }, nil, ""},
		{"other name", func(c *TLS) { c.ServerName = "other.test" }, keys.ErrKMSUnavailable, "certificate"},
		{"unknown authority", func(c *TLS) { c.CACert = "" }, keys.ErrKMSUnavailable, "certificate"},
		{"no certificate of ours", func(c *TLS) { c.ClientCert, c.ClientKey = "", "" }, keys.ErrKMSUnavailable, "certificate"},
		{"no such file", func(c *TLS) { c.CACert = filepath.Join(t.TempDir(), "none") }, ErrConfig, "none"},
		{"no PEM", func(c *TLS) { c.CACert = s.ClientKey }, ErrConfig, "TLS"},
		{"certificate for a key", func(c *TLS) { c.ClientKey = s.ClientCert }, ErrConfig, "TLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := withToken(s.URL, s.Root, s.inst)
			c.TLS = good
			tt.change(&c.TLS)
			k, err := Open(t.Context(), c)
			if tt.want != nil {
				wantError(t, err, tt.want)
				wantText(t, err.Error(), tt.says)
				return
			}
			must(t, err)
			must(t, sing(t, k, keys.DEKKey, wrapSome(t, k, keys.DEKKey, 1)[0]), k.Close())
		})
	}
}

// TestHeadersAndPaths: everything that is sent names the namespace, and nothing leaves the mounts.
func TestHeadersAndPaths(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	s.Do(t, "POST", "/v1/sys/mounts/team/secrets", map[string]any{"type": "transit"})
	s.Do(t, "POST", "/v1/sys/auth/team/login", map[string]any{"type": "approle"})
	s.Do(t, "POST", "/v1/auth/team/login/role/r", map[string]any{"token_policies": "wide"})
	s.PutPolicy(t, "wide", strings.ReplaceAll(contractPolicy, "transit/", "team/secrets/"))
	p := transittest.NewProxy(t, s.URL)
	// The real server has no namespaces, it is the Enterprise edition that has: the header stops before it.
	var mu sync.Mutex
	var seen []string
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header.Get("X-Vault-Namespace")+" "+r.Header.Get("X-Vault-Request")+" "+r.URL.Path)
		mu.Unlock()
		r.Header.Del("X-Vault-Namespace")
		r.Header.Set("Location", p.URL)
		forward(t, w, r, p.URL)
	}))
	t.Cleanup(front.Close)
	c := s.appRole(t, front.URL+"/gate", "unused", nil)
	c.Namespace, c.Mount, c.Instance = "admin/team", "team/secrets", newInstance(t)
	role := s.Do(t, "GET", "/v1/auth/team/login/role/r/role-id", nil)["data"].(map[string]any)["role_id"].(string)
	id := s.Do(t, "POST", "/v1/auth/team/login/role/r/secret-id", map[string]any{})["data"].(map[string]any)["secret_id"].(string)
	writeSecret(t, c.Login.SecretIDFile, id)
	c.Login.RoleID, c.Login.Mount = role, "team/login"
	k, err := Open(t.Context(), c)
	must(t, err)
	for _, key := range bothKeys {
		must(t, k.Create(t.Context(), key), sing(t, k, key, wrapSome(t, k, key, 1)[0]), k.Rotate(t.Context(), key),
			k.RaiseMinima(t.Context(), key, 2), k.Trim(t.Context(), key, 2))
	}
	must(t, k.Close())
	for _, request := range seen {
		part := strings.Fields(request)
		path := strings.TrimPrefix(part[2], "/gate/v1/")
		if part[0] != "admin/team" || part[1] != "true" ||
			!(strings.HasPrefix(path, "team/secrets/") || path == "auth/team/login/login" || path == "auth/token/revoke-self") {
			t.Errorf("sent %q", request)
		}
	}
	if len(seen) < 15 {
		t.Errorf("%d requests", len(seen))
	}
}

// forward sends a request on without the path's first element.
func forward(t *testing.T, w http.ResponseWriter, r *http.Request, to string) {
	r.URL.Path = strings.TrimPrefix(r.URL.Path, "/gate")
	out, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.Path, r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	out.Header, out.ContentLength = r.Header, r.ContentLength
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	w.WriteHeader(resp.StatusCode)
	buf := new(buffer)
	if err := buf.fill(resp.Body); err != nil {
		t.Error(err)
	}
	_, _ = w.Write(buf.b)
}

// TestEnvironmentIsIgnored: what Vault's own tools take from the environment would weaken or misdirect the driver.
func TestEnvironmentIsIgnored(t *testing.T) {
	s := newStand(t, transittest.Options{TLS: true})
	for name, value := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_AGENT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "hvs.other",
		"VAULT_NAMESPACE": "other", "VAULT_SKIP_VERIFY": "true", "VAULT_WRAP_TTL": "60s", "VAULT_MAX_RETRIES": "9",
		"VAULT_HEADERS": `{"X-Other":"1"}`, "VAULT_RATE_LIMIT": "0.001:1", "VAULT_CLIENT_TIMEOUT": "1ns",
		"VAULT_PROXY_ADDR": "http://127.0.0.1:1", "VAULT_TLS_SERVER_NAME": "other.test",
	} {
		t.Setenv(name, value)
	}
	c := withToken(s.URL, s.Root, s.inst)
	c.TLS = TLS{CACert: s.CA, ClientCert: s.ClientCert, ClientKey: s.ClientKey}
	k := open(t, c)
	must(t, sing(t, k, keys.DEKKey, wrapSome(t, k, keys.DEKKey, 1)[0]))
	c.TLS.CACert = ""
	_, err := Open(t.Context(), c)
	wantError(t, err, keys.ErrKMSUnavailable)
	wantText(t, err.Error(), "certificate")

	plain := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, plain.URL)
	_, err = open(t, plain.appRole(t, p.URL, "r", nil)).Versions(t.Context(), keys.DEKKey)
	must(t, err)
	for _, seen := range p.Seen("/") {
		if h := seen.Header; h.Get("X-Other") != "" || h.Get("X-Vault-Namespace") != "" || h.Get("X-Vault-Token") == "hvs.other" {
			t.Errorf("%s went with headers of the environment", seen.Path)
		}
	}
}

// TestBuffersAreWiped: what held keys holds nothing when it goes back, and not before the connection has let go of it.
func TestBuffersAreWiped(t *testing.T) {
	var pool sync.Pool
	p := take(&pool, 8)
	first := p.b[:8]
	must(t, p.fill(strings.NewReader(strings.Repeat("secret", 1000))))
	whole := p.b
	if string(first) != string(make([]byte, 8)) {
		t.Fatal("growing leaves behind what was there")
	}
	r := lend(p)
	p.release()
	if string(whole[:6]) != "secret" {
		t.Fatal("wiped while a connection reads it")
	}
	must(t, r.Close(), r.Close())
	for i, b := range whole {
		if b != 0 {
			t.Fatalf("byte %d is left", i)
		}
	}
	if p.holds.Load() != 0 {
		t.Errorf("held %d times", p.holds.Load())
	}
}

func TestQuoteHidesTheToken(t *testing.T) {
	token := secret.NewText("hvs.secret")
	if got := quote([]string{"bad token hvs.secret"}, token); strings.Contains(got, "secret") {
		t.Errorf("%q", got)
	}
	if got := quote([]string{strings.Repeat("a", 195) + "hvs.secret"}, token); strings.Contains(got, "hvs") { // a part is too much, too
		t.Errorf("%q", got)
	}
	if got := quote([]string{"1 error occurred:\n\t* permission\x00 denied\n\n", "é"}, token); got != "1 error occurred: * permission? denied ; ?" {
		t.Errorf("%q", got)
	}
	if got := quote([]string{strings.Repeat("a", 10_000)}, token); len(got) != 200 {
		t.Errorf("%d bytes", len(got))
	}
}
