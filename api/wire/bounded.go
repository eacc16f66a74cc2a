package wire

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What a request's lists and objects keep at most: one more than a call may have, so that the call is refused for its
// length. The rest is read and dropped: a body of 8 MiB has room for millions of empty items.
const (
	keptItems  = 1001
	keptFields = 257
)

// Batch is a list of a request.
type Batch[T any] []T

// UnmarshalJSONFrom keeps the first 1,001 elements.
func (b *Batch[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return json.UnmarshalDecode(d, (*[]T)(b))
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	*b = Batch[T]{}
	for d.PeekKind() != ']' {
		if len(*b) == keptItems {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		var item T
		if err := json.UnmarshalDecode(d, &item); err != nil {
			return err
		}
		*b = append(*b, item)
	}
	_, err := d.ReadToken()
	return err
}

// Fields are the fields of a write, by name.
type Fields map[string]FieldValue

// UnmarshalJSONFrom keeps the first 257 members.
func (f *Fields) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return json.UnmarshalDecode(d, (*map[string]FieldValue)(f))
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	*f = Fields{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		if len(*f) == keptFields {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		var value FieldValue
		if err := json.UnmarshalDecode(d, &value); err != nil {
			return err
		}
		(*f)[key] = value
	}
	_, err := d.ReadToken()
	return err
}
