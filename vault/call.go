package vault

import (
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Principal is an authenticated caller.
type Principal struct {
	Service    string // name of the service or person
	Role       string // role of the policy
	Credential string // id of the credential that was shown, never its secret
}

// Call says who asks, why, and which request it is. Every method takes one: authorisation and audit read from it.
type Call struct {
	Principal Principal
	Purpose   string // why values are read; "" for calls that read none
	Reason    string // free text for the audit log, up to 256 bytes: a ticket, an order; never a value
	RequestID string
	Source    string // network address of the caller

	Idempotency *Idempotency // nil: the call is not to be replayed
}

// Idempotency makes a change repeatable for 24 hours.
type Idempotency struct {
	Key     string   // the caller's key, 1 to 128 printable ASCII characters
	Request [][]byte // method, path, query and body: what must be equal for a replay
}

// PutRequest sets the named fields of a subject, all or none.
type PutRequest struct {
	Subject  string
	Fields   []FieldInput
	Recreate bool // begin anew for an erased subject
	// SameSource refuses a field that is there with another value and another source: ErrConflict, rule "held". One
	// with the same value from another source stays as it is, provenance too. False: what is written replaces what was.
	SameSource bool
}

// FieldInput is one field of a write.
type FieldInput struct {
	Field         string
	Value         secret.Text
	Remove        bool   // Patch only: the field goes
	Source        string // provenance: where the value came from, "" the person
	Authorization string // provenance: on what authority
}

// FieldToken is the token that stands for a field elsewhere.
type FieldToken struct {
	Field string
	Token secret.Text
}

// Warning says that a value was accepted with a doubt.
type Warning struct{ Field, Rule string }

// PutResult answers Put and Patch.
type PutResult struct {
	Created  bool
	Tokens   []FieldToken // of the fields that were set, in the order of the request
	Warnings []Warning
}

// GetRequest reads fields of one subject.
type GetRequest struct {
	Subject string
	View    string   // "" = the most that is allowed
	Fields  []string // nil = all that the subject has and the purpose allows
}

// FieldView is one field as the caller may see it.
type FieldView struct {
	Field   string
	Kind    string
	Token   secret.Text
	Value   secret.Text
	View    string
	Updated time.Time
}

// Page asks for part of a list.
type Page struct {
	Limit  int    // 1 to 1,000; 0 = 100
	Cursor string // "" = from the start
}

// SubjectEntry is one subject in a list.
type SubjectEntry struct {
	Subject          string
	Created, Updated time.Time
}

// TokenizeItem sets a field and asks for its token.
type TokenizeItem struct {
	Subject       string
	Field         string
	Value         secret.Text
	Audience      string
	TTL           time.Duration // 0 = none
	SingleUse     bool
	Format        string // "" = opaque
	Source        string
	Authorization string
	Recreate      bool // begin anew for an erased subject
}

// TokenizeResult is a token, or why there is none.
type TokenizeResult struct {
	Token    secret.Text
	Warnings []Warning
	Err      *Error
}

// DetokenizeRequest asks for the values behind tokens.
type DetokenizeRequest struct {
	View   string // "" = the most that is allowed
	Tokens []secret.Text
}

// Revealed is one token's value, or why there is none.
type Revealed struct {
	Field string
	Value secret.Text
	View  string
	Err   *Error
}

// TokenState tells of a token without its value.
type TokenState struct {
	Field     string
	Audience  string
	Format    string
	Expires   time.Time // zero = never
	SingleUse bool
	State     string // active, expired, used, revoked, subject_erased, field_erased
	Err       *Error
}

// Limits on what one call may carry.
const (
	MaxItems     = 1000
	MaxReason    = 256
	MaxPageLimit = 1000
)
