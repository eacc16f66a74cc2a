package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// body is everything the vault knows of a person, apart from values above 1 KiB. It is read whole and written whole,
// sealed under a fresh key each time; docs/design.md draws its bytes.
type body struct {
	created, updated uint64      // milliseconds since 1970 UTC
	id               []byte      // field record of the external id, field ""
	fields           []bodyField // ascending by name, removed ones included
	tokens           []bodyToken // every token that has a live row, in the order of minting
}

// bodyField is one field. When it is not present, only name and recVer mean anything.
type bodyField struct {
	name          string
	flags         uint8
	recVer        uint64 // counts changes, also over removal
	updated       uint64
	source        string // "" = the person
	authorization string
	authorised    uint64   // when the authorisation was recorded, 0 = none
	ikVer         uint16   // version of the index key, 0 = not indexed
	p             [32]byte // blind index input, when ikVer > 0
	record        []byte   // field record, or the key VK of the row that holds it
}

const (
	fieldPresent uint8 = 1 << 0
	fieldLarge   uint8 = 1 << 1 // record holds VK, the field record lies in a row of its own

	bodyVersion = 1

	// maxInline is the largest record kept in the body; a subject's every change rewrites what is inside.
	maxInline = 1024
	maxFields = 256
	maxTokens = 4096 // live tokens of one subject
)

func (f *bodyField) present() bool { return f.flags&fieldPresent != 0 }
func (f *bodyField) large() bool   { return f.flags&fieldLarge != 0 }

// bodyToken is a token that stands for a field.
type bodyToken struct {
	field, audience string
	format          uint8
	expiry          uint64 // milliseconds since 1970 UTC, 0 = none
	flags           uint8
	text            string
}

var errBody = errors.New("body row does not parse")

// marshal appends lists in their order; fields must be sorted.
func (b *body) marshal() ([]byte, error) {
	if len(b.fields) > maxFields || len(b.tokens) > maxTokens {
		return nil, fmt.Errorf("a subject holds at most %d fields and %d live tokens", maxFields, maxTokens)
	}
	n := 64 + len(b.id)
	for i := range b.fields {
		n += 96 + len(b.fields[i].record)
	}
	out := make([]byte, 0, n+80*len(b.tokens))
	be := binary.BigEndian
	out = append(out, bodyVersion)
	out = be.AppendUint64(out, b.created)
	out = be.AppendUint64(out, b.updated)
	out = appendLP(out, b.id)
	out = be.AppendUint16(out, uint16(len(b.fields)))
	for i := range b.fields {
		f := &b.fields[i]
		out = appendLP(out, f.name)
		out = append(out, f.flags)
		out = be.AppendUint64(out, f.recVer)
		out = be.AppendUint64(out, f.updated)
		out = appendLP(out, f.source)
		out = appendLP(out, f.authorization)
		out = be.AppendUint64(out, f.authorised)
		out = be.AppendUint16(out, f.ikVer)
		if f.ikVer > 0 {
			out = append(out, f.p[:]...)
		}
		out = appendLP(out, f.record)
	}
	out = be.AppendUint16(out, uint16(len(b.tokens)))
	for i := range b.tokens {
		t := &b.tokens[i]
		out = appendLP(out, t.field)
		out = appendLP(out, t.audience)
		out = append(out, t.format)
		out = be.AppendUint64(out, t.expiry)
		out = append(out, t.flags)
		out = appendLP(out, t.text)
	}
	return out, nil
}

