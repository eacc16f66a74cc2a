package vault

import (
	"context"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// lookedUp is a token's row, opened.
type lookedUp struct {
	text  string
	key   [16]byte
	field string // as its text says
	row   keys.TokenRow
	known bool // row is set
	err   *Error
}

// lookUp opens the rows of tokens; markers and strangers become errors.
func (v *Vault) lookUp(tx store.ReadTx, tokens []secret.Text) ([]lookedUp, error) {
	now := millis(v.now())
	out := make([]lookedUp, len(tokens))
	var rows [][]byte
	var at []int
	for i, t := range tokens {
		out[i].text = t.Reveal()
		field, err := tokenizer.ParseToken(out[i].text)
		if err != nil {
			out[i].err = ErrTokenMalformed
			continue
		}
		out[i].field = field
		out[i].key = v.keys.TokenRowKey(out[i].text)
		rows, at = append(rows, out[i].key[:]), append(at, i)
	}
	values, err := tx.GetMulti(store.Tokens, rows)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		o := &out[i]
		o.row, o.known, o.err = v.openToken(o.key, values[j], now)
	}
	return out, nil
}

// state is what a caller is told of a token. Of a dead one only the state is left and what its text says; one that
// cannot be told of at all is an error.
func (l *lookedUp) state() TokenState {
	out := TokenState{}
	if l.known {
		out.Audience = l.row.Audience
		out.SingleUse = l.row.Flags&keys.TokenSingleUse != 0
		if l.row.Expiry != 0 {
			out.Expires = fromMillis(l.row.Expiry)
		}
	}
	state, told := tokenState(l.err)
	if !told {
		out.Err = l.err
		return out
	}
	out.State, out.Field, out.Format = state, l.field, "opaque"
	return out
}

// tokenState names the state that an error of openToken stands for.
func tokenState(err *Error) (state string, ok bool) {
	switch err {
	case nil:
		return "active", true
	case ErrTokenExpired:
		return "expired", true
	case ErrTokenUsed:
		return "used", true
	case ErrTokenRevoked:
		return "revoked", true
	case ErrSubjectErased:
		return "subject_erased", true
	case ErrFieldErased:
		return "field_erased", true
	}
	return "", false
}

func (l *lookedUp) note(rec *record) {
	var sid *keys.SID
	if l.known {
		sid = &l.row.SID
	}
	rec.item(sid, l.row.Field, l.text, "", l.err)
}

// Inspect tells of tokens without their values, in the order given.
func (v *Vault) Inspect(ctx context.Context, call Call, tokens []secret.Text) ([]TokenState, error) {
	if len(tokens) > MaxItems {
		return nil, ErrMalformed.saying("at most 1000 tokens in one call; send more calls")
	}
	rec := v.record(call, policy.Inspect)
	found, err := v.admitTokens(ctx, rec, call, policy.Inspect, tokens)
	if err != nil {
		return nil, err
	}
	out := make([]TokenState, len(found))
	for i := range found {
		out[i] = found[i].state()
		found[i].note(rec)
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

func (v *Vault) admitTokens(ctx context.Context, rec *record, call Call, action policy.Action, tokens []secret.Text) (found []lookedUp, err error) {
	var refusal *Error
	err = v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if _, refusal, err = v.admitIn(tx, rec, call, action); err != nil || refusal != nil {
			return err
		}
		if _, err := v.replayOf(tx, call); err != nil { // ending a token twice is ending it once: only a mismatch matters
			return err
		}
		found, err = v.lookUp(tx, tokens)
		return err
	})
	if err != nil {
		return nil, storeError(rec.fail(ctx, err))
	}
	if refusal != nil {
		return nil, rec.refuse(ctx, refusal)
	}
	return found, nil
}

// Revoke ends tokens for good, in the order given; one that is dead already stays as it is. No data key is needed.
func (v *Vault) Revoke(ctx context.Context, call Call, tokens []secret.Text) (out []TokenState, err error) {
	if len(tokens) > MaxItems {
		return nil, ErrMalformed.saying("at most 1000 tokens in one call; send more calls")
	}
	err = attempt(ctx, func() (err error) {
		out, err = v.tryRevoke(ctx, call, tokens)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (v *Vault) tryRevoke(ctx context.Context, call Call, tokens []secret.Text) ([]TokenState, error) {
	rec := v.record(call, policy.Revoke)
	found, err := v.admitTokens(ctx, rec, call, policy.Revoke, tokens)
	if err != nil {
		return nil, err
	}
	var sids []keys.SID
	doomed := map[string]bool{}
	out := make([]TokenState, len(found))
	for i := range found {
		f := &found[i]
		out[i] = f.state()
		f.note(rec)
		if f.err == nil {
			out[i].State = "revoked"
			doomed[f.text] = true
			if !slices.Contains(sids, f.row.SID) {
				sids = append(sids, f.row.SID)
			}
		}
	}
	release, err := v.turns.take(ctx, sids...)
	if err != nil {
		return nil, err
	}
	defer release()
	var subjects []*subject
	var r *replay
	err = v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if r, err = v.replayOf(tx, call); err != nil {
			return err
		}
		subjects, err = v.load(tx, sids, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	var edits []*edit
	for _, s := range subjects {
		if !s.exists() {
			return nil, store.ErrConflict // erased since it was looked up
		}
		e := &edit{subject: s}
		e.endTokens(v, keys.TokenRevoked, func(t *bodyToken) bool { return doomed[t.text] })
		edits = append(edits, e)
	}
	c, err := v.seal(edits, r, nil)
	if err != nil {
		return nil, err
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	return out, v.commit(ctx, c)
}
