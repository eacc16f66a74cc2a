package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

const (
	maxText = 200 // runes of the controller's name and contact
	maxName = 32  // bytes of a name that the author chooses; a field's name is part of its tokens
)

// reader turns the tree of a policy text into a Policy. It goes on after a fault, so that one run shows them all.
type reader struct {
	*faults
	kindKnown func(string) bool
}

// entry is one key of a mapping and what stands under it.
type entry struct {
	key   string
	line  int
	path  string
	value ast.Node
}

func (r *reader) policy(root ast.Node) *Policy {
	p := &Policy{fields: map[string]Field{}, purposes: map[string]Purpose{}, roles: map[string]role{}}
	parts, ok := r.record(root, "", 0, "version", "controller", "fields", "purposes", "roles")
	if !ok {
		return p
	}
	if e, ok := r.need(parts, "version", "", 0, "write version: 1, and raise it with every change"); ok {
		p.version = r.version(e)
	}
	if e, ok := r.need(parts, "controller", "", 0, "say who answers for the data, with name and contact"); ok {
		p.controller = r.controller(e)
	}
	if e, ok := r.need(parts, "fields", "", 0, "list the data that may be held"); ok {
		for _, e := range r.named(e, "field") {
			p.fields[e.key] = r.field(e)
		}
	}
	if e, ok := r.need(parts, "purposes", "", 0, "list why data may be read"); ok {
		for _, e := range r.named(e, "purpose") {
			p.purposes[e.key] = r.purpose(e)
		}
	}
	if e, ok := r.need(parts, "roles", "", 0, "list who may do what"); ok {
		for _, e := range r.named(e, "role") {
			p.roles[e.key] = r.role(e, p.purposes)
		}
		r.administrable(e, p)
	}
	return p
}

func (r *reader) version(e entry) uint64 {
	n, isInt := e.value.(*ast.IntegerNode)
	if isInt {
		if v, err := strconv.ParseUint(n.GetToken().Value, 10, 63); err == nil && v > 0 {
			return v
		}
	}
	r.add(e.line, e.path, "must be a whole number from 1, written in plain digits")
	return 0
}

func (r *reader) controller(e entry) Controller {
	var c Controller
	parts, ok := r.record(e.value, e.path, e.line, "name", "contact")
	if !ok {
		return c
	}
	if e, ok := r.need(parts, "name", e.path, e.line, "name the organisation"); ok {
		c.Name = r.line(e)
	}
	if e, ok := r.need(parts, "contact", e.path, e.line, "say where a person turns to; a policy without a contact cannot be applied"); ok {
		c.Contact = r.line(e)
	}
	return c
}

func (r *reader) field(e entry) Field {
	f := Field{Name: e.key}
	parts, ok := r.record(e.value, e.path, e.line, "kind", "index")
	if !ok {
		return f
	}
	if e, ok := r.need(parts, "kind", e.path, e.line, "say which kind of value it is"); ok {
		f.Kind = r.word(e)
		if f.Kind != "" && (r.kindKnown == nil || !r.kindKnown(f.Kind)) {
			r.add(e.line, e.path, "there is no kind %.40q; use one that is known", f.Kind)
		}
	}
	if e, ok := parts["index"]; ok {
		b, isBool := e.value.(*ast.BoolNode)
		if !isBool {
			r.add(e.line, e.path, "must be true or false")
			return f
		}
		f.Index = b.Value
	}
	return f
}

func (r *reader) purpose(e entry) Purpose {
	u := Purpose{Name: e.key}
	// Personal data are never sold. No setting, role or consent makes an exception, so the name itself is refused.
	if e.key == "sale" {
		r.add(e.line, e.path, "personal data are not sold; remove the purpose")
	}
	parts, ok := r.record(e.value, e.path, e.line, "basis")
	if !ok {
		return u
	}
	if e, ok := r.need(parts, "basis", e.path, e.line, "name the ground for it: contract, consent, legal or vital"); ok {
		u.Basis = Basis(r.word(e))
		switch u.Basis {
		case BasisContract, BasisConsent, BasisLegal, BasisVital, "":
		default:
			r.add(e.line, e.path, "there is no basis %.40q; use contract, consent, legal or vital", u.Basis)
		}
	}
	return u
}

func (r *reader) role(e entry, purposes map[string]Purpose) role {
	out := role{actions: map[Action]struct{}{}, grants: map[string]grant{}}
	parts, ok := r.record(e.value, e.path, e.line, "actions", "views")
	if !ok {
		return out
	}
	if e, ok := r.need(parts, "actions", e.path, e.line, "list what the role may do"); ok {
		known := Actions()
		for _, e := range r.list(e) {
			a := Action(r.word(e))
			_, twice := out.actions[a]
			switch {
			case a == "":
			case !slices.Contains(known, a):
				r.add(e.line, e.path, "there is no action %.40q; use one of %s", a, known)
			case twice:
				r.add(e.line, e.path, "action %q stands here twice; remove one", a)
			default:
				out.actions[a] = struct{}{}
			}
		}
	}
	if e, ok := parts["views"]; ok {
		for _, e := range r.named(e, "purpose") {
			u, known := purposes[e.key]
			if !known {
				r.add(e.line, e.path, "there is no purpose %.40q; define it under purposes, or remove it here", e.key)
			}
			v := View(r.word(e))
			if v != NoView && !v.Valid() {
				r.add(e.line, e.path, "there is no view %.40q; use masked or full", v)
			}
			out.grants[e.key] = grant{view: v, consent: u.Basis == BasisConsent}
		}
	}
	return out
}

