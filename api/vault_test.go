package api_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys/local"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store/bolt"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
)

// house is a whole installation in a temporary folder, with one credential per role of the starter policy.
type house struct {
	*httptest.Server
	t    testing.TB
	log  *logbook
	keys map[string]string // role -> credential
	api  http.Handler
	kms  *local.Keyring
}

func newHouse(t testing.TB) *house {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	h := &house{t: t, log: &logbook{}, keys: map[string]string{}}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := bolt.Open(filepath.Join(dir, "store"), bolt.Options{})
	check(err)
	t.Cleanup(func() { check(st.Close()) })
	h.kms, err = local.Open(filepath.Join(dir, "keyring"), local.Options{Create: true, Logger: h.log.logger()})
	check(err)
	t.Cleanup(func() { check(h.kms.Close()) })

	setup := vault.InitConfig{Policy: policy.Starter(), Random: rand.Reader, Now: time.Now()}
	for _, role := range []string{"app", "support", "officer", "operator"} {
		c, err := vault.Mint(rand.Reader, role, role)
		check(err)
		setup.Credentials = append(setup.Credentials, c)
		h.keys[role] = c.Key.Reveal()
	}
	check(vault.Init(ctx, st, h.kms, setup))
	open, err := vault.Unlock(ctx, st, h.kms)
	check(err)
	log, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{Signer: open.Signer("audit")})
	check(err)
	t.Cleanup(func() { check(log.Close()) })
	led, err := ledger.Open(filepath.Join(dir, "ledger"), open.Signer("ledger"), ledger.Options{Instance: open.Instance})
	check(err)
	t.Cleanup(func() { check(led.Close()) })
	v, err := vault.New(ctx, vault.Config{Store: st, KMS: h.kms, Unlocked: open, Audit: log, Ledger: led, Logger: h.log.logger()})
	check(err)
	t.Cleanup(v.Close)
	h.api = api.New(api.Config{Vault: v, Logger: h.log.logger()})
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
