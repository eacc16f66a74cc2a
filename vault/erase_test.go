package vault_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// checkErased holds everything that a caller can ask of an erased subject to its answer.
func checkErased(t *testing.T, v *vaulttest.Installation, subject string, tokens ...secret.Text) {
	t.Helper()
	for _, token := range tokens {
		if got := code(t, v, token); got != "subject_erased" {
			t.Errorf("a token of the erased answers %q", got)
		}
	}
	app := vaulttest.Call("app", "service")
	_, err := v.Get(bg, app, vault.GetRequest{Subject: subject})
	wantCode(t, err, vault.ErrSubjectErased)
	_, err = v.Put(bg, app, vault.PutRequest{Subject: subject, Fields: vaulttest.Fields("phone", "13800138000")})
	wantCode(t, err, vault.ErrSubjectErased)
	_, err = v.Patch(bg, app, vault.PutRequest{Subject: subject, Fields: vaulttest.Fields("phone", "13800138000")})
	wantCode(t, err, vault.ErrSubjectErased)
	out, err := v.Tokenize(bg, app, []vault.TokenizeItem{{Subject: subject, Field: "phone", Value: secret.NewText("13800138000")}})
	if err != nil || out[0].Err != vault.ErrSubjectErased {
		t.Errorf("tokenize of the erased: %v, %v", out, err)
	}
	_, err = v.Erase(bg, app, subject)
	wantCode(t, err, vault.ErrSubjectErased)
	_, err = v.EraseField(bg, app, subject, "phone")
	wantCode(t, err, vault.ErrSubjectErased)
}

