package transit

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// hurried is a clock that tests set ahead.
type hurried struct{ ahead atomic.Int64 }

func (h *hurried) now() time.Time          { return time.Now().Add(time.Duration(h.ahead.Load())) }
func (h *hurried) forward(d time.Duration) { h.ahead.Add(int64(d)) }

// destroySecretID makes the secret id in c's file a dead one.
func destroySecretID(t *testing.T, s *stand, role string, c Config) {
	t.Helper()
	id, err := os.ReadFile(c.Login.SecretIDFile)
	must(t, err)
	s.Do(t, "POST", "/v1/auth/approle/role/"+role+"/secret-id/destroy", map[string]any{"secret_id": string(bytes.TrimSpace(id))})
}

// TestRotatedSecret: while the file holds a dead secret id callers learn why; a new one is taken up by itself.
func TestRotatedSecret(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	c := s.appRole(t, p.URL, "r", nil)
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	destroySecretID(t, s, "r", c)
	revoke(t, s, k)
	err := sing(t, k, keys.DEKKey, it)
	wantError(t, err, keys.ErrKMSUnavailable, ErrLogin)
	wantText(t, err.Error(), "auth/approle/login", "invalid", "expired or used up")
	must(t, os.Remove(c.Login.SecretIDFile))
	err = sing(t, k, keys.DEKKey, it)
	wantError(t, err, keys.ErrKMSUnavailable, ErrLogin)
	wantText(t, err.Error(), "secret-id")
	writeSecret(t, c.Login.SecretIDFile, s.SecretID(t, "r"))
	must(t, sing(t, k, keys.DEKKey, it))
}

// TestDeadSecretIDDoesNotLockOut: Vault, as it is by default, locks a role out after five refused logins. However many
// calls need a token, and however its renewal goes on, the dead secret id reaches it once, and the right one is taken up.
func TestDeadSecretIDDoesNotLockOut(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	const wanted = 30 // logins
	for _, tt := range []struct {
		name    string
		options map[string]any
		// want makes wanted calls for which only a login would do, and returns their errors.
		want func(t *testing.T, k *Transit, it wrapped, clock *hurried) []error
	}{
		{"token revoked", nil, func(t *testing.T, k *Transit, it wrapped, clock *hurried) []error {
			revoke(t, s, k)
			return callers(t, k, it, clock, wanted)
		}},
		{"token runs out", map[string]any{"token_type": "batch", "token_ttl": "1s"}, func(t *testing.T, k *Transit, it wrapped, clock *hurried) []error {
			eventually(t, "the end of the token", func() bool { return sing(t, k, keys.DEKKey, it) != nil })
			return callers(t, k, it, clock, wanted)
		}},
		{"token lives", map[string]any{"token_type": "batch", "token_ttl": "1h"}, func(t *testing.T, k *Transit, it wrapped, clock *hurried) []error {
			present, err := k.keeper.current()
			must(t, err)
			var errs []error
			for range wanted { // what the keeper does when a token is due
				clock.forward(2 * time.Second)
				errs = append(errs, k.keeper.keep(present))
				must(t, sing(t, k, keys.DEKKey, it))
			}
			return errs
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := new(hurried)
			role := strings.ReplaceAll(tt.name, " ", "-")
			p := transittest.NewProxy(t, s.URL)
			c := s.appRole(t, p.URL, role, tt.options)
			c.Now = clock.now
			k := open(t, c)
			it := wrapSome(t, k, keys.DEKKey, 1)[0]
			destroySecretID(t, s, role, c)
			logins := p.Count("/approle/login")
			before, err := k.keeper.current()
			must(t, err)
			last := ""
			for _, err := range tt.want(t, k, it, clock) {
				wantError(t, err, ErrLogin)
				last = err.Error()
			}
			wantText(t, last, "invalid role or secret ID", "another secret id is tried at once, this one not before")
			if n := p.Count("/approle/login") - logins; n > 1 {
				t.Errorf("%d logins with a dead secret id", n)
			}
			writeSecret(t, c.Login.SecretIDFile, s.SecretID(t, role))
			if strings.HasSuffix(role, "lives") {
				must(t, k.keeper.keep(before))
			}
			must(t, sing(t, k, keys.DEKKey, it))
			now, err := k.keeper.current()
			must(t, err)
			if now.generation == before.generation {
				t.Error("the right secret id was not taken up")
			}
		})
	}
}

