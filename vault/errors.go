package vault

import "errors"

// Error is a failure that a caller can cause or has to handle. Code names it, as in docs/api.md; two errors are the
// same for errors.Is when their codes are. No Error ever holds a value, a token or a key.
type Error struct {
	Code   string
	Detail string // what happened and what to do next, for people
	Field  string // the field it is about, "" for none
	Rule   string // the rule of the field's kind that was broken, or "held" beside conflict; "" for none
	cause  error
}

func (e *Error) Error() string {
	s := e.Code + ": " + e.Detail
	if e.Field != "" {
		s += " (field " + e.Field
		if e.Rule != "" {
			s += ", rule " + e.Rule
		}
		s += ")"
	}
	return s
}

// Is compares codes, so that errors.Is(err, ErrInvalidValue) holds whatever the field.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Unwrap gives what lies below, for the log.
func (e *Error) Unwrap() error { return e.cause }

// because returns a copy that carries cause.
func (e *Error) because(cause error) *Error { c := *e; c.cause = cause; return &c }

// on returns a copy that names a field and, when not empty, a rule.
func (e *Error) on(field, rule string) *Error { c := *e; c.Field, c.Rule = field, rule; return &c }

// saying returns a copy with another detail.
func (e *Error) saying(detail string) *Error { c := *e; c.Detail = detail; return &c }

// Everything a vault method can answer besides success. Errors lists them; the HTTP layer maps each to a status and
// a test fails on one that is not mapped.
var (
	ErrUnauthenticated = &Error{Code: "unauthenticated", Detail: "no valid credential; send Authorization: Bearer ck_..."}
	ErrForbidden       = &Error{Code: "forbidden", Detail: "the role of this credential does not grant this; ask the operator"}
	ErrMalformed       = &Error{Code: "malformed_request", Detail: "the request is not of the documented form"}
	ErrPurpose         = &Error{Code: "purpose_not_allowed", Detail: "this role may not act for that purpose"}
	ErrConsent         = &Error{Code: "consent_required", Detail: "the person has not consented to this purpose"}

	ErrSubjectID          = &Error{Code: "invalid_subject_id", Detail: "a subject id is 1 to 128 of A-Z a-z 0-9 . _ : - and neither . nor .."}
	ErrIdentifyingSubject = &Error{Code: "identifying_subject_id", Detail: "a subject id must not itself be a phone number, a resident id or an e-mail address; use your own record id"}
	ErrSubjectNotFound    = &Error{Code: "subject_not_found", Detail: "there is no such subject"}
	ErrSubjectErased      = &Error{Code: "subject_erased", Detail: "the subject was erased; to begin anew write with ?recreate=true"}
	ErrFieldErased        = &Error{Code: "field_erased", Detail: "the field was erased"}
	ErrUnknownField       = &Error{Code: "unknown_field", Detail: "the policy defines no such field"}
	ErrInvalidValue       = &Error{Code: "invalid_value", Detail: "the value is not valid for its kind"}

	ErrTokenMalformed  = &Error{Code: "token_malformed", Detail: "not a token, or mistyped: the checksum does not match"}
	ErrTokenUnknown    = &Error{Code: "token_unknown", Detail: "this installation never issued that token"}
	ErrTokenExpired    = &Error{Code: "token_expired", Detail: "the token's time is over"}
	ErrTokenUsed       = &Error{Code: "token_used", Detail: "the token opened once, as it was made to"}
	ErrTokenRevoked    = &Error{Code: "token_revoked", Detail: "the token was revoked"}
	ErrWrongAudience   = &Error{Code: "wrong_audience", Detail: "the token was issued for another service"}
	ErrUnknownAudience = &Error{Code: "unknown_audience", Detail: "no service of that name is active; audience names an existing service"}
	ErrFormat          = &Error{Code: "unsupported_format", Detail: "this field's kind has no such token format; use opaque"}

	ErrIdempotency = &Error{Code: "idempotency_mismatch", Detail: "this Idempotency-Key was used with another request; use a new key"}
	ErrConflict    = &Error{Code: "conflict", Detail: "it exists already"}
	ErrNotFound    = &Error{Code: "not_found", Detail: "there is no such thing"}

	ErrKey              = &Error{Code: "key_unavailable", Detail: "the key service did not open this person's key; try again"}
	ErrKeyService       = &Error{Code: "key_service_unavailable", Detail: "the key service does not answer; try again"}
	ErrAuditUnavailable = &Error{Code: "audit_unavailable", Detail: "the audit log cannot be written, so nothing is shown or changed; free disk space or mend the audit folder"}
	ErrStoreUnavailable = &Error{Code: "store_unavailable", Detail: "the store cannot be read or written; try again"}
	ErrCorrupt          = &Error{Code: "data_corrupt", Detail: "a stored row does not authenticate: it was damaged or exchanged; restore it from a backup"}
	ErrInternal         = &Error{Code: "internal_error", Detail: "something that should not happen did; the server's log names it by request id"}
)

// Errors lists every Error a method can answer, one per code.
func Errors() []*Error {
	return []*Error{
		ErrUnauthenticated, ErrForbidden, ErrMalformed, ErrPurpose, ErrConsent,
		ErrSubjectID, ErrIdentifyingSubject, ErrSubjectNotFound, ErrSubjectErased, ErrFieldErased, ErrUnknownField, ErrInvalidValue,
		ErrTokenMalformed, ErrTokenUnknown, ErrTokenExpired, ErrTokenUsed, ErrTokenRevoked, ErrWrongAudience, ErrUnknownAudience, ErrFormat,
		ErrIdempotency, ErrConflict, ErrNotFound,
		ErrKey, ErrKeyService, ErrAuditUnavailable, ErrStoreUnavailable, ErrCorrupt, ErrInternal,
	}
}

// AsError returns err as an Error; what is none becomes ErrInternal with err as its cause.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return ErrInternal.because(err)
}
