package vault_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// lastByteFlipped is a row with its last byte changed.
func lastByteFlipped(r row) row {
	value := slices.Clone(r.value)
	value[len(value)-1] ^= 1
	return row{r.ks, r.key, value}
}

// TestExportAroundDamage damages or takes away one row after the other: the others are handed out as ever, and what is
// missing of the one is told.
func TestExportAroundDamage(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	c := newCrowd(t, in, 4) // u0 and u3 have a large value
	rows := dump(t, in.Store, store.Subjects)
	if len(rows) != 4*2+2 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		for how, bad := range map[string]row{"flipped": lastByteFlipped(r), "missing": {r.ks, r.key, nil}} {
			v := bentVault(t, in, bad)
			sort := r.key[16]
			people, _ := exportAll(t, v, 3)
			whole, broken := 0, 0
			for id, p := range people {
				if p.Err == nil {
					c.check(t, p)
					whole++
					continue
				}
				broken++
				wantCode(t, p.Err, vault.ErrCorrupt)
				switch {
				case sort != 'v' && (id != "" || len(p.Fields) > 0 || len(p.Tokens) > 0):
					t.Errorf("row %c %s: %q has %d fields", sort, how, id, len(p.Fields))
				case sort == 'v' && (p.Err.Field != "text" || len(p.Fields) != 2 || len(p.Tokens) != 3):
					t.Errorf("row %c %s: %q has %d fields, error of %q", sort, how, id, len(p.Fields), p.Err.Field)
				}
				for _, f := range p.Fields {
					if f.Value.Reveal() != c.values[id][f.Field] {
						t.Errorf("row %c %s: another value of %s", sort, how, f.Field)
					}
				}
				if sort == 'v' {
					one, err := v.ExportSubject(bg, vaulttest.Call("officer", ""), id)
					if err != nil || fmt.Sprint(one) != fmt.Sprint(p) {
						t.Errorf("one person: %v", err)
					}
				}
			}
			if whole != 3 || broken != 1 {
				t.Errorf("row %c %s: %d people are whole, %d are not", sort, how, whole, broken)
			}
			listed := 0
			out, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{})
			for _, s := range out {
				if s.Err == nil && s.Subject != "" {
					listed++
				} else if s.Subject != "" || len(s.Tokens) > 0 {
					t.Error("something is told of somebody who cannot be read")
				}
			}
			if want := map[bool]int{true: 4, false: 3}[sort == 'v']; err != nil || len(out) != 4 || listed != want {
				t.Errorf("row %c %s: tokens of %d people of %d, %v", sort, how, listed, len(out), err)
			}
		}
	}
	for id := range c.values { // of one person alone, the reason is the answer
		sid := vault.HierarchyOf(in.Unlocked).SID(id)
		_, err := bentVault(t, in, row{store.Subjects, keys.SubjectBodyRow(sid), nil}).ExportSubject(bg, vaulttest.Call("officer", ""), id)
		wantCode(t, err, vault.ErrCorrupt)
	}
}

// pickyKMS opens all data keys but one.
type pickyKMS struct {
	keys.KMS
	not keys.Wrapped
}

func (k *pickyKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	out, err := k.KMS.Unwrap(ctx, key, items)
	for i := range out {
		if items[i].Wrapped == k.not {
			out[i] = keys.Outcome{Err: keys.ErrUnwrap}
		}
	}
	return out, err
}

// TestExportAndTheKeyService: somebody whose key it refuses is told of, and when it does not answer nothing is.
func TestExportAndTheKeyService(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	c := newCrowd(t, in, 4)
	h := vault.HierarchyOf(in.Unlocked)
	var not keys.Wrapped
	for _, r := range dump(t, in.Store, store.Subjects) {
		if sid := h.SID("u2"); string(r.key) == string(keys.SubjectKeyRow(sid)) {
			key, err := h.OpenKeyRow(sid, r.value)
			if err != nil {
				t.Fatal(err)
			}
			not = key.Wrapped
		}
	}
	away := &awayKMS{KMS: &pickyKMS{in.KMS.Primary(), not}}
	v := another(t, in, func(c *vault.Config) { c.KMS = keys.NewServices(away) })
	officer, operator := vaulttest.Call("officer", ""), vaulttest.Call("operator", "")
	for _, limit := range []int{1, 10} {
		people, _ := exportAll(t, v, limit)
		if len(people) != 4 || people[""].Err == nil || !people[""].Err.Is(vault.ErrKey) {
			t.Errorf("%d people, %v", len(people), people[""].Err)
		}
		for id, p := range people {
			if id != "" {
				c.check(t, p)
			}
		}
	}
	_, err := v.ExportSubject(bg, officer, "u2")
	wantCode(t, err, vault.ErrKey)
	out, _, err := v.ListTokens(bg, operator, vault.TokenQuery{})
	if refused := slices.IndexFunc(out, func(s vault.SubjectTokens) bool { return s.Err != nil }); err != nil || refused < 0 || len(out[refused].Tokens) > 0 {
		t.Errorf("tokens: %v", err)
	}

	// u1's key alone is cached: still all or nothing.
	cold := another(t, in, func(c *vault.Config) { c.KMS = keys.NewServices(away) })
	if _, err := cold.ExportSubject(bg, officer, "u1"); err != nil {
		t.Fatal(err)
	}
	away.away.Store(true)
	from := in.Log.Size()
	people, next, err := cold.Export(bg, officer, vault.Page{})
	wantCode(t, err, vault.ErrKeyService)
	_, oneErr := cold.ExportSubject(bg, officer, "u0")
	wantCode(t, oneErr, vault.ErrKeyService)
	tokens, _, err := cold.ListTokens(bg, operator, vault.TokenQuery{})
	wantCode(t, err, vault.ErrKeyService)
	if people != nil || tokens != nil || next != "" {
		t.Error("something is shown beside the error")
	}
	for _, e := range entries(t, in.Log, from) {
		if e.Code != "key_service_unavailable" {
			t.Errorf("entry of %s: %q", e.Action, e.Code)
		}
	}
}

