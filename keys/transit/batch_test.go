package transit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

var bothKeys = []keys.KeyName{keys.RootKey, keys.DEKKey}

func TestBadItemsSpoilOnlyThemselves(t *testing.T) {
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, s.appRole(t, p.URL, "r", nil))
	for _, key := range bothKeys {
		items := wrapSome(t, k, key, 4)
		other := keys.RootKey
		if key == other {
			other = keys.DEKKey
		}
		foreign := wrapSome(t, k, other, 1)[0]
		bad := map[string]keys.UnwrapItem{
			"exchanged context": {Context: items[1].Context, Wrapped: items[0].Wrapped},
			"other key":         foreign.UnwrapItem,
			"unknown version":   {Context: items[0].Context, Wrapped: keys.Wrapped(strings.Replace(string(items[0].Wrapped), ":v1:", ":v9:", 1))},
			"short":             {Context: items[0].Context, Wrapped: "vault:v1:AAAA"},
			"no base64":         {Context: items[0].Context, Wrapped: "vault:v1:A=A=A"},
			"quote":             {Context: items[0].Context, Wrapped: `vault:v1:","plaintext":"`},
			"version zero":      {Context: items[0].Context, Wrapped: "vault:v0:AAAA"},
			"too long":          {Context: items[0].Context, Wrapped: keys.Wrapped("vault:v1:" + strings.Repeat("A", keys.MaxWrapped))},
			"other scheme":      {Context: items[0].Context, Wrapped: "local:v1:AAAA"},
			"no context":        {Wrapped: items[0].Wrapped},
			"long context":      {Context: make([]byte, 257), Wrapped: items[0].Wrapped},
		}
		for name, item := range bad {
			t.Run(string(key)+" "+name, func(t *testing.T) {
				in := append(unwrapItems(items), item, items[3].UnwrapItem)
				before := p.Count("/decrypt/")
				out, err := k.Unwrap(t.Context(), key, in)
				must(t, err)
				if n := p.Count("/decrypt/") - before; n != 1 {
					t.Errorf("%d requests for a batch", n)
				}
				wantError(t, out[4].Err, keys.ErrUnwrap)
				for i, it := range append(items, wrapped{}, items[3]) {
					if i != 4 && (out[i].Err != nil || !out[i].Plaintext.Equal(it.plain)) {
						t.Errorf("neighbour %d: %v", i, out[i].Err)
					}
				}
				for _, alone := range [][]keys.UnwrapItem{{item}, {item, item}} { // no success beside it: status 400
					out, err := k.Unwrap(t.Context(), key, alone)
					must(t, err)
					wantError(t, out[0].Err, keys.ErrUnwrap)
				}
				if key == keys.DEKKey {
					out, err := k.Rewrap(t.Context(), key, in)
					must(t, err)
					wantError(t, out[4].Err, keys.ErrUnwrap)
					if out[5].Err != nil || sing(t, k, key, wrapped{items[3].plain, keys.UnwrapItem{Context: in[5].Context, Wrapped: out[5].Wrapped}}) != nil {
						t.Error("the last neighbour was not rewrapped")
					}
				}
			})
		}
		t.Run(string(key)+" wrap", func(t *testing.T) {
			good := keys.WrapItem{Context: []byte("c"), Plaintext: newKey(t)}
			in := []keys.WrapItem{good, {Context: []byte("c")}, good, {Plaintext: good.Plaintext}, good}
			out, err := k.Wrap(t.Context(), key, 0, in)
			must(t, err)
			for i, o := range out {
				if i%2 == 1 {
					wantError(t, o.Err, ErrRequest)
				} else if o.Err != nil || sing(t, k, key, wrapped{good.Plaintext, keys.UnwrapItem{Context: good.Context, Wrapped: o.Wrapped}}) != nil {
					t.Errorf("item %d: %v", i, o.Err)
				}
			}
			for _, version := range []int{2, 1 << 40} {
				out, err := k.Wrap(t.Context(), key, version, []keys.WrapItem{good, good})
				must(t, err)
				wantError(t, out[0].Err, ErrRequest)
			}
		})
	}
}

