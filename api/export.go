package api

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) listTokens(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.TokenList, error) {
	q := vault.TokenQuery{Audience: p.q["audience"]}
	var err error
	if q.Page, err = p.page(); err != nil {
		return 0, wire.TokenList{}, err
	}
	if q.Fields, err = p.fields(); err != nil {
		return 0, wire.TokenList{}, err
	}
	if _, given := p.q["audience"]; given && !printable(q.Audience, 128) {
		return 0, wire.TokenList{}, malformed("audience is the name of a service")
	}
	people, next, err := s.vault.ListTokens(ctx, call, q)
	if err != nil {
		return 0, wire.TokenList{}, err
	}
	out := wire.TokenList{Subjects: make([]wire.TokensOfSubject, len(people)), NextCursor: next}
	for i := range people {
		from, to := &people[i], &out.Subjects[i]
		to.Subject = from.Subject
		if from.Err != nil {
			to.Error = itemError(from.Err)
			continue
		}
		to.Tokens = tokensByField(from.Tokens)
	}
	return http.StatusOK, out, nil
}

func (s *service) export(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.Export, error) {
	page, err := p.page()
	if err != nil {
		return 0, wire.Export{}, err
	}
	people, next, err := s.vault.Export(ctx, call, page)
	if err != nil {
		return 0, wire.Export{}, err
	}
	out := wire.Export{Subjects: make([]wire.ExportedSubject, len(people)), NextCursor: next}
	for i := range people {
		out.Subjects[i] = exported(&people[i])
	}
	return http.StatusOK, out, nil
}

func (s *service) exportSubject(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.ExportedSubject, error) {
	person, err := s.vault.ExportSubject(ctx, call, p.path("subject"))
	if err != nil {
		return 0, wire.ExportedSubject{}, err
	}
	return http.StatusOK, exported(&person), nil
}

func exported(from *vault.Exported) wire.ExportedSubject {
	to := wire.ExportedSubject{Subject: from.Subject}
	if from.Err != nil {
		to.Error = itemError(from.Err)
		if from.Err.Field == "" {
			return to
		}
	}
	to.CreatedAt, to.UpdatedAt = from.Created, from.Updated
	to.Fields = make(map[string]wire.ExportedField, len(from.Fields))
	for _, f := range from.Fields {
		to.Fields[f.Field] = wire.ExportedField{
			Value: wire.Plain(f.Value.Reveal()), Kind: f.Kind, Token: wire.Plain(f.Token.Reveal()), UpdatedAt: f.Updated,
			Source: f.Source, Authorization: f.Authorization, AuthorizedAt: f.Authorized,
		}
	}
	to.Tokens = make([]wire.ExportedToken, len(from.Tokens))
	for i := range from.Tokens {
		f := &from.Tokens[i]
		to.Tokens[i] = wire.ExportedToken{Field: f.Field, Audience: f.Audience, Token: wire.Plain(f.Token.Reveal()), SingleUse: f.SingleUse}
		if !f.Expires.IsZero() {
			to.Tokens[i].ExpiresAt = &f.Expires
		}
	}
	return to
}
