package client

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// Error is the server's refusal of a whole call. Compare with Code:
//
//	if errors.Is(err, client.Code(wire.SubjectErased)) { ... }
type Error struct {
	Problem    wire.Problem
	RetryAfter time.Duration // 0 when the server named none
}

// Code returns an error that any Error with this code is equal to under errors.Is.
func Code(code wire.Code) error { return &Error{Problem: wire.Problem{Code: code}} }

// Error names code, detail, field and request. It holds no value: the server never sends one back in a problem.
func (e *Error) Error() string {
	p := e.Problem
	var b strings.Builder
	if p.Code != "" {
		b.WriteString(string(p.Code))
	} else {
		fmt.Fprintf(&b, "HTTP %d", p.Status)
	}
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	if p.Field != "" {
		b.WriteString(" (field " + p.Field)
		if p.Rule != "" {
			b.WriteString(", rule " + p.Rule)
		}
		b.WriteString(")")
	}
	if p.RequestID != "" {
		b.WriteString(" [request " + p.RequestID + "]")
	}
	return b.String()
}

// Is compares codes; a target without one is never equal.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Problem.Code != "" && t.Problem.Code == e.Problem.Code
}

// ErrUnreachable: there was no answer. A change may or may not have happened.
var ErrUnreachable = errors.New("the server does not answer")

// unreachable drops the URL that net/http puts into its error: it holds the subject's id.
func unreachable(r request, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("client: %s %s: %w: %w", r.method, template(r.path), ErrUnreachable, err)
}

// problem reads an error answer. One that is no problem of Cloakroom's, a proxy's page for example, gets a detail
// that says so; its text is not repeated.
func problem(resp *http.Response, raw []byte) error {
	e := &Error{RetryAfter: retryAfter(resp.Header)}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/problem+json" || json.Unmarshal(raw, &e.Problem) != nil || e.Problem.Code == "" {
		e.Problem = wire.Problem{Detail: "the answer is not Cloakroom's; is the address right, and is there a proxy between?"}
	}
	e.Problem.Status = resp.StatusCode
	if e.Problem.RequestID == "" {
		e.Problem.RequestID = resp.Header.Get("X-Request-Id")
	}
	return e
}

// template shortens a path to its route, so that ids stay out of errors.
func template(path string) string {
	parts := strings.Split(path, "/")
	for i := 3; i < len(parts); i++ {
		if parts[i-1] == "subjects" || parts[i-1] == "services" || parts[i-1] == "erasures" || parts[i-1] == "keys" || parts[i-1] == "jobs" {
			parts[i] = "..."
		}
	}
	return strings.Join(parts, "/")
}
