package vault_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func TestReplayOfPut(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	at := newClock()
	v := another(t, in, func(c *vault.Config) { c.Now = at.now })
	call := idempotent(vaulttest.Call("app", ""), "k1", "phone=13800138000")
	req := vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("phone", "13800138000", "name", "张三")}
	first, err := v.Put(bg, call, req)
	if err != nil || !first.Created {
		t.Fatal(err)
	}
	put(t, v, "u1", "phone", "13900139000") // by another request
	before := dump(t, in.Store)
	again, err := v.Put(bg, call, req)
	if err != nil || !again.Created || len(again.Tokens) != 2 || !again.Tokens[0].Token.Equal(first.Tokens[0].Token) || !again.Tokens[1].Token.Equal(first.Tokens[1].Token) {
		t.Errorf("the repeated put answers %+v, %v", again, err)
	}
	if !sameRows(before, dump(t, in.Store)) {
		t.Error("a repeated put changed the store")
	}
	if got, _ := reveal(t, v, first.Tokens[0].Token); got != "13900139000" {
		t.Error("a repeated put undid a later one")
	}
	_, err = v.Put(bg, idempotent(call, "k1", "phone=13900139000"), req)
	wantCode(t, err, vault.ErrIdempotency)
	_, err = v.Erase(bg, idempotent(call, "k1", "x"), "u1")
	wantCode(t, err, vault.ErrIdempotency)

	other := call
	other.Principal.Credential = "another-key"
	if out, err := v.Put(bg, other, vault.PutRequest{Subject: "u2", Fields: req.Fields}); err != nil || !out.Created {
		t.Errorf("the same key of another credential is another key: %v", err)
	}
	at.move(24*time.Hour - time.Millisecond)
	_, err = v.Put(bg, idempotent(call, "k1", "later"), req)
	wantCode(t, err, vault.ErrIdempotency)
	at.move(time.Millisecond)
	if out, err := v.Put(bg, idempotent(call, "k1", "later"), req); err != nil || out.Created {
		t.Errorf("after 24 hours the key is free: %+v, %v", out, err)
	}
	if got, _ := reveal(t, v, first.Tokens[0].Token); got != "13800138000" {
		t.Error("after 24 hours the same request is a new one")
	}
	for _, key := range []string{"", "a b", "ключ", "x\n", string(bytes.Repeat([]byte("x"), 129))} {
		_, err := v.Put(bg, idempotent(call, key, ""), req)
		wantCode(t, err, vault.ErrMalformed)
	}
	erase(t, v, "u1")
	_, err = v.Put(bg, idempotent(call, "k1", "later"), req)
	wantCode(t, err, vault.ErrSubjectErased)
	req.Recreate = true
	_, err = v.Put(bg, idempotent(call, "k1", "later"), req)
	wantCode(t, err, vault.ErrSubjectErased)
}

func TestReplayOfTokenize(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	value := secret.NewText("13800138000")
	items := []vault.TokenizeItem{
		{Subject: "u1", Field: "phone", Value: value},
		{Subject: "u1", Field: "phone", Value: value, TTL: time.Hour},
		{Subject: "u2", Field: "phone", Value: value, SingleUse: true},
		{Subject: "u1", Field: "phone", Value: secret.NewText("12345")},
		{Subject: "u1", Field: "phone", Value: value, TTL: time.Hour, SingleUse: true, Audience: "app"},
	}
	call := idempotent(vaulttest.Call("app", "service"), "k1", "items")
	first, err := in.Tokenize(bg, call, items)
	if err != nil {
		t.Fatal(err)
	}
	before := dump(t, in.Store)
	repeat := func(v *vaulttest.Installation) []vault.TokenizeResult {
		t.Helper()
		out, err := v.Tokenize(bg, call, items)
		if err != nil || len(out) != len(items) {
			t.Fatalf("%d outcomes, %v", len(out), err)
		}
		return out
	}
	for _, v := range []*vaulttest.Installation{in, another(t, in, nil)} {
		for i, r := range repeat(v) {
			same := (r.Err == nil) == (first[i].Err == nil)
			if f := first[i].Err; same && f != nil {
				same = r.Err.Code == f.Code && r.Err.Field == f.Field && r.Err.Rule == f.Rule
			}
			if !same || !r.Token.Equal(first[i].Token) {
				t.Errorf("item %d: another answer (%v, first %v)", i, r.Err, first[i].Err)
			}
		}
	}
	if !sameRows(before, dump(t, in.Store)) {
		t.Error("a repeated tokenize changed the store")
	}
	if _, err := in.Revoke(bg, vaulttest.Call("app", ""), []secret.Text{first[1].Token}); err != nil {
		t.Fatal(err)
	}
	erase(t, in, "u2")
	for i, want := range []*vault.Error{nil, vault.ErrTokenRevoked, vault.ErrSubjectErased, vault.ErrInvalidValue, nil} {
		if r := repeat(in)[i]; (r.Err == nil) != (want == nil) || want != nil && !errors.Is(r.Err, want) {
			t.Errorf("item %d after its token died: %v, want %v", i, r.Err, want)
		}
	}
}