func TestLimitsOfACall(t *testing.T) {
	s := newStand(t, transittest.Options{})
	k := open(t, withToken(s.URL, s.Root, s.inst))
	_, err := k.Unwrap(t.Context(), keys.DEKKey, make([]keys.UnwrapItem, 10_001))
	wantError(t, err, ErrRequest)
	_, err = k.Wrap(t.Context(), keys.DEKKey, 0, make([]keys.WrapItem, 10_001))
	wantError(t, err, ErrRequest)
	_, err = k.Rewrap(t.Context(), keys.DEKKey, make([]keys.UnwrapItem, 10_001))
	wantError(t, err, ErrRequest)
	_, err = k.Wrap(t.Context(), keys.DEKKey, -1, make([]keys.WrapItem, 1))
	wantError(t, err, ErrRequest)
	_, err = k.Unwrap(t.Context(), "other", nil)
	wantError(t, err, ErrRequest)
	// The largest request there is must pass the limits of Vault.
	in := make([]keys.WrapItem, 10_000)
	for i := range in {
		in[i] = keys.WrapItem{Context: bytes.Repeat([]byte{255}, 256), Plaintext: secret.NewBytes(make([]byte, 32))}
	}
	out, err := k.Wrap(t.Context(), keys.DEKKey, 1, in)
	must(t, err)
	for _, o := range out {
		must(t, o.Err)
	}
}

