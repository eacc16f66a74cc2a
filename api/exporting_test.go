package api_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// wornStore damages the last byte of the rows of subjects that end its key so, when it is read in order.
type wornStore struct {
	store.Store
	ends atomic.Pointer[string]
}

type wornTx struct {
	store.ReadTx
	ends string
}

func (s *wornStore) View(ctx context.Context, fn func(store.ReadTx) error) error {
	ends := s.ends.Load()
	if ends == nil {
		return s.Store.View(ctx, fn)
	}
	return s.Store.View(ctx, func(tx store.ReadTx) error { return fn(wornTx{tx, *ends}) })
}

func (t wornTx) Scan(ks store.Keyspace, from, to []byte, fn func(key, value []byte) error) error {
	return t.ReadTx.Scan(ks, from, to, func(key, value []byte) error {
		if ks == store.Subjects && strings.HasSuffix(string(key), t.ends) {
			value = bytes.Clone(value)
			value[len(value)-1] ^= 1
		}
		return fn(key, value)
	})
}

// TestExportOverHTTP: what was put comes out byte for byte, and what cannot is told as described.
func TestExportOverHTTP(t *testing.T) {
	worn := &wornStore{}
	h := newHouseWith(t, vaulttest.Options{Store: func(s store.Store) store.Store { worn.Store = s; return worn }})
	w := &witness{h, description(t, h), map[string]bool{}}
	values := map[string]string{"name": "买买提•吐尔逊", "text": strings.Repeat("line \"1\"\n\t长", 500), "address": "北京市海淀区中关村大街２７号（Ａ座）"}
	fields, err := json.Marshal(map[string]any{"fields": values})
	if err != nil {
		t.Fatal(err)
	}
	put := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", string(fields))
	must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u2", `{"fields":{}}`)

	one := must[wire.ExportedSubject](h, 200, "officer", "GET", "/v1/subjects/u1/export", "")
	if one.Subject != "u1" || len(one.Fields) != 3 || len(one.Tokens) != 3 || one.Error != nil {
		t.Fatalf("%d fields, %d tokens", len(one.Fields), len(one.Tokens))
	}
	for field, want := range values {
		if f := one.Fields[field]; string(f.Value) != want || f.Token != put.Tokens[field] || f.Kind != field {
			t.Errorf("%s is not as it was put", field)
		}
	}
	var people []string
	for path := "/v1/export?limit=1"; path != ""; {
		page := must[wire.Export](h, 200, "officer", "GET", path, "")
		for _, p := range page.Subjects {
			people = append(people, p.Subject)
			if p.Fields == nil || p.Tokens == nil {
				t.Errorf("%s: a list is missing", p.Subject)
			}
		}
		if path = ""; page.NextCursor != "" {
			path = "/v1/export?limit=1&cursor=" + page.NextCursor
		}
	}
	if len(people) != 2 || people[0] == people[1] {
		t.Errorf("pages of one: %v", people)
	}
	tokens := must[wire.TokenList](h, 200, "operator", "GET", "/v1/tokens?fields=name,text", "")
	for _, s := range tokens.Subjects {
		if s.Subject == "u2" && (s.Tokens == nil || len(s.Tokens) > 0) || s.Subject == "u1" && (len(s.Tokens) != 2 || s.Tokens["text"] != put.Tokens["text"]) {
			t.Errorf("%s: %d tokens", s.Subject, len(s.Tokens))
		}
	}

	for _, c := range []struct{ name, ends, code, field string }{
		{"key row", "k", "data_corrupt", ""}, {"body row", "s", "data_corrupt", ""}, {"value row", "text", "data_corrupt", "text"},
	} {
		worn.ends.Store(&c.ends)
		got := must[wire.Export](h, 200, "officer", "GET", "/v1/export", "")
		_ = w.ask("officer", "GET", "/v1/export", "/v1/export", "", 200)
		_ = w.ask("operator", "GET", "/v1/tokens", "/v1/tokens", "", 200)
		broken := 0
		for _, p := range got.Subjects {
			if p.Error == nil {
				continue
			}
			broken++
			if string(p.Error.Code) != c.code || p.Error.Field != c.field || (c.field == "") != (p.Subject == "") || (c.field == "") != (p.Fields == nil) || len(p.Fields) > 2 {
				t.Errorf("%s: %+v of %q with %d fields", c.name, p.Error, p.Subject, len(p.Fields))
			}
		}
		if want := map[bool]int{true: 2, false: 1}[c.field == ""]; broken != want || len(got.Subjects) != 2 {
			t.Errorf("%s: %d of %d people are broken", c.name, broken, len(got.Subjects))
		}
		resp, body := h.as("officer", "GET", "/v1/subjects/u1/export", "")
		if c.field == "" {
			wantProblem(t, resp, body, 500, wire.DataCorrupt)
		} else if resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body)
		}
	}
	for _, value := range values {
		if strings.Contains(h.log.String(), value[:9]) {
			t.Error("the log holds a value")
		}
	}
}

// TestExportAnswersNothingBefore: refused queries, and an audit log that is away.
func TestExportAnswersNothingBefore(t *testing.T) {
	h, log := newSwitchedHouse(t)
	must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", `{"fields":{"phone":"`+marker+`"}}`)
	for _, c := range []struct {
		role, path string
		status     int
		code       wire.Code
	}{
		{"officer", "/v1/export?limit=0", 400, wire.MalformedRequest},
		{"officer", "/v1/export?limit=1001", 400, wire.MalformedRequest},
		{"officer", "/v1/export?cursor=" + marker, 400, wire.MalformedRequest},
		{"officer", "/v1/export?purpose=service", 400, wire.MalformedRequest},
		{"officer", "/v1/subjects/u1/export?fields=phone", 400, wire.MalformedRequest},
		{"operator", "/v1/tokens?fields=", 400, wire.MalformedRequest},
		{"operator", "/v1/tokens?fields=n" + marker, 422, wire.UnknownField},
		{"operator", "/v1/tokens?fields=" + strings.Repeat("a,", 1000) + "a", 400, wire.MalformedRequest},
		{"operator", "/v1/tokens?audience=", 400, wire.MalformedRequest},
		{"operator", "/v1/tokens?audience=" + marker, 422, wire.UnknownAudience},
		{"operator", "/v1/tokens?audience=app&audience=app", 400, wire.MalformedRequest},
	} {
		resp, body := h.as(c.role, "GET", c.path, "")
		p := wantProblem(t, resp, body, c.status, c.code)
		if c.code == wire.UnknownField {
			continue // a name of the form of a field's may be told
		}
		if strings.Contains(fmt.Sprint(p), marker) || strings.Contains(h.log.String(), marker) {
			t.Errorf("%.40s: the input comes back", c.path)
		}
	}
	log.away.Store(true)
	for path, role := range map[string]string{"/v1/export": "officer", "/v1/subjects/u1/export": "officer", "/v1/tokens": "operator"} {
		resp, body := h.as(role, "GET", path, "")
		wantProblem(t, resp, body, 503, wire.AuditUnavailable)
		if strings.Contains(body, marker) || strings.Contains(body, "tok_") || strings.Contains(body, "u1") {
			t.Errorf("%s shows something without audit", path)
		}
	}
}
