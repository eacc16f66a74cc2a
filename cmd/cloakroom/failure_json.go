package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

// Codes of failures that no server answered. Those of the server are in package wire.
const (
	codeFailed      wire.Code = "failed"
	codeUsage       wire.Code = "usage"
	codeUnreachable wire.Code = "unreachable"
	codeInterrupted wire.Code = "interrupted"
	codeItems       wire.Code = "items_failed"
)

// failure is what --json prints of an error: the members of the server's problem that are for programs.
type failure struct {
	Code      wire.Code `json:"code"`
	Detail    string    `json:"detail"`
	Status    int       `json:"status,omitzero"`
	Field     string    `json:"field,omitzero"`
	Rule      string    `json:"rule,omitzero"`
	RequestID string    `json:"request_id,omitzero"`
}

// failure takes an error apart that explain has a line for.
func (p *program) failure(err error) failure {
	var (
		use   usageError
		some  itemsError
		one   itemError
		reply *client.Error
	)
	_, line := p.explain(err)
	switch {
	case errors.As(err, &use):
		return failure{Code: codeUsage, Detail: line}
	case errors.As(err, &some):
		return failure{Code: codeItems, Detail: line}
	case errors.As(err, &reply):
		q := reply.Problem
		if q.Code == "" {
			q.Code = codeFailed
		}
		// What stands around the problem's own text says how far a command got.
		detail := strings.Replace(err.Error(), reply.Error(), q.Detail, 1) + p.advice(q.Code)
		return failure{q.Code, strings.TrimSpace(detail), q.Status, q.Field, q.Rule, q.RequestID}
	case errors.As(err, &one):
		return failure{Code: one.Code, Detail: one.Detail, Field: one.Field, Rule: one.Rule}
	case errors.Is(err, context.Canceled), errors.As(err, new(leftError)):
		return failure{Code: codeInterrupted, Detail: line}
	case errors.Is(err, client.ErrUnreachable):
		return failure{Code: codeUnreachable, Detail: line}
	}
	return failure{Code: codeFailed, Detail: line}
}

// errorJSON is one line, without its end.
func (p *program) errorJSON(err error) []byte {
	type answer struct {
		Error failure `json:"error"`
	}
	// The name of a file need not be UTF-8.
	out, failed := json.Marshal(answer{p.failure(err)}, jsontext.AllowInvalidUTF8(true))
	if failed != nil {
		return []byte(`{"error":{"code":"failed","detail":"the error cannot be shown as JSON"}}`)
	}
	return out
}

// asksJSON looks for --json among arguments that could not be read as flags, where it may stand behind the mistake.
func asksJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	asked := false
	for _, a := range args {
		if a == "--json" {
			asked = true
		} else if v, ok := strings.CutPrefix(a, "--json="); ok {
			asked, _ = strconv.ParseBool(v)
		}
	}
	return asked
}
