package api

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) putSubject(ctx context.Context, call vault.Call, p params, req *wire.PutSubject) (int, wire.SubjectTokens, error) {
	return written(p, req, func(r vault.PutRequest) (vault.PutResult, error) { return s.vault.Put(ctx, call, r) })
}

func (s *service) patchSubject(ctx context.Context, call vault.Call, p params, req *wire.PutSubject) (int, wire.SubjectTokens, error) {
	return written(p, req, func(r vault.PutRequest) (vault.PutResult, error) { return s.vault.Patch(ctx, call, r) })
}

// written is what PUT and PATCH have in common.
func written(p params, req *wire.PutSubject, write func(vault.PutRequest) (vault.PutResult, error)) (int, wire.SubjectTokens, error) {
	recreate, err := p.recreate()
	if err != nil {
		return 0, wire.SubjectTokens{}, err
	}
	if req.Fields == nil {
		return 0, wire.SubjectTokens{}, malformed(noFields)
	}
	r := putRequest(p.path("subject"), req.Fields, recreate)
	res, err := write(r)
	if err != nil {
		return 0, wire.SubjectTokens{}, err
	}
	out := wire.SubjectTokens{Subject: r.Subject, Created: res.Created, Tokens: tokensByField(res.Tokens), Warnings: warnings(res.Warnings)}
	if res.Created {
		return http.StatusCreated, out, nil
	}
	return http.StatusOK, out, nil
}

const noFields = "the member fields is missing"

// putRequest is a write for the vault. Its fields stand in the order of their names, because JSON objects have none.
func putRequest(subject string, fields wire.Fields, recreate bool) vault.PutRequest {
	r := vault.PutRequest{Subject: subject, Recreate: recreate, Fields: make([]vault.FieldInput, 0, len(fields))}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		r.Fields = append(r.Fields, vault.FieldInput{
			Field: name, Value: secret.NewText(string(f.Value)), Remove: f.Remove, Source: f.Source, Authorization: f.Authorization,
		})
	}
	return r
}

func tokensByField(from []vault.FieldToken) map[string]wire.Plain {
	to := make(map[string]wire.Plain, len(from))
	for _, t := range from {
		to[t.Field] = wire.Plain(t.Token.Reveal())
	}
	return to
}

func warnings(from []vault.Warning) []wire.Warning {
	var to []wire.Warning
	for _, w := range from {
		to = append(to, wire.Warning{Field: w.Field, Rule: w.Rule})
	}
	return to
}

func (s *service) getSubject(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.Subject, error) {
	fields, err := p.fields()
	if err != nil {
		return 0, wire.Subject{}, err
	}
	call.Purpose = p.q["purpose"]
	view := p.q["view"]
	if err := checkReading(call, view); err != nil {
		return 0, wire.Subject{}, err
	}
	views, err := s.vault.Get(ctx, call, vault.GetRequest{Subject: p.path("subject"), View: view, Fields: fields})
	if err != nil {
		return 0, wire.Subject{}, err
	}
	out := wire.Subject{Subject: p.path("subject"), Fields: make(map[string]wire.SubjectField, len(views))}
	for _, v := range views {
		out.Fields[v.Field] = wire.SubjectField{
			Token: wire.Plain(v.Token.Reveal()), Value: wire.Plain(v.Value.Reveal()), View: v.View, Kind: v.Kind, UpdatedAt: v.Updated,
		}
	}
	return http.StatusOK, out, nil
}

func (s *service) listSubjects(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.SubjectList, error) {
	page, err := p.page()
	if err != nil {
		return 0, wire.SubjectList{}, err
	}
	entries, next, err := s.vault.List(ctx, call, page)
	if err != nil {
		return 0, wire.SubjectList{}, err
	}
	out := wire.SubjectList{Subjects: make([]wire.SubjectEntry, len(entries)), NextCursor: next}
	for i, e := range entries {
		out.Subjects[i] = wire.SubjectEntry{Subject: e.Subject, CreatedAt: e.Created, UpdatedAt: e.Updated}
	}
	return http.StatusOK, out, nil
}

// checkReading refuses what is no reading at all before the vault is asked: no purpose, a reason that would not be one
// line of a log, a view that does not exist.
func checkReading(call vault.Call, view string) error {
	if call.Purpose == "" {
		return malformed("purpose is missing: why are the values read? The policy lists the purposes")
	}
	if len(call.Purpose) > 64 || hasControl(call.Purpose) {
		return malformed("purpose is a name of the policy, up to 64 bytes")
	}
	if view != "" && view != "masked" && view != "full" {
		return malformed("view is masked or full")
	}
	return checkReason(call.Reason)
}

func checkReason(reason string) error {
	if len(reason) > vault.MaxReason || hasControl(reason) {
		return malformed("reason is one line of at most 256 bytes: a ticket, an order; never a value")
	}
	return nil
}

// hasControl reports C0 and C1 control characters and the two line separators of Unicode.
func hasControl(s string) bool {
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return true
		}
	}
	return false
}
