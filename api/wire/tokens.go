package wire

import "time"

// ItemError is why one item of a batch has no result.
type ItemError struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitzero"`
	Field  string `json:"field,omitzero"`
	Rule   string `json:"rule,omitzero"`
}

// TokenizeItem asks for the token of one field of one subject, and sets the field to Value.
type TokenizeItem struct {
	Subject   string `json:"subject"`
	Field     string `json:"field"`
	Value     Plain  `json:"value"`
	Audience  string `json:"audience,omitzero"`
	TTL       string `json:"ttl,omitzero"` // Go duration, "24h"
	SingleUse bool   `json:"single_use,omitzero"`
	Format    string `json:"format,omitzero"` // "opaque" when empty

	Source        string `json:"source,omitzero"`
	Authorization string `json:"authorization,omitzero"`
}

// Tokenize is the body of POST /v1/tokenize.
type Tokenize struct {
	Items Batch[TokenizeItem] `json:"items"`
}

// TokenizeResult is a token or an error.
type TokenizeResult struct {
	Token    Plain      `json:"token,omitzero"`
	Warnings []Warning  `json:"warnings,omitempty"`
	Error    *ItemError `json:"error,omitzero"`
}

// Tokenized answers POST /v1/tokenize, in the order of the items.
type Tokenized struct {
	Items []TokenizeResult `json:"items"`
}

// Detokenize is the body of POST /v1/detokenize.
type Detokenize struct {
	Purpose string       `json:"purpose"`
	Reason  string       `json:"reason,omitzero"`
	View    string       `json:"view,omitzero"`
	Tokens  Batch[Plain] `json:"tokens"`
}

// Revealed is one token's value, or why there is none.
type Revealed struct {
	Token Plain      `json:"token"`
	Field string     `json:"field,omitzero"`
	Value *Plain     `json:"value,omitzero"` // nil beside an error; an empty value is still a value
	View  string     `json:"view,omitzero"`
	Error *ItemError `json:"error,omitzero"`
}

// Detokenized answers POST /v1/detokenize, in the order of the tokens.
type Detokenized struct {
	Items []Revealed `json:"items"`
}

// Tokens is the body of POST /v1/tokens/inspect and /v1/tokens/revoke.
type Tokens struct {
	Tokens Batch[Plain] `json:"tokens"`
}

// TokenState is what inspect and revoke tell of one token; never a value.
type TokenState struct {
	Token     Plain      `json:"token"`
	Field     string     `json:"field,omitzero"`
	Audience  string     `json:"audience,omitzero"`
	Format    string     `json:"format,omitzero"`
	ExpiresAt *time.Time `json:"expires_at,omitzero"`
	SingleUse bool       `json:"single_use,omitzero"`
	State     string     `json:"state,omitzero"` // active, expired, used, revoked, subject_erased, field_erased
	Error     *ItemError `json:"error,omitzero"`
}

// TokenStates answers inspect and revoke.
type TokenStates struct {
	Items []TokenState `json:"items"`
}
