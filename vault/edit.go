package vault

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// edit is a subject and the changes that one transaction will make to it.
type edit struct {
	*subject
	created bool // the subject begins here
	changed bool // the body is no longer what was read

	minted  []mintedToken
	dead    []deadToken
	puts    []largeValue // large values written
	drops   []string     // fields whose large value goes
	index   []indexChange
	tombs   []tombstone
	touched map[string]bool // fields set by this edit already: their record is new, not what the snapshot had
}

type mintedToken struct {
	row  [16]byte
	body bodyToken
}

type deadToken struct {
	row   [16]byte
	state keys.MarkerState
}

type largeValue struct {
	field  string
	vk     secret.Bytes
	record []byte
}

// indexChange adds a subject to the index row of p, or takes it out.
type indexChange struct {
	sid keys.SID
	p   [32]byte
	add bool
}

// fieldWrite is a validated value on its way into a subject.
type fieldWrite struct {
	def           policy.Field
	value         secret.Text
	canonical     tokenizer.Canonical
	source        string
	authorization string
}

const (
	maxProvenance = 256 // bytes of a source or an authorisation
	indexKeyVer   = 1   // version of IK; rotating it comes with the jobs
)

// validate holds a value to its field's kind.
func (v *Vault) validate(p *policyInForce, field string, value secret.Text, source, authorization string) (fieldWrite, *Error) {
	def, ok := p.Field(field)
	if !ok {
		return fieldWrite{}, ErrUnknownField.on(field, "")
	}
	kind, ok := v.kinds.Lookup(def.Kind)
	if !ok {
		return fieldWrite{}, ErrInternal.on(field, "")
	}
	if len(source) > maxProvenance || len(authorization) > maxProvenance || !printable(source) || !printable(authorization) {
		return fieldWrite{}, ErrMalformed.saying("source and authorization are up to 256 bytes of text without control characters").on(field, "")
	}
	canonical, err := kind.Canonical(value.Reveal())
	if err != nil {
		var invalid tokenizer.Invalid
		if errors.As(err, &invalid) {
			return fieldWrite{}, invalidValue(kind, field, invalid.Rule)
		}
		return fieldWrite{}, ErrInvalidValue.on(field, "")
	}
	return fieldWrite{def, value, canonical, source, authorization}, nil
}

// invalidValue names the rule of its kind that a value broke, in words too.
func invalidValue(kind tokenizer.Kind, field, rule string) *Error {
	detail := "not a valid " + kind.Name()
	for _, r := range kind.Rules() {
		if r.Name == rule {
			detail += ": " + r.Meaning
		}
	}
	return ErrInvalidValue.saying(detail).on(field, rule)
}

// begin makes an absent subject's first body under a new data key.
func (e *edit) begin(v *Vault, id string, dek keys.NewDEK) error {
	version := uint32(1)
	if e.tomb != nil {
		version = e.tomb.dekVer + 1
	}
	e.key = keys.KeyRow{DEKVersion: version, KID: dek.KID, Wrapped: dek.Wrapped}
	e.dek, e.created, e.changed = dek.Key, true, true
	now := millis(v.now())
	record, err := keys.SealRecord(v.random, e.dek, e.context(v, ""), version, 1, keys.XChaCha20Poly1305, secret.NewBytes([]byte(id)))
	e.body = &body{created: now, updated: now, id: record}
	return err
}

func (e *edit) context(v *Vault, field string) keys.RecordContext {
	return keys.RecordContext{Inst: v.keys.Instance(), SID: e.sid, Field: field}
}

// set puts a value into a field. The same bytes with the same provenance change nothing; another spelling of the same
// value is stored anew and keeps its place in the index.
func (e *edit) set(v *Vault, w fieldWrite) error {
	f := e.body.ensure(w.def.Name)
	if f.present() {
		same, err := e.holds(v, f, w)
		if err != nil || same {
			return err
		}
		e.bury(v, f)
	}
	f.recVer++
	f.updated = millis(v.now())
	f.source, f.authorization, f.authorised = w.source, w.authorization, 0
	if w.authorization != "" {
		f.authorised = f.updated
	}
	record, err := keys.SealRecord(v.random, e.dek, e.context(v, f.name), e.key.DEKVersion, f.recVer, keys.XChaCha20Poly1305, secret.NewBytes([]byte(w.value.Reveal())))
	if err != nil {
		return err
	}
	if err := e.store(v, f, record); err != nil {
		return err
	}
	f.flags |= fieldPresent
	e.reindex(v, f, w)
	if e.touched == nil {
		e.touched = map[string]bool{}
	}
	e.touched[f.name] = true
	e.changed, e.body.updated = true, f.updated
	return nil
}

// holds reports whether the field has exactly this value and provenance.
func (e *edit) holds(v *Vault, f *bodyField, w fieldWrite) (bool, error) {
	old, err := e.value(v, f)
	if err != nil {
		return false, err
	}
	return old.Equal(w.value) && f.source == w.source && f.authorization == w.authorization, nil
}

// value opens a field that is there, as this edit has left it.
func (e *edit) value(v *Vault, f *bodyField) (secret.Text, error) {
	record := e.subject.record(f)
	if e.touched[f.name] && f.large() {
		i := slices.IndexFunc(e.puts, func(l largeValue) bool { return l.field == f.name })
		record = e.puts[i].record
	}
	return v.openRecord(e.sid, e.dek, e.key.DEKVersion, f, record)
}

