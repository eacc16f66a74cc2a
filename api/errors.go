package api

import (
	"errors"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// meaning is how a code is told over HTTP.
type meaning struct {
	status int
	change int // the status when the call was to change something; 0: the same
	title  string
}

// meanings is the one table of codes. A test fails on a code of wire or vault that is not here.
func meanings() map[wire.Code]meaning {
	return map[wire.Code]meaning{
		wire.MalformedRequest:     {status: http.StatusBadRequest, title: "Malformed request"},
		wire.Unauthenticated:      {status: http.StatusUnauthorized, title: "Not authenticated"},
		wire.Forbidden:            {status: http.StatusForbidden, title: "Forbidden"},
		wire.SubjectNotFound:      {status: http.StatusNotFound, title: "Subject not found"},
		wire.NotFound:             {status: http.StatusNotFound, title: "Not found"},
		wire.MethodNotAllowed:     {status: http.StatusMethodNotAllowed, title: "Method not allowed"},
		wire.RequestTimeout:       {status: http.StatusRequestTimeout, title: "Request timeout"},
		wire.Conflict:             {status: http.StatusConflict, title: "Conflict"},
		wire.LegalHold:            {status: http.StatusConflict, title: "Legal hold"},
		wire.IdempotencyMismatch:  {status: http.StatusConflict, title: "Idempotency key used before"},
		wire.SubjectErased:        {status: http.StatusGone, title: "Subject erased"},
		wire.FieldErased:          {status: http.StatusGone, title: "Field erased"},
		wire.BodyTooLarge:         {status: http.StatusRequestEntityTooLarge, title: "Body too large"},
		wire.UnsupportedMediaType: {status: http.StatusUnsupportedMediaType, title: "Unsupported media type"},
		wire.InvalidValue:         {status: http.StatusUnprocessableEntity, title: "Invalid value"},
		wire.UnknownField:         {status: http.StatusUnprocessableEntity, title: "Unknown field"},
		wire.InvalidSubjectID:     {status: http.StatusUnprocessableEntity, title: "Invalid subject id"},
		wire.IdentifyingSubjectID: {status: http.StatusUnprocessableEntity, title: "Identifying subject id"},
		wire.ConsentRequired:      {status: http.StatusForbidden, change: http.StatusUnprocessableEntity, title: "Consent required"},
		wire.SourceRequired:       {status: http.StatusUnprocessableEntity, title: "Source required"},
		wire.UnknownAudience:      {status: http.StatusUnprocessableEntity, title: "Unknown audience"},
		wire.UnsupportedFormat:    {status: http.StatusUnprocessableEntity, title: "Unsupported token format"},
		wire.BudgetExceeded:       {status: http.StatusTooManyRequests, title: "Budget exceeded"},
		wire.RateLimited:          {status: http.StatusTooManyRequests, title: "Rate limited"},
		wire.DataCorrupt:          {status: http.StatusInternalServerError, title: "Stored data is damaged"},
		wire.InternalError:        {status: http.StatusInternalServerError, title: "Internal error"},

		wire.KeyServiceUnavailable: {status: http.StatusServiceUnavailable, title: "Key service unavailable"},
		wire.KeyUnavailable:        {status: http.StatusServiceUnavailable, title: "Key unavailable"},
		wire.AuditUnavailable:      {status: http.StatusServiceUnavailable, title: "Audit log unavailable"},
		wire.StoreUnavailable:      {status: http.StatusServiceUnavailable, title: "Store unavailable"},
		wire.ServerStopping:        {status: http.StatusServiceUnavailable, title: "Server stopping"},

		wire.TokenMalformed:    {status: http.StatusUnprocessableEntity, title: "Token malformed"},
		wire.TokenUnknown:      {status: http.StatusNotFound, title: "Token unknown"},
		wire.TokenExpired:      {status: http.StatusGone, title: "Token expired"},
		wire.TokenUsed:         {status: http.StatusGone, title: "Token used"},
		wire.TokenRevoked:      {status: http.StatusGone, title: "Token revoked"},
		wire.WrongAudience:     {status: http.StatusForbidden, title: "Wrong audience"},
		wire.PurposeNotAllowed: {status: http.StatusForbidden, title: "Purpose not allowed"},
		wire.OptedOut:          {status: http.StatusForbidden, title: "Opted out"},
		wire.SubjectRestricted: {status: http.StatusForbidden, title: "Subject restricted"},
	}
}

// statusClientClosed is counted and logged for a caller that hung up; nobody is there to receive it. The number is
// nginx's.
const (
	statusClientClosed           = 499
	codeClientClosed   wire.Code = "client_closed_request"
)

// fault is a failure that this package finds by itself, before or after the vault.
type fault struct {
	code   wire.Code
	detail string
	close  bool  // the connection cannot be used again
	cause  error // for the log
}

func (f *fault) Error() string { return string(f.code) + ": " + f.detail }
func (f *fault) Unwrap() error { return f.cause }

func malformed(detail string) error { return &fault{code: wire.MalformedRequest, detail: detail} }

// problemOf turns any error of a handler into what the caller may read of it. The cause stays here.
func (s *service) problemOf(err error, change bool) wire.Problem {
	var p wire.Problem
	var f *fault
	if errors.As(err, &f) {
		p.Code, p.Detail = f.code, f.detail
	} else {
		e := vault.AsError(err)
		p.Code, p.Detail, p.Field, p.Rule = wire.Code(e.Code), e.Detail, shownField(e.Field), e.Rule
	}
	m, ok := s.meter.meanings[p.Code]
	if !ok {
		p = wire.Problem{Code: wire.InternalError, Detail: vault.ErrInternal.Detail}
		m = s.meter.meanings[wire.InternalError]
	}
	p.Status, p.Title, p.Type = m.status, m.title, "urn:cloakroom:error:"+string(p.Code)
	if change && m.change != 0 {
		p.Status = m.change
	}
	return p
}

// itemError is the same for one item of a batch.
func itemError(e *vault.Error) *wire.ItemError {
	return &wire.ItemError{Code: wire.Code(e.Code), Detail: e.Detail, Field: shownField(e.Field), Rule: e.Rule}
}

// malformedItem is for an item that is not of the documented form.
func malformedItem(err error) *wire.ItemError {
	var f *fault
	if errors.As(err, &f) {
		return &wire.ItemError{Code: f.code, Detail: f.detail}
	}
	return itemError(vault.AsError(err))
}

// shownField lets a field's name through when it has the form of one. A caller who mistakes values for names would
// otherwise read a phone number in the error, and so would every log on its way.
func shownField(name string) string {
	if len(name) == 0 || len(name) > 64 || name[0] < 'a' || name[0] > 'z' {
		return ""
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return ""
		}
	}
	return name
}
