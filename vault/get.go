package vault

import (
	"context"
	"slices"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Get reads fields of one subject, each with its lasting token. A field that was asked for by name and may not be
// shown refuses the whole; without names, what may be shown is answered.
func (v *Vault) Get(ctx context.Context, call Call, req GetRequest) ([]FieldView, error) {
	if err := checkSubjectID(req.Subject); err != nil {
		return nil, err
	}
	if len(req.Fields) > maxFields {
		return nil, ErrMalformed.saying("more fields than a subject can hold")
	}
	rec := v.record(call, policy.Get)
	sid := v.keys.SID(req.Subject)
	var p *policyInForce
	var s *subject
	var views map[string]policy.View
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if p, refusal, err = v.admitIn(tx, rec, call, policy.Get); err != nil || refusal != nil {
			return err
		}
		if views, refusal = permitted(p, call, req); refusal != nil {
			return nil
		}
		all, err := v.load(tx, []keys.SID{sid}, func(_ int, field string) bool { _, ok := views[field]; return ok })
		if err != nil {
			return err
		}
		if s = all[0]; !s.exists() {
			refusal = s.missing()
		}
		return nil
	})
	if err != nil {
		return nil, storeError(err)
	}
	if refusal != nil {
		field := refusal.Field
		if refusal.Is(ErrUnknownField) {
			field = "" // not a name of ours: whatever the caller wrote there stays out of the log
		}
		rec.item(&sid, field, "", "", refusal)
		return nil, rec.refuse(ctx, refusal)
	}
	defer wipeKeys([]*subject{s})
	if err := v.unwrap(ctx, []*subject{s})[0]; err != nil {
		rec.item(&sid, "", "", "", err)
		return nil, rec.refuse(ctx, ErrKeyService.because(err))
	}
	var out []FieldView
	for i := range s.body.fields {
		f := &s.body.fields[i]
		view, ok := views[f.name]
		if !ok || !f.present() {
			continue
		}
		value, err := v.value(s, f)
		if err == nil {
			value, err = v.show(p, f.name, value, view)
		}
		if err != nil {
			return nil, storeError(err)
		}
		def, _ := p.Field(f.name)
		token, _ := s.body.standing(f.name, "", 0)
		rec.item(&sid, f.name, token, string(view), nil)
		out = append(out, FieldView{f.name, def.Kind, newText(token), value, string(view), fromMillis(f.updated)})
	}
	if len(rec.event.Items) == 0 {
		rec.item(&sid, "", "", "", nil) // that the subject is there has been told
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	if rec.waited() { // as in lookAgain
		gone, err := v.lostSince(ctx, []*subject{s})
		if err != nil {
			return nil, err
		}
		if gone[0].all {
			return nil, ErrSubjectErased
		}
		out = slices.DeleteFunc(out, func(f FieldView) bool { return gone[0].fields[f.Field] })
	}
	return out, nil
}

// permitted settles how much of each field may be shown.
func permitted(p *policyInForce, call Call, req GetRequest) (map[string]policy.View, *Error) {
	out := map[string]policy.View{}
	ask := func(field string) *Error {
		d := p.Decide(policy.Query{Role: call.Principal.Role, Action: policy.Get, Purpose: call.Purpose, Field: field, View: policy.View(req.View)})
		if d.OK() {
			out[field] = d.View
			return nil
		}
		return refusalOf(d.Refusal).on(field, "")
	}
	if req.Fields != nil {
		for _, field := range req.Fields {
			if err := ask(field); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	var first *Error
	for _, f := range p.Fields() {
		if err := ask(f.Name); err != nil && first == nil {
			first = err.on("", "")
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, first
}
