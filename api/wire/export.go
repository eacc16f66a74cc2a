package wire

import "time"

// TokensOfSubject is one person of GET /v1/tokens, or why nothing is known of somebody.
type TokensOfSubject struct {
	Subject string           `json:"subject,omitzero"` // "" beside an error that keeps it from being known
	Tokens  map[string]Plain `json:"tokens,omitzero"`  // by field; empty where the person has none, nil beside an error
	Error   *ItemError       `json:"error,omitzero"`
}

// TokenList answers GET /v1/tokens.
type TokenList struct {
	Subjects   []TokensOfSubject `json:"subjects"`
	NextCursor string            `json:"next_cursor,omitzero"`
}

// ExportedField is one field of an export: the value in full, and where it came from.
type ExportedField struct {
	Value         Plain     `json:"value"`
	Kind          string    `json:"kind,omitzero"`  // none when the policy no longer has the field
	Token         Plain     `json:"token,omitzero"` // none when it was revoked
	UpdatedAt     time.Time `json:"updated_at"`
	Source        string    `json:"source,omitzero"` // none: the person
	Authorization string    `json:"authorization,omitzero"`
	AuthorizedAt  time.Time `json:"authorized_at,omitzero"`
}

// ExportedToken is one token that opens a field.
type ExportedToken struct {
	Field     string     `json:"field"`
	Audience  string     `json:"audience,omitzero"`
	Token     Plain      `json:"token"`
	ExpiresAt *time.Time `json:"expires_at,omitzero"` // nil: never
	SingleUse bool       `json:"single_use,omitzero"`
}

// ExportedSubject is all that is held of one person. Beside Error something is missing: the value of the field that it
// names, and maybe of others, or everything when it names none. Later versions add members.
type ExportedSubject struct {
	Subject   string                   `json:"subject,omitzero"` // "" beside an error that keeps it from being known
	CreatedAt time.Time                `json:"created_at,omitzero"`
	UpdatedAt time.Time                `json:"updated_at,omitzero"`
	Fields    map[string]ExportedField `json:"fields,omitzero"`
	Tokens    []ExportedToken          `json:"tokens,omitzero"`
	Error     *ItemError               `json:"error,omitzero"`
}

// Export answers GET /v1/export.
type Export struct {
	Subjects   []ExportedSubject `json:"subjects"`
	NextCursor string            `json:"next_cursor,omitzero"`
}
