package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

var bg = context.Background()

// put sets fields as the app and returns their tokens.
func put(t testing.TB, v *vaulttest.Installation, subject string, pairs ...string) map[string]secret.Text {
	t.Helper()
	out, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: subject, Fields: vaulttest.Fields(pairs...)})
	if err != nil {
		t.Fatalf("put %s: %v", subject, err)
	}
	tokens := map[string]secret.Text{}
	for _, f := range out.Tokens {
		tokens[f.Field] = f.Token
	}
	return tokens
}

// reveal opens one token as the app, for the service.
func reveal(t testing.TB, v *vaulttest.Installation, token secret.Text) (string, *vault.Error) {
	t.Helper()
	out, err := v.Detokenize(bg, vaulttest.Call("app", "service"), vault.DetokenizeRequest{Tokens: []secret.Text{token}})
	if err != nil {
		return "", vault.AsError(err)
	}
	return out[0].Value.Reveal(), out[0].Err
}

func wantCode(t testing.TB, err error, want *vault.Error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %s", err, want.Code)
	}
}

func TestWhatGoesInComesBack(t *testing.T) {
	dir := t.TempDir()
	v := vaulttest.Open(t, dir, vaulttest.Options{})
	long := strings.Repeat("长文本 long text\n", 200)
	values := map[string]string{
		"phone": "138 0013 8000", "name": "买买提•吐尔逊", "address": "北京市海淀区中关村大街２７号（Ａ座）",
		"email": "Zhang.San+tag@Example.com", "text": long,
	}
	var pairs []string
	for k, val := range values {
		pairs = append(pairs, k, val)
	}
	tokens := put(t, v, "u1", pairs...)
	for k, want := range values {
		if got, err := reveal(t, v, tokens[k]); err != nil || got != want {
			t.Errorf("%s comes back as another value (%v)", k, err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	again := vaulttest.Open(t, dir, vaulttest.Options{})
	for k, want := range values {
		if got, err := reveal(t, again, tokens[k]); err != nil || got != want {
			t.Errorf("after a restart %s comes back as another value (%v)", k, err)
		}
	}
	fields, err := again.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
	if err != nil || len(fields) != len(values) {
		t.Fatalf("get: %d fields, %v", len(fields), err)
	}
	for _, f := range fields {
		if f.Value.Reveal() != values[f.Field] || f.View != "full" || !f.Token.Equal(tokens[f.Field]) {
			t.Errorf("get shows %s otherwise than it was put", f.Field)
		}
	}
}

func TestTokensStandForFieldsNotSpellings(t *testing.T) {
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	first := put(t, v, "u1", "phone", "13800138000")["phone"]
	for _, spelling := range []string{"13800138000", "138 0013 8000", "+86 138-0013-8000", "008613800138000", "１３８００１３８０００"} {
		if got := put(t, v, "u1", "phone", spelling)["phone"]; !got.Equal(first) {
			t.Errorf("another spelling of the same phone gives another token")
		}
		if got, err := reveal(t, v, first); err != nil || got != spelling {
			t.Errorf("the newest spelling is not what comes back (%v)", err)
		}
	}
	if got := put(t, v, "u1", "phone", "13900139000")["phone"]; !got.Equal(first) {
		t.Error("a new value of the field gives another token")
	}
	if got := put(t, v, "u2", "phone", "13800138000")["phone"]; got.Equal(first) {
		t.Error("another subject's same value has the same token")
	}
}

func TestSameBytesChangeNothing(t *testing.T) {
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, v, "u1", "phone", "13800138000", "name", "张三")
	before, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("phone", "13800138000")})
	if err != nil || out.Created {
		t.Fatalf("created %t, %v", out.Created, err)
	}
	after, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
	if err != nil || fmt.Sprint(before) != fmt.Sprint(after) || !before[1].Updated.Equal(after[1].Updated) {
		t.Errorf("a put of the same bytes changed the subject (%v)", err)
	}
	status, err := v.KeyStatus(bg, vaulttest.Call("operator", ""))
	if err != nil || status.DirtyBuckets != 0 {
		t.Errorf("%d buckets are dirty, nothing was replaced (%v)", status.DirtyBuckets, err)
	}
	put(t, v, "u1", "phone", "13900139000")
	status, err = v.KeyStatus(bg, vaulttest.Call("operator", ""))
	if err != nil || status.DirtyBuckets != 1 || status.DirtyPartitions != 1 {
		t.Errorf("after a changed value %d buckets and %d partitions are dirty (%v)", status.DirtyBuckets, status.DirtyPartitions, err)
	}
}

func TestPatchRemoves(t *testing.T) {
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	_, err := v.Patch(bg, app, vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("name", "张三")})
	wantCode(t, err, vault.ErrSubjectNotFound)
	old := put(t, v, "u1", "phone", "13800138000", "name", "张三")
	out, err := v.Patch(bg, app, vault.PutRequest{Subject: "u1", Fields: []vault.FieldInput{{Field: "phone", Remove: true}, {Field: "name", Value: secret.NewText("李四")}}})
	if err != nil || len(out.Tokens) != 1 || !out.Tokens[0].Token.Equal(old["name"]) {
		t.Fatalf("patch: %d tokens, %v", len(out.Tokens), err)
	}
	if _, err := reveal(t, v, old["phone"]); err != vault.ErrFieldErased {
		t.Errorf("the token of a removed field: %v", err)
	}
	if anew := put(t, v, "u1", "phone", "13800138000")["phone"]; anew.Equal(old["phone"]) {
		t.Error("a field that was removed and set again has its old token")
	}
	_, err = v.Put(bg, app, vault.PutRequest{Subject: "u1", Fields: []vault.FieldInput{{Field: "name", Remove: true}}})
	wantCode(t, err, vault.ErrMalformed)
}

func TestPutIsAllOrNothing(t *testing.T) {
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	_, err := v.Put(bg, app, vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("name", "张三", "phone", "12345")})
	wantCode(t, err, vault.ErrInvalidValue)
	if e := vault.AsError(err); e.Field != "phone" || e.Rule == "" || strings.Contains(e.Error(), "12345") {
		t.Errorf("the error does not name field and rule, or names the value: %v", e)
	}
	_, err = v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
	wantCode(t, err, vault.ErrSubjectNotFound)
	_, err = v.Put(bg, app, vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("shoe_size", "43")})
	wantCode(t, err, vault.ErrUnknownField)
	for _, id := range []string{"", ".", "..", "a b", "用户", strings.Repeat("x", 129)} {
		_, err = v.Put(bg, app, vault.PutRequest{Subject: id})
		wantCode(t, err, vault.ErrSubjectID)
	}
	for _, id := range []string{"13800138000", "+8613800138000", "008613800138000", "11010519491231002X", "z@example.com"} {
		_, err = v.Put(bg, app, vault.PutRequest{Subject: id})
		wantCode(t, err, vault.ErrIdentifyingSubject)
	}
}