func TestErase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := vaulttest.Open(t, dir, vaulttest.Options{})
	put(t, v, "u0", "phone", "13800138000") // shares the value
	empty := dump(t, v.Store, store.Subjects, store.Index)
	tokens := put(t, v, "u1", "phone", "13800138000", "name", "张三", "text", long("病历"))
	dispatch := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), Audience: "support"})
	single := mint(t, v, vault.TokenizeItem{Subject: "u1", Field: "name", Value: secret.NewText("张三"), SingleUse: true})

	_, err := v.Erase(bg, vaulttest.Call("officer", ""), "nobody")
	wantCode(t, err, vault.ErrSubjectNotFound)
	certificate := erase(t, v, "u1")
	all := []secret.Text{tokens["phone"], tokens["name"], tokens["text"], dispatch, single}
	checkErased(t, v, "u1", all...)
	if left := dump(t, v.Store, store.Subjects); !sameRows(left, slices.DeleteFunc(slices.Clone(empty), func(r row) bool { return r.ks != store.Subjects })) {
		t.Errorf("%d rows of subjects, %d before the erased came", len(left), len(empty))
	}
	if left := dump(t, v.Store, store.Index); len(left) != 1 {
		t.Errorf("%d index rows are left of the one other subject", len(left))
	}
	states, err := v.Inspect(bg, vaulttest.Call("app", ""), all)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.State != "subject_erased" {
			t.Errorf("inspect calls a token of the erased %q", s.State)
		}
	}
	c, err := vault.VerifyCertificate(certificate, v.CertificateKey())
	if err != nil || c.What != "subject" || c.KeyVersion != 1 || c.Level != 1 || c.Instance != v.Unlocked.Instance.String() || c.KMS != "local-file" {
		t.Errorf("certificate %+v, %v", c, err)
	}
	if got, err := v.Erasure(bg, vaulttest.Call("officer", ""), c.Erasure); err != nil || string(got) != string(certificate) {
		t.Errorf("the certificate is not to be had again (%v)", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = vaulttest.Open(t, dir, vaulttest.Options{})
	checkErased(t, v, "u1", all...)
	recreate(t, v, all)
}

// recreate begins u1 anew, erases it again, and looks at what goes on and what stays dead.
func recreate(t *testing.T, v *vaulttest.Installation, dead []secret.Text) {
	t.Helper()
	out, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13900139000")})
	if err != nil || !out.Created {
		t.Fatalf("recreate: %v", err)
	}
	if got, err := reveal(t, v, out.Tokens[0].Token); err != nil || got != "13900139000" {
		t.Errorf("the new token: %v", err)
	}
	for _, token := range dead {
		if got := code(t, v, token); got != "subject_erased" {
			t.Errorf("an old token of a subject that began anew answers %q", got)
		}
	}
	fields, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
	if err != nil || len(fields) != 1 {
		t.Errorf("the new subject has %d fields (%v)", len(fields), err)
	}
	c, err := vault.VerifyCertificate(erase(t, v, "u1"), v.CertificateKey())
	if err != nil || c.KeyVersion != 2 {
		t.Errorf("the second life had key version %d (%v)", c.KeyVersion, err)
	}
	checkErased(t, v, "u1", append(dead, out.Tokens[0].Token)...)
	var versions []uint64
	for _, e := range ledgerOf(t, v) {
		versions = append(versions, e.n)
	}
	if !slices.Equal(versions, []uint64{1, 2}) || len(outbox(t, v.Store)) != 0 {
		t.Errorf("the ledger has versions %v, the outbox %d rows", versions, len(outbox(t, v.Store)))
	}
}

func TestEraseField(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	officer := vaulttest.Call("officer", "")
	tokens := put(t, v, "u1", "phone", "13800138000", "name", "张三", "text", long("病历"))
	for _, c := range []struct {
		subject, field string
		want           *vault.Error
	}{
		{"nobody", "phone", vault.ErrSubjectNotFound}, {"u1", "email", vault.ErrNotFound}, {"u1", "Email", vault.ErrUnknownField}, {"a b", "phone", vault.ErrSubjectID},
	} {
		_, err := v.EraseField(bg, officer, c.subject, c.field)
		wantCode(t, err, c.want)
	}
	for _, field := range []string{"phone", "text"} {
		certificate, err := v.EraseField(bg, officer, "u1", field)
		if err != nil {
			t.Fatal(err)
		}
		c, err := vault.VerifyCertificate(certificate, v.CertificateKey())
		if err != nil || c.What != "field" || c.Field != field || c.FieldVersion != 1 {
			t.Errorf("certificate %+v, %v", c, err)
		}
		if got := code(t, v, tokens[field]); got != "field_erased" {
			t.Errorf("the token of an erased field answers %q", got)
		}
		_, err = v.EraseField(bg, officer, "u1", field)
		wantCode(t, err, vault.ErrFieldErased)
	}
	if rows := dump(t, v.Store, store.Subjects); len(rows) != 2 {
		t.Errorf("%d rows of the subject, the large value's should be gone", len(rows))
	}
	if rows := dump(t, v.Store, store.Index); len(rows) != 1 {
		t.Errorf("%d index rows, the name's should be left", len(rows))
	}
	if got, err := reveal(t, v, tokens["name"]); err != nil || got != "张三" {
		t.Errorf("another field of the subject: %v", err)
	}
	anew := put(t, v, "u1", "phone", "13800138000")["phone"]
	if anew.Equal(tokens["phone"]) || code(t, v, anew) != "" || code(t, v, tokens["phone"]) != "field_erased" {
		t.Error("a field that was erased and set again: a new token opens, the old one does not")
	}
	certificate, err := v.EraseField(bg, officer, "u1", "phone")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := vault.VerifyCertificate(certificate, v.CertificateKey()); err != nil || c.FieldVersion != 2 {
		t.Errorf("the field's second version is called %d (%v)", c.FieldVersion, err)
	}
}

// TestEraseGoesOnWithoutItsCaller: a caller that leaves once the erasure is committed does not keep it from the ledger.
func TestEraseGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "u1", "phone", "13800138000")
	ctx, leave := context.WithCancel(bg)
	v := another(t, in, func(c *vault.Config) { c.Store = leavingStore{c.Store, leave} })
	if _, err := v.Erase(ctx, vaulttest.Call("officer", ""), "u1"); err != nil {
		t.Errorf("the caller left after the commit: %v", err)
	}
	if len(outbox(t, in.Store)) != 0 || len(ledgerOf(t, in)) != 1 {
		t.Error("the erasure did not get into the ledger")
	}
}

// leavingStore ends the caller's context after the first commit.
type leavingStore struct {
	store.Store
	leave context.CancelFunc
}

func (s leavingStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := s.Store.Update(ctx, fn)
	s.leave()
	return err
}

