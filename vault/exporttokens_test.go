package vault_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// tokenList goes through all pages and fails on a person that comes twice.
func tokenList(t testing.TB, v *vaulttest.Installation, q vault.TokenQuery) map[string]map[string]secret.Text {
	t.Helper()
	all := map[string]map[string]secret.Text{}
	for {
		out, next, err := v.ListTokens(bg, vaulttest.Call("operator", ""), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) == 0 && next != "" {
			t.Error("an empty page has a cursor")
		}
		for _, s := range out {
			if _, again := all[s.Subject]; again || s.Err != nil {
				t.Fatalf("%q comes twice, or with %v", s.Subject, s.Err)
			}
			all[s.Subject] = map[string]secret.Text{}
			for _, f := range s.Tokens {
				if _, again := all[s.Subject][f.Field]; again {
					t.Errorf("%s has two tokens of %s", s.Subject, f.Field)
				}
				all[s.Subject][f.Field] = f.Token
			}
		}
		if q.Cursor = next; next == "" {
			return all
		}
	}
}

func TestTokensOfEverybody(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))})
	c := newCrowd(t, v, 10)
	for _, limit := range []int{1, 3, 10, 1000} {
		got := tokenList(t, v, vault.TokenQuery{Page: vault.Page{Limit: limit}})
		if len(got) != 10 {
			t.Errorf("limit %d: %d people", limit, len(got))
		}
		for id, tokens := range c.tokens {
			if len(got[id]) != len(tokens) {
				t.Errorf("limit %d: %s has %d tokens, want %d", limit, id, len(got[id]), len(tokens))
			}
			for field, token := range tokens {
				if !got[id][field].Equal(token) {
					t.Errorf("limit %d: %s of %s has another token", limit, field, id)
				}
			}
		}
	}
	if log.Len() > 0 {
		t.Errorf("failures are logged: %s", &log)
	}
}

// TestLastingTokensOnly: of nobody's audience, or of the one that is named, and none that ends by itself.
func TestLastingTokensOnly(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	phone := put(t, v, "u1", "phone", "13800138000", "name", "张三")["phone"]
	put(t, v, "u2", "name", "李四")
	item := func(change func(*vault.TokenizeItem)) secret.Text {
		one := vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000")}
		change(&one)
		return mint(t, v, one)
	}
	if _, err := v.AddService(bg, vaulttest.Call("operator", ""), "dispatch", "app"); err != nil {
		t.Fatal(err)
	}
	theirs := item(func(i *vault.TokenizeItem) { i.Audience = "dispatch" })
	item(func(i *vault.TokenizeItem) { i.TTL = time.Hour })
	item(func(i *vault.TokenizeItem) { i.SingleUse = true })
	item(func(i *vault.TokenizeItem) { i.Audience, i.TTL = "dispatch", time.Hour })
	item(func(i *vault.TokenizeItem) { i.Audience, i.SingleUse = "dispatch", true })
	if err := v.DisableService(bg, vaulttest.Call("operator", ""), "dispatch"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		query  vault.TokenQuery
		phone  secret.Text // of u1
		n1, n2 int         // tokens of u1 and u2
	}{
		{"nobody's", vault.TokenQuery{}, phone, 2, 1},
		{"one field", vault.TokenQuery{Fields: []string{"phone"}}, phone, 1, 0},
		{"two fields", vault.TokenQuery{Fields: []string{"email", "phone"}}, phone, 1, 0},
		{"no field", vault.TokenQuery{Fields: []string{}}, secret.Text{}, 0, 0},
		{"an audience, disabled by now", vault.TokenQuery{Audience: "dispatch"}, theirs, 1, 0},
		{"one without tokens", vault.TokenQuery{Audience: "support"}, secret.Text{}, 0, 0},
	} {
		got := tokenList(t, v, c.query)
		if len(got) != 2 || len(got["u1"]) != c.n1 || len(got["u2"]) != c.n2 || !got["u1"]["phone"].Equal(c.phone) {
			t.Errorf("%s: %d and %d tokens", c.name, len(got["u1"]), len(got["u2"]))
		}
	}
	if _, err := v.Revoke(bg, vaulttest.Call("app", ""), []secret.Text{phone}); err != nil {
		t.Fatal(err)
	}
	if got := tokenList(t, v, vault.TokenQuery{}); len(got["u1"]) != 1 {
		t.Error("a revoked token is listed")
	}
}
