package tablefile

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// object reads one line of NDJSON strictly and calls member for each of its members, in their order.
func object(d *jsontext.Decoder, line []byte, member func(name string, value jsontext.Value)) bool {
	d.Reset(bytes.NewReader(line))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return false
	}
	for n := 0; d.PeekKind() == '"'; n++ {
		name, err := d.ReadToken()
		if err != nil || n == MaxColumns {
			return false
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return false
		}
		member(key, value)
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '}' {
		return false
	}
	_, err := d.ReadToken()
	return errors.Is(err, io.EOF)
}

// cellOf turns a member's value into a cell: text as it is, numbers and booleans as they are written, null as nothing.
func cellOf(value jsontext.Value) (Cell, bool) {
	c := Cell{JSON: string(value)}
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return Cell{}, false
		}
		c.Text = string(text)
	case 'n':
	default:
		c.Text = c.JSON
	}
	return c, true
}
