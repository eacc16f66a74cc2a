package api

import (
	"context"
	_ "embed"
	"errors"
	"net/http"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) policy(ctx context.Context, call vault.Call, _ params, _ *nothing) (int, wire.Policy, error) {
	version, yaml, err := s.vault.CurrentPolicy(ctx, call)
	return http.StatusOK, wire.Policy{Version: version, Policy: string(yaml)}, err
}

func (s *service) keyStatus(ctx context.Context, call vault.Call, _ params, _ *nothing) (int, wire.KeyStatus, error) {
	k, err := s.vault.KeyStatus(ctx, call)
	out := wire.KeyStatus{
		Instance: k.Instance, KMS: k.KMS, Epoch: k.Epoch, RootVersion: k.RootVersion, RootLatest: k.RootLatest, DEKLatest: k.DEKLatest,
		Buckets: k.Buckets, DirtyBuckets: k.DirtyBuckets, Partitions: k.Partitions, DirtyPartitions: k.DirtyPartitions,
		CachedKeys: k.CachedKeys, LastClose: k.LastClose,
	}
	if k.Move != nil {
		out.Move = &wire.KeyMove{Job: k.Move.Job, From: k.Move.From, To: k.Move.To}
	}
	return http.StatusOK, out, err
}

// health says that the process answers, and nothing of what stands behind it.
func health(x *exchange) error { return x.answer(http.StatusOK, &wire.Health{OK: true}) }

// readyTime bounds the questions of /readyz, which anybody may ask.
const readyTime = 5 * time.Second

// ready answers 200 when all parts work and 503 otherwise. Anybody may ask, so a part's own words, which name
// addresses and paths, go to the log.
func (s *service) ready(x *exchange) error {
	ctx, cancel := context.WithTimeout(x.c.Request.Context(), readyTime)
	defer cancel()
	out := wire.Readiness{Ready: true, Checks: map[string]wire.Check{}}
	for _, part := range s.vault.Ready(ctx) {
		check := wire.Check{OK: part.Err == nil}
		if !check.OK {
			out.Ready = false
			check.Detail = "not available; the server's log says why"
			s.log.Warn("not ready", "part", part.Name, "err", part.Err, "cause", errors.Unwrap(part.Err))
		}
		out.Checks[part.Name] = check
	}
	if !out.Ready {
		x.c.Writer.Header()["Retry-After"] = valueOneSecond
		return x.answer(http.StatusServiceUnavailable, &out)
	}
	return x.answer(http.StatusOK, &out)
}

//go:embed openapi.yaml
var openAPIText []byte

func openAPI(x *exchange) error { return x.document("application/yaml", openAPIText) }
