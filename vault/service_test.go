package vault_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	operator := vaulttest.Call("operator", "")
	for name, key := range v.Key {
		who, err := v.Authenticate(bg, key)
		if err != nil || who != (vault.Principal{Service: name, Role: name, Credential: key.Reveal()[3:13]}) {
			t.Errorf("%s authenticates as %+v, %v", name, who, err)
		}
	}
	app := v.Key["app"].Reveal()
	stranger, err := vault.Mint(rand.Reader, "app", "app")
	if err != nil {
		t.Fatal(err)
	}
	// Our id with another secret, its checksum right: the id and the service exist.
	forged := forge(t, app[:13])
	for name, key := range map[string]string{
		"nothing": "", "prefix": "ck_", "one short": app[:len(app)-1], "one more": app + "0", "mistyped": app[:20] + flipped(app[20]) + app[21:],
		"checksum": app[:len(app)-1] + flipped(app[len(app)-1]), "other prefix": "tk_" + app[3:], "never made": stranger.Key.Reveal(),
		"another's secret": forged, "spaces": " " + app, "id in capitals": strings.ToUpper(app), "binary": strings.Repeat("\x00", len(app)),
	} {
		if who, err := v.Authenticate(bg, secret.NewText(key)); err != vault.ErrUnauthenticated || who != (vault.Principal{}) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	more, err := v.AddKey(bg, operator, "app")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.DisableKey(bg, operator, "app", app[3:13]); err != nil {
		t.Fatal(err)
	}
	_, err = v.Authenticate(bg, v.Key["app"])
	wantCode(t, err, vault.ErrUnauthenticated)
	if who, err := v.Authenticate(bg, more.Key); err != nil || who.Service != "app" {
		t.Errorf("the service's other key: %+v, %v", who, err)
	}
	if err := v.DisableService(bg, operator, "app"); err != nil {
		t.Fatal(err)
	}
	_, err = v.Authenticate(bg, more.Key)
	wantCode(t, err, vault.ErrUnauthenticated)
	_, err = v.AddKey(bg, operator, "app")
	wantCode(t, err, vault.ErrConflict)
	_, err = v.AddService(bg, operator, "app", "app")
	wantCode(t, err, vault.ErrConflict)
}

func flipped(b byte) string {
	if b == 'a' {
		return "b"
	}
	return "a"
}

// forge makes a credential with the id of prefix ("ck_" and id), another secret and a right checksum.
func forge(t testing.TB, prefix string) string {
	t.Helper()
	made, err := vault.Mint(&idReader{id: prefix[3:]}, "app", "app")
	if err != nil || made.Key.Reveal()[:13] != prefix {
		t.Fatalf("forging a credential: %v", err)
	}
	return made.Key.Reveal()
}

// idReader gives randomness that makes an id come out as wanted.
type idReader struct {
	id string
	n  int
}

func (r *idReader) Read(p []byte) (int, error) {
	const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for i := range p {
		p[i] = byte(r.n)
		if r.n < len(r.id) {
			p[i] = byte(strings.IndexByte(base62, r.id[r.n]))
		}
		r.n++
	}
	return len(p), nil
}

func TestServices(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	operator := vaulttest.Call("operator", "")
	for _, c := range []struct {
		name, role string
		want       *vault.Error
	}{
		{"app", "app", vault.ErrConflict}, {"billing", "nobody", vault.ErrMalformed}, {"billing", "", vault.ErrMalformed},
		{"", "app", vault.ErrMalformed}, {"Billing", "app", vault.ErrMalformed}, {"1st", "app", vault.ErrMalformed},
		{"a b", "app", vault.ErrMalformed}, {strings.Repeat("x", 65), "app", vault.ErrMalformed},
	} {
		made, err := v.AddService(bg, operator, c.name, c.role)
		wantCode(t, err, c.want)
		if made != (vault.NewCredential{}) {
			t.Errorf("%s: a credential beside the error", c.name)
		}
	}
	made, err := v.AddService(bg, operator, "billing", "support")
	if err != nil || made.Service != "billing" || made.Role != "support" {
		t.Fatalf("%+v, %v", made, err)
	}
	if who, err := v.Authenticate(bg, made.Key); err != nil || who != (vault.Principal{Service: "billing", Role: "support", Credential: made.ID}) {
		t.Errorf("a new service authenticates as %+v, %v", who, err)
	}
	for range 99 {
		if _, err := v.AddKey(bg, operator, "billing"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = v.AddKey(bg, operator, "billing")
	wantCode(t, err, vault.ErrConflict)
	for name, err := range map[string]error{
		"another's key":   v.DisableKey(bg, operator, "app", made.ID),
		"no key":          v.DisableKey(bg, operator, "billing", "0000000000"),
		"no id":           v.DisableKey(bg, operator, "billing", strings.Repeat("0", 1000)),
		"no service":      v.DisableKey(bg, operator, "nobody", made.ID),
		"no such service": v.DisableService(bg, operator, strings.Repeat("x", 1000)),
	} {
		if vault.AsError(err).Code != "not_found" {
			t.Errorf("%s: %v", name, err)
		}
	}
	operator.Principal.Credential = v.Key["operator"].Reveal()[3:13]
	wantCode(t, v.DisableKey(bg, operator, "operator", operator.Principal.Credential), vault.ErrConflict)
	wantCode(t, v.DisableService(bg, operator, "operator"), vault.ErrConflict)

	var names []string
	page := vault.Page{Limit: 2}
	for {
		some, next, err := v.Services(bg, operator, page)
		if err != nil || len(some) > 2 {
			t.Fatalf("%d services, %v", len(some), err)
		}
		for _, s := range some {
			names = append(names, fmt.Sprintf("%s/%s/%d", s.Name, s.Role, len(s.Keys)))
		}
		if page.Cursor = next; next == "" {
			break
		}
	}
	want := "app/app/1 billing/support/100 officer/officer/1 operator/operator/1 support/support/1"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the list is %s, want %s", got, want)
	}
	_, _, err = v.Services(bg, operator, vault.Page{Cursor: "?"})
	wantCode(t, err, vault.ErrMalformed)
}

// TestRoleThatIsGone: a service whose role the policy does not have may do nothing.
func TestRoleThatIsGone(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	s := newScene(t, v, "")
	for _, m := range everyMethod(s, "") {
		call := m.as("app")
		call.Principal.Role = "retired"
		_, err := m.call(v, call)
		wantCode(t, err, vault.ErrForbidden)
	}
}