// administrable refuses a policy that nobody could change again: the last operator would have locked the door from
// the outside. One role has to hold both actions, since without services it cannot be given to anyone new.
func (r *reader) administrable(e entry, p *Policy) {
	for name := range maps.Keys(p.roles) {
		if p.Allows(name, ManagePolicy) && p.Allows(name, Services) {
			return
		}
	}
	r.add(e.line, e.path, "no role may administer, so this policy could never be changed; give one role the actions %s and %s",
		ManagePolicy, Services)
}

// need returns the entry of that key, or adds the fault that it is missing under path.
func (r *reader) need(parts map[string]entry, key, path string, line int, todo string) (entry, bool) {
	e, ok := parts[key]
	if !ok {
		r.add(line, under(path, key), "is missing; %s", todo)
	}
	return e, ok
}

// record reads a mapping with fixed keys.
func (r *reader) record(n ast.Node, path string, line int, keys ...string) (map[string]entry, bool) {
	list, ok := r.mapping(n, path, line)
	out := map[string]entry{}
	for _, e := range list {
		if !slices.Contains(keys, e.key) {
			r.add(e.line, e.path, "is not known here; use one of %s", strings.Join(keys, ", "))
			continue
		}
		out[e.key] = e
	}
	return out, ok
}

// named reads a mapping whose keys are names chosen by the author, such as the fields.
func (r *reader) named(e entry, what string) []entry {
	list, _ := r.mapping(e.value, e.path, e.line)
	out := list[:0]
	for _, e := range list {
		if !validName(e.key) {
			r.add(e.line, e.path, "is no name for a %s; use 1 to %d of a-z, 0-9 and _, a letter first", what, maxName)
			continue
		}
		out = append(out, e)
	}
	return out
}

func validName(s string) bool {
	if s == "" || len(s) > maxName || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_'
	})
}

// mapping reads the entries of a mapping in their order, refusing a key that stands there twice.
func (r *reader) mapping(n ast.Node, path string, line int) ([]entry, bool) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.add(max(line, lineOf(n)), path, "must be a mapping: keys, each with a value")
		return nil, false
	}
	if len(m.Values) > maxEntries {
		r.add(lineOf(m), path, "has more than %d entries; remove some", maxEntries)
		return nil, false
	}
	var out []entry
	seen := map[string]int{}
	for _, v := range m.Values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			r.add(lineOf(v.Key), path, "a key must be plain text")
			continue
		}
		e := entry{key: key.Value, line: lineOf(key), path: under(path, key.Value), value: v.Value}
		if first, twice := seen[e.key]; twice {
			r.add(e.line, e.path, "stands here twice, first in line %d; remove one", first)
			continue
		}
		seen[e.key] = e.line
		out = append(out, e)
	}
	return out, true
}

// list reads the entries of a sequence.
func (r *reader) list(e entry) []entry {
	s, ok := e.value.(*ast.SequenceNode)
	if !ok {
		r.add(e.line, e.path, "must be a list, such as [get, search]")
		return nil
	}
	if len(s.Values) > maxEntries {
		r.add(e.line, e.path, "has more than %d entries; remove some", maxEntries)
		return nil
	}
	var out []entry
	for i, v := range s.Values {
		out = append(out, entry{line: max(e.line, lineOf(v)), path: e.path + "[" + strconv.Itoa(i) + "]", value: v})
	}
	return out
}

// word reads a value that is one plain text, or adds a fault and answers "".
func (r *reader) word(e entry) string {
	s, ok := e.value.(*ast.StringNode)
	if !ok || s.Value == "" {
		r.add(e.line, e.path, "must be a text")
		return ""
	}
	return s.Value
}

// line reads a text for people: one line, not blank, at most maxText runes.
func (r *reader) line(e entry) string {
	s, ok := e.value.(*ast.StringNode)
	if !ok || strings.TrimSpace(s.Value) == "" {
		r.add(e.line, e.path, "must be a text, and not empty")
		return ""
	}
	if utf8.RuneCountInString(s.Value) > maxText || strings.ContainsFunc(s.Value, unicode.IsControl) {
		r.add(e.line, e.path, "must be one line of at most %d characters", maxText)
		return ""
	}
	return strings.TrimSpace(s.Value)
}

// under puts a key behind a path. A key may be anything that its author typed: a fault shows its beginning, and what
// would not print in escaped form.
func under(path, key string) string {
	if r := []rune(key); len(r) > maxName {
		key = string(r[:maxName]) + "..."
	}
	if key == "" || strings.ContainsFunc(key, func(c rune) bool { return !unicode.IsPrint(c) }) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
