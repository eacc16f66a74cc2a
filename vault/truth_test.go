package vault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// truth is what may be read of a store: each token's value or state, each subject's fields, each certificate. An answer
// is right when it is in the truth or an error.
type truth struct {
	tokens       []secret.Text
	values       []string // of tokens; "" for dead ones
	subjects     []string
	fields       []map[string]string
	certificates map[string]string                                                   // by id
	repeats      []func(v *vaulttest.Installation) (tokens []secret.Text, err error) // calls that are replayed
	repeated     [][]secret.Text
}

func (w *truth) token(token secret.Text, value string) {
	w.tokens, w.values = append(w.tokens, token), append(w.values, value)
}

// fill makes subjects with values small and large, tokens of all sorts, dead ones too, erasures and replays.
func fill(t testing.TB, v *vaulttest.Installation) *truth {
	t.Helper()
	w := &truth{certificates: map[string]string{}}
	app := vaulttest.Call("app", "")
	for i, phone := range []string{"13800138000", "13800138001", "13800138000"} {
		id := fmt.Sprintf("u%d", i)
		fields := map[string]string{"phone": phone, "name": "张三" + strings.Repeat("丰", i), "text": long(id), "address": "北京市海淀区中关村大街27号" + id}
		var pairs []string
		for field, value := range fields {
			pairs = append(pairs, field, value)
		}
		for field, token := range put(t, v, id, pairs...) {
			w.token(token, fields[field])
		}
		w.token(mint(t, v, vault.TokenizeItem{Subject: id, Field: "phone", Value: secret.NewText(phone), TTL: time.Hour}), phone)
		w.token(mint(t, v, vault.TokenizeItem{Subject: id, Field: "phone", Value: secret.NewText(phone), Audience: "app"}), phone)
		for _, field := range []string{"name", "email"} {
			value := map[string]string{"name": fields["name"], "email": "zhang.san@example.com"}[field]
			gone := mint(t, v, vault.TokenizeItem{Subject: id, Field: field, Value: secret.NewText(value), TTL: time.Hour})
			w.token(gone, "")
			if field == "email" {
				c, err := v.EraseField(bg, vaulttest.Call("app", ""), id, field)
				w.certificate(t, v, c, err)
			} else if _, err := v.Revoke(bg, app, []secret.Text{gone}); err != nil {
				t.Fatal(err)
			}
		}
		w.subjects, w.fields = append(w.subjects, id), append(w.fields, fields)
		key, item := "key-"+id, vault.TokenizeItem{Subject: id, Field: "phone", Value: secret.NewText(phone), TTL: time.Minute}
		repeat := func(v *vaulttest.Installation) ([]secret.Text, error) {
			out, err := v.Tokenize(bg, idempotent(app, key, key), []vault.TokenizeItem{item})
			if err != nil {
				return nil, err
			}
			if out[0].Err != nil {
				return nil, out[0].Err
			}
			return []secret.Text{out[0].Token}, nil
		}
		first, err := repeat(v)
		if err != nil {
			t.Fatal(err)
		}
		w.token(first[0], phone)
		w.repeats, w.repeated = append(w.repeats, repeat), append(w.repeated, first)
	}
	put(t, v, "gone", "phone", "13800138000")
	w.certificate(t, v, erase(t, v, "gone"), nil)
	w.subjects, w.fields = append(w.subjects, "gone"), append(w.fields, nil)
	return w
}

func (w *truth) certificate(t testing.TB, v *vaulttest.Installation, certificate []byte, err error) {
	t.Helper()
	c, verr := vault.VerifyCertificate(certificate, v.CertificateKey())
	if err != nil || verr != nil {
		t.Fatal(err, verr)
	}
	w.certificates[c.Erasure] = string(certificate)
}

// check reads all that rows of a keyspace ("": of any) bear on, and returns how many answers were errors and what was wrong.
func (w *truth) check(v *vaulttest.Installation, ks store.Keyspace) (refused int, wrong error) {
	refused, wrong = w.checkTokens(v)
	if wrong == nil && ks != store.Tokens && ks != store.Idempotency {
		n, err := w.checkSubjects(v)
		refused, wrong = refused+n, err
	}
	if wrong == nil && (ks == store.Tombstones || ks == "") {
		n, err := w.checkCertificates(v)
		refused, wrong = refused+n, err
	}
	return refused, wrong
}

// checkTokens opens all tokens and makes all calls again that are to be replayed.
func (w *truth) checkTokens(v *vaulttest.Installation) (refused int, wrong error) {
	app := vaulttest.Call("app", "service")
	out, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: w.tokens})
	if err != nil {
		refused++
	}
	for i := range out {
		if out[i].Err != nil {
			refused++
		} else if out[i].Value.Reveal() != w.values[i] {
			return refused, fmt.Errorf("token %d opens to another value", i)
		}
	}
	for i, repeat := range w.repeats {
		got, err := repeat(v)
		if err != nil {
			refused++
		} else if !got[0].Equal(w.repeated[i][0]) {
			return refused, errors.New("a repeated call gets another token")
		}
	}
	return refused, nil
}

// checkSubjects gets all subjects and lists them.
func (w *truth) checkSubjects(v *vaulttest.Installation) (refused int, wrong error) {
	app := vaulttest.Call("app", "service")
	for i, id := range w.subjects {
		fields, err := v.Get(bg, app, vault.GetRequest{Subject: id})
		if err != nil {
			refused++
			continue
		}
		if len(fields) != len(w.fields[i]) {
			return refused, fmt.Errorf("subject %s has %d fields", id, len(fields))
		}
		for _, f := range fields {
			if f.Value.Reveal() != w.fields[i][f.Field] {
				return refused, fmt.Errorf("field %s of %s is another value", f.Field, id)
			}
		}
	}
	list, _, err := v.List(bg, vaulttest.Call("operator", ""), vault.Page{})
	if err != nil {
		refused++
	}
	if len(list) != 3 {
		refused++
	}
	for _, s := range list {
		if s.Subject != "u0" && s.Subject != "u1" && s.Subject != "u2" {
			return refused, errors.New("the list has another subject")
		}
	}
	return refused, nil
}

// checkCertificates reads all certificates, one by one and as a list.
func (w *truth) checkCertificates(v *vaulttest.Installation) (refused int, wrong error) {
	officer := vaulttest.Call("officer", "")
	for id, want := range w.certificates {
		got, err := v.Erasure(bg, officer, id)
		if err != nil {
			refused++
		} else if string(got) != want {
			return refused, errors.New("another certificate than the one asked for")
		}
	}
	all, _, err := v.Erasures(bg, officer, vault.ErasureQuery{})
	if err != nil {
		refused++
	} else if len(all) < len(w.certificates) {
		refused++ // one is missing: the list cannot know
	}
	return refused, nil
}
