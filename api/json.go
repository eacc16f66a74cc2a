package api

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// decode reads a body into dst, a pointer to a type of package wire. Unknown members, names that stand twice, invalid
// UTF-8, data after the value, wrong types and null are refused, the last but for a member of "fields", where it
// means removal.
func decode[T any](body []byte, dst *T) error {
	if err := json.Unmarshal(body, dst, json.RejectUnknownMembers(true)); err != nil {
		return malformed(explain(body, reflect.TypeFor[T](), err))
	}
	// The library takes null for a zero value. Few bodies hold the letters, and only those are read a second time.
	if bytes.Contains(body, []byte("null")) {
		if at, found := strayNull(body); found {
			return malformed("null" + place(reflect.TypeFor[T](), at) + " is not allowed; leave the member out instead")
		}
	}
	return nil
}

// strayNull finds a null other than a direct member of "fields" of the body.
func strayNull(body []byte) (jsontext.Pointer, bool) {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.ReadToken()
		if err != nil {
			return "", false
		}
		if t.Kind() == 'n' && d.StackPointer().Parent() != "/fields" {
			return d.StackPointer(), true
		}
	}
}

// explain says what is wrong with a body and where, without a byte of it. The library's own messages quote.
func explain(body []byte, t reflect.Type, err error) string {
	var syn *jsontext.SyntacticError
	if errors.As(err, &syn) {
		at := place(t, syn.JSONPointer) + ", byte " + strconv.FormatInt(syn.ByteOffset, 10)
		switch {
		case errors.Is(syn, jsontext.ErrDuplicateName):
			return "a member name stands twice in an object" + at
		case errors.Is(syn, jsontext.ErrNonStringName):
			return "a member name is not a string" + at
		case errors.Is(syn, io.ErrUnexpectedEOF) || errors.Is(syn, io.EOF):
			return "the JSON ends too early" + at
		case strings.Count(string(syn.JSONPointer), "/") > 1000:
			return "the JSON is nested too deeply"
		case syn.JSONPointer == "" && syn.ByteOffset > 0 && syn.ByteOffset <= int64(len(body)) && jsontext.Value(body[:syn.ByteOffset]).IsValid():
			return "there is more after the JSON value" + at
		}
		return "the body is not valid JSON in UTF-8" + at
	}
	var sem *json.SemanticError
	if errors.As(err, &sem) {
		at := place(t, sem.JSONPointer) + ", byte " + strconv.FormatInt(sem.ByteOffset, 10)
		if errors.Is(sem, json.ErrUnknownName) {
			return "an object has a member that this call does not know" + at
		}
		if missing, ok := errors.AsType[*wire.MissingMember](err); ok {
			return "the member " + missing.Name + " is missing" + at
		}
		return "expected " + goKind(sem.GoType) + ", found " + jsonKind(sem.JSONKind) + at
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the JSON ends too early"
	}
	return "the body is not of the documented form"
}

// place writes a pointer into a body of type t as far as this package knows the names: members of its structs by
// name, elements of a list by number, and members of a map, which are the caller's words, as "*".
func place(t reflect.Type, p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Struct:
			f, ok := member(t, token)
			if !ok {
				return at(b.String())
			}
			t = f.Type
		case reflect.Slice:
			if _, err := strconv.ParseUint(token, 10, 31); err != nil {
				return at(b.String())
			}
			t = t.Elem()
		case reflect.Map:
			t, token = t.Elem(), "*"
		default:
			return at(b.String())
		}
		b.WriteString("/" + token)
	}
	return at(b.String())
}

func at(path string) string {
	if path == "" {
		return " at the top"
	}
	return " at " + path
}

func member(t reflect.Type, name string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func goKind(t reflect.Type) string {
	if t == nil {
		return "another type"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	}
	return "a number"
}

func jsonKind(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{', '}':
		return "an object"
	case '[', ']':
		return "an array"
	}
	return "another type"
}

// raw is an answer that is sent as it is: the bytes that were signed.
type raw []byte

// encode writes an answer. Maps are sorted, so that the same answer has the same bytes; what was signed keeps its
// spelling.
func encode(w *bytes.Buffer, v any) error {
	if r, ok := v.(*raw); ok {
		_, err := w.Write(*r)
		return err
	}
	return json.MarshalWrite(w, v, json.Deterministic(true), jsontext.PreserveRawStrings(true))
}
