package vault_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// crowd is what was put of some people, by their ids.
type crowd struct {
	values map[string]map[string]string
	tokens map[string]map[string]secret.Text
}

// newCrowd puts n people, every third with a value that has a row of its own.
func newCrowd(t testing.TB, v *vaulttest.Installation, n int) crowd {
	t.Helper()
	c := crowd{map[string]map[string]string{}, map[string]map[string]secret.Text{}}
	for i := range n {
		id := fmt.Sprintf("u%d", i)
		fields := map[string]string{"phone": fmt.Sprintf("138 0013 %04d", i), "name": "买买提•吐尔逊"}
		if i%3 == 0 {
			fields["text"] = long(id)
		}
		var pairs []string
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			pairs = append(pairs, field, fields[field])
		}
		c.values[id], c.tokens[id] = fields, put(t, v, id, pairs...)
	}
	return c
}

// exportAll goes through all pages of a limit and fails on a person that comes twice.
func exportAll(t testing.TB, v *vaulttest.Installation, limit int) (people map[string]vault.Exported, pages int) {
	t.Helper()
	people = map[string]vault.Exported{}
	for page := (vault.Page{Limit: limit}); ; pages++ {
		out, next, err := v.Export(bg, vaulttest.Call("officer", ""), page)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > limit || len(out) == 0 && next != "" {
			t.Errorf("a page of %d with a limit of %d, cursor %q", len(out), limit, next)
		}
		for _, p := range out {
			if _, again := people[p.Subject]; again {
				t.Fatalf("%q comes twice", p.Subject)
			}
			people[p.Subject] = p
		}
		if page.Cursor = next; next == "" {
			return people, pages + 1
		}
	}
}

// check holds an exported person to what was put.
func (c crowd) check(t testing.TB, p vault.Exported) {
	t.Helper()
	want := c.values[p.Subject]
	if p.Err != nil || len(p.Fields) != len(want) || p.Created.IsZero() || p.Updated.Before(p.Created) {
		t.Fatalf("%s: %d fields, %v", p.Subject, len(p.Fields), p.Err)
	}
	for _, f := range p.Fields {
		kind := f.Field // the starter policy names fields as their kinds
		if f.Value.Reveal() != want[f.Field] || !f.Token.Equal(c.tokens[p.Subject][f.Field]) || f.Kind != kind || f.Updated.IsZero() {
			t.Errorf("%s: %s is not as it was put", p.Subject, f.Field)
		}
	}
}

func TestExportGivesEverybodyOnce(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	if people, pages := exportAll(t, v, 10); len(people) != 0 || pages != 1 {
		t.Errorf("an empty vault: %d people on %d pages", len(people), pages)
	}
	c := newCrowd(t, v, 23)
	erase(t, v, "u5")
	delete(c.values, "u5")
	for _, limit := range []int{1, 2, 7, 21, 22, 23, 1000} {
		people, pages := exportAll(t, v, limit)
		if want := (22 + limit - 1) / limit; pages != want {
			t.Errorf("limit %d: %d pages, want %d", limit, pages, want)
		}
		if len(people) != len(c.values) {
			t.Errorf("limit %d: %d people", limit, len(people))
		}
		for id := range c.values {
			c.check(t, people[id])
		}
	}
	for name, page := range map[string]vault.Page{
		"limit too high": {Limit: 1001}, "limit below 0": {Limit: -1}, "a cursor of no list": {Cursor: "x"}, "one too long": {Cursor: strings.Repeat("A", 44)},
	} {
		_, _, err := v.Export(bg, vaulttest.Call("officer", ""), page)
		if wantCode(t, err, vault.ErrMalformed); t.Failed() {
			t.Fatal(name)
		}
		_, _, err = v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{Page: page})
		wantCode(t, err, vault.ErrMalformed)
	}
}

// TestExportBetweenPages: who is erased or comes between two pages moves nobody else.
func TestExportBetweenPages(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	c := newCrowd(t, v, 12)
	officer := vaulttest.Call("officer", "")
	first, next, err := v.Export(bg, officer, vault.Page{Limit: 4})
	if err != nil || len(first) != 4 || next == "" {
		t.Fatalf("%d people, %v", len(first), err)
	}
	erase(t, v, first[3].Subject) // the cursor is theirs
	seen := map[string]bool{}
	for _, p := range first {
		seen[p.Subject] = true
	}
	for id := range c.values {
		if !seen[id] {
			erase(t, v, id)
			seen[id] = true
			break
		}
	}
	for next != "" {
		var part []vault.Exported
		if part, next, err = v.Export(bg, officer, vault.Page{Limit: 4, Cursor: next}); err != nil {
			t.Fatal(err)
		}
		for _, p := range part {
			if seen[p.Subject] {
				t.Fatalf("%s comes twice, or after erasure", p.Subject)
			}
			seen[p.Subject] = true
			c.check(t, p)
		}
	}
	if len(seen) != 12 {
		t.Errorf("%d people of 12", len(seen))
	}
}

