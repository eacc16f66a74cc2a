package api

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// Echo returns a handler that answers POST /v1/detokenize (and GET /healthz) as New does, on the same engine, with the
// same request id, limits, query and body checks, JSON, headers, metrics and access log, but with neither
// authentication nor a vault: each token of the request is answered with a constant value. It is what a JSON service
// on this stack costs before it does anything, the yardstick of `cloakroom bench`. Config.Vault is not looked at.
func Echo(cfg Config) http.Handler {
	cfg.Vault = nil
	s := newService(cfg)
	return s.engine([]*route{
		{method: "POST", path: "/v1/detokenize", body: requiredBody, admit: openToAll, handle: handle(echo)},
		{method: "GET", path: "/healthz", admit: openToAll, handle: health},
	})
}

func echo(_ context.Context, _ vault.Call, _ params, req *wire.Detokenize) (int, wire.Detokenized, error) {
	if err := checkBatch("tokens", req.Tokens == nil, len(req.Tokens)); err != nil {
		return 0, wire.Detokenized{}, err
	}
	value := wire.Plain("+86 138 0013 8000")
	out := wire.Detokenized{Items: make([]wire.Revealed, len(req.Tokens))}
	for i, t := range req.Tokens {
		out.Items[i] = wire.Revealed{Token: t, Field: "phone", Value: &value, View: "full"}
	}
	return http.StatusOK, out, nil
}