// callers calls n times, from several goroutines, each call later than the spacing of logins after the one before.
func callers(t *testing.T, k *Transit, it wrapped, clock *hurried, n int) []error {
	t.Helper()
	errs := make([]error, n)
	var next atomic.Int64
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				clock.forward(2 * unknownSpacing)
				_, errs[i] = k.Unwrap(t.Context(), keys.DEKKey, []keys.UnwrapItem{it.UnwrapItem})
			}
		})
	}
	done.Wait()
	return errs
}

// TestLockedOut: others have locked the role out. A right secret id is refused then, the message says what that can be,
// and it is tried again by itself, since Vault does not count that.
func TestLockedOut(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	clock := new(hurried)
	p := transittest.NewProxy(t, s.URL)
	c := s.appRole(t, p.URL, "r", nil)
	c.Now = clock.now
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	for i := range 5 {
		status, _, err := s.Try("POST", "/v1/auth/approle/login", "", map[string]any{"role_id": c.Login.RoleID, "secret_id": fmt.Sprint("wrong", i)})
		must(t, err)
		if status != http.StatusBadRequest {
			t.Fatalf("status %d", status)
		}
	}
	revoke(t, s, k)
	var last error
	for range 20 {
		clock.forward(2 * unknownSpacing)
		last = sing(t, k, keys.DEKKey, it)
		wantError(t, last, keys.ErrKMSUnavailable, ErrLogin)
	}
	wantText(t, last.Error(), "status 403", "locked the role out", "sys/locked-users/<mount accessor>/unlock/<role id>")
	if strings.Contains(last.Error(), c.Login.RoleID) {
		t.Error("the message shows the role id")
	}
	if n := p.Count("/approle/login") - 1; n != 1 {
		t.Errorf("%d logins", n)
	}
	mounts := s.Do(t, "GET", "/v1/sys/auth", nil)
	accessor := mounts["approle/"].(map[string]any)["accessor"].(string)
	s.Do(t, "POST", "/v1/sys/locked-users/"+accessor+"/unlock/"+c.Login.RoleID, nil)
	wantError(t, sing(t, k, keys.DEKKey, it), ErrLogin)
	clock.forward(otherRest)
	must(t, sing(t, k, keys.DEKKey, it))
}

// TestRefusedCredentialIsHeldBack with the other methods, whose logins Vault does not count.
func TestRefusedCredentialIsHeldBack(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	jwt := new(atomic.Value)
	jwt.Store("j.w.t")
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		writeSecret(t, path, text)
		return path
	}
	jwtFile := file("jwt", "j.w.t")
	sinkFile := file("sink", s.Token(t, time.Hour, s.service))
	for _, tt := range []struct {
		name     string
		config   Config
		presents string // path
		says     string
		spoil    func()
		mend     func() // nil: nothing does
	}{
		{"kubernetes", Config{
			Address: kubernetesAt(t, s, "kubernetes", "r", jwt, time.Hour), Login: Login{Method: MethodKubernetes, Role: "r", JWTFile: jwtFile},
		}, "/kubernetes/login", "another JWT is tried at once", func() { jwt.Store("n.e.w") }, func() { writeSecret(t, jwtFile, "n.e.w") }},
		{"token file", Config{Address: s.URL, Login: Login{Method: MethodTokenFile, TokenFile: sinkFile}},
			"/lookup-self", "another token is tried at once", func() {}, func() { writeSecret(t, sinkFile, s.Token(t, time.Hour, s.service)) }},
		{"given", Config{Address: s.URL, Login: Login{Method: MethodToken, Token: secret.NewText(s.Token(t, time.Hour, s.service))}},
			"/lookup-self", "again not before", func() {}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := new(hurried)
			p := transittest.NewProxy(t, tt.config.Address)
			c := tt.config
			c.Address, c.Instance, c.Logger, c.Now, c.Timeout = p.URL, s.inst, quiet(), clock.now, 20*time.Second
			k := open(t, c)
			it := wrapSome(t, k, keys.DEKKey, 1)[0]
			tt.spoil()
			revoke(t, s, k)
			for n := range 2 {
				var last error
				for _, last = range callers(t, k, it, clock, 20) {
					wantError(t, last, keys.ErrKMSUnavailable, ErrLogin)
				}
				wantText(t, last.Error(), tt.says)
				if got := p.Count(tt.presents); got != n+2 { // one by Open
					t.Errorf("round %d: %d requests of %s", n, got, tt.presents)
				}
				clock.forward(otherRest)
			}
			if tt.mend != nil {
				tt.mend()
				must(t, sing(t, k, keys.DEKKey, it))
			}
		})
	}
}

