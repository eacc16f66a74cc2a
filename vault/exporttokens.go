package vault

import (
	"context"
	"errors"
	"slices"

	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// TokenQuery asks for the lasting tokens of everybody.
type TokenQuery struct {
	Page
	Audience string   // "" = those of nobody's audience
	Fields   []string // nil = all
}

// SubjectTokens are a person's lasting tokens. Err says why nothing is known of somebody.
type SubjectTokens struct {
	Subject string       // "" beside an Err that keeps it from being known
	Tokens  []FieldToken // in the order of minting; none is no error
	Err     *Error
}

// ListTokens names everybody with the lasting token of each field for one audience: no value, and no token that ends by
// itself. Order, pages and people who cannot be read are as in Export. Like List it needs the key service for the ids.
func (v *Vault) ListTokens(ctx context.Context, call Call, q TokenQuery) ([]SubjectTokens, string, error) {
	return somebody(q.Page, func(page Page) ([]SubjectTokens, string, error) {
		q.Page = page
		return v.listTokens(ctx, call, q)
	})
}

func (v *Vault) listTokens(ctx context.Context, call Call, q TokenQuery) ([]SubjectTokens, string, error) {
	rec := v.record(call, policy.List)
	var people []*person
	var next string
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		var p *policyInForce
		if p, refusal, err = v.admitIn(tx, rec, call, policy.List); err != nil || refusal != nil {
			return err
		}
		if refusal, err = q.check(tx, p); err != nil || refusal != nil {
			return err
		}
		people, next, err = v.readPeople(tx, q.Page, false, q.items)
		return err
	})
	if err != nil {
		return nil, "", storeError(err)
	}
	if refusal != nil {
		return nil, "", rec.refuse(ctx, refusal)
	}
	defer wipePeople(people)
	if err := v.unlock(ctx, people); err != nil {
		return nil, "", rec.fail(ctx, storeError(err))
	}
	tokens := make([][]FieldToken, len(people))
	for i, p := range people {
		tokens[i] = q.of(p)
		for _, t := range tokens[i] {
			rec.item(&p.sid, t.Field, t.Token.Reveal(), "", nil)
		}
		if len(tokens[i]) == 0 {
			rec.item(&p.sid, "", "", "", p.err)
		}
	}
	gone, err := v.commitShown(ctx, rec, people)
	if err != nil {
		return nil, "", err
	}
	out := make([]SubjectTokens, 0, len(people))
	for i, p := range people {
		if !gone[i].all {
			left := slices.DeleteFunc(tokens[i], func(t FieldToken) bool { return gone[i].fields[t.Field] })
			out = append(out, SubjectTokens{Subject: p.id, Tokens: left, Err: p.err})
		}
	}
	return out, next, nil
}

// check refuses what would answer nothing for a slip of the pen. An audience that was disabled still has its tokens.
func (q *TokenQuery) check(tx store.ReadTx, p *policyInForce) (*Error, error) {
	if q.Audience != "" {
		if _, err := readService(tx, q.Audience); errors.Is(err, ErrNotFound) {
			return ErrUnknownAudience.saying("no service has that name; audience names a service that there is or was"), nil
		} else if err != nil {
			return nil, err
		}
	}
	for _, field := range q.Fields {
		if _, ok := p.Field(field); !ok {
			return ErrUnknownField.on(field, ""), nil
		}
	}
	return nil, nil
}

// of are the tokens of a person that were asked for.
func (q *TokenQuery) of(p *person) []FieldToken {
	if p.err != nil {
		return nil
	}
	var out []FieldToken
	for i := range p.body.tokens {
		if t := &p.body.tokens[i]; q.asksFor(t) {
			out = append(out, FieldToken{t.field, newText(t.text)})
		}
	}
	return out
}

// items is how many tokens of a person were asked for.
func (q *TokenQuery) items(p *person) int {
	n := 0
	if p.err == nil {
		for i := range p.body.tokens {
			if q.asksFor(&p.body.tokens[i]) {
				n++
			}
		}
	}
	return n
}

func (q *TokenQuery) asksFor(t *bodyToken) bool {
	return t.lasting() && t.audience == q.Audience && (q.Fields == nil || slices.Contains(q.Fields, t.field))
}

// lasting reports whether it is the one token that asking again gives, in the ordinary format.
func (t *bodyToken) lasting() bool { return t.format == 0 && t.expiry == 0 && t.flags == 0 }
