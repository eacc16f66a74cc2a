package vault

import (
	"context"
	"slices"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Exported is all that is held of a person. Where Err stands, something is missing: the value of the field that it
// names, and maybe of others, or everything when it names none.
type Exported struct {
	Subject          string // "" beside an Err that keeps it from being known
	Created, Updated time.Time
	Fields           []ExportedField
	Tokens           []ExportedToken // all that are alive, in the order of minting
	Err              *Error
}

// ExportedField is one field with its provenance.
type ExportedField struct {
	Field         string
	Kind          string      // "" when the policy no longer has the field
	Token         secret.Text // the lasting one, of nobody's audience; empty when it was revoked
	Value         secret.Text // in full
	Updated       time.Time
	Source        string // "" = the person
	Authorization string
	Authorized    time.Time // when the authorisation was recorded; zero = there is none
}

// ExportedToken is a token that opens a field.
type ExportedToken struct {
	Field     string
	Audience  string // "" = nobody's
	Token     secret.Text
	Expires   time.Time // zero = never
	SingleUse bool
}

// Export hands out all that is held of everybody, page by page, in an order of the store's own: fields that the policy
// no longer names too, for nobody is to be locked in. Each person is as one moment has them, a page as one snapshot
// has it. A page ends at the limit, or at about 4 MiB before it. Somebody who cannot be read does not end the
// export. An empty page has no cursor.
func (v *Vault) Export(ctx context.Context, call Call, page Page) ([]Exported, string, error) {
	return somebody(page, func(page Page) ([]Exported, string, error) { return v.exportPage(ctx, call, page) })
}

func (v *Vault) exportPage(ctx context.Context, call Call, page Page) ([]Exported, string, error) {
	rec := v.record(call, policy.Export)
	var p *policyInForce
	var people []*person
	var next string
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if p, refusal, err = v.admitIn(tx, rec, call, policy.Export); err != nil || refusal != nil {
			return err
		}
		people, next, err = v.readPeople(tx, page, true, (*person).exportItems)
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
	out, err := v.answer(ctx, rec, p, people)
	if err != nil {
		return nil, "", err
	}
	return out, next, nil
}

// ExportSubject is Export of one person. Where nothing of them can be read the reason is the error.
func (v *Vault) ExportSubject(ctx context.Context, call Call, id string) (Exported, error) {
	if err := checkSubjectID(id); err != nil {
		return Exported{}, err
	}
	rec := v.record(call, policy.Export)
	sid := v.keys.SID(id)
	var p *policyInForce
	var people []*person
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if p, refusal, err = v.admitIn(tx, rec, call, policy.Export); err != nil || refusal != nil {
			return err
		}
		rows, _, err := scanPeople(tx, sid[:], behind(sid), 1, true)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			s := &subject{sid: sid}
			err := s.readTombstone(tx)
			refusal = s.missing()
			return err
		}
		people, err = v.openPeople(tx, rows, true)
		return err
	})
	if err != nil {
		return Exported{}, storeError(err)
	}
	if refusal != nil {
		rec.item(&sid, "", "", "", refusal)
		return Exported{}, rec.refuse(ctx, refusal)
	}
	defer wipePeople(people)
	if err = v.unlock(ctx, people); err == nil && people[0].err != nil {
		err = people[0].err
	}
	if err != nil {
		rec.item(&sid, "", "", "", AsError(err))
		return Exported{}, rec.fail(ctx, storeError(err))
	}
	out, err := v.answer(ctx, rec, p, people)
	if err == nil && len(out) == 0 {
		err = ErrSubjectErased
	}
	if err != nil {
		return Exported{}, err
	}
	return out[0], nil
}

