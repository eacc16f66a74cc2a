package vault_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func importRow(subject string, pairs ...string) vault.PutRequest {
	return vault.PutRequest{Subject: subject, Fields: vaulttest.Fields(pairs...)}
}

// imported are the outcomes of an import that must not fail as a whole.
func imported(t testing.TB, v *vaulttest.Installation, rows ...vault.PutRequest) []vault.ImportResult {
	t.Helper()
	out, err := v.Import(bg, vaulttest.Call("app", ""), rows)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(rows) {
		t.Fatalf("%d outcomes of %d rows", len(out), len(rows))
	}
	return out
}

func TestImport(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "old", "phone", "13800138000", "name", "张三")
	put(t, in, "erased", "phone", "13800138000")
	erase(t, in, "erased")
	many := vault.PutRequest{Subject: "many"}
	for i := range 257 {
		many.Fields = append(many.Fields, vaulttest.Fields(fmt.Sprintf("f%d", i), "x")...)
	}
	again := importRow("erased", "phone", "13900139000")
	again.Recreate = true
	removes := vault.PutRequest{Subject: "old", Fields: []vault.FieldInput{{Field: "phone", Remove: true}}}
	cases := []struct {
		name      string
		row       vault.PutRequest
		code      string // "": stored
		field     string
		created   bool
		tokens    int
		noted     int // entries in the audit log
		noSubject bool
	}{
		{name: "new", row: importRow("u1", "phone", "13900139000", "name", "李四", "text", long("text")), created: true, tokens: 3, noted: 3},
		{name: "one bad field of two", row: importRow("u2", "name", "王五", "phone", "12"), code: "invalid_value", field: "phone", noted: 1},
		{name: "unknown field", row: importRow("u3", "colour", "red"), code: "unknown_field", field: "colour", noted: 1},
		{name: "there already", row: importRow("old", "phone", "13900139001"), tokens: 1, noted: 1},
		{name: "bad id", row: importRow("a b", "name", "王五"), code: "invalid_subject_id", noted: 1, noSubject: true},
		{name: "telling id", row: importRow("13800138000", "name", "王五"), code: "identifying_subject_id", noted: 1, noSubject: true},
		{name: "erased", row: importRow("erased", "name", "王五"), code: "subject_erased", noted: 1},
		{name: "removal", row: removes, code: "malformed_request", field: "phone", noted: 1},
		{name: "too many fields", row: many, code: "malformed_request", noted: 1},
		{name: "no fields", row: importRow("u4"), created: true, noted: 1},
		{name: "bad first row of two", row: importRow("u5", "phone", "12"), code: "invalid_value", field: "phone", noted: 1},
		{name: "good second row", row: importRow("u5", "name", "李四"), created: true, tokens: 1, noted: 1},
		{name: "third row builds on it", row: importRow("u5", "phone", "13900139002", "name", "李四"), tokens: 2, noted: 2},
		{name: "fourth replaces", row: importRow("u5", "phone", "13900139003"), tokens: 1, noted: 1},
		{name: "erased, anew", row: again, created: true, tokens: 1, noted: 1},
	}
	var rows []vault.PutRequest
	for _, c := range cases {
		rows = append(rows, c.row)
	}
	from := in.Log.Size()
	out := imported(t, in, rows...)
	log := entries(t, in.Log, from)
	if len(log) != 1 || log[0].Action != "put" || log[0].Code != "" {
		t.Fatalf("%d entries: %+v", len(log), log)
	}
	at := 0
	for i, c := range cases {
		got := out[i]
		if e := got.Err; (e == nil) != (c.code == "") || e != nil && (e.Code != c.code || e.Field != c.field) {
			t.Errorf("%s: %v", c.name, e)
		}
		if got.Created != c.created || len(got.Tokens) != c.tokens {
			t.Errorf("%s: created %v, %d tokens", c.name, got.Created, len(got.Tokens))
		}
		for j, f := range c.row.Fields {
			if c.code == "" && got.Tokens[j].Field != f.Field {
				t.Errorf("%s: token %d is of %s", c.name, j, got.Tokens[j].Field)
			}
		}
		for _, it := range log[0].Items[at:min(at+c.noted, len(log[0].Items))] {
			want := c.code
			if want == "" {
				want = "ok"
			}
			if it.Outcome != want || it.Subject.IsZero() != c.noSubject || it.Token.IsZero() != (c.tokens == 0) {
				t.Errorf("%s: noted as %+v", c.name, it)
			}
		}
		at += c.noted
	}
	if len(log[0].Items) != at {
		t.Errorf("%d items are noted, want %d", len(log[0].Items), at)
	}
	for _, id := range []string{"u2", "u3", "many"} {
		if _, err := in.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: id}); !isCode(err, "subject_not_found") {
			t.Errorf("%s, whose row is bad, is there: %v", id, err)
		}
	}
	if a, b := out[12].Tokens[0].Token, out[13].Tokens[0].Token; !a.Equal(b) {
		t.Error("two rows of one field have two tokens")
	}
	if got, err := reveal(t, in, out[12].Tokens[0].Token); err != nil || got != "13900139003" {
		t.Errorf("the last row did not win: %q, %v", got, err)
	}
	if got, err := reveal(t, in, out[0].Tokens[2].Token); err != nil || got != long("text") {
		t.Errorf("a long text: %v", err)
	}
}

