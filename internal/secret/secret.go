// Package secret holds values that must not be shown by accident: plaintext, keys and tokens.
//
// A secret is a type, not a habit. Text and Bytes print, log and marshal as "[redacted]"
// whatever verb or encoder meets them; the one way to the content is Reveal, so that a
// search for that word finds every place where a secret leaves its wrapping.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every secret shows in place of its content.
const Redacted = "[redacted]"

// Text is a secret string: a value as its owner wrote it, or a token. The zero value is the empty text.
type Text struct{ s string }

// NewText wraps s.
func NewText(s string) Text { return Text{s} }

// Reveal returns the content.
func (t Text) Reveal() string { return t.s }

// Empty reports whether the content is the empty string.
func (t Text) Empty() bool { return t.s == "" }

// Equal compares in time that depends on the lengths alone.
func (t Text) Equal(u Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.s), []byte(u.s)) == 1
}

func (Text) String() string               { return Redacted }
func (Text) GoString() string             { return Redacted }
func (Text) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, Redacted) }
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
func (Text) LogValue() slog.Value         { return slog.StringValue(Redacted) }

// Bytes is a secret byte string, mostly a key. The zero value holds none.
type Bytes struct{ b []byte }

// NewBytes wraps b without copying: the caller gives it away.
func NewBytes(b []byte) Bytes { return Bytes{b} }

// Reveal returns the content itself, not a copy.
func (b Bytes) Reveal() []byte { return b.b }

// Len returns the number of bytes held.
func (b Bytes) Len() int { return len(b.b) }

// Wipe overwrites the content with zeros. What Go cannot promise about other copies stands in SECURITY.md.
func (b Bytes) Wipe() { clear(b.b) }

// Equal compares in time that depends on the lengths alone.
func (b Bytes) Equal(c Bytes) bool { return subtle.ConstantTimeCompare(b.b, c.b) == 1 }

func (Bytes) String() string               { return Redacted }
func (Bytes) GoString() string             { return Redacted }
func (Bytes) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, Redacted) }
func (Bytes) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
func (Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
func (Bytes) LogValue() slog.Value         { return slog.StringValue(Redacted) }