// store keeps a record in the body, or in a row of its own when it is large.
func (e *edit) store(v *Vault, f *bodyField, record []byte) error {
	e.puts = slices.DeleteFunc(e.puts, func(l largeValue) bool { return l.field == f.name })
	if len(record) <= maxInline {
		if f.large() {
			e.drops = append(e.drops, f.name)
		}
		f.flags &^= fieldLarge
		f.record = record
		return nil
	}
	vk, err := random32(v.random)
	if err != nil {
		return err
	}
	f.flags |= fieldLarge
	f.record = vk.Reveal()
	e.drops = slices.DeleteFunc(e.drops, func(name string) bool { return name == f.name })
	e.puts = append(e.puts, largeValue{f.name, vk, record})
	return nil
}

// reindex moves the field to the index row of its new value.
func (e *edit) reindex(v *Vault, f *bodyField, w fieldWrite) {
	var p [32]byte
	if w.def.Index {
		p = v.keys.IndexInput(f.name, tokenizer.NormaliserVersion, w.canonical.Text.Reveal())
	}
	if f.ikVer > 0 && w.def.Index && f.p == p {
		return
	}
	if f.ikVer > 0 {
		e.index = append(e.index, indexChange{e.sid, f.p, false})
	}
	f.ikVer, f.p = 0, p
	if w.def.Index {
		f.ikVer = indexKeyVer
		e.index = append(e.index, indexChange{e.sid, p, true})
	}
}

// bury leaves a tombstone for the field's present value, which this edit replaces or removes.
func (e *edit) bury(v *Vault, f *bodyField) {
	t := tombstone{what: tombField, sid: e.sid, field: f.name, dekVer: e.key.DEKVersion, recVer: f.recVer, day: day(v.now())}
	e.tombs = slices.DeleteFunc(e.tombs, func(o tombstone) bool { return o.what == tombField && o.field == f.name })
	e.tombs = append(e.tombs, v.placed(t))
}

// placed completes a tombstone with the generations that seal what it stands for.
func (v *Vault) placed(t tombstone) tombstone {
	t.b, t.x = t.sid.Bucket(), t.sid.Partition(v.keys.Log2P())
	t.g, t.h = v.keys.BucketGeneration(t.b), v.keys.PartitionGeneration(t.x)
	return t
}

// remove takes a field away; its tokens die with it. No key is needed.
func (e *edit) remove(v *Vault, field string) (had bool) {
	f := e.body.field(field)
	if f == nil || !f.present() {
		return false
	}
	e.bury(v, f)
	if f.ikVer > 0 {
		e.index = append(e.index, indexChange{e.sid, f.p, false})
	}
	if f.large() {
		e.puts = slices.DeleteFunc(e.puts, func(l largeValue) bool { return l.field == field })
		e.drops = append(e.drops, field)
	}
	*f = bodyField{name: f.name, recVer: f.recVer, updated: millis(v.now())}
	e.body.updated, e.changed = f.updated, true
	e.endTokens(v, keys.FieldErased, func(t *bodyToken) bool { return t.field == field })
	return true
}

// endTokens turns the tokens that match into markers. One that has run out says so whatever else ends it now.
func (e *edit) endTokens(v *Vault, state keys.MarkerState, match func(*bodyToken) bool) {
	e.body.tokens = slices.DeleteFunc(e.body.tokens, func(t bodyToken) bool {
		if !match(&t) {
			return false
		}
		row := v.keys.TokenRowKey(t.text)
		e.minted = slices.DeleteFunc(e.minted, func(m mintedToken) bool { return m.row == row })
		if t.expiry != 0 && t.expiry <= millis(v.now()) {
			e.dead = append(e.dead, deadToken{row, keys.TokenExpired})
		} else {
			e.dead = append(e.dead, deadToken{row, state})
		}
		e.changed = true
		return true
	})
}

// token returns the standing token of a field, minting it where there is none.
func (e *edit) token(v *Vault, field, audience string) (secret.Text, error) {
	if text, ok := e.body.standing(field, audience, 0); ok {
		return secret.NewText(text), nil
	}
	return e.mint(v, bodyToken{field: field, audience: audience})
}

// room says that the subject cannot take n further tokens, after dropping those that have run out.
func (e *edit) room(v *Vault, n int) *Error {
	now := millis(v.now())
	if len(e.body.tokens) >= maxTokens/2 {
		e.endTokens(v, keys.TokenExpired, func(t *bodyToken) bool { return t.expiry != 0 && t.expiry <= now })
	}
	if len(e.body.tokens)+n > maxTokens {
		return ErrConflict.saying(fmt.Sprintf("the subject has %d live tokens; revoke some first", maxTokens))
	}
	return nil
}

// mint makes a new token of the form given.
func (e *edit) mint(v *Vault, t bodyToken) (secret.Text, error) {
	if err := e.room(v, 1); err != nil {
		return secret.Text{}, err
	}
	now := millis(v.now())
	text, err := tokenizer.NewToken(v.random, t.field)
	if err != nil {
		return secret.Text{}, err
	}
	t.text = text.Reveal()
	e.body.tokens = append(e.body.tokens, t)
	e.minted = append(e.minted, mintedToken{v.keys.TokenRowKey(t.text), t})
	e.changed, e.body.updated = true, now
	return text, nil
}
