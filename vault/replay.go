package vault

import (
	"context"
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// What an idempotency row remembers of a put: `u8 created ‖ u32 dek version ‖ token row key (16) of each field that was set`.

func (v *Vault) putPointers(e *edit, tokens []FieldToken) []byte {
	out := binary.BigEndian.AppendUint32([]byte{flag(e.created)}, e.key.DEKVersion)
	for _, t := range tokens {
		row := v.keys.TokenRowKey(t.Token.Reveal())
		out = append(out, row[:]...)
	}
	return out
}

// replayPut answers a repeated put from what stands now. A subject that was erased since is told as that, also when it
// was made again; a token that ended since, by what ended it.
func (v *Vault) replayPut(ctx context.Context, rec *record, s *subject, r *replay, writes []fieldWrite, out PutResult) (PutResult, error) {
	var created uint8
	var life uint32
	in := cryptobyte.String(r.pointers)
	if !in.ReadUint8(&created) || created > 1 || !in.ReadUint32(&life) {
		return out, ErrCorrupt
	}
	if life != s.key.DEKVersion {
		rec.item(&s.sid, "", "", "", ErrSubjectErased)
		return out, rec.refuse(ctx, ErrSubjectErased)
	}
	out.Created = created == 1
	texts := v.tokensByRow(s)
	for _, w := range writes {
		if w.def.Name == "" {
			continue // a removal
		}
		var row [16]byte
		if !in.CopyBytes(row[:]) {
			return out, ErrCorrupt
		}
		text, ok := texts[row]
		if !ok {
			ended, err := v.whyEnded(ctx, row)
			if err != nil {
				return out, err
			}
			rec.item(&s.sid, w.def.Name, "", "", ended)
			return out, rec.refuse(ctx, ended.on(w.def.Name, ""))
		}
		rec.item(&s.sid, w.def.Name, text, "", nil)
		out.Tokens = append(out.Tokens, FieldToken{w.def.Name, newText(text)})
	}
	if !in.Empty() {
		return out, ErrCorrupt
	}
	if _, err := rec.commit(ctx); err != nil {
		return out, err
	}
	return out, v.flushLedger(ctx) // the first time may have failed there
}

// tokensByRow finds the texts of a subject's live tokens by the keys of their rows.
func (v *Vault) tokensByRow(s *subject) map[[16]byte]string {
	if !s.exists() {
		return nil
	}
	out := make(map[[16]byte]string, len(s.body.tokens))
	for i := range s.body.tokens {
		text := s.body.tokens[i].text
		out[v.keys.TokenRowKey(text)] = text
	}
	return out
}

// whyEnded says what ended a token whose text is no longer in its subject's body.
func (v *Vault) whyEnded(ctx context.Context, row [16]byte) (ended *Error, err error) {
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		value, err := tx.Get(store.Tokens, row[:])
		if err == nil {
			ended = endedBy(value)
		}
		return err
	})
	return ended, storeError(err)
}

// What it remembers of a tokenize call, item by item: `00 ‖ token row key (16)` for a token, `01 ‖ LP(code) ‖ LP(rule)` for
// an error. The text of a token is found again in its subject's body.

func (t *tokenizing) point(out []byte, res *TokenizeResult) []byte {
	if res.Err != nil {
		return appendLP(appendLP(append(out, 1), res.Err.Code), res.Err.Rule)
	}
	row := t.v.keys.TokenRowKey(res.Token.Reveal())
	return append(append(out, 0), row[:]...)
}

// replay rebuilds the answer of the first time. A token that was ended since is told by its present state.
func (t *tokenizing) replay(ctx context.Context, rec *record, p *policyInForce, subjects []*subject, r *replay) (out []TokenizeResult, err error) {
	rows := make([]map[[16]byte]string, len(subjects))
	for j, s := range subjects {
		rows[j] = t.v.tokensByRow(s)
	}
	out = make([]TokenizeResult, len(t.items))
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
			out[i].Err = t.v.errorAgain(p, string(code), t.items[i].Field, string(rule))
		} else {
			var row [16]byte
			if !in.CopyBytes(row[:]) {
				return nil, ErrCorrupt
			}
			if text, ok := rows[t.of[i]][row]; ok {
				out[i].Token = newText(text)
			} else if out[i].Err, err = t.v.whyEnded(ctx, row); err != nil {
				return nil, err
			}
		}
		t.note(rec, p, i, &out[i])
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

// errorAgain is an item's error as it was told the first time.
func (v *Vault) errorAgain(p *policyInForce, code, field, rule string) *Error {
	if code == ErrInvalidValue.Code {
		if def, ok := p.Field(field); ok {
			if kind, ok := v.kinds.Lookup(def.Kind); ok {
				return invalidValue(kind, field, rule)
			}
		}
	}
	for _, e := range Errors() {
		if e.Code == code {
			return e.on(field, rule)
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
