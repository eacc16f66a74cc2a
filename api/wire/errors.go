package wire

// Code names an error for programs. It never has two meanings.
type Code string

// Every code a caller can meet.
const (
	MalformedRequest     Code = "malformed_request"
	Unauthenticated      Code = "unauthenticated"
	Forbidden            Code = "forbidden"
	SubjectNotFound      Code = "subject_not_found"
	NotFound             Code = "not_found"
	MethodNotAllowed     Code = "method_not_allowed"
	RequestTimeout       Code = "request_timeout"
	Conflict             Code = "conflict"
	LegalHold            Code = "legal_hold"
	IdempotencyMismatch  Code = "idempotency_mismatch"
	SubjectErased        Code = "subject_erased"
	FieldErased          Code = "field_erased"
	BodyTooLarge         Code = "body_too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	InvalidValue         Code = "invalid_value"
	UnknownField         Code = "unknown_field"
	InvalidSubjectID     Code = "invalid_subject_id"
	IdentifyingSubjectID Code = "identifying_subject_id"
	ConsentRequired      Code = "consent_required"
	SourceRequired       Code = "source_required"
	BudgetExceeded       Code = "budget_exceeded"
	RateLimited          Code = "rate_limited"
	InternalError        Code = "internal_error"
	DataCorrupt          Code = "data_corrupt"

	KeyServiceUnavailable Code = "key_service_unavailable"
	AuditUnavailable      Code = "audit_unavailable"
	StoreUnavailable      Code = "store_unavailable"
	ServerStopping        Code = "server_stopping"

	TokenMalformed    Code = "token_malformed"
	TokenUnknown      Code = "token_unknown"
	TokenExpired      Code = "token_expired"
	TokenUsed         Code = "token_used"
	TokenRevoked      Code = "token_revoked"
	WrongAudience     Code = "wrong_audience"
	PurposeNotAllowed Code = "purpose_not_allowed"
	OptedOut          Code = "opted_out"
	SubjectRestricted Code = "subject_restricted"
	KeyUnavailable    Code = "key_unavailable"
	UnknownAudience   Code = "unknown_audience"
	UnsupportedFormat Code = "unsupported_format"
)

// Problem is an error body, application/problem+json (RFC 9457).
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      Code   `json:"code"`
	Detail    string `json:"detail,omitzero"`
	Field     string `json:"field,omitzero"`
	Rule      string `json:"rule,omitzero"`
	RequestID string `json:"request_id,omitzero"`
}