func TestReplayOfEraseAndServices(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	officer, operator := vaulttest.Call("officer", ""), vaulttest.Call("operator", "")
	put(t, v, "u1", "phone", "13800138000", "name", "张三")
	for _, field := range []string{"name", ""} {
		call := idempotent(officer, "erase-"+field, field)
		do := func() ([]byte, error) {
			if field == "" {
				return v.Erase(bg, call, "u1")
			}
			return v.EraseField(bg, call, "u1", field)
		}
		first, err := do()
		if err != nil {
			t.Fatal(err)
		}
		again, err := do()
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("a repeated erasure gives another certificate (%v)", err)
		}
		_, err = v.Erase(bg, idempotent(call, "erase-"+field, "x"), "u1")
		wantCode(t, err, vault.ErrIdempotency)
	}
	if n := len(ledgerOf(t, v)); n != 2 {
		t.Errorf("%d entries in the ledger, want 2", n)
	}
	for name, do := range map[string]func(vault.Call) (vault.NewCredential, error){
		"service": func(c vault.Call) (vault.NewCredential, error) { return v.AddService(bg, c, "billing", "app") },
		"key":     func(c vault.Call) (vault.NewCredential, error) { return v.AddKey(bg, c, "app") },
	} {
		call := idempotent(operator, name, name)
		if _, err := do(call); err != nil {
			t.Fatal(err)
		}
		before := dump(t, v.Store, store.Services)
		out, err := do(call)
		wantCode(t, err, vault.ErrConflict)
		if !out.Key.Empty() || !sameRows(before, dump(t, v.Store, store.Services)) {
			t.Errorf("a repeated %s made another credential", name)
		}
	}
	tokens := put(t, v, "u2", "phone", "13800138000")
	revoke := idempotent(vaulttest.Call("app", ""), "revoke", "x")
	for range 2 {
		if out, err := v.Revoke(bg, revoke, []secret.Text{tokens["phone"]}); err != nil || out[0].State != "revoked" {
			t.Errorf("revoke: %+v, %v", out, err)
		}
	}
}

// TestSameKeyAtOnce: of calls with one idempotency key at once, one makes the change and all answer the same.
func TestSameKeyAtOnce(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	call := idempotent(vaulttest.Call("app", ""), "k1", "x")
	operator := idempotent(vaulttest.Call("operator", ""), "k2", "x")
	var all sync.WaitGroup
	var tokens [16]secret.Text
	var made [16]vault.NewCredential
	for i := range tokens {
		v := vaults[i%2]
		all.Go(func() {
			out, err := v.Tokenize(bg, call, []vault.TokenizeItem{{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), SingleUse: true}})
			if err != nil || out[0].Err != nil {
				t.Errorf("tokenize: %v", err)
				return
			}
			tokens[i] = out[0].Token
		})
		all.Go(func() {
			var err error
			if made[i], err = v.AddService(bg, operator, "billing", "app"); err != nil && !errors.Is(err, vault.ErrConflict) {
				t.Errorf("add service: %v", err)
			}
		})
	}
	all.Wait()
	keys := 0
	for i := range tokens {
		if !tokens[i].Equal(tokens[0]) {
			t.Error("two callers got two tokens")
		}
		if !made[i].Key.Empty() {
			keys++
		}
	}
	if rows := dump(t, in.Store, store.Tokens); len(rows) != 1 || keys != 1 {
		t.Errorf("%d tokens and %d credentials were made", len(rows), keys)
	}
}

// TestSameKeyOvertaken: a call that is overtaken by its own repetition makes nothing.
func TestSameKeyOvertaken(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	call := idempotent(vaulttest.Call("operator", ""), "k1", "x")
	before := &beforeUpdate{Store: in.Store}
	v := another(t, in, func(c *vault.Config) { c.Store = before })
	before.do = func() {
		if _, err := in.AddKey(bg, call, "app"); err != nil {
			t.Error(err)
		}
	}
	rows := len(dump(t, in.Store, store.Services))
	_, err := v.AddKey(bg, call, "app")
	wantCode(t, err, vault.ErrConflict)
	if got := len(dump(t, in.Store, store.Services)); got != rows+1 {
		t.Errorf("%d credentials were made", got-rows)
	}
}

// TestReplayAfterAnotherLife repeats calls whose subject was erased and made anew since: what they wrote is not there.
func TestReplayAfterAnotherLife(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	once := func(key string) vault.Call {
		c := vaulttest.Call("app", "")
		c.Idempotency = &vault.Idempotency{Key: key, Request: [][]byte{[]byte(key)}}
		return c
	}
	first := vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("phone", "13900139000")}
	items := []vault.TokenizeItem{{Subject: "u1", Field: "phone", Value: secret.NewText("13900139000")}, {Subject: "u1", Field: "phone", Value: secret.NewText("12")}}
	if _, err := v.Put(bg, once("put"), first); err != nil {
		t.Fatal(err)
	}
	before, err := v.Tokenize(bg, once("tokenize"), items)
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Tokenize(bg, once("tokenize"), items)
	if err != nil || !again[0].Token.Equal(before[0].Token) || again[1].Err.Error() != before[1].Err.Error() {
		t.Errorf("a repeated tokenize answers otherwise: %v, %v", again[1].Err, err)
	}
	erase(t, v, "u1")
	if _, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13700137000")}); err != nil {
		t.Fatal(err)
	}
	_, err = v.Put(bg, once("put"), first)
	wantCode(t, err, vault.ErrSubjectErased)
	again, err = v.Tokenize(bg, once("tokenize"), items)
	if err != nil || again[0].Err != vault.ErrSubjectErased {
		t.Errorf("a repeated tokenize of the erased: %v, %v", again[0].Err, err)
	}
}