func isCode(err error, code string) bool { return err != nil && vault.AsError(err).Code == code }

// TestImportAgain: the same rows change nothing and give the same tokens.
func TestImportAgain(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	rows := []vault.PutRequest{importRow("u1", "phone", "138 0013 8000", "text", long("text")), importRow("u2", "phone", "12"), importRow("u3", "name", "张三")}
	first := imported(t, in, rows...)
	before := dump(t, in.Store)
	again := imported(t, in, rows...)
	if !sameRows(before, dump(t, in.Store)) {
		t.Error("the same rows changed the store")
	}
	for i := range rows {
		if (first[i].Err == nil) != (again[i].Err == nil) || again[i].Created || len(first[i].Tokens) != len(again[i].Tokens) {
			t.Errorf("row %d: %+v, then %+v", i, first[i], again[i])
			continue
		}
		for j := range first[i].Tokens {
			if !first[i].Tokens[j].Token.Equal(again[i].Tokens[j].Token) {
				t.Errorf("row %d has another token the second time", i)
			}
		}
	}
}

// TestImportLimits: what is too much for one audit entry is refused before anything is done, and no rows are as good a
// question as any.
func TestImportLimits(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	wide := make([]vault.FieldInput, 11)
	for name, c := range map[string]struct {
		call vault.Call
		rows []vault.PutRequest
		want *vault.Error
	}{
		"1,001 rows":          {app, make([]vault.PutRequest, 1001), vault.ErrMalformed},
		"10,010 fields":       {app, slices.Repeat([]vault.PutRequest{{Subject: "u1", Fields: wide}}, 910), vault.ErrMalformed},
		"idempotency key":     {idempotent(app, "k1", "x"), nil, vault.ErrMalformed},
		"a role that may not": {vaulttest.Call("support", ""), nil, vault.ErrForbidden},
		"no rows":             {app, nil, nil},
	} {
		out, err := in.Import(bg, c.call, c.rows)
		if c.want == nil && err != nil || c.want != nil && !isCode(err, c.want.Code) || len(out) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rows := dump(t, in.Store, store.Subjects); len(rows) != 0 {
		t.Errorf("%d rows were written", len(rows))
	}
}

// TestImportIsManyPuts: an import leaves what the same rows leave that are put one after the other.
func TestImportIsManyPuts(t *testing.T) {
	t.Parallel()
	one, two := vaulttest.Open(t, t.TempDir(), vaulttest.Options{}), vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	values := map[string][]string{
		"phone": {"13800138000", "138 0013 8000", "13900139000", "12"},
		"name":  {"张三", "李四", "\x00"},
		"text":  {"short", long("a"), long("b")},
		"email": {"a@example.com", "A@example.com"},
	}
	names := []string{"phone", "name", "text", "email"}
	n := 0
	draw := func(below int) int { n = (n*1103515245 + 12345) & 0x7fffffff; return (n >> 8) % below }
	for range 6 {
		rows := make([]vault.PutRequest, 60)
		for i := range rows {
			rows[i].Subject = fmt.Sprintf("u%d", draw(25))
			rows[i].Recreate = draw(4) == 0
			for _, name := range names[draw(4):] {
				rows[i].Fields = append(rows[i].Fields, vaulttest.Fields(name, values[name][draw(len(values[name]))])...)
			}
		}
		out := imported(t, one, rows...)
		for i, row := range rows {
			want, err := two.Put(bg, vaulttest.Call("app", ""), row)
			if (err == nil) != (out[i].Err == nil) || err != nil && *vault.AsError(err) != *out[i].Err {
				t.Fatalf("row %d: import says %v, put %v", i, out[i].Err, err)
			}
			if out[i].Created != want.Created || len(out[i].Tokens) != len(want.Tokens) || !slices.Equal(out[i].Warnings, want.Warnings) {
				t.Errorf("row %d: %+v, put %+v", i, out[i], want)
			}
		}
		for i := range 25 {
			id := fmt.Sprintf("u%d", i)
			a, b := seen(t, one, id), seen(t, two, id)
			if a != b {
				t.Errorf("%s: import left %s, puts %s", id, a, b)
			}
		}
		erase(t, one, rows[0].Subject)
		erase(t, two, rows[0].Subject)
	}
	if a, b := dump(t, one.Store, store.Subjects), dump(t, two.Store, store.Subjects); len(a) != len(b) {
		t.Errorf("%d rows of subjects after imports, %d after puts", len(a), len(b))
	}
	if a, b := indexed(t, one), indexed(t, two); a != b {
		t.Errorf("the index names %d subjects after imports, %d after puts", a, b)
	}
}

// indexed counts how often the index names a subject.
func indexed(t testing.TB, v *vaulttest.Installation) (n int) {
	t.Helper()
	for _, r := range dump(t, v.Store, store.Index) {
		n += (len(r.value) - (8 + 1 + 24 + 32 + 2 + 16)) / 16
	}
	return n
}

// seen is all that can be read of a subject.
func seen(t testing.TB, v *vaulttest.Installation, id string) string {
	t.Helper()
	fields, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: id})
	if err != nil {
		return vault.AsError(err).Code
	}
	var b strings.Builder
	for _, f := range fields {
		if got, err := reveal(t, v, f.Token); err != nil || got != f.Value.Reveal() {
			t.Errorf("%s, %s: the token gives another value than the field", id, f.Field)
		}
		fmt.Fprintf(&b, "%s=%s ", f.Field, f.Value.Reveal())
	}
	return b.String()
}

