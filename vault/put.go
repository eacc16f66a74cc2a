package vault

import (
	"context"
	"slices"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Put sets the named fields of a subject, all or none, and leaves the others. It makes the subject where it is
// absent; an erased one only with Recreate.
func (v *Vault) Put(ctx context.Context, call Call, req PutRequest) (PutResult, error) {
	return v.put(ctx, call, policy.Put, req)
}

// Patch is Put for a subject that exists; it can also remove fields.
func (v *Vault) Patch(ctx context.Context, call Call, req PutRequest) (PutResult, error) {
	return v.put(ctx, call, policy.Patch, req)
}

func (v *Vault) put(ctx context.Context, call Call, action policy.Action, req PutRequest) (out PutResult, err error) {
	if err := checkSubjectID(req.Subject); err != nil {
		return out, err
	}
	if len(req.Fields) > maxFields {
		return out, errManyFields
	}
	err = v.change(ctx, []keys.SID{v.keys.SID(req.Subject)}, func(k *keychain) (err error) {
		out, err = v.tryPut(ctx, call, action, req, k)
		return err
	})
	if err != nil {
		return PutResult{}, err // no token beside an error
	}
	return out, nil
}

func (v *Vault) tryPut(ctx context.Context, call Call, action policy.Action, req PutRequest, k *keychain) (PutResult, error) {
	var out PutResult
	rec := v.record(call, action)
	sid := v.keys.SID(req.Subject)
	s, p, r, refusal, err := v.readForPut(ctx, rec, call, action, req, sid)
	if err != nil {
		return out, rec.fail(ctx, err)
	}
	switch {
	case refusal != nil:
	case r != nil && r.seen && !s.exists():
		refusal = s.missing()
	default:
		refusal = s.mayBegin(action, req.Recreate)
	}
	if refusal != nil {
		rec.item(&sid, "", "", "", refusal)
		return out, rec.refuse(ctx, refusal)
	}
	var writes []fieldWrite
	if writes, out.Warnings, err = v.validateFields(p, action, req.Fields); err != nil {
		rec.item(&sid, "", "", "", AsError(err))
		return out, rec.fail(ctx, err)
	}
	if r != nil && r.seen {
		return v.replayPut(ctx, rec, s, r, writes, out)
	}
	e, err := k.editOf(ctx, s, req)
	if err != nil {
		return out, rec.fail(ctx, err)
	}
	out.Created = e.created
	if out.Tokens, rec.event.Items, err = e.put(v, &req, writes); err != nil {
		return out, rec.fail(ctx, err)
	}
	c, err := v.seal([]*edit{e}, r, v.putPointers(e, out.Tokens))
	if err != nil {
		return out, err
	}
	if _, err := rec.commit(ctx); err != nil {
		return out, err
	}
	return out, v.commit(ctx, c)
}

// readForPut is step one and two of a put.
func (v *Vault) readForPut(ctx context.Context, rec *record, call Call, action policy.Action, req PutRequest, sid keys.SID) (s *subject, p *policyInForce, r *replay, refusal *Error, err error) {
	named := map[string]bool{}
	for _, f := range req.Fields {
		named[f.Field] = true
	}
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		if p, refusal, err = v.admitIn(tx, rec, call, action); err != nil || refusal != nil {
			return err
		}
		if r, err = v.replayOf(tx, call); err != nil {
			return err
		}
		all, err := v.load(tx, []keys.SID{sid}, func(_ int, field string) bool { return named[field] })
		if err == nil {
			s = all[0]
		}
		return err
	})
	return s, p, r, refusal, err
}

// mayBegin says why a write must not make an absent subject, or nil.
func (s *subject) mayBegin(action policy.Action, recreate bool) *Error {
	if s.exists() || s.tomb == nil && action != policy.Patch || s.tomb != nil && recreate {
		return nil
	}
	return s.missing()
}

