package sqltable

import (
	"fmt"
	"log/slog"
)

// hidden stands for a column's contents wherever one is printed.
const hidden = "[hidden]"

// Format prints a text as "[hidden]" for every verb.
func (Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// MarshalJSON does too.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// LogValue does too.
func (Text) LogValue() slog.Value { return slog.StringValue(hidden) }

// pointer is nil for NULL, as the drivers have it.
func (x Text) pointer() *string {
	if !x.Valid {
		return nil
	}
	return &x.Value
}

func (x *Text) set(p *string) {
	*x = Text{}
	if p != nil {
		*x = Text{Value: *p, Valid: true}
	}
}