// TestBrokenAnswers lets a proxy answer what Vault never would.
func TestBrokenAnswers(t *testing.T) {
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	c := withToken(p.URL, s.Root, s.inst)
	k := open(t, c)
	items := wrapSome(t, k, keys.DEKKey, 2)
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	good := `{"plaintext":"` + key + `"}`
	results := func(all ...string) string { return `{"data":{"batch_results":[` + strings.Join(all, ",") + `]}}` }
	for _, tt := range []struct {
		name, body string
		status     int
		whole      error // of the call
		item       error // of the first, when the call has none
	}{
		{"good", results(good, good), 200, nil, nil},
		{"one missing", results(good), 200, keys.ErrKMSUnavailable, nil},
		{"one too many", results(good, good, good), 200, keys.ErrKMSUnavailable, nil},
		{"none", `{"data":{}}`, 200, keys.ErrKMSUnavailable, nil},
		{"no data", `{}`, 200, keys.ErrKMSUnavailable, nil},
		{"data null", `{"data":null}`, 200, keys.ErrKMSUnavailable, nil},
		{"empty", ``, 200, keys.ErrKMSUnavailable, nil},
		{"no JSON", `<html>`, 200, keys.ErrKMSUnavailable, nil},
		{"cut", results(good, good)[:60], 200, keys.ErrKMSUnavailable, nil},
		{"cut before the end", strings.TrimSuffix(results(good, good), "]}}"), 200, keys.ErrKMSUnavailable, nil},
		{"results no array", `{"data":{"batch_results":{}}}`, 200, keys.ErrKMSUnavailable, nil},
		{"item no object", results(good, "1"), 200, keys.ErrKMSUnavailable, nil},
		{"item twice the member", results(good, `{"plaintext":"`+key+`","plaintext":"`+key+`"}`), 200, keys.ErrKMSUnavailable, nil},
		{"number for a key", results(`{"plaintext":1}`, good), 200, keys.ErrKMSUnavailable, nil},
		{"nothing in an item", results(`{}`, good), 200, nil, keys.ErrKMSUnavailable},
		{"31 bytes", results(`{"plaintext":"`+base64.StdEncoding.EncodeToString(make([]byte, 31))+`"}`, good), 200, nil, keys.ErrUnwrap},
		{"33 bytes", results(`{"plaintext":"`+base64.StdEncoding.EncodeToString(make([]byte, 33))+`"}`, good), 200, nil, keys.ErrUnwrap},
		{"no base64", results(`{"plaintext":"`+strings.Repeat("?", 44)+`"}`, good), 200, nil, keys.ErrUnwrap},
		{"refused", results(`{"plaintext":"","error":"cipher: message authentication failed"}`, good), 200, nil, keys.ErrUnwrap},
		{"failure inside vault", results(`{"plaintext":"","error":"could not derive enc key, length not correct"}`, good), 200, nil, keys.ErrKMSUnavailable},
		{"all failed inside vault", results(`{"error":"could not derive"}`, `{"error":"could not derive"}`), 500, nil, keys.ErrKMSUnavailable},
		{"key gone", `{"errors":["encryption key not found"]}`, 400, keys.ErrNoKey, nil},
		{"engine gone", `{"errors":["no handler for route \"transit/decrypt/x\""]}`, 404, keys.ErrNoKey, nil},
		{"too large", `{"errors":["http: request body too large"]}`, 413, keys.ErrKMSUnavailable, nil},
		{"bad request", `{"errors":["what"]}`, 400, keys.ErrKMSUnavailable, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.Set(transittest.Fault{Status: tt.status, Body: tt.body, Match: func(r *http.Request) bool { return r.Method == http.MethodPut }})
			if tt.body == "" {
				p.Set(transittest.Fault{Status: tt.status, Body: " "})
			}
			out, err := k.Unwrap(t.Context(), keys.DEKKey, unwrapItems(items))
			if !errors.Is(err, tt.whole) {
				t.Fatalf("error %v, want %v", err, tt.whole)
			}
			if tt.whole == nil && !errors.Is(out[0].Err, tt.item) {
				t.Fatalf("item: %v, want %v", out[0].Err, tt.item)
			}
			if tt.whole == nil && tt.status == 200 && out[1].Err != nil {
				t.Fatalf("neighbour: %v", out[1].Err)
			}
		})
	}
	for name, body := range map[string]string{
		"other scheme":  results(`{"ciphertext":"local:v1:AAAA"}`),
		"other version": results(`{"ciphertext":"vault:v2:AAAA"}`),
		"empty":         results(`{"ciphertext":""}`),
	} {
		t.Run("wrap "+name, func(t *testing.T) {
			p.Set(transittest.Fault{Status: 200, Body: body})
			out, err := k.Wrap(t.Context(), keys.DEKKey, 1, []keys.WrapItem{{Context: []byte("c"), Plaintext: newKey(t)}})
			must(t, err)
			if !errors.Is(out[0].Err, keys.ErrKMSUnavailable) || out[0].Wrapped != "" {
				t.Fatalf("%v", out[0].Err)
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		p.Set(transittest.Fault{Status: 200, Body: strings.Repeat(" ", maxAnswer+1)})
		_, err := k.Unwrap(t.Context(), keys.DEKKey, unwrapItems(items))
		wantError(t, err, keys.ErrKMSUnavailable)
		wantText(t, err.Error(), "64 MiB")
	})
}

// TestAuditAndLogsShowNothing looks for everything secret in what Vault and this package write down.
func TestAuditAndLogsShowNothing(t *testing.T) {
	s := newStand(t, transittest.Options{})
	log := new(journal)
	c := s.appRole(t, s.URL, "r", nil)
	c.Logger = log.logger()
	k := open(t, c)
	var said strings.Builder
	for _, key := range bothKeys {
		items := wrapSome(t, k, key, 3)
		in := append(unwrapItems(items), keys.UnwrapItem{Context: items[0].Context, Wrapped: items[1].Wrapped})
		out, err := k.Unwrap(t.Context(), key, in)
		must(t, err)
		fmt.Fprintf(&said, "%v %+v %#v\n", out[3].Err, out, items)
		_, err = k.Wrap(t.Context(), key, 7, []keys.WrapItem{{Context: items[0].Context, Plaintext: items[0].plain}})
		must(t, err)
		for _, it := range items {
			defer wantHidden(t, s, &said, log, "a key", it.plain.Reveal())
			defer wantHidden(t, s, &said, log, "a context", it.Context)
		}
	}
	token, err := k.keeper.current()
	must(t, err)
	id, err := os.ReadFile(c.Login.SecretIDFile)
	must(t, err)
	s.Do(t, "POST", "/v1/auth/token/revoke", map[string]any{"token": token.text.Reveal()})
	must(t, os.WriteFile(c.Login.SecretIDFile, []byte("another\n"), 0o600))
	_, err = k.Versions(t.Context(), keys.DEKKey)
	fmt.Fprintln(&said, err)
	wantError(t, err, keys.ErrKMSUnavailable, ErrLogin)
	wantHidden(t, s, &said, log, "the token", []byte(token.text.Reveal()))
	wantHidden(t, s, &said, log, "the secret id", bytes.TrimSpace(id))
}

// wantHidden wants value in no usual form in Vault's audit log, our log and what errors said. Contexts are no secret
// from who calls, but are from the logs.
func wantHidden(t *testing.T, s *stand, said *strings.Builder, log *journal, what string, value []byte) {
	t.Helper()
	audit, err := os.ReadFile(s.Audit)
	must(t, err)
	if len(audit) < 1000 {
		t.Fatal("the audit log is empty")
	}
	places := map[string]string{"vault's audit log": string(audit), "our log": log.String()}
	if what != "a context" {
		places["errors"] = said.String()
	}
	for place, text := range places {
		for _, form := range []string{string(value), hex.EncodeToString(value), base64.StdEncoding.EncodeToString(value),
			strings.TrimRight(base64.URLEncoding.EncodeToString(value), "="), fmt.Sprint(value)} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows %s", place, what)
			}
		}
	}
}
