package transit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// kubernetesAt stands for Vault's Kubernetes login, which would ask a cluster: it checks JWT and role, and answers with
// a token of the real server behind it, to which everything else goes.
func kubernetesAt(t *testing.T, s *stand, mount, role string, jwt *atomic.Value, ttl time.Duration) string {
	t.Helper()
	to, err := url.Parse(s.URL)
	must(t, err)
	transport := &http.Transport{}
	pass := httputil.NewSingleHostReverseProxy(to)
	pass.Transport = transport
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/auth/"+mount+"/login" {
			pass.ServeHTTP(w, r)
			return
		}
		var in struct{ JWT, Role string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPut || in.JWT != jwt.Load() || in.Role != role {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["permission denied"]}`)
			return
		}
		_, made, err := s.Try("POST", "/v1/auth/token/create", s.Root, map[string]any{"policies": []string{s.service}, "ttl": ttl.String()})
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(made)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

// revoke ends the token that k uses, behind its back.
func revoke(t *testing.T, s *stand, k *Transit) {
	t.Helper()
	present, err := k.keeper.current()
	must(t, err)
	s.Do(t, "POST", "/v1/auth/token/revoke", map[string]any{"token": present.text.Reveal()})
}

// lives reports whether Vault knows a token.
func lives(t *testing.T, s *stand, text string) bool {
	t.Helper()
	status, _, err := s.Try("GET", "/v1/auth/token/lookup-self", text, nil)
	must(t, err)
	return status == http.StatusOK
}

func writeSecret(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
}

// TestLoginMethods logs in by each method, loses the token and gets another one by itself.
func TestLoginMethods(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	sinkFile := filepath.Join(t.TempDir(), "sink")
	newToken := func() string { return s.Token(t, time.Hour, s.service) }
	jwt := new(atomic.Value)
	jwt.Store("header.payload.signature")
	jwtFile := filepath.Join(t.TempDir(), "jwt")
	writeSecret(t, jwtFile, "header.payload.signature")
	writeSecret(t, sinkFile, newToken()+"\n")
	roleFile := filepath.Join(t.TempDir(), "role-id")
	byFile := s.appRole(t, s.URL, "by-file", nil)
	writeSecret(t, roleFile, byFile.Login.RoleID)
	byFile.Login.RoleID, byFile.Login.RoleIDFile = "", roleFile
	inst, log := s.inst, quiet()
	for _, tt := range []struct {
		name   string
		config Config
		lost   func() // after the token was revoked; nil for a batch token, which can't be
	}{
		{"approle", s.appRole(t, s.URL, "r", nil), func() {}},
		{"approle by files", byFile, func() {
			writeSecret(t, byFile.Login.SecretIDFile, s.SecretID(t, "by-file")) // rotated
		}},
		{"approle, batch tokens", s.appRole(t, s.URL, "b", map[string]any{"token_type": "batch", "token_ttl": "1h"}), nil},
		{"kubernetes", Config{
			Address: kubernetesAt(t, s, "kubernetes", "cloakroom", jwt, time.Hour), Instance: inst, Logger: log,
			Login: Login{Method: MethodKubernetes, Role: "cloakroom", JWTFile: jwtFile},
		}, func() {
			jwt.Store("another.pay.load")
			writeSecret(t, jwtFile, "another.pay.load\n")
		}},
		{"kubernetes elsewhere", Config{
			Address: kubernetesAt(t, s, "team/k8s", "cloakroom", jwt, time.Hour), Instance: inst, Logger: log,
			Login: Login{Method: MethodKubernetes, Mount: "team/k8s", Role: "cloakroom", JWTFile: jwtFile},
		}, func() {}},
		{"token file", Config{
			Address: s.URL, Instance: inst, Logger: log, Login: Login{Method: MethodTokenFile, TokenFile: sinkFile},
		}, func() { writeSecret(t, sinkFile, newToken()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := Open(t.Context(), tt.config)
			must(t, err)
			defer func() { must(t, k.Close()) }()
			it := wrapSome(t, k, keys.DEKKey, 1)[0]
			must(t, sing(t, k, keys.DEKKey, it))
			if tt.lost != nil {
				revoke(t, s, k)
				tt.lost()
				must(t, sing(t, k, keys.DEKKey, it))
			}
			last, err := k.keeper.current()
			must(t, err, k.Close())
			ours := tt.config.Login.Method != MethodTokenFile && tt.lost != nil
			if alive := lives(t, s, last.text.Reveal()); alive == ours {
				t.Errorf("after close the token lives: %t; a login of ours made it: %t", alive, ours)
			}
			_, err = k.Versions(t.Context(), keys.DEKKey)
			wantError(t, err, keys.ErrKMSUnavailable)
			must(t, k.Close())
		})
	}
}

// TestTokensEnd uses tokens of a few seconds for longer than they live. No call fails.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	jwt := new(atomic.Value)
	jwt.Store("j.w.t")
	jwtFile := filepath.Join(t.TempDir(), "jwt")
	writeSecret(t, jwtFile, "j.w.t")
	fixed := func(c Config) func(*testing.T) Config { return func(*testing.T) Config { return c } }
	var uses []func() bool // unwraps, and reports whether enough was seen
	for _, tt := range []struct {
		name    string
		config  func(*testing.T) Config // its address is put behind a proxy
		login   string                  // path of the login
		renewed int                     // requests that must be seen at the least
		logins  int
	}{
		{"renewed", fixed(s.appRole(t, s.URL, "renewed", map[string]any{"token_ttl": "3s"})), "/approle/login", 3, 1},
		{"renewed up to a maximum", fixed(s.appRole(t, s.URL, "max", map[string]any{"token_ttl": "3s", "token_max_ttl": "5s"})), "/approle/login", 1, 2},
		{"batch", fixed(s.appRole(t, s.URL, "batch", map[string]any{"token_type": "batch", "token_ttl": "3s"})), "/approle/login", 0, 3},
		{"kubernetes", fixed(Config{
			Address: kubernetesAt(t, s, "kubernetes", "r", jwt, 3*time.Second), Instance: s.inst, Logger: quiet(),
			Login: Login{Method: MethodKubernetes, Role: "r", JWTFile: jwtFile},
		}), "/kubernetes/login", 3, 1},
		{"given", func(t *testing.T) Config {
			return withToken(s.URL, s.Token(t, 3*time.Second, s.service), s.inst)
		}, "lookup-self", 3, 1},
		{"token file", func(t *testing.T) Config {
			file := filepath.Join(t.TempDir(), "sink")
			writeSecret(t, file, s.Token(t, 3*time.Second, s.service))
			return Config{Address: s.URL, Instance: s.inst, Logger: quiet(), Login: Login{Method: MethodTokenFile, TokenFile: file}}
		}, "lookup-self", 3, 1},
	} {
		c := tt.config(t)
		p := transittest.NewProxy(t, c.Address)
		c.Address, c.Timeout = p.URL, 20*time.Second
		k := open(t, c)
		it := wrapSome(t, k, keys.DEKKey, 1)[0]
		uses = append(uses, func() bool {
			if err := sing(t, k, keys.DEKKey, it); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			return p.Count("renew-self") >= tt.renewed && p.Count(tt.login) >= tt.logins
		})
	}
	eventually(t, "renewals and logins of all", func() bool {
		all := true
		for _, use := range uses {
			all = use() && all
		}
		return all
	})
	audit, err := os.ReadFile(s.Audit)
	must(t, err)
	if n := bytes.Count(audit, []byte("invalid token")); n > 0 {
		t.Errorf("%d requests went with a token that had ended", n)
	}
}

// TestLoginFailsWhileTheTokenLives: callers do not notice, and it is tried again.
func TestLoginFailsWhileTheTokenLives(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	log := new(journal)
	c := s.appRole(t, p.URL, "r", map[string]any{"token_ttl": "9s"})
	c.Logger = log.logger()
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	p.Set(transittest.Fault{Status: http.StatusInternalServerError, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/auth/") }})
	first, err := k.keeper.current()
	must(t, err)
	eventually(t, "two failed logins", func() bool {
		must(t, sing(t, k, keys.DEKKey, it))
		return strings.Count(log.String(), "could not be renewed or replaced") >= 2
	})
	p.Set(transittest.Fault{})
	eventually(t, "a renewal", func() bool {
		must(t, sing(t, k, keys.DEKKey, it))
		now, err := k.keeper.current()
		must(t, err)
		return now.ends.After(first.ends.Add(time.Second))
	})
}

// TestOneLoginForAll revokes the token under many callers.
func TestOneLoginForAll(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, s.appRole(t, p.URL, "r", nil))
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	for round := range 3 { // the second comes before a second has gone by
		revoke(t, s, k)
		before := p.Count("/approle/login")
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				if err := sing(t, k, keys.DEKKey, it); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		if n := p.Count("/approle/login") - before; n != 1 {
			t.Errorf("round %d: %d logins", round, n)
		}
	}
	// Who was refused with a token that has been replaced meanwhile takes the present one.
	present, err := k.keeper.current()
	must(t, err)
	before := p.Count("/approle/login")
	must(t, k.keeper.replace(t.Context(), present.generation-1, unknown))
	if n := p.Count("/approle/login") - before; n != 0 {
		t.Errorf("%d logins in place of a token that is gone", n)
	}
	// A caller who goes away leaves the login to the others.
	revoke(t, s, k)
	p.Set(transittest.Fault{Delay: 300 * time.Millisecond, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/login") }})
	ctx, cancel := context.WithCancel(t.Context())
	gone, here := make(chan error, 1), make(chan error, 1)
	go func() { _, err := k.Versions(ctx, keys.DEKKey); gone <- err }()
	go func() { here <- sing(t, k, keys.DEKKey, it) }()
	before = p.Count("/login")
	eventually(t, "the login", func() bool { return p.Count("/login") > before })
	cancel()
	wantError(t, <-gone, context.Canceled)
	must(t, <-here)
}

// TestRevokedAgain: the token that replaces a revoked one may be revoked before it is used. Callers do not notice, unless
// that goes on.
func TestRevokedAgain(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, s.appRole(t, p.URL, "r", nil))
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	for _, tt := range []struct {
		name  string
		times int32 // that a token is revoked on its way to Vault
		fine  bool
	}{{"once", 1, true}, {"twice", 2, true}, {"each time", 1000, false}} {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int32
			p.Set(transittest.Fault{Match: func(r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/decrypt/") && n.Add(1) <= tt.times {
					status, _, err := s.Try("POST", "/v1/auth/token/revoke-self", r.Header.Get("X-Vault-Token"), nil)
					if err != nil || status >= 400 {
						t.Errorf("revoking: %d, %v", status, err)
					}
				}
				return false
			}})
			err := sing(t, k, keys.DEKKey, it)
			if tt.fine {
				must(t, err)
				return
			}
			wantError(t, err, keys.ErrKMSUnavailable, errDenied)
			if got := n.Load(); got != 1+maxTries {
				t.Errorf("%d tries", got)
			}
		})
	}
}

// TestRotatedSecret: while the file holds a dead secret id callers learn why; a new one is taken up by itself.
func TestRotatedSecret(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	c := s.appRole(t, p.URL, "r", nil)
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	id, err := os.ReadFile(c.Login.SecretIDFile)
	must(t, err)
	s.Do(t, "POST", "/v1/auth/approle/role/r/secret-id/destroy", map[string]any{"secret_id": string(bytes.TrimSpace(id))})
	revoke(t, s, k)
	err = sing(t, k, keys.DEKKey, it)
	wantError(t, err, keys.ErrKMSUnavailable, ErrLogin)
	wantText(t, err.Error(), "auth/approle/login", "invalid")
	must(t, os.Remove(c.Login.SecretIDFile))
	err = sing(t, k, keys.DEKKey, it)
	wantError(t, err, keys.ErrKMSUnavailable, ErrLogin)
	wantText(t, err.Error(), "secret-id")
	writeSecret(t, c.Login.SecretIDFile, s.SecretID(t, "r"))
	must(t, sing(t, k, keys.DEKKey, it))
}

// TestGivenTokenEnds: nothing can heal it, and the message says so.
func TestGivenTokenEnds(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	log := new(journal)
	made := s.Do(t, "POST", "/v1/auth/token/create", map[string]any{"policies": []string{s.service}, "ttl": "1h", "renewable": false})
	c := withToken(s.URL, made["auth"].(map[string]any)["client_token"].(string), s.inst)
	c.Logger = log.logger()
	k := open(t, c)
	wantText(t, log.String(), "can't be renewed")
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	revoke(t, s, k)
	err := sing(t, k, keys.DEKKey, it)
	wantError(t, err, keys.ErrKMSUnavailable, ErrLogin)
	wantText(t, err.Error(), "look up the vault token", "403")
}

// TestDenied: a token that lives and lacks a permission. A fresh one is tried, seldom; when that has it, all is well.
func TestDenied(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	log := new(journal)
	var ahead atomic.Int64
	c := s.appRole(t, p.URL, "r", nil)
	c.Logger, c.Now = log.logger(), func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	s.PutPolicy(t, s.service, `path "auth/token/*" { capabilities = ["read", "update"] }`)
	ahead.Add(int64(deniedSpacing))
	first, err := k.keeper.current()
	must(t, err)
	err = sing(t, k, keys.DEKKey, it)
	wantError(t, err, keys.ErrKMSUnavailable, errDenied)
	wantText(t, err.Error(), "transit/decrypt/", "permission denied")
	wantText(t, log.String(), "its policy lacks this path", "path=transit/decrypt/")
	eventually(t, "the end of the token that was replaced", func() bool { return !lives(t, s, first.text.Reveal()) })
	for range 20 {
		wantError(t, sing(t, k, keys.DEKKey, it), keys.ErrKMSUnavailable)
	}
	if n := p.Count("/login"); n != 2 {
		t.Errorf("%d logins", n)
	}
	s.PutPolicy(t, "more", ServicePolicy("transit", s.inst))
	s.Do(t, "POST", "/v1/auth/approle/role/r", map[string]any{"token_policies": []string{s.service, "more"}})
	ahead.Add(int64(deniedSpacing))
	must(t, sing(t, k, keys.DEKKey, it))
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	role := s.appRole(t, s.URL, "r", nil)
	refused := func(path string) Config {
		c := role
		c.Login.SecretIDFile = path
		return c
	}
	sealed := transittest.Start(t, transittest.Options{})
	sealed.Seal(t)
	for _, tt := range []struct {
		name   string
		config Config
		want   error
		says   string
	}{
		{"wrong secret id", refused(file("wrong", "11111111-2222-3333-4444-555555555555")), ErrLogin, "auth/approle/login"},
		{"no file", refused(filepath.Join(dir, "none")), ErrLogin, "none"},
		{"empty file", refused(file("empty", " \n")), ErrLogin, "one line"},
		{"two lines", refused(file("two", "a\nb")), ErrLogin, "one line"},
		{"long file", refused(file("long", strings.Repeat("a", maxSecretFile+1))), ErrLogin, "one line"},
		{"control character", refused(file("control", "a\x00b")), ErrLogin, "one line"},
		{"folder", refused(dir), ErrLogin, "not a regular file"},
		{"pipe", refused(pipe), ErrLogin, "not a regular file"},
		{"wrong login mount", Config{Address: s.URL, Instance: s.inst, Logger: quiet(), Login: Login{
			Method: MethodAppRole, Mount: "other", RoleID: "r", SecretIDFile: role.Login.SecretIDFile}}, ErrLogin, "auth/other/login"},
		{"wrong token", withToken(s.URL, "hvs.wrong", s.inst), ErrLogin, "lookup-self"},
		{"nobody there", withToken("http://127.0.0.1:1", "hvs.token", s.inst), keys.ErrKMSUnavailable, "connection refused"},
		{"no Vault", withToken(answering(t, 200, "<html>"), "hvs.token", s.inst), keys.ErrKMSUnavailable, "not what vault says"},
		{"no Vault either", withToken(answering(t, 200, `{"data":{"ttl":"x"}}`), "hvs.token", s.inst), keys.ErrKMSUnavailable, "not what vault says"},
		{"a factor is missing", Config{Address: answering(t, 200, `{"auth":{"client_token":"","mfa_requirement":{}}}`), Instance: s.inst,
			Logger: quiet(), Login: role.Login}, ErrLogin, "without a token"},
		{"sealed", withToken(sealed.URL, "hvs.token", s.inst), keys.ErrKMSUnavailable, "sealed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(t.Context(), tt.config)
			wantError(t, err, tt.want)
			wantText(t, err.Error(), tt.says)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, role)
	wantError(t, err, context.Canceled)
}

// answering is a server that says always the same.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func TestSecretFilesOpenToOthers(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	log := new(journal)
	c := s.appRole(t, s.URL, "r", nil)
	must(t, os.Chmod(c.Login.SecretIDFile, 0o640))
	c.Logger = log.logger()
	k := open(t, c)
	wantText(t, log.String(), "others than its owner may use", c.Login.SecretIDFile)
	revoke(t, s, k)
	_, err := k.Versions(t.Context(), keys.DEKKey)
	must(t, err)
	if n := strings.Count(log.String(), "others than its owner"); n != 1 {
		t.Errorf("warned %d times", n)
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
