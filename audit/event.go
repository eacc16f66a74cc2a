package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits of an event; Append answers ErrInvalid beyond them. Text is counted in bytes and must be UTF-8.
const (
	MaxItems  = 10000
	MaxReason = 256
	MaxText   = 128 // every other text of an event
	MaxName   = 64  // every text of an item

	maxLine = 16 << 20 // above what these limits can make, with every byte escaped
)

// ErrInvalid: the event is outside the limits. Nothing was written.
var ErrInvalid = errors.New("audit: invalid event")

var digestText = base64.RawURLEncoding.Strict()

// Digest is a keyed digest of a subject or a token. The zero value means that there is none.
type Digest [16]byte

// IsZero reports whether there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns 22 characters of unpadded base64url.
func (d Digest) String() string { return digestText.EncodeToString(d[:]) }

// MarshalText returns String.
func (d Digest) MarshalText() ([]byte, error) { return digestText.AppendEncode(nil, d[:]), nil }

// UnmarshalText takes what MarshalText wrote and nothing else.
func (d *Digest) UnmarshalText(text []byte) error {
	if !decodeFixed(d[:], text) {
		return errors.New("audit: malformed digest")
	}
	return nil
}

// decodeFixed fills dst from exactly as many characters as it needs. The decoder would skip line breaks.
func decodeFixed(dst, text []byte) bool {
	if len(text) != digestText.EncodedLen(len(dst)) {
		return false
	}
	n, err := digestText.Decode(dst, text)
	return err == nil && n == len(dst)
}

// Event is one call, allowed or refused.
type Event struct {
	Time       time.Time // kept to the millisecond, in UTC; zero: the time of Append
	RequestID  string
	Service    string // who called
	Credential string // id of the credential used, never the credential
	Action     string // required
	Purpose    string
	Reason     string // what the caller said, up to MaxReason bytes
	Policy     uint64 // version of the policy that decided; 0: none did
	Source     string // network address of the caller
	Code       string // why the whole call was refused; "": it was not
	Items      []Item // in the order of the call
}

// Item is one datum that the call touched, or tried to.
type Item struct {
	Subject Digest
	Token   Digest
	Field   string
	View    string // how it was shown: full, masked, ...
	Outcome string // "ok" or the code of the refusal; required
}

// Record is an event that was read back.
type Record struct {
	Index uint64 // counts from 0
	Event Event
}

// Head says how far a log goes.
type Head struct {
	Size uint64   // number of entries
	Hash [32]byte // commits to all of them
}

// check returns ErrInvalid naming the member, never its content.
func (e *Event) check() error {
	if e.Action == "" {
		return fmt.Errorf("%w: action is empty", ErrInvalid)
	}
	if year := e.Time.UTC().Year(); !e.Time.IsZero() && (year < 1970 || year > 9999) {
		return fmt.Errorf("%w: time is out of range", ErrInvalid)
	}
	for _, m := range [...]struct {
		name, text string
		limit      int
	}{
		{"request_id", e.RequestID, MaxText},
		{"service", e.Service, MaxText},
		{"credential", e.Credential, MaxText},
		{"action", e.Action, MaxText},
		{"purpose", e.Purpose, MaxText},
		{"reason", e.Reason, MaxReason},
		{"source", e.Source, MaxText},
		{"code", e.Code, MaxText},
	} {
		if !fits(m.text, m.limit) {
			return fmt.Errorf("%w: %s is not UTF-8 of at most %d bytes", ErrInvalid, m.name, m.limit)
		}
	}
	if len(e.Items) > MaxItems {
		return fmt.Errorf("%w: more than %d items", ErrInvalid, MaxItems)
	}
	for i := range e.Items {
		it := &e.Items[i]
		if it.Outcome == "" {
			return fmt.Errorf("%w: item %d has no outcome", ErrInvalid, i)
		}
		if !fits(it.Field, MaxName) || !fits(it.View, MaxName) || !fits(it.Outcome, MaxName) {
			return fmt.Errorf("%w: a text of item %d is not UTF-8 of at most %d bytes", ErrInvalid, i, MaxName)
		}
	}
	return nil
}

func fits(s string, limit int) bool { return len(s) <= limit && utf8.ValidString(s) }
