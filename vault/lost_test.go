package vault_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

const (
	oldPhone, newPhone = "13800138000", "13900139000"
	oldName            = "张三"
)

// reader reads a person who has phone and name, and tells of which fields something was shown.
type reader struct {
	name   string
	opens  bool // takes tokens in
	tokens bool // shows tokens alone
	read   func(t *testing.T, v *vaulttest.Installation, id string, tokens map[string]secret.Text) ([]string, error)
}

func readers() []reader {
	exported := func(t *testing.T, p vault.Exported) []string {
		var shown, held []string
		for _, f := range p.Fields {
			if f.Value.Reveal() != map[string]string{"phone": oldPhone, "name": oldName}[f.Field] {
				t.Errorf("%s has the value %s", f.Field, f.Value.Reveal())
			}
			shown = append(shown, f.Field)
		}
		for _, tok := range p.Tokens {
			if held = append(held, tok.Field); !slices.Contains(shown, tok.Field) {
				t.Errorf("a token of %s is shown without its value", tok.Field)
			}
		}
		if p.Err != nil || len(held) == 0 {
			t.Errorf("%d tokens, %v", len(held), p.Err)
		}
		return shown
	}
	detokenize := func(v *vaulttest.Installation, tokens ...secret.Text) (shown []string, err error) {
		out, err := v.Detokenize(bg, vaulttest.Call("app", "service"), vault.DetokenizeRequest{Tokens: tokens})
		for i := range out {
			if out[i].Err != nil {
				err = out[i].Err
			} else {
				shown = append(shown, out[i].Field)
			}
		}
		if len(shown) > 0 {
			err = nil
		}
		return shown, err
	}
	return []reader{
		{"get", false, false, func(_ *testing.T, v *vaulttest.Installation, id string, _ map[string]secret.Text) (shown []string, err error) {
			out, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: id})
			for _, f := range out {
				shown = append(shown, f.Field)
			}
			return shown, err
		}},
		{"detokenize", true, false, func(_ *testing.T, v *vaulttest.Installation, _ string, tokens map[string]secret.Text) ([]string, error) {
			return detokenize(v, tokens["phone"], tokens["name"])
		}},
		{"detokenize, for single use", true, false, func(_ *testing.T, v *vaulttest.Installation, _ string, tokens map[string]secret.Text) ([]string, error) {
			return detokenize(v, tokens["single use"], tokens["name"])
		}},
		{"export of one", false, false, func(t *testing.T, v *vaulttest.Installation, id string, _ map[string]secret.Text) ([]string, error) {
			p, err := v.ExportSubject(bg, vaulttest.Call("officer", ""), id)
			if err != nil {
				return nil, err
			}
			return exported(t, p), nil
		}},
		{"export", false, false, func(t *testing.T, v *vaulttest.Installation, id string, _ map[string]secret.Text) ([]string, error) {
			out, _, err := v.Export(bg, vaulttest.Call("officer", ""), vault.Page{Limit: 1000})
			i := slices.IndexFunc(out, func(p vault.Exported) bool { return p.Subject == id })
			if err == nil && i < 0 {
				err = vault.ErrSubjectErased
			}
			if err != nil {
				return nil, err
			}
			return exported(t, out[i]), nil
		}},
		{"tokens", false, true, func(_ *testing.T, v *vaulttest.Installation, id string, _ map[string]secret.Text) (shown []string, err error) {
			out, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{Page: vault.Page{Limit: 1000}})
			i := slices.IndexFunc(out, func(s vault.SubjectTokens) bool { return s.Subject == id })
			if err == nil && i < 0 {
				err = vault.ErrSubjectErased
			}
			if err != nil {
				return nil, err
			}
			for _, f := range out[i].Tokens {
				shown = append(shown, f.Field)
			}
			return shown, nil
		}},
	}
}

