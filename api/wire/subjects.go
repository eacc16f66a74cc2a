package wire

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// FieldValue is one member of "fields" in a write: a string, null (PATCH: remove), or an object with provenance.
type FieldValue struct {
	Value         Plain  `json:"value"`
	Remove        bool   `json:"-"` // the member was null
	Source        string `json:"source"`
	Authorization string `json:"authorization"`
}

// MissingMember says that an object lacks a member it must have.
type MissingMember struct{ Name string }

func (m *MissingMember) Error() string { return "missing member " + m.Name }

type fieldObject struct {
	Value         *Plain `json:"value"`
	Source        string `json:"source,omitzero"`
	Authorization string `json:"authorization,omitzero"`
}

// UnmarshalJSONFrom reads any of the three forms.
func (f *FieldValue) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		f.Remove = true
		return d.SkipValue()
	case '{':
		var o fieldObject
		if err := json.UnmarshalDecode(d, &o); err != nil {
			return err
		}
		if o.Value == nil {
			return &MissingMember{"value"}
		}
		f.Value, f.Source, f.Authorization = *o.Value, o.Source, o.Authorization
		return nil
	default:
		return json.UnmarshalDecode(d, &f.Value)
	}
}

// MarshalJSONTo writes the shortest form that holds all members.
func (f FieldValue) MarshalJSONTo(e *jsontext.Encoder) error {
	switch {
	case f.Remove:
		return e.WriteToken(jsontext.Null)
	case f.Source == "" && f.Authorization == "":
		return json.MarshalEncode(e, f.Value)
	default:
		return json.MarshalEncode(e, fieldObject{&f.Value, f.Source, f.Authorization})
	}
}

// PutSubject is the body of PUT and PATCH /v1/subjects/{subject}.
type PutSubject struct {
	Fields Fields `json:"fields"`
}

// Warning says that a value was accepted with a doubt.
type Warning struct {
	Field string `json:"field"`
	Rule  string `json:"rule"`
}

// SubjectTokens answers a write.
type SubjectTokens struct {
	Subject  string           `json:"subject"`
	Created  bool             `json:"created"`
	Tokens   map[string]Plain `json:"tokens"`
	Warnings []Warning        `json:"warnings,omitempty"`
}

// SubjectField is one field as a reader may see it.
type SubjectField struct {
	Token     Plain     `json:"token,omitzero"` // none when it was revoked; the next write of the field mints one
	Value     Plain     `json:"value"`
	View      string    `json:"view"`
	Kind      string    `json:"kind"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Subject answers GET /v1/subjects/{subject}.
type Subject struct {
	Subject string                  `json:"subject"`
	Fields  map[string]SubjectField `json:"fields"`
}

// SubjectEntry is one row of GET /v1/subjects: an id and times, no value.
type SubjectEntry struct {
	Subject   string    `json:"subject"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// SubjectList answers GET /v1/subjects.
type SubjectList struct {
	Subjects   []SubjectEntry `json:"subjects"`
	NextCursor string         `json:"next_cursor,omitzero"`
}

// Erase is the optional body of a DELETE.
type Erase struct {
	Reason string `json:"reason,omitzero"`
}

// ErasureList answers GET /v1/erasures. Each certificate is the canonical JSON that was signed.
type ErasureList struct {
	Erasures   []jsontext.Value `json:"erasures"`
	NextCursor string           `json:"next_cursor,omitzero"`
}