// TestRefusals counts what is presented by who asks each ten seconds for a day.
func TestRefusals(t *testing.T) {
	status := func(code int) error { return &refusal{code, "refused"} }
	for _, tt := range []struct {
		name    string
		of      func(func() time.Time) refusals
		err     error
		a, b, c string // credential on even and odd times, and a second part
		want    int
	}{
		{"invalid secret id", ofAppRole, status(400), "a", "a", "", 24},
		{"locked out", ofAppRole, status(403), "a", "a", "", 720},
		{"no token came", ofAppRole, ErrLogin, "a", "a", "", 720},
		{"invalid JWT", ofKubernetes, status(400), "a", "a", "", 720},
		{"away", ofAppRole, keys.ErrKMSUnavailable, "a", "a", "", 8640},
		{"fine", ofAppRole, nil, "a", "a", "", 8640},
		{"another each time", ofAppRole, status(400), "a", "b", "", 8640},
		{"the same bytes in other parts", ofAppRole, status(400), "ab", "a", "b", 8640},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := time.Unix(1_700_000_000, 0)
			r := tt.of(func() time.Time { return at })
			n := 0
			login := func() (token, error) { n++; return token{}, tt.err }
			for i := range 8640 {
				parts := []secret.Text{secret.NewText(tt.a), secret.NewText("")}
				if i%2 == 1 {
					parts = []secret.Text{secret.NewText(tt.b), secret.NewText(tt.c)}
				}
				if _, err := r.present(login, parts...); !errors.Is(err, tt.err) {
					t.Fatalf("%v, want %v", err, tt.err)
				}
				at = at.Add(10 * time.Second)
			}
			if n != tt.want {
				t.Errorf("presented %d times, want %d", n, tt.want)
			}
		})
	}
	t.Run("a success clears it", func(t *testing.T) {
		now := time.Now()
		r, n := ofAppRole(func() time.Time { return now }), 0
		for i, err := range []error{status(400), nil, status(400)} {
			_, _ = r.present(func() (token, error) { n++; return token{}, err }, secret.NewText(fmt.Sprint(i%2)))
		}
		if n != 3 {
			t.Errorf("presented %d times", n)
		}
	})
}

// TestRefusalHidesTheSecretID that Vault quotes in one of its answers.
func TestRefusalHidesTheSecretID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id")
	writeSecret(t, file, "needle-0815")
	_, err := Open(t.Context(), Config{
		Address: answering(t, 400, `{"errors":["invalid secret_id \"needle-0815\""]}`), Instance: keys.InstanceID{1}, Logger: quiet(),
		Login: Login{Method: MethodAppRole, RoleID: "r", SecretIDFile: file},
	})
	wantError(t, err, ErrLogin)
	wantText(t, err.Error(), "not shown")
	if strings.Contains(err.Error(), "needle") {
		t.Error("an error shows the secret id")
	}
}
