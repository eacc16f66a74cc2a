package systemtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustRename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// ready asks /readyz, which needs no credential, and returns the parts that are not.
func (s *server) notReady(t testing.TB) map[string]bool {
	t.Helper()
	a, err := s.call("", "GET", "/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Ready  bool `json:"ready"`
		Checks map[string]struct {
			OK bool `json:"ok"`
		} `json:"checks"`
	}
	a.into(t, &got)
	out := map[string]bool{}
	for _, part := range []string{"store", "kms", "audit", "ledger"} {
		check, there := got.Checks[part]
		if !there {
			t.Errorf("readyz does not name %s: %s", part, a.body)
		}
		if !check.OK {
			out[part] = true
		}
	}
	if got.Ready != (len(out) == 0) || (a.status == 200) != got.Ready || !got.Ready && a.status != 503 {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	return out
}

// until asks again and again; the time limit of the tests as a whole ends it.
func until(what func() bool) {
	for !what() {
		time.Sleep(5 * time.Millisecond)
	}
}

// untilReady waits for the server to mend itself.
func (s *server) untilReady(t testing.TB) {
	t.Helper()
	until(func() bool { return len(s.notReady(t)) == 0 })
}

// mustDenyAll: with the log away nothing is shown and nothing changed, and the process is healthy.
func (s *server) mustDenyAll(t testing.TB, id, token string) {
	t.Helper()
	deny := func(key, method, path string, body any) {
		t.Helper()
		a := s.mustCode(t, 503, "audit_unavailable", key, method, path, body)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", method, path)
		}
	}
	deny(s.app, "GET", get(id), nil)
	deny(s.app, "GET", get("nobody"), nil)
	deny(s.app, "POST", "/v1/detokenize", detokenizeBody(token))
	deny(s.app, "PUT", "/v1/subjects/"+id, fields{"phone": "16100009999"}.body())
	deny(s.app, "PUT", "/v1/subjects/new-"+id, fields{"phone": "16100009999"}.body())
	deny(s.app, "PATCH", "/v1/subjects/"+id, `{"fields":{"phone":null}}`)
	deny(s.app, "POST", "/v1/tokenize", `{"items":[{"subject":"`+id+`","field":"name","value":"李四"}]}`)
	deny(s.app, "POST", "/v1/tokens/revoke", map[string]any{"tokens": []string{token}})
	deny(s.app, "DELETE", "/v1/subjects/"+id+"/fields/phone", nil)
	deny(s.officer, "DELETE", "/v1/subjects/"+id, nil)
	deny(s.root, "POST", "/v1/services", map[string]string{"name": "late", "role": "app"})
	deny(s.root, "GET", "/v1/subjects", nil)
	if parts := s.notReady(t); len(parts) != 1 || !parts["audit"] {
		t.Errorf("not ready: %v, want audit alone", parts)
	}
	s.must(t, 200, "", "GET", "/healthz", nil)
}

// mustBeAsBefore: nothing of what mustDenyAll tried has happened.
func (s *server) mustBeAsBefore(t testing.TB, id, token string, want fields) {
	t.Helper()
	s.mustShow(t, id, want)
	s.mustCode(t, 404, "subject_not_found", s.app, "GET", get("new-"+id), nil)
	if value, code := s.mustReveal(t, token); value != want["phone"] {
		t.Errorf("the token opens to %q, code %q", value, code)
	}
	if a := s.must(t, 200, s.root, "GET", "/v1/services", nil); strings.Contains(string(a.body), `"late"`) {
		t.Errorf("a service was made: %s", a.body)
	}
}