// answer opens the values of people, writes the entry, and returns once it is durable.
func (v *Vault) answer(ctx context.Context, rec *record, p *policyInForce, people []*person) ([]Exported, error) {
	all := make([]Exported, len(people))
	err := spread(len(people), func(i int) (err error) {
		all[i], err = v.exportOne(p, people[i])
		return err
	})
	if err != nil {
		return nil, storeError(err)
	}
	for i := range all {
		all[i].note(rec, people[i])
	}
	gone, err := v.commitShown(ctx, rec, people)
	if err != nil {
		return nil, err
	}
	out := all[:0]
	for i := range all {
		if !gone[i].all {
			out = append(out, all[i].without(gone[i].fields))
		}
	}
	return out, nil
}

// exportOne opens what a person has. A value that is damaged is left out and told of.
func (v *Vault) exportOne(p *policyInForce, q *person) (Exported, error) {
	if q.err != nil {
		return Exported{Subject: q.id, Err: q.err}, nil
	}
	out := Exported{Subject: q.id, Created: fromMillis(q.body.created), Updated: fromMillis(q.body.updated)}
	for i := range q.body.fields {
		f := &q.body.fields[i]
		if !f.present() {
			continue
		}
		value, err := v.value(q.subject, f)
		if err != nil {
			e := AsError(storeError(err))
			if !e.Is(ErrCorrupt) {
				return Exported{}, err
			}
			v.log.Error("field record does not open", "err", err)
			if out.Err == nil {
				out.Err = e.on(f.name, "")
			}
			continue
		}
		def, _ := p.Field(f.name)
		token, _ := q.body.standing(f.name, "", 0)
		e := ExportedField{
			Field: f.name, Kind: def.Kind, Token: newText(token), Value: value, Updated: fromMillis(f.updated),
			Source: f.source, Authorization: f.authorization,
		}
		if f.authorised != 0 {
			e.Authorized = fromMillis(f.authorised)
		}
		out.Fields = append(out.Fields, e)
	}
	for _, t := range q.body.tokens {
		e := ExportedToken{Field: t.field, Audience: t.audience, Token: newText(t.text), SingleUse: t.flags&keys.TokenSingleUse != 0}
		if t.expiry != 0 {
			e.Expires = fromMillis(t.expiry)
		}
		out.Tokens = append(out.Tokens, e)
	}
	return out, nil
}

// without takes fields off, with their tokens.
func (e Exported) without(fields map[string]bool) Exported {
	e.Fields = slices.DeleteFunc(e.Fields, func(f ExportedField) bool { return fields[f.Field] })
	e.Tokens = slices.DeleteFunc(e.Tokens, func(t ExportedToken) bool { return fields[t.Field] })
	return e
}

// note adds an item for each field that is shown, and for each that should have been; the field's own token stands in it. All other
// tokens have one each.
func (e *Exported) note(rec *record, q *person) {
	if q.exportItems() == 0 {
		rec.item(&q.sid, "", "", "", q.err)
		return
	}
	shown := e.Fields
	for i := range q.body.fields {
		f := &q.body.fields[i]
		if !f.present() {
			continue
		}
		token, _ := q.body.standing(f.name, "", 0)
		if len(shown) > 0 && shown[0].Field == f.name {
			rec.item(&q.sid, f.name, token, string(policy.Full), nil)
			shown = shown[1:]
		} else {
			rec.item(&q.sid, f.name, token, "", ErrCorrupt)
		}
	}
	for i := range q.body.tokens {
		if t := &q.body.tokens[i]; !t.own() {
			rec.item(&q.sid, t.field, t.text, "", nil)
		}
	}
}

// exportItems is how many items note adds, as far as the person can be read: 0 where it is the one of the person alone.
func (p *person) exportItems() int {
	n := 0
	if p.err != nil {
		return n
	}
	for i := range p.body.fields {
		if p.body.fields[i].present() {
			n++
		}
	}
	for i := range p.body.tokens {
		if !p.body.tokens[i].own() {
			n++
		}
	}
	return n
}

// own reports whether it is the field's own token: the lasting one of nobody's audience.
func (t *bodyToken) own() bool { return t.lasting() && t.audience == "" }