// TestLostWhileWaiting changes a person while a call that has opened their values waits for the log: what was erased is
// not shown even when it is there again, and what was replaced is shown as it was.
func TestLostWhileWaiting(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log := &slowLog{}
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{
		Now:   func() time.Time { return now },
		Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log },
	})
	app := vaulttest.Call("app", "")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(id string, pairs ...string) {
		_, err := v.Put(bg, app, vault.PutRequest{Subject: id, Recreate: true, Fields: vaulttest.Fields(pairs...)})
		do(err)
	}
	eraseField := func(id string) { _, err := v.EraseField(bg, app, id, "phone"); do(err) }
	remove := func(id string) {
		_, err := v.Patch(bg, app, vault.PutRequest{Subject: id, Fields: []vault.FieldInput{{Field: "phone", Remove: true}}})
		do(err)
	}
	revoke := func(id string) {
		p, err := v.ExportSubject(bg, vaulttest.Call("officer", ""), id)
		do(err)
		for _, tok := range p.Tokens {
			if tok.Field == "phone" {
				_, err := v.Revoke(bg, app, []secret.Text{tok.Token})
				do(err)
			}
		}
	}
	const all, name, none = "phone name", "name", ""
	for i, c := range []struct {
		what            string
		before          func(id string) // takes the phone's tokens away
		meanwhile       func(id string)
		left            string
		erased          *vault.Error
		noTokenMeantime bool // the tokens end by themselves
	}{
		{what: "nothing", meanwhile: func(string) {}, left: all},
		{what: "erased", meanwhile: func(id string) { erase(t, v, id) }, left: none, erased: vault.ErrSubjectErased},
		{what: "erased and made again", meanwhile: func(id string) { erase(t, v, id); set(id, "phone", oldPhone, "name", oldName) }, left: none, erased: vault.ErrSubjectErased},
		{what: "a field erased", meanwhile: eraseField, left: name},
		{what: "a field erased and set again", meanwhile: func(id string) { eraseField(id); set(id, "phone", oldPhone) }, left: name},
		{what: "a field replaced, erased and set again", meanwhile: func(id string) { set(id, "phone", newPhone); eraseField(id); set(id, "phone", oldPhone) }, left: name},
		{what: "a field removed", meanwhile: remove, left: name},
		{what: "a field removed and set again", meanwhile: func(id string) { remove(id); set(id, "phone", newPhone) }, left: name},
		{what: "a field without tokens erased and set again", before: revoke, meanwhile: func(id string) { eraseField(id); set(id, "phone", oldPhone) }, left: name},
		{what: "a field whose tokens were revoked, erased and set again", meanwhile: func(id string) { revoke(id); eraseField(id); set(id, "phone", oldPhone) }, left: name, noTokenMeantime: true},
		{what: "a field replaced", meanwhile: func(id string) { set(id, "phone", newPhone) }, left: all},
		{what: "a field without tokens replaced", before: revoke, meanwhile: func(id string) { set(id, "phone", newPhone) }, left: all},
		{what: "a field without tokens, erased once before, replaced", before: func(id string) { eraseField(id); set(id, "phone", oldPhone); revoke(id) },
			meanwhile: func(id string) { set(id, "phone", newPhone) }, left: all},
		{what: "another field set", meanwhile: func(id string) { set(id, "text", long("x")) }, left: all},
		{what: "tokens revoked and the field replaced", meanwhile: func(id string) { revoke(id); set(id, "phone", newPhone) }, left: all, noTokenMeantime: true},
		{what: "a field without tokens, erased in an earlier life, replaced", before: func(id string) {
			set(id, "phone", newPhone)
			eraseField(id)
			erase(t, v, id)
			set(id, "phone", oldPhone, "name", oldName)
			revoke(id)
		}, meanwhile: func(id string) { set(id, "phone", newPhone) }, left: all},
	} {
		for j, r := range readers() {
			if r.opens && (c.before != nil || c.noTokenMeantime) {
				continue // tokens that ended open nothing
			}
			t.Run(c.what+"/"+r.name, func(t *testing.T) {
				id := fmt.Sprintf("u%d-%d", i, j)
				tokens := put(t, v, id, "phone", oldPhone, "name", oldName)
				tokens["single use"] = mint(t, v, vault.TokenizeItem{Subject: id, Field: "phone", Value: secret.NewText(oldPhone), SingleUse: true})
				if c.before != nil {
					c.before(id)
				}
				log.meanwhile = func() {
					c.meanwhile(id)
					now = now.Add(time.Second)
				}
				shown, err := r.read(t, v, id, tokens)
				if c.erased != nil {
					wantCode(t, err, c.erased)
				} else if err != nil {
					t.Fatal(err)
				}
				want := map[string][]string{all: {"name", "phone"}, name: {"name"}, none: nil}[c.left]
				if r.tokens && c.before != nil && c.left == all {
					want = []string{"name"}
				}
				if slices.Sort(shown); !slices.Equal(shown, want) {
					t.Errorf("of %v something is shown, want %v", shown, want)
				}
			})
		}
	}
}

// TestErasedWhileExported erases people while a page waits for the log: nothing is shown of them, and where nobody is
// left the answer is the page behind.
func TestErasedWhileExported(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log := &slowLog{}
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{
		Now:   func() time.Time { return now },
		Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log },
	})
	c := newCrowd(t, v, 8)
	officer := vaulttest.Call("officer", "")
	order, _, err := v.Export(bg, officer, vault.Page{})
	if err != nil || len(order) != 8 {
		t.Fatalf("%d people, %v", len(order), err)
	}
	meanwhile := func(people []vault.Exported) {
		log.meanwhile = func() {
			for _, p := range people {
				erase(t, v, p.Subject)
			}
			now = now.Add(time.Second)
		}
	}
	meanwhile(order[:1])
	got, next, err := v.Export(bg, officer, vault.Page{Limit: 2})
	if err != nil || len(got) != 1 || got[0].Subject != order[1].Subject || next == "" {
		t.Fatalf("%d people, %v", len(got), err)
	}
	c.check(t, got[0])
	meanwhile(order[2:4])
	got, next, err = v.Export(bg, officer, vault.Page{Limit: 2, Cursor: next})
	if err != nil || len(got) != 2 || got[0].Subject != order[4].Subject || next == "" {
		t.Fatalf("%d people, %v", len(got), err)
	}
	meanwhile(order[4:5])
	tokens, _, err := v.ListTokens(bg, vaulttest.Call("operator", ""), vault.TokenQuery{})
	if err != nil || len(tokens) != 4 {
		t.Errorf("tokens of %d people, %v", len(tokens), err)
	}
	meanwhile(order[6:])
	got, next, err = v.Export(bg, officer, vault.Page{Limit: 2, Cursor: next})
	if err != nil || len(got) != 0 || next != "" {
		t.Errorf("%d people, cursor %q, %v", len(got), next, err)
	}
	meanwhile(order[5:6])
	_, err = v.ExportSubject(bg, officer, order[5].Subject)
	wantCode(t, err, vault.ErrSubjectErased)
}