func TestErasures(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	officer := vaulttest.Call("officer", "")
	var want []string
	for _, id := range []string{"u1", "u2", "u3"} {
		put(t, v, id, "phone", "13800138000")
		want = append(want, string(erase(t, v, id)))
	}
	slices.Sort(want)
	var got []string
	page := vault.Page{Limit: 2}
	for {
		some, next, err := v.Erasures(bg, officer, vault.ErasureQuery{Page: page})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range some {
			got = append(got, string(c))
		}
		if page.Cursor = next; next == "" {
			break
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the list has %d certificates, not the 3 that were given", len(got))
	}
	for _, id := range []string{"", "era_", "era_0000000000000000000000000", "era_00000000000000000000000000", "ERA_00000000000000000000000000", "x"} {
		_, err := v.Erasure(bg, officer, id)
		wantCode(t, err, vault.ErrNotFound)
	}
	for _, p := range []vault.Page{{Cursor: "x"}, {Limit: -1}, {Limit: 1001}} {
		_, _, err := v.Erasures(bg, officer, vault.ErasureQuery{Page: p})
		wantCode(t, err, vault.ErrMalformed)
	}
	_, _, err := v.Erasures(bg, vaulttest.Call("app", ""), vault.ErasureQuery{})
	wantCode(t, err, vault.ErrForbidden)
	if path := filepath.Join(v.Dir, "ledger"); len(ledgerOf(t, v)) != 3 {
		t.Errorf("%s has not 3 entries", path)
	}
}

// TestRecreateByEveryWrite begins an erased subject anew by each call that writes.
func TestRecreateByEveryWrite(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	fields := vaulttest.Fields("phone", "13900139000")
	for name, write := range map[string]func() (secret.Text, error){
		"put": func() (secret.Text, error) {
			out, err := v.Put(bg, app, vault.PutRequest{Subject: "u1", Recreate: true, Fields: fields})
			return out.Tokens[0].Token, err
		},
		"patch": func() (secret.Text, error) {
			out, err := v.Patch(bg, app, vault.PutRequest{Subject: "u1", Recreate: true, Fields: fields})
			return out.Tokens[0].Token, err
		},
		"tokenize": func() (secret.Text, error) {
			out, err := v.Tokenize(bg, app, []vault.TokenizeItem{{Subject: "u1", Field: "phone", Value: fields[0].Value, Recreate: true}})
			return out[0].Token, err
		},
	} {
		old := put(t, v, "u1", "phone", "13800138000")["phone"]
		erase(t, v, "u1")
		token, err := write()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := reveal(t, v, token); err != nil || got != "13900139000" {
			t.Errorf("%s: the new token gives %v", name, err)
		}
		if _, err := reveal(t, v, old); err != vault.ErrSubjectErased {
			t.Errorf("%s: the old token: %v", name, err)
		}
	}
	if _, err := v.Patch(bg, app, vault.PutRequest{Subject: "nobody", Recreate: true, Fields: fields}); !errors.Is(err, vault.ErrSubjectNotFound) {
		t.Errorf("a patch that may recreate makes a subject that never was: %v", err)
	}
}

// TestDeadTokensKeepTheirState ends tokens of one field in every way, then the field, then the subject.
func TestDeadTokensKeepTheirState(t *testing.T) {
	t.Parallel()
	now := time.Now()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Now: func() time.Time { return now }})
	phone := vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000")}
	with := func(change func(*vault.TokenizeItem)) secret.Text { it := phone; change(&it); return mint(t, v, it) }
	used := with(func(it *vault.TokenizeItem) { it.SingleUse = true })
	expired := with(func(it *vault.TokenizeItem) { it.TTL = time.Minute })
	revoked := with(func(it *vault.TokenizeItem) { it.Audience = "support" })
	active := with(func(*vault.TokenizeItem) {})
	if _, err := reveal(t, v, used); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Revoke(bg, vaulttest.Call("app", ""), []secret.Text{revoked}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	tokens := []secret.Text{used, expired, revoked, active}
	check := func(when string, want ...string) {
		t.Helper()
		states, err := v.Inspect(bg, vaulttest.Call("app", ""), tokens)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range states {
			if s.State != want[i] || s.Field != "phone" || s.Format != "opaque" {
				t.Errorf("%s: token %d is %s, of field %q, want %s", when, i, s.State, s.Field, want[i])
			}
		}
	}
	check("before", "used", "expired", "revoked", "active")
	if _, err := v.EraseField(bg, vaulttest.Call("officer", ""), "u1", "phone"); err != nil {
		t.Fatal(err)
	}
	check("field erased", "used", "expired", "revoked", "field_erased")
	erase(t, v, "u1")
	check("subject erased", "used", "expired", "revoked", "field_erased")
}

func TestErasuresOfOneSubject(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	officer := vaulttest.Call("officer", "")
	var mine [][]byte
	for _, subject := range []string{"u1", "u2", "u3"} {
		put(t, v, subject, "phone", "13800138000", "name", "张三")
		field, err := v.EraseField(bg, officer, subject, "phone")
		if err != nil {
			t.Fatal(err)
		}
		if whole := erase(t, v, subject); subject == "u2" {
			mine = [][]byte{field, whole}
		}
	}
	var got [][]byte
	for q := (vault.ErasureQuery{Page: vault.Page{Limit: 1}, Subject: "u2"}); ; {
		part, next, err := v.Erasures(bg, officer, q)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
		if next == "" {
			break
		}
		q.Cursor = next
	}
	if !slices.EqualFunc(got, mine, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Errorf("%d certificates of u2, want the 2 that were given", len(got))
	}
	if none, _, err := v.Erasures(bg, officer, vault.ErasureQuery{Subject: "nobody"}); err != nil || len(none) != 0 {
		t.Errorf("%d certificates of nobody, %v", len(none), err)
	}
}
