package transittest

import (
	"net/http"
	"os"
	"testing"
	"time"
)

func TestServerLife(t *testing.T) {
	s := Start(t, Options{Storage: t.TempDir(), TLS: true})
	s.Do(t, "POST", "/v1/transit/keys/k", map[string]any{"derived": true})
	health := func() int {
		status, _, err := s.Try("GET", "/v1/sys/health", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	s.Seal(t)
	if got := health(); got != http.StatusServiceUnavailable {
		t.Fatalf("sealed: status %d", got)
	}
	s.Unseal(t)
	s.Kill(t)
	if _, _, err := s.Try("GET", "/v1/sys/health", "", nil); err == nil {
		t.Fatal("killed, and it answers")
	}
	s.Restart(t)
	data := s.Do(t, "GET", "/v1/transit/keys/k", nil)["data"].(map[string]any)
	if data["derived"] != true {
		t.Fatalf("after a restart: %v", data)
	}
	if info, err := os.Stat(s.Audit); err != nil || info.Size() == 0 {
		t.Fatalf("audit log: %v", err)
	}
}

func TestAccess(t *testing.T) {
	s := Start(t, Options{})
	s.PutPolicy(t, "reader", `path "transit/keys/k" { capabilities = ["read"] }`)
	s.Do(t, "POST", "/v1/transit/keys/k", nil)
	role, secret := s.AppRole(t, "r", map[string]any{"token_policies": "reader", "token_ttl": "60s"})
	_, answer, err := s.Try("POST", "/v1/auth/approle/login", "", map[string]any{"role_id": role, "secret_id": secret})
	if err != nil {
		t.Fatal(err)
	}
	logged := answer["auth"].(map[string]any)["client_token"].(string)
	for _, token := range []string{logged, s.Token(t, time.Minute, "reader")} {
		if status, _, _ := s.Try("GET", "/v1/transit/keys/k", token, nil); status != http.StatusOK {
			t.Errorf("read: status %d", status)
		}
		if status, _, _ := s.Try("POST", "/v1/transit/keys/k/rotate", token, nil); status != http.StatusForbidden {
			t.Errorf("rotate: status %d", status)
		}
	}
}

func TestProxy(t *testing.T) {
	s := Start(t, Options{})
	p := NewProxy(t, s.URL)
	get := func() (int, error) {
		resp, err := http.Get(p.URL + "/v1/sys/health")
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	if got, err := get(); err != nil || got != http.StatusOK {
		t.Fatalf("through: %d, %v", got, err)
	}
	p.Set(Fault{Status: http.StatusTooManyRequests})
	if got, err := get(); err != nil || got != http.StatusTooManyRequests {
		t.Fatalf("status: %d, %v", got, err)
	}
	for _, f := range []Fault{{Refuse: true}, {Drop: true}} {
		p.Set(f)
		if got, err := get(); err == nil {
			t.Fatalf("%+v answered %d", f, got)
		}
	}
	p.Set(Fault{Refuse: true, Match: func(r *http.Request) bool { return r.Method == http.MethodPost }})
	if got, err := get(); err != nil || got != http.StatusOK {
		t.Fatalf("not matched: %d, %v", got, err)
	}
	if n := p.Count("/sys/health"); n < 4 {
		t.Errorf("%d requests seen", n)
	}
}