func TestAuditLogGoesAway(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data)
	want := fields{"phone": "161 0000 0001", "name": "张三"}
	token := s.mustPut(t, "u1", want)["phone"]
	folder, away := filepath.Join(data, "audit"), filepath.Join(data, "audit.away")
	segment := filepath.Join(folder, "entries-0000000000000000.jsonl")
	for _, way := range []struct {
		name        string
		fault, mend func()
	}{
		{"folder renamed", func() { mustRename(t, folder, away) }, func() { mustRename(t, away, folder) }},
		{"file in its place", func() {
			mustRename(t, folder, away)
			if err := os.WriteFile(folder, []byte("no folder"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func() { mustRename(t, folder, folder+".file"); mustRename(t, away, folder) }},
		{"empty folder in its place", func() {
			mustRename(t, folder, away)
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
		}, func() { mustRename(t, folder, folder+".empty"); mustRename(t, away, folder) }},
		{"newest file renamed", func() { mustRename(t, segment, segment+".away") }, func() { mustRename(t, segment+".away", segment) }},
	} {
		t.Run(way.name, func(t *testing.T) {
			way.fault()
			s.mustDenyAll(t, "u1", token)
			way.mend()
			s.untilReady(t)
			s.mustBeAsBefore(t, "u1", token, want)
		})
	}
	s.mustPut(t, "u2", fields{"phone": "16100000002"})
	s.mustStop(t)
	mustVerifyAudit(t, data)
	s = start(t, data)
	s.mustBeAsBefore(t, "u1", token, want)
}

func TestKeyringGoesAway(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	ring := data + ".keyring"
	// One key in memory: that of whoever was read last.
	s := start(t, data, "--cache-entries", "1")
	cached := s.mustPut(t, "cached", fields{"phone": "16100000001"})["phone"]
	other := s.mustPut(t, "other", fields{"phone": "16100000002"})["phone"]
	erased := s.mustPut(t, "erased", fields{"phone": "16100000003"})["phone"]
	s.mustReveal(t, cached)

	both := func() { mustRename(t, ring, ring+".away"); mustRename(t, ring+".mirror", ring+".mirror.away") }
	back := func() { mustRename(t, ring+".away", ring); mustRename(t, ring+".mirror.away", ring+".mirror") }
	both()
	if value, code := s.mustReveal(t, cached); value != "16100000001" {
		t.Errorf("a cached key opens nothing: %q %q", value, code)
	}
	var got items
	s.must(t, 200, s.app, "POST", "/v1/detokenize", detokenizeBody(cached, other)).into(t, &got)
	if got.Items[0].Value != "16100000001" || got.Items[1].Error.Code != "key_unavailable" || got.Items[1].Value != "" {
		t.Errorf("one cached, one not: %+v", got)
	}
	s.mustCode(t, 503, "key_service_unavailable", s.app, "POST", "/v1/detokenize", detokenizeBody(other))
	s.mustCode(t, 503, "key_service_unavailable", s.app, "GET", get("other"), nil)
	s.mustCode(t, 503, "key_service_unavailable", s.app, "PUT", "/v1/subjects/new", fields{"phone": "16100000004"}.body())
	if parts := s.notReady(t); len(parts) != 1 || !parts["kms"] {
		t.Errorf("not ready: %v, want kms alone", parts)
	}
	s.must(t, 200, "", "GET", "/healthz", nil)
	s.must(t, 200, s.officer, "DELETE", "/v1/subjects/erased", nil)
	if _, code := s.mustReveal(t, erased); code != "subject_erased" {
		t.Errorf("the token of the erased: %q", code)
	}

	// Another installation's keyring is no keyring of this one.
	foreign := filepath.Join(filepath.Dir(data), "foreign")
	start(t, foreign).mustStop(t)
	mustRename(t, foreign+".keyring", ring)
	s.mustCode(t, 503, "key_service_unavailable", s.app, "GET", get("other"), nil)
	if parts := s.notReady(t); !parts["kms"] {
		t.Error("another keyring passes for ours")
	}
	mustRename(t, ring, foreign+".keyring")

	back()
	s.untilReady(t)
	s.mustShow(t, "other", fields{"phone": "16100000002"})
	s.mustCode(t, 404, "subject_not_found", s.app, "GET", get("new"), nil)
	s.mustPut(t, "new", fields{"phone": "16100000004"})
	s.mustCode(t, 410, "subject_erased", s.app, "GET", get("erased"), nil)
	s.mustStop(t)

	// A key leaves memory when its time is over, not only when another takes its place.
	s = start(t, data, "--cache-ttl", "200ms")
	s.mustShow(t, "other", fields{"phone": "16100000002"})
	both()
	until(func() bool {
		a, err := s.call(s.app, "GET", get("other"), nil)
		if err != nil {
			t.Fatal(err)
		}
		var shown put
		if a.status == 200 && json.Unmarshal(a.body, &shown) == nil && differs(shown, fields{"phone": "16100000002"}) != "" {
			t.Fatalf("wrong: %s", a.body)
		}
		return a.code() == "key_service_unavailable"
	})
	back()
	s.untilReady(t)
	s.mustShow(t, "other", fields{"phone": "16100000002"})
	s.mustStop(t)
	mustVerifyAudit(t, data)
}