// TestExportHasEverything: provenance, tokens of all sorts that are alive, and nothing that has ended.
func TestExportHasEverything(t *testing.T) {
	t.Parallel()
	now := newClock()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Now: now.now, CacheTTL: 24 * time.Hour})
	_, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: []vault.FieldInput{
		{Field: "phone", Value: secret.NewText("138 0013 8000"), Source: "partner:dealer-7", Authorization: "contract 12"},
		{Field: "text", Value: secret.NewText(long("text")), Source: "partner:dealer-8"},
		{Field: "email", Value: secret.NewText("li@example.com")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.EraseField(bg, vaulttest.Call("app", ""), "u1", "email"); err != nil {
		t.Fatal(err)
	}
	item := vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("138 0013 8000"), Source: "partner:dealer-7", Authorization: "contract 12"}
	with := func(change func(*vault.TokenizeItem)) secret.Text {
		one := item
		change(&one)
		return mint(t, v, one)
	}
	lasting := with(func(*vault.TokenizeItem) {})
	audience := with(func(i *vault.TokenizeItem) { i.Audience = "support" })
	single := with(func(i *vault.TokenizeItem) { i.SingleUse = true })
	day := with(func(i *vault.TokenizeItem) { i.TTL, i.Audience = 24*time.Hour, "app" })
	with(func(i *vault.TokenizeItem) { i.TTL = time.Minute }) // ends by itself
	used := with(func(i *vault.TokenizeItem) { i.SingleUse = true })
	if _, err := reveal(t, v, used); err != nil {
		t.Fatal(err)
	}
	revoked := with(func(i *vault.TokenizeItem) { i.TTL = 48 * time.Hour })
	if _, err := v.Revoke(bg, vaulttest.Call("app", ""), []secret.Text{revoked}); err != nil {
		t.Fatal(err)
	}
	now.move(time.Hour)

	got, err := v.ExportSubject(bg, vaulttest.Call("officer", ""), "u1")
	if err != nil || got.Subject != "u1" || got.Err != nil || len(got.Fields) != 2 {
		t.Fatalf("%d fields, %v", len(got.Fields), err)
	}
	phone, text := got.Fields[0], got.Fields[1]
	if phone.Field != "phone" || phone.Value.Reveal() != "138 0013 8000" || phone.Source != "partner:dealer-7" || phone.Authorization != "contract 12" ||
		!phone.Authorized.Equal(phone.Updated) || !phone.Token.Equal(lasting) {
		t.Error("the phone is not as it was put")
	}
	if text.Field != "text" || text.Value.Reveal() != long("text") || text.Source != "partner:dealer-8" || text.Authorization != "" || !text.Authorized.IsZero() {
		t.Error("the text is not as it was put")
	}
	want := []vault.ExportedToken{
		{Field: "phone", Token: lasting},
		{Field: "text", Token: text.Token},
		{Field: "phone", Audience: "support", Token: audience},
		{Field: "phone", Token: single, SingleUse: true},
		{Field: "phone", Audience: "app", Token: day, Expires: now.now().Add(23 * time.Hour).UTC()},
	}
	if !slices.Equal(got.Tokens, want) {
		t.Errorf("%d tokens, want %d", len(got.Tokens), len(want))
	}
	page, _ := exportAll(t, v, 10)
	if fmt.Sprint(page["u1"]) != fmt.Sprint(got) {
		t.Error("a page and the call for one person tell of different things")
	}
}

// TestExportOutlivesThePolicy: a field that the policy no longer names is handed out all the same.
func TestExportOutlivesThePolicy(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	tokens := put(t, in, "u1", "phone", "13800138000", "text", "held")
	rows := dump(t, in.Store, store.Policy)
	text := []byte(strings.Replace(string(rows[1].value), "  text:    { kind: text }\n", "", 1))
	if len(text) == len(rows[1].value) {
		t.Fatal("the policy has no such field to lose")
	}
	v := bentVault(t, in, row{rows[1].ks, rows[1].key, text})
	people, _ := exportAll(t, v, 10)
	f := people["u1"].Fields
	if len(f) != 2 || f[1].Field != "text" || f[1].Kind != "" || f[1].Value.Reveal() != "held" || f[0].Kind != "phone" {
		t.Errorf("%d fields", len(f))
	}
	out, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{})
	if err != nil || len(out) != 1 || len(out[0].Tokens) != 2 || !out[0].Tokens[1].Token.Equal(tokens["text"]) {
		t.Errorf("tokens: %v, %v", out, err)
	}
}

func TestRolesOfExport(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, v, "u1", "phone", "13800138000")
	for _, role := range vaulttest.Services() {
		call := vaulttest.Call(role, "")
		_, _, all := v.Export(bg, call, vault.Page{})
		_, one := v.ExportSubject(bg, call, "u1")
		_, _, tokens := v.ListTokens(bg, call, vault.TokenQuery{})
		if role == "officer" != (all == nil) || role == "officer" != (one == nil) || role == "operator" != (tokens == nil) {
			t.Errorf("%s: %v, %v, %v", role, all, one, tokens)
		}
		for _, err := range []error{all, one, tokens} {
			if err != nil {
				wantCode(t, err, vault.ErrForbidden)
			}
		}
	}
}
