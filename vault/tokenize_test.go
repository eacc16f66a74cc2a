package vault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestLargeBatch: 1,000 items, 300 of them bad in ten ways, answer 1,000 outcomes in order.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "service")
	put(t, v, "gone", "phone", "13800138000")
	erase(t, v, "gone")
	bad := []struct {
		change func(*vault.TokenizeItem)
		want   *vault.Error
	}{
		{func(it *vault.TokenizeItem) { it.Subject = "a b" }, vault.ErrSubjectID},
		{func(it *vault.TokenizeItem) { it.Subject = "13800138000" }, vault.ErrIdentifyingSubject},
		{func(it *vault.TokenizeItem) { it.Subject = "gone" }, vault.ErrSubjectErased},
		{func(it *vault.TokenizeItem) { it.Format = "digits" }, vault.ErrFormat},
		{func(it *vault.TokenizeItem) { it.TTL = -time.Second }, vault.ErrMalformed},
		{func(it *vault.TokenizeItem) { it.TTL = 11 * 365 * 24 * time.Hour }, vault.ErrMalformed},
		{func(it *vault.TokenizeItem) { it.Audience = "nobody" }, vault.ErrUnknownAudience},
		{func(it *vault.TokenizeItem) { it.Audience = "No Body" }, vault.ErrUnknownAudience},
		{func(it *vault.TokenizeItem) { it.Field = "shoe_size" }, vault.ErrUnknownField},
		{func(it *vault.TokenizeItem) { it.Value = secret.NewText("12345") }, vault.ErrInvalidValue},
	}
	items, want := make([]vault.TokenizeItem, 1000), make([]*vault.Error, 1000)
	for i := range items {
		items[i] = vault.TokenizeItem{Subject: fmt.Sprintf("u%d", i/2), Field: "phone", Value: secret.NewText(fmt.Sprintf("138%08d", i))}
		if i%10 >= 7 {
			b := bad[i/10%10]
			b.change(&items[i])
			want[i] = b.want
		}
	}
	out, err := v.Tokenize(bg, app, items)
	if err != nil || len(out) != len(items) {
		t.Fatalf("%d outcomes, %v", len(out), err)
	}
	last := map[string]string{} // the last value of each subject is what its token opens to
	tokens := make([]secret.Text, len(items))
	for i := range out {
		if (out[i].Err == nil) != (want[i] == nil) || want[i] != nil && !errors.Is(out[i].Err, want[i]) || (want[i] == nil) == out[i].Token.Empty() {
			t.Errorf("item %d: %v, want %v", i, out[i].Err, want[i])
		}
		tokens[i] = out[i].Token
		if want[i] == nil {
			last[items[i].Subject] = items[i].Value.Reveal()
		}
	}
	revealed, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: tokens})
	if err != nil || len(revealed) != len(tokens) {
		t.Fatalf("%d values, %v", len(revealed), err)
	}
	for i := range revealed {
		if want[i] != nil {
			wantCode(t, revealed[i].Err, vault.ErrTokenMalformed)
		} else if revealed[i].Err != nil || revealed[i].Value.Reveal() != last[items[i].Subject] || revealed[i].Field != "phone" {
			t.Errorf("token %d opens to another value (%v)", i, revealed[i].Err)
		}
	}
	_, err = v.Tokenize(bg, app, make([]vault.TokenizeItem, 1001))
	wantCode(t, err, vault.ErrMalformed)
	_, err = v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: make([]secret.Text, 1001)})
	wantCode(t, err, vault.ErrMalformed)
	_, err = v.Inspect(bg, app, make([]secret.Text, 1001))
	wantCode(t, err, vault.ErrMalformed)
	_, err = v.Revoke(bg, app, make([]secret.Text, 1001))
	wantCode(t, err, vault.ErrMalformed)
}