// parseBody reads what marshal wrote. Records alias data.
func parseBody(data []byte) (*body, error) {
	b := new(body)
	s := cryptobyte.String(data)
	n, err := b.parseHead(&s)
	if err != nil {
		return nil, err
	}
	b.fields = make([]bodyField, n)
	for i := range b.fields {
		name, err := b.fields[i].parse(&s)
		if err != nil {
			return nil, err
		}
		b.fields[i].name = string(name)
		if i > 0 && b.fields[i-1].name >= b.fields[i].name {
			return nil, errBody
		}
	}
	var tokens uint16
	if !s.ReadUint16(&tokens) || tokens > maxTokens {
		return nil, errBody
	}
	b.tokens = make([]bodyToken, tokens)
	for i := range b.tokens {
		t := &b.tokens[i]
		var field, audience, text cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&field) || !s.ReadUint16LengthPrefixed(&audience) || !s.ReadUint8(&t.format) ||
			!s.ReadUint64(&t.expiry) || !s.ReadUint8(&t.flags) || !s.ReadUint16LengthPrefixed(&text) {
			return nil, errBody
		}
		t.field, t.audience, t.text = string(field), string(audience), string(text)
	}
	if !s.Empty() {
		return nil, errBody
	}
	return b, nil
}

// lookupField finds one field without building the rest: what a reveal needs of a body.
func lookupField(data []byte, name string) (f bodyField, ok bool, err error) {
	var b body
	s := cryptobyte.String(data)
	n, err := b.parseHead(&s)
	if err != nil {
		return f, false, err
	}
	for range n {
		got, err := f.parse(&s)
		if err != nil {
			return f, false, err
		}
		if string(got) == name {
			f.name = name
			return f, f.present(), nil
		}
	}
	return bodyField{}, false, nil
}

// parseHead reads up to the number of fields, which it returns.
func (b *body) parseHead(s *cryptobyte.String) (int, error) {
	var version uint8
	var id cryptobyte.String
	var n uint16
	if !s.ReadUint8(&version) || version != bodyVersion || !s.ReadUint64(&b.created) || !s.ReadUint64(&b.updated) ||
		!s.ReadUint16LengthPrefixed(&id) || !s.ReadUint16(&n) || n > maxFields {
		return 0, errBody
	}
	b.id = id
	return int(n), nil
}

// parse reads one field and returns its name unconverted.
func (f *bodyField) parse(s *cryptobyte.String) (name []byte, err error) {
	var nm, source, authorization, record cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&nm) || !s.ReadUint8(&f.flags) || !s.ReadUint64(&f.recVer) || !s.ReadUint64(&f.updated) ||
		!s.ReadUint16LengthPrefixed(&source) || !s.ReadUint16LengthPrefixed(&authorization) || !s.ReadUint64(&f.authorised) ||
		!s.ReadUint16(&f.ikVer) || (f.ikVer > 0 && !s.CopyBytes(f.p[:])) || !s.ReadUint16LengthPrefixed(&record) {
		return nil, errBody
	}
	f.source, f.authorization, f.record = string(source), string(authorization), record
	return nm, nil
}

// field returns the entry of that name, or nil.
func (b *body) field(name string) *bodyField {
	i, ok := slices.BinarySearchFunc(b.fields, name, func(f bodyField, n string) int { return strings.Compare(f.name, n) })
	if !ok {
		return nil
	}
	return &b.fields[i]
}

// ensure returns the entry of that name, adding an absent one in its place.
func (b *body) ensure(name string) *bodyField {
	i, ok := slices.BinarySearchFunc(b.fields, name, func(f bodyField, n string) int { return strings.Compare(f.name, n) })
	if !ok {
		b.fields = slices.Insert(b.fields, i, bodyField{name: name})
	}
	return &b.fields[i]
}

// standing returns the lasting token of a field for an audience in a format: the one that asking again gives.
func (b *body) standing(field, audience string, format uint8) (text string, ok bool) {
	for i := range b.tokens {
		t := &b.tokens[i]
		if t.field == field && t.audience == audience && t.format == format && t.expiry == 0 && t.flags == 0 {
			return t.text, true
		}
	}
	return "", false
}

// appendLP appends u16 length ‖ x. Callers keep x below 64 KiB.
func appendLP[T string | []byte](out []byte, x T) []byte {
	out = binary.BigEndian.AppendUint16(out, uint16(len(x)))
	return append(out, x...)
}