// TestExportedIsLogged: an item for each field and token that was shown, and for each field that should have been.
func TestExportedIsLogged(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	tokens := put(t, in, "u1", "phone", "13800138000", "name", "张三", "text", long("x"))
	tokens["support"] = mint(t, in, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), Audience: "support"})
	tokens["once"] = mint(t, in, vault.TokenizeItem{Subject: "u1", Field: "name", Value: secret.NewText("张三"), SingleUse: true})
	if _, err := in.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u2"}); err != nil {
		t.Fatal(err)
	}
	h := vault.HierarchyOf(in.Unlocked)
	tokenItem := func(id, field, token, view, outcome string) audit.Item {
		sid := h.SID(id)
		it := audit.Item{Subject: audit.Digest(h.AuditDigest("subject", sid[:])), Field: field, View: view, Outcome: outcome}
		if token != "" {
			it.Token = audit.Digest(h.AuditDigest("token", []byte(tokens[token].Reveal())))
		}
		return it
	}
	item := func(id, field, view, outcome string) audit.Item { return tokenItem(id, field, field, view, outcome) }
	others := []audit.Item{tokenItem("u1", "phone", "support", "", "ok"), tokenItem("u1", "name", "once", "", "ok")}
	var large row
	for _, r := range dump(t, in.Store, store.Subjects) {
		if r.key[16] == 'v' {
			large = r
		}
	}
	bent := another(t, in, func(c *vault.Config) { c.Store = bend(in.Store, lastByteFlipped(large)) })
	lost := another(t, in, func(c *vault.Config) {
		c.Store = bend(in.Store, row{store.Subjects, keys.SubjectBodyRow(h.SID("u1")), nil})
	})
	officer := vaulttest.Call("officer", "")
	export := func(v *vaulttest.Installation) error { _, _, err := v.Export(bg, officer, vault.Page{}); return err }
	for name, c := range map[string]struct {
		v    *vaulttest.Installation
		call func(*vaulttest.Installation) error
		want []audit.Item
	}{
		"a page": {in, export, append([]audit.Item{
			item("u1", "name", "full", "ok"), item("u1", "phone", "full", "ok"), item("u1", "text", "full", "ok"), item("u2", "", "", "ok"),
		}, others...)},
		"a page with a damaged value": {bent, export, append([]audit.Item{
			item("u1", "name", "full", "ok"), item("u1", "phone", "full", "ok"), item("u1", "text", "", "data_corrupt"), item("u2", "", "", "ok"),
		}, others...)},
		"a page with a lost row": {lost, export, []audit.Item{item("u1", "", "", "data_corrupt"), item("u2", "", "", "ok")}},
		"one person": {in, func(v *vaulttest.Installation) error { _, err := v.ExportSubject(bg, officer, "u1"); return err }, append([]audit.Item{
			item("u1", "name", "full", "ok"), item("u1", "phone", "full", "ok"), item("u1", "text", "full", "ok"),
		}, others...)},
		"tokens": {in, func(v *vaulttest.Installation) error {
			_, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{})
			return err
		}, []audit.Item{item("u1", "name", "", "ok"), item("u1", "phone", "", "ok"), item("u1", "text", "", "ok"), item("u2", "", "", "ok")}},
		"tokens of an audience": {in, func(v *vaulttest.Installation) error {
			_, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{Audience: "support"})
			return err
		}, []audit.Item{others[0], item("u2", "", "", "ok")}},
		"tokens with a lost row": {lost, func(v *vaulttest.Installation) error {
			_, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{})
			return err
		}, []audit.Item{item("u1", "", "", "data_corrupt"), item("u2", "", "", "ok")}},
	} {
		from := in.Log.Size()
		if err := c.call(c.v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := entries(t, in.Log, from)
		if len(got) != 1 || got[0].Code != "" {
			t.Fatalf("%s: entries %+v", name, got)
		}
		order := func(a, b audit.Item) int {
			return strings.Compare(a.Subject.String()+a.Field+a.Token.String(), b.Subject.String()+b.Field+b.Token.String())
		}
		if !slices.Equal(slices.SortedFunc(slices.Values(got[0].Items), order), slices.SortedFunc(slices.Values(c.want), order)) {
			t.Errorf("%s: items %+v, want %+v", name, got[0].Items, c.want)
		}
	}
}