// validateFields checks every field before anything is done, so that a put is all or nothing.
func (v *Vault) validateFields(p *policyInForce, action policy.Action, fields []FieldInput) ([]fieldWrite, []Warning, error) {
	writes := make([]fieldWrite, len(fields))
	var warnings []Warning
	for i, f := range fields {
		if f.Remove {
			if action != policy.Patch {
				return nil, nil, ErrMalformed.saying("null removes a field, with PATCH only").on(f.Field, "")
			}
			if _, ok := p.Field(f.Field); !ok {
				return nil, nil, ErrUnknownField.on(f.Field, "")
			}
			continue
		}
		w, err := v.validate(p, f.Field, f.Value, f.Source, f.Authorization)
		if err != nil {
			return nil, nil, err
		}
		for _, rule := range w.canonical.Warnings {
			warnings = append(warnings, Warning{f.Field, rule})
		}
		writes[i] = w
	}
	return writes, warnings, nil
}

// put makes the changes of one put, validated before, and returns the tokens of the fields that were set and what the
// audit log says of each. An Error leaves the edit as it was.
func (e *edit) put(v *Vault, req *PutRequest, writes []fieldWrite) (tokens []FieldToken, items []audit.Item, err error) {
	fields := req.Fields
	if err := e.fits(v, writes); err != nil {
		return nil, nil, err
	}
	var kept []string // fields that have the value already, from another source
	if req.SameSource {
		if kept, err = e.held(v, writes); err != nil {
			return nil, nil, err
		}
	}
	for i, w := range writes {
		if fields[i].Remove {
			if e.remove(v, fields[i].Field) {
				items = append(items, v.auditItem(&e.sid, fields[i].Field, "", "", nil))
			}
			continue
		}
		if !slices.Contains(kept, w.def.Name) {
			if err := e.set(v, w); err != nil {
				return nil, nil, err
			}
		}
		token, err := e.token(v, w.def.Name, "")
		if err != nil {
			return nil, nil, err
		}
		items = append(items, v.auditItem(&e.sid, w.def.Name, token.Reveal(), "", nil))
		tokens = append(tokens, FieldToken{w.def.Name, token})
	}
	if len(items) == 0 {
		items = append(items, v.auditItem(&e.sid, "", "", "", nil))
	}
	return tokens, items, nil
}

// held says that another source stored another value of a field, or which fields have theirs from another source.
func (e *edit) held(v *Vault, writes []fieldWrite) (kept []string, err error) {
	for _, w := range writes {
		f := e.body.field(w.def.Name)
		if w.def.Name == "" || f == nil || !f.present() || f.source == w.source {
			continue
		}
		old, err := e.value(v, f)
		if err != nil {
			return nil, err
		}
		if !old.Equal(w.value) {
			return nil, errHeld.on(f.name, "held")
		}
		kept = append(kept, f.name)
	}
	return kept, nil
}

var errHeld = ErrConflict.saying("the field holds another value, which came from another source")

// fits says that the subject cannot hold what is to be written.
func (e *edit) fits(v *Vault, writes []fieldWrite) *Error {
	fields, tokens := len(e.body.fields), 0
	for _, w := range writes {
		if w.def.Name == "" {
			continue // a removal
		}
		if e.body.field(w.def.Name) == nil {
			fields++
		}
		if _, stands := e.body.standing(w.def.Name, "", 0); !stands {
			tokens++
		}
	}
	if fields > maxFields {
		return errManyFields
	}
	if tokens == 0 {
		return nil
	}
	return e.room(v, tokens)
}

var errManyFields = ErrMalformed.saying("more fields than a subject can hold")

// editOf opens the subject for change. Removing fields needs no data key, so that it works while the key service is away.
func (k *keychain) editOf(ctx context.Context, s *subject, req PutRequest) (*edit, error) {
	sets := false
	for _, f := range req.Fields {
		sets = sets || !f.Remove
	}
	if s.exists() && !sets {
		return &edit{subject: s}, k.ready(ctx, []*subject{s}, false)
	}
	edits, errs, err := k.edits(ctx, []*subject{s}, []string{req.Subject})
	if err != nil {
		return nil, err
	}
	if errs[0] != nil {
		return nil, ErrKeyService.because(errs[0])
	}
	return edits[0], nil
}