func TestDuplicatesInOneBatch(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "service")
	item := func(field, value string) vault.TokenizeItem {
		return vault.TokenizeItem{Subject: "u1", Field: field, Value: secret.NewText(value)}
	}
	a, b := long("one"), long("two")
	out, err := v.Tokenize(bg, app, []vault.TokenizeItem{
		item("phone", "13800138000"), item("text", a), item("phone", "13800138000"), item("text", "short"),
		item("name", "张三"), item("text", b), item("phone", "13900139000"), item("text", b),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"13900139000", b, "13900139000", b, "张三", b, "13900139000", b}
	for i := range out {
		if got, err := reveal(t, v, out[i].Token); out[i].Err != nil || err != nil || got != want[i] {
			t.Errorf("item %d opens to another value than the field's last (%v)", i, err)
		}
	}
	if !out[0].Token.Equal(out[2].Token) || !out[1].Token.Equal(out[7].Token) || out[0].Token.Equal(out[1].Token) {
		t.Error("a field has one lasting token")
	}
	if rows := dump(t, v.Store, store.Index); len(rows) != 2 {
		t.Errorf("%d index rows for one phone and one name", len(rows))
	}
	twice, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: []secret.Text{out[0].Token, out[4].Token, out[0].Token}})
	if err != nil || !twice[0].Value.Equal(twice[2].Value) || twice[0].Err != nil || twice[1].Value.Reveal() != "张三" {
		t.Errorf("a token twice in one call: %v", err)
	}
	single := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "name", Value: secret.NewText("张三"), SingleUse: true})
	twice, err = v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: []secret.Text{single, single}})
	if err != nil || twice[0].Err != nil || !errors.Is(twice[1].Err, vault.ErrTokenUsed) || !twice[1].Value.Empty() {
		t.Errorf("a single-use token twice in one call: %v, %v, %v", twice[0].Err, twice[1].Err, err)
	}
}

func TestAudience(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	value := secret.NewText("13800138000")
	plain := put(t, v, "u1", "phone", "13800138000")["phone"]
	ours := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: value, Audience: "support"})
	again := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: value, Audience: "support"})
	other := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: value, Audience: "app"})
	if !ours.Equal(again) || ours.Equal(plain) || ours.Equal(other) || other.Equal(plain) {
		t.Error("each audience has one lasting token of its own")
	}
	support := vaulttest.Call("support", "support")
	out, err := v.Detokenize(bg, support, vault.DetokenizeRequest{Tokens: []secret.Text{plain, ours, other}})
	if err != nil || out[0].Err != nil || out[1].Err != nil || !errors.Is(out[2].Err, vault.ErrWrongAudience) || !out[2].Value.Empty() {
		t.Errorf("as support: %v, %v", out, err)
	}
	if code(t, v, ours) != "wrong_audience" || code(t, v, other) != "" {
		t.Error("the app opens what is for support, or not what is for itself")
	}
	// The audience is the service, not its role.
	twin, err := v.AddService(bg, vaulttest.Call("operator", ""), "support-2", "support")
	if err != nil {
		t.Fatal(err)
	}
	support.Principal = vault.Principal{Service: twin.Service, Role: twin.Role, Credential: twin.ID}
	out, err = v.Detokenize(bg, support, vault.DetokenizeRequest{Tokens: []secret.Text{ours}})
	if err != nil || !errors.Is(out[0].Err, vault.ErrWrongAudience) {
		t.Errorf("another service of that role: %v, %v", out, err)
	}
	states, err := v.Inspect(bg, vaulttest.Call("app", ""), []secret.Text{ours, plain})
	if err != nil || states[0].Audience != "support" || states[1].Audience != "" || states[0].State != "active" {
		t.Errorf("inspect: %+v, %v", states, err)
	}
}

