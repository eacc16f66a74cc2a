package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

func newText(s string) secret.Text { return secret.NewText(s) }

// maxTTL bounds a token's life; beyond it a lasting token is what is meant.
const maxTTL = 10 * 365 * 24 * time.Hour

// Tokenize sets each item's field and answers its token, making subjects where needed. Outcomes stand in the order of
// the items; a bad item spoils only itself. The good ones commit together.
func (v *Vault) Tokenize(ctx context.Context, call Call, items []TokenizeItem) (out []TokenizeResult, err error) {
	if len(items) > MaxItems {
		return nil, ErrMalformed.saying("at most 1000 items in one call; send more calls")
	}
	t := newTokenizing(v, items)
	err = v.change(ctx, t.sids, func(k *keychain) (err error) {
		out, err = t.try(ctx, call, k)
		return err
	})
	if err != nil {
		return nil, err // no token beside an error
	}
	return out, nil
}

// tokenizing is one batch: which item is of which subject.
type tokenizing struct {
	v     *Vault
	items []TokenizeItem
	sids  []keys.SID
	ids   []string
	of    []int // item -> index into sids, -1 when the id itself is refused
	bad   []*Error
}

func newTokenizing(v *Vault, items []TokenizeItem) *tokenizing {
	t := &tokenizing{v: v, items: items, of: make([]int, len(items)), bad: make([]*Error, len(items))}
	at := make(map[keys.SID]int, len(items))
	for i := range items {
		if t.bad[i] = checkSubjectID(items[i].Subject); t.bad[i] != nil {
			t.of[i] = -1
			continue
		}
		sid := v.keys.SID(items[i].Subject)
		j, ok := at[sid]
		if !ok {
			j = len(t.sids)
			at[sid] = j
			t.sids, t.ids = append(t.sids, sid), append(t.ids, items[i].Subject)
		}
		t.of[i] = j
	}
	return t
}

func (t *tokenizing) try(ctx context.Context, call Call, k *keychain) ([]TokenizeResult, error) {
	v := t.v
	rec := v.record(call, policy.Tokenize)
	var p *policyInForce
	var r *replay
	var refusal *Error
	var subjects []*subject
	var strangers map[string]bool
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if p, refusal, err = v.admitIn(tx, rec, call, policy.Tokenize); err != nil || refusal != nil {
			return err
		}
		if r, err = v.replayOf(tx, call); err != nil {
			return err
		}
		if strangers, err = t.unknownAudiences(tx); err != nil {
			return err
		}
		named := map[int]map[string]bool{}
		for i := range t.items {
			if j := t.of[i]; j >= 0 {
				if named[j] == nil {
					named[j] = map[string]bool{}
				}
				named[j][t.items[i].Field] = true
			}
		}
		subjects, err = v.load(tx, t.sids, func(j int, field string) bool { return named[j][field] })
		return err
	})
	if err != nil {
		return nil, rec.fail(ctx, err)
	}
	if refusal != nil {
		return nil, rec.refuse(ctx, refusal)
	}
	if r != nil && r.seen {
		return t.replay(ctx, rec, p, subjects, r)
	}

	out := make([]TokenizeResult, len(t.items))
	writes := make([]fieldWrite, len(t.items))
	wanted := make([]bool, len(t.sids))
	for i := range t.items {
		if writes[i], out[i].Err = t.check(i, p, subjects, strangers); out[i].Err == nil {
			wanted[t.of[i]] = true
		}
	}
	edits, failed, err := t.open(ctx, k, subjects, wanted)
	if err != nil {
		return nil, err
	}
	var pointers []byte
	for i := range t.items {
		if out[i].Err == nil {
			out[i].Err = failed[t.of[i]]
		}
		if out[i].Err == nil {
			if err := t.apply(edits[t.of[i]], &t.items[i], writes[i], &out[i]); err != nil {
				return nil, err
			}
		}
		t.note(rec, p, i, &out[i])
		if r != nil {
			pointers = t.point(pointers, &out[i])
		}
	}
	if allKeysFailed(len(out), func(i int) *Error { return out[i].Err }) {
		return nil, rec.refuse(ctx, ErrKeyService)
	}
	var changed []*edit
	for _, e := range edits {
		if e != nil {
			changed = append(changed, e)
		}
	}
	if anyKeyFailed(out) {
		r = nil // the caller tries again with the same idempotency key, and must get further then
	}
	c, err := v.seal(changed, r, pointers)
	if err != nil {
		return nil, err
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	return out, v.commit(ctx, c)
}

