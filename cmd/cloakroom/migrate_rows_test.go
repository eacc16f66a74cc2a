package main

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// lying is a server whose tokens open to what a test says.
func lying(opens func(token wire.Plain, honest string) wire.Revealed) *tableServer {
	values := map[wire.Plain]string{}
	return &tableServer{
		put: func(_ context.Context, rows []wire.ImportRow) ([]wire.ImportResult, error) {
			var out []wire.ImportResult
			for i, row := range rows {
				r := tokensOf(row, int64(i+1))
				for field, token := range r.Tokens {
					values[token] = string(row.Fields[field].Value)
				}
				out = append(out, r)
			}
			return out, nil
		},
		open: func(_ context.Context, tokens []wire.Plain) ([]wire.Revealed, error) {
			out := make([]wire.Revealed, len(tokens))
			for i, token := range tokens {
				out[i] = opens(token, values[token])
			}
			return out, nil
		},
	}
}

func text(s string) sqltable.Text { return sqltable.Text{Value: s, Valid: true} }

// No plaintext is taken out of a batch in which one token does not open to its value, byte for byte.
func TestCutOnlyWhatOpens(t *testing.T) {
	honest := func(token wire.Plain, value string) wire.Revealed {
		v := wire.Plain(value)
		return wire.Revealed{Token: token, Value: &v, View: "full"}
	}
	of := func(part string, alter func(*wire.Revealed)) func(wire.Plain, string) wire.Revealed {
		return func(t wire.Plain, value string) wire.Revealed {
			r := honest(t, value)
			if strings.Contains(string(t), part) {
				alter(&r)
			}
			return r
		}
	}
	refuses := func(code wire.Code) func(*wire.Revealed) {
		return func(r *wire.Revealed) { r.Value, r.Error = nil, &wire.ItemError{Code: code} }
	}
	says := func(value string) func(*wire.Revealed) {
		return func(r *wire.Revealed) { *r.Value = wire.Plain(value) }
	}
	differs := func(err error) bool {
		var d differsError
		return errors.As(err, &d) && slices.Equal(d.keys, []string{"u2"})
	}
	cases := []struct {
		name  string
		opens func(wire.Plain, string) wire.Revealed
		fails func(error) bool
	}{
		{"all open", honest, nil},
		{"another value", of("name_u2", says("李四")), differs},
		{"a blank less", of("phone_u2", says("138")), differs},
		{"no value", of("phone_u2", refuses(wire.SubjectErased)), differs},
		{"a key that is away", of("phone_u2", refuses(wire.KeyUnavailable)), func(err error) bool { return errors.Is(err, errKeyAway) }},
		{"not allowed", of("phone_u2", refuses(wire.PurposeNotAllowed)), func(err error) bool { return errors.As(err, new(itemError)) }},
		{"masked", of("phone_u2", func(r *wire.Revealed) { r.View = "masked" }), func(err error) bool { return errors.As(err, new(itemError)) }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			bad, err := findBadFile("", "t", false)
			if err != nil {
				t.Fatal(err)
			}
			j := &tableJob{server: lying(tc.opens), bad: bad, fields: []fieldColumn{{"phone", "p"}, {"name", "n"}}, sources: []string{"table:p", "table:n"}}
			rows := []sqltable.Row{
				{Key: "u1", Cells: []sqltable.Cell{{Plain: text("137")}, {}}},
				{Key: "u2", Cells: []sqltable.Cell{{Plain: text("138 ")}, {Plain: text("张三")}}},
				{Key: "u 3", Cells: []sqltable.Cell{{Plain: text("139")}, {}}},
				{Key: "u4", Cells: []sqltable.Cell{{Plain: text("")}, {Plain: text("\xff")}}},
			}
			var o outcome
			out, err := j.cut(t.Context(), rows, &o)
			if tc.fails != nil {
				if out != nil || !tc.fails(err) {
					t.Errorf("%d rows, %v", len(out), err)
				}
				return
			}
			if err != nil || len(out) != 2 || o.proved != 2 || len(o.bad) != 2 || o.bad[0].fault.code != wire.InvalidSubjectID || o.bad[1].fault.rule != "encoding" {
				t.Fatalf("%+v, %+v, %v", out, o, err)
			}
			for _, row := range out {
				for at, c := range row.Cells {
					want := "tok_" + j.fields[at].Field + "_" + row.Key
					if row.Key == "u1" && at == 1 {
						want = ""
					}
					if c.Plain.Valid || c.Token.Value != want {
						t.Errorf("row %s has the token %q, and plaintext: %v", row.Key, c.Token.Value, c.Plain.Valid)
					}
				}
			}
		})
	}
}

// The empty string beside a token is nobody's to settle: the token stays and the row is bad, unless the plaintext was said to
// be the truth.
func TestFillEmptied(t *testing.T) {
	for _, refresh := range []bool{false, true} {
		bad, err := findBadFile("", "t", false)
		if err != nil {
			t.Fatal(err)
		}
		phone, err := tokenizer.NewToken(rand.Reader, "phone")
		if err != nil {
			t.Fatal(err)
		}
		j := &tableJob{server: lying(nil), bad: bad, fields: []fieldColumn{{"phone", "p"}, {"name", "n"}}, sources: []string{"table:p", "table:n"}, refresh: refresh}
		rows := []sqltable.Row{{Key: "u1", Cells: []sqltable.Cell{{Plain: text(""), Token: text(phone.Reveal())}, {Plain: text("张三")}}}}
		var o outcome
		out, err := j.fill(t.Context(), rows, &o)
		switch {
		case err != nil:
			t.Error(err)
		case !refresh && (len(out) != 0 || len(o.bad) != 1 || o.bad[0].fault.rule != emptyRule || o.bad[0].fault.field != "phone"):
			t.Errorf("%+v, %+v", out, o)
		case refresh && (len(out) != 1 || len(o.bad) != 0 || out[0].Cells[0].Token.Valid || !out[0].Cells[1].Token.Valid):
			t.Errorf("%+v, %+v", out, o)
		}
	}
}
