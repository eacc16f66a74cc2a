package vault_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// sourced is a row of one source that leaves alone what others stored.
func sourced(subject, source string, pairs ...string) vault.PutRequest {
	row := importRow(subject, pairs...)
	row.SameSource = true
	for i := range row.Fields {
		row.Fields[i].Source = source
	}
	return row
}

// provenance is what a subject's fields hold and where it came from.
func provenance(t testing.TB, v *vaulttest.Installation, id string) string {
	t.Helper()
	got, err := v.ExportSubject(bg, vaulttest.Call("officer", ""), id)
	if err != nil {
		return vault.AsError(err).Code
	}
	var out []string
	for _, f := range got.Fields {
		out = append(out, fmt.Sprintf("%s=%s (%s)", f.Field, f.Value.Reveal(), f.Source))
	}
	return strings.Join(out, ", ")
}

// TestImportOfTheSameSource: a value is replaced by its own source alone.
func TestImportOfTheSameSource(t *testing.T) {
	t.Parallel()
	short, large := "13800138000", long("a")
	for name, c := range map[string]struct {
		before *vault.PutRequest // nil: nobody is there
		row    vault.PutRequest
		held   string // the field, "" for none
		after  string
		same   bool // nothing was written
	}{
		"nobody":                     {nil, sourced("u1", "b", "phone", short), "", "phone=" + short + " (b)", false},
		"another field":              {new(sourced("u1", "a", "name", "张三")), sourced("u1", "b", "phone", short), "", "name=张三 (a), phone=" + short + " (b)", false},
		"another value":              {new(sourced("u1", "a", "phone", "13900139000")), sourced("u1", "b", "phone", short), "phone", "phone=13900139000 (a)", true},
		"another value of theirs":    {new(importRow("u1", "phone", "13900139000")), sourced("u1", "b", "phone", short), "phone", "phone=13900139000 ()", true},
		"another spelling":           {new(sourced("u1", "a", "phone", "138 0013 8000")), sourced("u1", "b", "phone", short), "phone", "phone=138 0013 8000 (a)", true},
		"another large value":        {new(sourced("u1", "a", "text", long("b"))), sourced("u1", "b", "text", large), "text", "text=" + long("b") + " (a)", true},
		"the same value":             {new(sourced("u1", "a", "phone", short)), sourced("u1", "b", "phone", short), "", "phone=" + short + " (a)", true},
		"the same large value":       {new(sourced("u1", "a", "text", large)), sourced("u1", "b", "text", large), "", "text=" + large + " (a)", true},
		"the same source":            {new(sourced("u1", "b", "phone", "13900139000")), sourced("u1", "b", "phone", short), "", "phone=" + short + " (b)", false},
		"nothing of a row with one":  {new(sourced("u1", "a", "phone", "13900139000")), sourced("u1", "b", "name", "张三", "phone", short), "phone", "phone=13900139000 (a)", true},
		"the same beside a new one":  {new(sourced("u1", "a", "phone", short)), sourced("u1", "b", "name", "张三", "phone", short), "", "name=张三 (b), phone=" + short + " (a)", false},
		"whatever was there, always": {new(sourced("u1", "a", "phone", "13900139000")), importRow("u1", "phone", short), "", "phone=" + short + " ()", false},
	} {
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
		var tokens []vault.FieldToken
		if c.before != nil {
			tokens = imported(t, in, *c.before)[0].Tokens
		}
		before := dump(t, in.Store)
		out := imported(t, in, c.row)[0]
		if c.held == "" && out.Err != nil || c.held != "" && (!isCode(out.Err, "conflict") || out.Err.Field != c.held || out.Err.Rule != "held" || len(out.Tokens) > 0) {
			t.Errorf("%s: %v", name, out.Err)
		}
		if got := provenance(t, in, "u1"); got != c.after {
			t.Errorf("%s: there is %s, want %s", name, got, c.after)
		}
		if c.same != sameRows(before, dump(t, in.Store)) {
			t.Errorf("%s: written or not: %v", name, !c.same)
		}
		for _, now := range out.Tokens {
			if i := slices.IndexFunc(tokens, func(o vault.FieldToken) bool { return o.Field == now.Field }); i >= 0 && !tokens[i].Token.Equal(now.Token) {
				t.Errorf("%s: %s has another token", name, now.Field)
			}
		}
	}
}

// TestImportOfTwoSources: rows of one import meet each other as rows of two imports do, and a value that was removed is
// nobody's.
func TestImportOfTwoSources(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	out := imported(t, in, sourced("u1", "a", "text", long("a")), sourced("u1", "b", "text", long("b")), sourced("u1", "b", "text", long("a")), sourced("u1", "a", "text", "c"), sourced("u2", "b", "phone", "13800138000"))
	for i, held := range []bool{false, true, false, false, false} {
		if got := out[i].Err; held != (got != nil) || held && got.Rule != "held" {
			t.Errorf("row %d: %v", i, got)
		}
	}
	if got := provenance(t, in, "u1"); got != "text=c (a)" {
		t.Errorf("there is %s", got)
	}
	if _, err := in.Patch(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: []vault.FieldInput{{Field: "text", Remove: true}}}); err != nil {
		t.Fatal(err)
	}
	if out := imported(t, in, sourced("u1", "b", "text", "d")); out[0].Err != nil || provenance(t, in, "u1") != "text=d (b)" {
		t.Errorf("%v, %s", out[0].Err, provenance(t, in, "u1"))
	}
}

// TestImportOfTheSameSourceOvertaken: what another process writes between the look and the commit counts.
func TestImportOfTheSameSourceOvertaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before   *vault.PutRequest
		meantime vault.PutRequest
		held     bool
		after    string
	}{
		"made by another":     {nil, importRow("u1", "phone", "13900139000"), true, "phone=13900139000 ()"},
		"replaced by another": {new(sourced("u1", "b", "phone", "13700137000")), importRow("u1", "phone", "13900139000"), true, "phone=13900139000 ()"},
		"made by itself":      {nil, sourced("u1", "b", "phone", "13900139000"), false, "phone=13800138000 (b)"},
		"made the same":       {nil, importRow("u1", "phone", "13800138000"), false, "phone=13800138000 ()"},
	} {
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
		if c.before != nil {
			imported(t, in, *c.before)
		}
		before := &beforeUpdate{Store: in.Store}
		v := another(t, in, func(cfg *vault.Config) { cfg.Store = before })
		before.do = func() { imported(t, in, c.meantime) }
		out := imported(t, v, sourced("u1", "b", "phone", "13800138000"), sourced("u2", "b", "phone", "13800138000"))
		if before.do != nil {
			t.Fatalf("%s: nothing came between", name)
		}
		if got := out[0].Err; c.held != (got != nil) || c.held && got.Rule != "held" || out[1].Err != nil {
			t.Errorf("%s: %v, %v", name, got, out[1].Err)
		}
		if got := provenance(t, in, "u1"); got != c.after {
			t.Errorf("%s: there is %s, want %s", name, got, c.after)
		}
	}
}