// check holds one item to everything that needs no key.
func (t *tokenizing) check(i int, p *policyInForce, subjects []*subject, strangers map[string]bool) (fieldWrite, *Error) {
	it := &t.items[i]
	_, known := p.Field(it.Field)
	switch {
	case t.bad[i] != nil:
		return fieldWrite{}, t.bad[i]
	case subjects[t.of[i]].tomb != nil && !it.Recreate:
		return fieldWrite{}, ErrSubjectErased
	case !known:
		return fieldWrite{}, ErrUnknownField.on(it.Field, "")
	case it.Format != "" && it.Format != "opaque":
		return fieldWrite{}, ErrFormat.on(it.Field, "")
	case it.TTL < 0 || it.TTL > maxTTL || it.TTL > 0 && it.TTL < time.Second:
		return fieldWrite{}, ErrMalformed.saying("ttl is from 1s to ten years").on(it.Field, "")
	case strangers[it.Audience]:
		return fieldWrite{}, ErrUnknownAudience.on(it.Field, "")
	}
	return t.v.validate(p, it.Field, it.Value, it.Source, it.Authorization)
}

// open prepares the subjects that at least one good item is of.
func (t *tokenizing) open(ctx context.Context, k *keychain, subjects []*subject, wanted []bool) ([]*edit, []*Error, error) {
	var some []*subject
	var ids []string
	var at []int
	for j, s := range subjects {
		if wanted[j] {
			some, ids, at = append(some, s), append(ids, t.ids[j]), append(at, j)
		}
	}
	edits, failed := make([]*edit, len(subjects)), make([]*Error, len(subjects))
	got, errs, err := k.edits(ctx, some, ids)
	if err != nil {
		return nil, nil, err
	}
	for k, j := range at {
		edits[j], failed[j] = got[k], errs[k]
		if errs[k] != nil {
			edits[j] = nil
		}
	}
	return edits, failed, nil
}

// apply carries out one item. An error that is not the item's own ends the whole batch.
func (t *tokenizing) apply(e *edit, it *TokenizeItem, w fieldWrite, out *TokenizeResult) (err error) {
	if _, stands := e.body.standing(it.Field, it.Audience, 0); !stands || it.TTL > 0 || it.SingleUse {
		if out.Err = e.room(t.v, 1); out.Err != nil {
			return nil // before the value is set: an item that fails changes nothing
		}
	}
	if err := e.set(t.v, w); err != nil {
		return err
	}
	if it.TTL == 0 && !it.SingleUse {
		out.Token, err = e.token(t.v, it.Field, it.Audience)
	} else {
		b := bodyToken{field: it.Field, audience: it.Audience}
		if it.TTL > 0 {
			b.expiry = millis(t.v.now().Add(it.TTL))
		}
		if it.SingleUse {
			b.flags = keys.TokenSingleUse
		}
		out.Token, err = e.mint(t.v, b)
	}
	var own *Error
	if errors.As(err, &own) {
		out.Err, err = own, nil
	}
	for _, rule := range w.canonical.Warnings {
		out.Warnings = append(out.Warnings, Warning{it.Field, rule})
	}
	return err
}

func (t *tokenizing) note(rec *record, p *policyInForce, i int, out *TokenizeResult) {
	var sid *keys.SID
	if j := t.of[i]; j >= 0 {
		sid = &t.sids[j]
	}
	field := t.items[i].Field
	if _, ours := p.Field(field); !ours {
		field = "" // not a name of ours: whatever the caller wrote there stays out of the log
	}
	rec.item(sid, field, out.Token.Reveal(), "", out.Err)
}

// unknownAudiences returns the audiences named that are no service, or one that is disabled and could open nothing.
func (t *tokenizing) unknownAudiences(tx store.ReadTx) (map[string]bool, error) {
	out := map[string]bool{}
	seen := map[string]bool{"": true}
	for i := range t.items {
		name := t.items[i].Audience
		if seen[name] {
			continue
		}
		seen[name] = true
		if !validServiceName(name) {
			out[name] = true
			continue
		}
		row, err := readService(tx, name)
		if errors.Is(err, ErrNotFound) || err == nil && row.disabled {
			out[name] = true
		} else if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// allKeysFailed reports whether nothing could be answered because the key service is away.
func allKeysFailed(n int, err func(i int) *Error) bool {
	for i := range n {
		if e := err(i); e == nil || e.Code != ErrKey.Code {
			return false
		}
	}
	return n > 0
}

func anyKeyFailed(out []TokenizeResult) bool {
	return slices.ContainsFunc(out, func(r TokenizeResult) bool { return r.Err != nil && r.Err.Code == ErrKey.Code })
}