// TestImportBeyondOnePerson: a row that would give a person more fields than one can have is refused, not half of it
// stored, and so is the put.
func TestImportBeyondOnePerson(t *testing.T) {
	t.Parallel()
	var fields strings.Builder
	for i := range 300 {
		fmt.Fprintf(&fields, "  f%d: { kind: text }\n", i)
	}
	text := strings.Replace(string(policy.Starter()), "  text:    { kind: text }\n", "  text:    { kind: text }\n"+fields.String(), 1)
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Policy: []byte(text)})
	some := func(from, to int) vault.PutRequest {
		req := vault.PutRequest{Subject: "u1"}
		for i := from; i < to; i++ {
			req.Fields = append(req.Fields, vaulttest.Fields(fmt.Sprintf("f%d", i), "x")...)
		}
		return req
	}
	out := imported(t, in, some(0, 200), some(150, 260), some(0, 256), importRow("u2", "name", "张三"))
	if out[0].Err != nil || !isCode(out[1].Err, "malformed_request") || out[2].Err != nil || out[3].Err != nil {
		t.Errorf("%v, %v, %v, %v", out[0].Err, out[1].Err, out[2].Err, out[3].Err)
	}
	_, err := in.Put(bg, vaulttest.Call("app", ""), some(255, 257))
	wantCode(t, err, vault.ErrMalformed)
	if got := strings.Count(seen(t, in, "u1"), "="); got != 256 {
		t.Errorf("%d fields are stored", got)
	}
}
