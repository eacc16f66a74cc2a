package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// house is a whole installation behind a listener, with one credential per role of the starter policy.
type house struct {
	*httptest.Server
	t    testing.TB
	log  *logbook
	keys map[string]string // role -> credential
	api  http.Handler
	dir  string

	vault *vault.Vault
}

func newHouse(t testing.TB) *house { return newHouseWith(t, vaulttest.Options{}) }

func newHouseWith(t testing.TB, opt vaulttest.Options) *house {
	t.Helper()
	h := &house{t: t, log: &logbook{}, keys: map[string]string{}}
	opt.Logger, h.dir = h.log.logger(), t.TempDir()
	in := vaulttest.Open(t, h.dir, opt)
	for role, key := range in.Key {
		h.keys[role] = key.Reveal()
	}
	h.vault = in.Vault
	h.api = api.New(api.Config{Vault: in.Vault, Logger: h.log.logger()})
	h.Server = serve(t, h.api)
	return h
}

// as sends a request with the credential of a role; "" sends none.
func (h *house) as(role, method, path, body string, header ...string) (*http.Response, string) {
	h.t.Helper()
	if role != "" {
		header = append(header, "Authorization", "Bearer "+h.keys[role])
	}
	return do(h.t, h.Server, method, path, body, header...)
}

// must sends a request that has to succeed with status, and reads its answer into a T.
func must[T any](h *house, status int, role, method, path, body string, header ...string) T {
	h.t.Helper()
	resp, got := h.as(role, method, path, body, header...)
	if resp.StatusCode != status {
		h.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, got)
	}
	var out T
	if got != "" {
		if err := json.Unmarshal([]byte(got), &out, json.RejectUnknownMembers(true)); err != nil {
			h.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return out
}
