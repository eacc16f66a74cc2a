package vault

import (
	"context"

	"golang.org/x/crypto/cryptobyte"

	"github.com/cloakroom-io/cloakroom/keys"
)

// What an idempotency row remembers of a tokenize call, item by item: `00 ‖ token row key (16)` for a token,
// `01 ‖ LP(code) ‖ LP(rule)` for an error. The text of a token is found again in its subject's body.

func (t *tokenizing) point(out []byte, res *TokenizeResult) []byte {
	if res.Err != nil {
		return appendLP(appendLP(append(out, 1), res.Err.Code), res.Err.Rule)
	}
	row := t.v.keys.TokenRowKey(res.Token.Reveal())
	return append(append(out, 0), row[:]...)
}

// replay rebuilds the answer of the first time. A token that was ended since is told by its present state.
func (t *tokenizing) replay(ctx context.Context, rec *record, subjects []*subject, r *replay) ([]TokenizeResult, error) {
	rows := make([]map[[16]byte]string, len(subjects))
	for j, s := range subjects {
		if !s.exists() {
			continue
		}
		rows[j] = make(map[[16]byte]string, len(s.body.tokens))
		for i := range s.body.tokens {
			text := s.body.tokens[i].text
			rows[j][t.v.keys.TokenRowKey(text)] = text
		}
	}
	out := make([]TokenizeResult, len(t.items))
	in := cryptobyte.String(r.pointers)
	for i := range t.items {
		var sort uint8
		if !in.ReadUint8(&sort) || sort > 1 {
			return nil, ErrCorrupt
		}
		if sort == 1 {
			var code, rule cryptobyte.String
			if !in.ReadUint16LengthPrefixed(&code) || !in.ReadUint16LengthPrefixed(&rule) {
				return nil, ErrCorrupt
			}
			out[i].Err = errorByCode(string(code)).on(t.items[i].Field, string(rule))
		} else {
			var row [16]byte
			if !in.CopyBytes(row[:]) {
				return nil, ErrCorrupt
			}
			t.find(i, subjects, rows, row, &out[i])
		}
		t.note(rec, i, &out[i])
	}
	if !in.Empty() {
		return nil, ErrCorrupt
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	if err := t.v.flushLedger(ctx); err != nil { // the first time may have failed there
		return nil, err
	}
	return out, nil
}

func (t *tokenizing) find(i int, subjects []*subject, rows []map[[16]byte]string, row [16]byte, out *TokenizeResult) {
	s := subjects[t.of[i]]
	text, ok := rows[t.of[i]][row]
	switch {
	case ok:
		out.Token = newText(text)
	case !s.exists():
		out.Err = s.missing()
	default:
		out.Err = ErrTokenRevoked
	}
}

func errorByCode(code string) *Error {
	for _, e := range Errors() {
		if e.Code == code {
			return e
		}
	}
	return ErrInternal
}

// stateError is what a marker in a token row's place says.
func stateError(state keys.MarkerState) *Error {
	switch state {
	case keys.SubjectErased:
		return ErrSubjectErased
	case keys.FieldErased:
		return ErrFieldErased
	case keys.TokenExpired:
		return ErrTokenExpired
	case keys.TokenRevoked:
		return ErrTokenRevoked
	default:
		return ErrTokenUsed
	}
}
