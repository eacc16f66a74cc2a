package vault_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestWhoSeesWhat holds the starter policy: role, purpose and the view asked for.
func TestWhoSeesWhat(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	token := put(t, v, "u1", "phone", "13800138000")["phone"]
	const full, masked = "13800138000", "138****8000"
	for _, c := range []struct {
		role, purpose, view string
		shown, asView       string
		code                string // of the item, or of the call
	}{
		{"app", "service", "", full, "full", ""},
		{"app", "service", "full", full, "full", ""},
		{"app", "service", "masked", masked, "masked", ""},
		{"app", "support", "", masked, "masked", ""},
		{"app", "support", "full", "", "", "forbidden"},
		{"app", "ads", "", "", "", "consent_required"},
		{"app", "ads", "masked", "", "", "consent_required"},
		{"app", "sale", "", "", "", "purpose_not_allowed"},
		{"app", "", "", "", "", "malformed_request"},
		{"app", "service\n", "", "", "", "malformed_request"},
		{"app", "service", "everything", "", "", "forbidden"},
		{"support", "support", "", masked, "masked", ""},
		{"support", "support", "full", "", "", "forbidden"},
		{"support", "service", "", "", "", "purpose_not_allowed"},
		{"support", "ads", "", "", "", "purpose_not_allowed"},
		{"officer", "service", "", "", "", "forbidden"},
		{"operator", "service", "", "", "", "forbidden"},
		{"nobody", "service", "", "", "", "forbidden"},
		{"", "service", "", "", "", "forbidden"},
	} {
		call := vaulttest.Call("app", c.purpose)
		call.Principal.Role = c.role
		out, err := v.Detokenize(bg, call, vault.DetokenizeRequest{View: c.view, Tokens: []secret.Text{token}})
		var got vault.Revealed
		if err == nil {
			got = out[0]
		} else {
			got.Err = vault.AsError(err)
		}
		code := ""
		if got.Err != nil {
			code = got.Err.Code
		}
		if code != c.code || got.Value.Reveal() != c.shown || got.View != c.asView {
			t.Errorf("%s for %q, view %q: code %q view %q, want %q %q", c.role, c.purpose, c.view, code, got.View, c.code, c.asView)
		}
		if c.role == "app" || c.role == "support" || c.role == "operator" {
			fields, err := v.Get(bg, call, vault.GetRequest{Subject: "u1", View: c.view, Fields: []string{"phone"}})
			if code := codeOf(err); code != c.code || err == nil && (fields[0].Value.Reveal() != c.shown || fields[0].View != c.asView) {
				t.Errorf("get as %s for %q, view %q: %q, want %q", c.role, c.purpose, c.view, code, c.code)
			}
		}
	}
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return vault.AsError(err).Code
}

// TestFirstFaultIsTold: an item has one outcome, and of several faults the first of: the token's state, its audience,
// the field, the purpose, consent, the view.
func TestFirstFaultIsTold(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	at := newClock()
	v := another(t, in, func(c *vault.Config) { c.Now = at.now })
	value := secret.NewText("13800138000")
	put(t, v, "gone", "phone", "13800138000")
	dead := mint(t, v, vault.TokenizeItem{Subject: "gone", Field: "phone", Value: value, Audience: "support"})
	erase(t, v, "gone")
	expired := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: value, Audience: "support", TTL: time.Minute})
	foreign := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: value, Audience: "support"})
	good := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: value})
	at.move(time.Minute)
	tokens := []secret.Text{good, secret.NewText("tok_phone_x"), dead, good, expired, foreign, good}
	for _, c := range []struct {
		purpose, view string
		want          [7]string
	}{
		{"service", "", [7]string{"", "token_malformed", "subject_erased", "", "token_expired", "wrong_audience", ""}},
		{"sale", "full", [7]string{"purpose_not_allowed", "token_malformed", "subject_erased", "purpose_not_allowed", "token_expired", "wrong_audience", "purpose_not_allowed"}},
		{"ads", "full", [7]string{"consent_required", "token_malformed", "subject_erased", "consent_required", "token_expired", "wrong_audience", "consent_required"}},
		{"support", "full", [7]string{"forbidden", "token_malformed", "subject_erased", "forbidden", "token_expired", "wrong_audience", "forbidden"}},
	} {
		out, err := v.Detokenize(bg, vaulttest.Call("app", c.purpose), vault.DetokenizeRequest{View: c.view, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		for i := range out {
			got := ""
			if out[i].Err != nil {
				got = out[i].Err.Code
			}
			if got != c.want[i] || (got == "") == out[i].Value.Empty() {
				t.Errorf("for %s item %d answers %q, want %q", c.purpose, i, got, c.want[i])
			}
		}
	}
}

// TestSingleUse: of 64 callers at once exactly one gets the value, through one vault or two.
func TestSingleUse(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	token := mint(t, in, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), SingleUse: true})
	var got, used atomic.Int32
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range 64 {
		all.Go(func() {
			<-begin
			value, err := reveal(t, vaults[i%2], token)
			switch {
			case err == nil && value == "13800138000":
				got.Add(1)
			case errors.Is(err, vault.ErrTokenUsed) && value == "":
				used.Add(1)
			}
		})
	}
	close(begin)
	all.Wait()
	if got.Load() != 1 || used.Load() != 63 {
		t.Errorf("%d callers got the value and %d were told that it is used", got.Load(), used.Load())
	}
}

// TestSingleUseNotSpent: when a token cannot be marked as used, its value does not leave; when it died on the way, that
// is what is told.
func TestSingleUseNotSpent(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	token := mint(t, in, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), SingleUse: true})
	app := vaulttest.Call("app", "service")
	v := another(t, in, func(c *vault.Config) { c.Store = bend(in.Store) })
	out, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: []secret.Text{token}})
	wantCode(t, err, vault.ErrStoreUnavailable)
	if out != nil {
		t.Error("values leave beside the error")
	}
	before := &beforeUpdate{Store: in.Store}
	v = another(t, in, func(c *vault.Config) { c.Store = before })
	before.do = func() { erase(t, in, "u1") }
	if got := code(t, v, token); got != "subject_erased" {
		t.Errorf("erased while it was opened, the token answers %q", got)
	}
}

// beforeUpdate does something before the next Update.
type beforeUpdate struct {
	store.Store
	do func()
}

func (s *beforeUpdate) Update(ctx context.Context, fn func(store.Tx) error) error {
	if do := s.do; do != nil {
		s.do = nil
		do()
	}
	return s.Store.Update(ctx, fn)
}
