package api

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) eraseSubject(ctx context.Context, call vault.Call, p params, req *wire.Erase) (int, raw, error) {
	if err := checkReason(req.Reason); err != nil {
		return 0, nil, err
	}
	call.Reason = req.Reason
	certificate, err := s.vault.Erase(ctx, call, p.path("subject"))
	return http.StatusOK, certificate, err
}

func (s *service) eraseField(ctx context.Context, call vault.Call, p params, req *wire.Erase) (int, raw, error) {
	if err := checkReason(req.Reason); err != nil {
		return 0, nil, err
	}
	call.Reason = req.Reason
	certificate, err := s.vault.EraseField(ctx, call, p.path("subject"), p.path("field"))
	return http.StatusOK, certificate, err
}

func (s *service) getErasure(ctx context.Context, call vault.Call, p params, _ *nothing) (int, raw, error) {
	certificate, err := s.vault.Erasure(ctx, call, p.path("id"))
	return http.StatusOK, certificate, err
}

func (s *service) listErasures(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.ErasureList, error) {
	page, err := p.page()
	if err != nil {
		return 0, wire.ErasureList{}, err
	}
	certificates, next, err := s.vault.Erasures(ctx, call, vault.ErasureQuery{Page: page, Subject: p.q["subject"]})
	if err != nil {
		return 0, wire.ErasureList{}, err
	}
	out := wire.ErasureList{Erasures: make([]jsontext.Value, len(certificates)), NextCursor: next}
	for i, c := range certificates {
		out.Erasures[i] = c
	}
	return http.StatusOK, out, nil
}
