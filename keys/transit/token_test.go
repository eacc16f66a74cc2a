package transit

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

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