// TestExportPagesEndEarly: at about 4 MiB, and at what one entry of the audit log holds.
func TestExportPagesEndEarly(t *testing.T) {
	t.Parallel()
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		text := []byte("version: 1\ncontroller: {name: x, contact: y}\nfields:\n")
		for i := range 80 {
			text = fmt.Appendf(text, "  f%02d: {kind: text}\n", i)
		}
		v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Policy: append(text, rolesForExport...)})
		value := strings.Repeat("长", 20_000) // 60 kB
		for id, n := range map[string]int{"a": 16, "b": 16, "c": 16, "d": 16, "e": 16, "f": 80, "g": 16, "h": 1} {
			var pairs []string
			for i := range n {
				pairs = append(pairs, fmt.Sprintf("f%02d", i), value)
			}
			put(t, v, id, pairs...)
		}
		seen := map[string]bool{}
		for page, pages := (vault.Page{Limit: 1000}), 1; pages < 10; pages++ {
			out, next, err := v.Export(bg, vaulttest.Call("officer", ""), page)
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, p := range out {
				seen[p.Subject] = true
				for _, f := range p.Fields {
					if f.Value.Reveal() != value {
						t.Error("another value")
					}
					size += len(value)
				}
			}
			if size > 4<<20 && len(out) > 1 {
				t.Errorf("a page of %d people has %d bytes", len(out), size)
			}
			if page.Cursor = next; next == "" {
				if pages < 3 || pages > 6 {
					t.Errorf("%d pages", pages)
				}
				break
			}
		}
		if len(seen) != 8 {
			t.Errorf("%d people", len(seen))
		}
		if tokens := tokenList(t, v, vault.TokenQuery{}); len(tokens) != 8 || len(tokens["f"]) != 80 {
			t.Errorf("tokens of %d people", len(tokens))
		}
	})
	t.Run("items", func(t *testing.T) {
		t.Parallel()
		text := []byte("version: 1\ncontroller: {name: x, contact: y}\nfields:\n")
		var pairs []string
		for i := range 100 {
			text = fmt.Appendf(text, "  f%02d: {kind: text}\n", i)
			pairs = append(pairs, fmt.Sprintf("f%02d", i), "v")
		}
		v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Policy: append(text, rolesForExport...)})
		const n = 110
		for at := 0; at < n; at += 55 {
			var rows []vault.PutRequest
			for i := range 55 {
				rows = append(rows, vault.PutRequest{Subject: fmt.Sprintf("u%d", at+i), Fields: vaulttest.Fields(pairs...)})
			}
			if _, err := v.Import(bg, vaulttest.Call("app", ""), rows); err != nil {
				t.Fatal(err)
			}
		}
		onFirst := func(wantPeople, wantTokens int) {
			t.Helper()
			people, pages := exportAll(t, v, 1000)
			if len(people) != n || pages != 2 {
				t.Errorf("%d people on %d pages", len(people), pages)
			}
			first, _, err := v.Export(bg, vaulttest.Call("officer", ""), vault.Page{Limit: 1000})
			if err != nil || len(first) != wantPeople {
				t.Errorf("%d people on the first page, %v", len(first), err)
			}
			tokens, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{Page: vault.Page{Limit: 1000}})
			if err != nil || len(tokens) != wantTokens || len(tokenList(t, v, vault.TokenQuery{})) != n {
				t.Errorf("tokens of %d people on the first page, %v", len(tokens), err)
			}
		}
		onFirst(audit.MaxItems/100, audit.MaxItems/100)
		var items []vault.TokenizeItem
		for i := range n { // of nobody's list
			items = append(items, vault.TokenizeItem{Subject: fmt.Sprintf("u%d", i), Field: "f00", Value: secret.NewText("v"), SingleUse: true})
		}
		if out, err := v.Tokenize(bg, vaulttest.Call("app", ""), items); err != nil || out[n-1].Err != nil {
			t.Fatal(err, out[n-1].Err)
		}
		onFirst(audit.MaxItems/101, audit.MaxItems/100)
	})
}

const rolesForExport = `
purposes:
  service: {basis: contract}
roles:
  app: {actions: [put, tokenize], views: {service: full}}
  support: {actions: [get], views: {service: masked}}
  officer: {actions: [export]}
  operator: {actions: [list, services, policy]}
`