func TestTokenStates(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	time24 := newClock()
	v := another(t, in, func(c *vault.Config) { c.Now = time24.now })
	app := vaulttest.Call("app", "service")
	put(t, v, "u1", "phone", "13800138000", "name", "张三")
	put(t, v, "u2", "phone", "13800138000")
	item := vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000")}
	with := func(change func(*vault.TokenizeItem)) secret.Text {
		it := item
		change(&it)
		return mint(t, v, it)
	}
	ttl := with(func(it *vault.TokenizeItem) { it.TTL = time.Hour })
	if same := with(func(it *vault.TokenizeItem) { it.TTL = time.Hour }); same.Equal(ttl) {
		t.Error("a token with a time to live is new each time")
	}
	used := with(func(it *vault.TokenizeItem) { it.SingleUse = true })
	lasting := with(func(*vault.TokenizeItem) {})
	erasedField := with(func(it *vault.TokenizeItem) { it.Field, it.Value = "name", secret.NewText("张三") })
	erasedSubject := with(func(it *vault.TokenizeItem) { it.Subject = "u2" })
	if got, err := reveal(t, v, used); err != nil || got != "13800138000" {
		t.Errorf("a single-use token: %v", err)
	}
	out, err := v.Revoke(bg, app, []secret.Text{lasting, lasting, used, secret.NewText("tok_x")})
	if err != nil || out[0].State != "revoked" || out[1].State != "revoked" || out[2].State != "used" || !errors.Is(out[3].Err, vault.ErrTokenMalformed) {
		t.Errorf("revoke: %+v, %v", out, err)
	}
	fresh := with(func(*vault.TokenizeItem) {})
	if fresh.Equal(lasting) || code(t, v, fresh) != "" || code(t, v, lasting) != "token_revoked" {
		t.Error("after revocation asking again mints a new token, and the old one stays dead")
	}
	if _, err := v.EraseField(bg, app, "u1", "name"); err != nil {
		t.Fatal(err)
	}
	erase(t, v, "u2")
	time24.move(time.Hour - time.Millisecond)
	if got := code(t, v, ttl); got != "" {
		t.Errorf("a millisecond before its end a token answers %q", got)
	}
	time24.move(time.Millisecond)
	stranger, malformed := with(func(it *vault.TokenizeItem) { it.SingleUse = true }), secret.NewText(ttl.Reveal()[:len(ttl.Reveal())-1]+"-")
	write(t, in.Store, tokenRowOf(t, in, v, stranger))
	for _, c := range []struct {
		token       secret.Text
		code, state string
	}{
		{fresh, "", "active"}, {ttl, "token_expired", "expired"}, {used, "token_used", "used"}, {lasting, "token_revoked", "revoked"},
		{erasedField, "field_erased", "field_erased"}, {erasedSubject, "subject_erased", "subject_erased"},
		{stranger, "token_unknown", ""}, {malformed, "token_malformed", ""}, {secret.NewText(""), "token_malformed", ""},
	} {
		if got := code(t, v, c.token); got != c.code {
			t.Errorf("a token answers %q, want %q", got, c.code)
		}
		states, err := v.Inspect(bg, app, []secret.Text{c.token})
		if err != nil || states[0].State != c.state || c.state == "" && states[0].Err.Code != c.code {
			t.Errorf("inspect: %+v, %v, want %q", states, err, c.state)
		}
	}
	states, err := v.Inspect(bg, app, []secret.Text{ttl, fresh})
	if err != nil || states[0].Expires.IsZero() || states[0].Field != "phone" || !states[1].Expires.IsZero() || states[1].Format != "opaque" {
		t.Errorf("inspect: %+v, %v", states, err)
	}
}

// tokenRowOf finds the row that a token's opening turns into a marker, and returns it as deleted.
func tokenRowOf(t *testing.T, in, v *vaulttest.Installation, token secret.Text) row {
	t.Helper()
	before := dump(t, in.Store, store.Tokens)
	if got := code(t, v, token); got != "" {
		t.Fatalf("a single-use token answers %q", got)
	}
	for i, r := range dump(t, in.Store, store.Tokens) {
		if string(r.value) != string(before[i].value) {
			return row{r.ks, r.key, nil}
		}
	}
	t.Fatal("opening a single-use token changed no row")
	return row{}
}

// TestUsedTokensDoNotFillASubject: what was opened does not count among the tokens a subject can have.
func TestUsedTokensDoNotFillASubject(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	v = another(t, v, func(c *vault.Config) { c.Audit = new(noLog) })
	app := vaulttest.Call("app", "service")
	items := make([]vault.TokenizeItem, 1000)
	for i := range items {
		items[i] = vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), SingleUse: true}
	}
	for round := range 3 {
		out, err := v.Tokenize(bg, app, items)
		if err != nil {
			t.Fatal(err)
		}
		tokens := make([]secret.Text, len(out))
		for i := range out {
			if out[i].Err != nil {
				t.Fatalf("round %d, item %d: %v", round, i, out[i].Err)
			}
			tokens[i] = out[i].Token
		}
		if _, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: tokens}); err != nil {
			t.Fatal(err)
		}
	}
	// Those that are still good do count.
	full := 0
	for range 5 {
		out, err := v.Tokenize(bg, app, items)
		if err != nil {
			t.Fatal(err)
		}
		for i := range out {
			if out[i].Err != nil {
				wantCode(t, out[i].Err, vault.ErrConflict)
				full++
			}
		}
	}
	if full != 5000-4096 {
		t.Errorf("%d of 5,000 tokens are refused beside 3,000 used ones; a subject holds 4,096", full)
	}
}
