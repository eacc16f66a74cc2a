// Package policy is what the organisation promised, and who may do what for which purpose.
//
// A policy is a YAML text that people write and read (starter.yaml is the one a new installation begins with). Parse
// reads it strictly, names every fault by line, and compiles it to a Policy: immutable, safe for concurrent use,
// answering by map look-ups alone. Nothing here does I/O, knows a clock, or has ever seen a value: a question goes in
// (Query), an answer comes out (Decision). The vault asks before it opens anything.
//
// What a policy does not grant is refused. An unknown role, action, field, purpose or view is never an error of the
// program: it is a refusal.
//
// A policy has four parts. Fields say which data of a person may be held, and of what kind. Purposes say why they may
// be read, and on what basis. Roles say who may do what, and how much each sees for which purpose. The controller
// says who answers for all of it, and how a person reaches them.
package policy

import (
	"bytes"
	"maps"
	"slices"
)

// Policy is one version of the rules. Only Parse makes one; the zero value grants nothing.
type Policy struct {
	version    uint64
	controller Controller
	fields     map[string]Field
	purposes   map[string]Purpose
	roles      map[string]role
	source     []byte
}

// Controller is the organisation that decides why and how the data are used (PIPL article 73, GDPR article 4(7)).
type Controller struct {
	Name    string
	Contact string // where a person turns to: an address, a number or a page
}

// Field is one datum that may be held of a person.
type Field struct {
	Name  string
	Kind  string // the kind's name, as the tokenizer knows it
	Index bool   // whether the field can be searched for an exact value
}

// Basis is the ground in law on which a purpose stands (PIPL article 13, GDPR article 6).
type Basis string

const (
	BasisContract Basis = "contract" // needed for what the person asked for
	BasisConsent  Basis = "consent"  // only while the person agrees
	BasisLegal    Basis = "legal"    // a duty in law
	BasisVital    Basis = "vital"    // life, health or property in an emergency
)

// Purpose is a reason for which data may be read.
type Purpose struct {
	Name  string
	Basis Basis
}

// role is what a service or person may do. Its zero value may do nothing.
type role struct {
	actions map[Action]struct{}
	grants  map[string]grant // by purpose
}

// grant joins what a decision needs of a role's view and its purpose, so that one look-up finds both.
type grant struct {
	view    View
	consent bool // the purpose stands on consent
}

// Version returns the number the policy gives itself, from 1.
func (p *Policy) Version() uint64 { return p.version }

// Controller returns who answers for the data.
func (p *Policy) Controller() Controller { return p.controller }

// Field returns the field of that name, and whether the policy has it.
func (p *Policy) Field(name string) (Field, bool) {
	f, ok := p.fields[name]
	return f, ok
}

// Fields returns every field, in the order of their names.
func (p *Policy) Fields() []Field {
	out := make([]Field, 0, len(p.fields))
	for _, name := range slices.Sorted(maps.Keys(p.fields)) {
		out = append(out, p.fields[name])
	}
	return out
}

// Purpose returns the purpose of that name, and whether the policy has it.
func (p *Policy) Purpose(name string) (Purpose, bool) {
	u, ok := p.purposes[name]
	return u, ok
}

// Purposes returns every purpose, in the order of their names.
func (p *Policy) Purposes() []Purpose {
	out := make([]Purpose, 0, len(p.purposes))
	for _, name := range slices.Sorted(maps.Keys(p.purposes)) {
		out = append(out, p.purposes[name])
	}
	return out
}

// Roles returns the name of every role, sorted.
func (p *Policy) Roles() []string { return slices.Sorted(maps.Keys(p.roles)) }

// Source returns a copy of the text that Parse read.
func (p *Policy) Source() []byte { return bytes.Clone(p.source) }
