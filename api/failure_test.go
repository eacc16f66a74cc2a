package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// failing is a key service and an audit log that stop working when told to.
type failing struct{ kms, audit atomic.Bool }

type failingKMS struct {
	keys.KMS
	f *failing
}

func (k failingKMS) Unwrap(ctx context.Context, name keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if k.f.kms.Load() {
		return nil, keys.ErrKMSUnavailable
	}
	return k.KMS.Unwrap(ctx, name, items)
}

func (k failingKMS) Wrap(ctx context.Context, name keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if k.f.kms.Load() {
		return nil, keys.ErrKMSUnavailable
	}
	return k.KMS.Wrap(ctx, name, version, items)
}

func (k failingKMS) Versions(ctx context.Context, name keys.KeyName) (keys.Versions, error) {
	if k.f.kms.Load() {
		return keys.Versions{}, fmt.Errorf("10.0.0.7: %w", keys.ErrKMSUnavailable)
	}
	return k.KMS.Versions(ctx, name)
}

type failingAudit struct {
	vault.AuditLog
	f *failing
}

func (a failingAudit) Append(ctx context.Context, e *audit.Event) (uint64, error) {
	if a.f.audit.Load() {
		return 0, fmt.Errorf("no space left")
	}
	return a.AuditLog.Append(ctx, e)
}

func TestPartsThatFail(t *testing.T) {
	f := &failing{}
	var later atomic.Int64 // the key service is probed once a second
	h := newHouseWith(t, vaulttest.Options{
		Now:      func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
		KMS:      func(k keys.KMS) keys.KMS { return failingKMS{k, f} },
		Audit:    func(a vault.AuditLog) vault.AuditLog { return failingAudit{a, f} },
		CacheTTL: time.Nanosecond,
	})
	put := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", `{"fields":{"name":"张三"}}`)
	open := fmt.Sprintf(`{"purpose":"service","tokens":[%q]}`, string(put.Tokens["name"]))
	must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", open)

	f.kms.Store(true)
	for _, c := range [][3]string{
		{"POST", "/v1/detokenize", open},
		{"PUT", "/v1/subjects/u9", `{"fields":{"name":"x"}}`},
	} {
		resp, body := h.as("app", c[0], c[1], c[2])
		wantProblem(t, resp, body, 503, wire.KeyServiceUnavailable)
		if resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	resp, body := h.as("", "GET", "/readyz", "")
	if resp.StatusCode != 503 || !strings.Contains(body, `"kms":{"ok":false,`) || !strings.Contains(body, `"store":{"ok":true}`) || strings.Contains(body, "10.0.0.7") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if !strings.Contains(h.log.String(), "10.0.0.7") {
		t.Error("the log does not say why the key service is not ready")
	}
	f.kms.Store(false)
	later.Add(int64(time.Second))
	if state := must[wire.Readiness](h, 200, "", "GET", "/readyz", ""); !state.Ready || len(state.Checks) != 4 {
		t.Errorf("%+v", state)
	}

	f.audit.Store(true)
	resp, body = h.as("app", "POST", "/v1/detokenize", open)
	wantProblem(t, resp, body, 503, wire.AuditUnavailable)
	if strings.Contains(body, "张三") || strings.Contains(body, "no space") {
		t.Error(body)
	}
}
