package systemtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// From an empty Vault to a server, as the documentation says, twice; and what the server may do there.
func TestVaultFromEmpty(t *testing.T) {
	v := newVaulted(t)
	instance := v.instance(t)
	mustContain(t, v.said, "serve --data", "--vault-secret-id-file")
	if strings.Contains(v.said, v.vault.Root) {
		t.Error("the script shows the administrator's token")
	}
	v.said = v.setUp(t)
	if again := v.instance(t); again != instance {
		t.Errorf("a second run is of another instance: %s, then %s", instance, again)
	}
	// A run that fails half way leaves what the server logs in with.
	before := tree(t, v.login)
	v.vault.PutPolicy(t, "half", `path "*" { capabilities = ["create", "read", "update", "list", "sudo"] }
path "auth/approle/role/+/secret-id" { capabilities = ["deny"] }`)
	if out, err := v.script(v.vault.Token(t, time.Hour, "half")); err == nil {
		t.Errorf("without a right to secret ids: %s", out)
	}
	mustEqualTrees(t, before, tree(t, v.login))

	listed := v.vault.Do(t, "LIST", "/v1/transit/keys", nil)["data"].(map[string]any)["keys"].([]any)
	if len(listed) != 2 {
		t.Errorf("keys at Vault: %v, want two", listed)
	}
	if _, err := os.Stat(v.data + ".keyring"); err == nil {
		t.Error("a keyring file was made beside Vault")
	}
	s := v.start(t)
	want := fields{"phone": "138 0013 8000", "name": "张三"}
	token := s.mustPut(t, "u1", want)["phone"]
	if value, code := s.mustReveal(t, token); value != want["phone"] {
		t.Errorf("revealed %q, %q", value, code)
	}
	if log := string(s.log.bytes()); strings.Contains(log, "level=WARN") {
		t.Errorf("the server warns of a set-up that is as documented:\n%s", log)
	}
	s.mustStop(t)
	s = v.start(t)
	s.mustShow(t, "u1", want)
	s.must(t, 200, s.officer, "DELETE", "/v1/subjects/u1", nil)
	s.mustStop(t)
	mustVerifyAudit(t, v.data)
}

// Vault is sealed while the server runs.
func TestVaultSealed(t *testing.T) {
	v := newVaulted(t)
	// One key in memory: that of whoever was read last.
	s := v.start(t, "--cache-entries", "1")
	cached := s.mustPut(t, "cached", fields{"phone": "16100000001"})["phone"]
	other := s.mustPut(t, "other", fields{"phone": "16100000002"})["phone"]
	erased := s.mustPut(t, "erased", fields{"phone": "16100000003"})["phone"]
	s.mustReveal(t, cached)

	v.vault.Seal(t)
	if value, code := s.mustReveal(t, cached); value != "16100000001" {
		t.Errorf("a cached key opens nothing: %q %q", value, code)
	}
	var got items
	s.must(t, 200, s.app, "POST", "/v1/detokenize", detokenizeBody(cached, other)).into(t, &got)
	if got.Items[0].Value != "16100000001" || got.Items[1].Error.Code != "key_unavailable" || got.Items[1].Value != "" {
		t.Errorf("one cached, one not: %+v", got)
	}
	for _, a := range []answer{
		s.mustCode(t, 503, "key_service_unavailable", s.app, "POST", "/v1/detokenize", detokenizeBody(other)),
		s.mustCode(t, 503, "key_service_unavailable", s.app, "GET", get("other"), nil),
		s.mustCode(t, 503, "key_service_unavailable", s.app, "PUT", "/v1/subjects/other", fields{"name": "李四"}.body()),
	} {
		if a.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %s", a.body)
		}
	}
	if parts := s.notReady(t); len(parts) != 1 || !parts["kms"] {
		t.Errorf("not ready: %v, want kms alone", parts)
	}
	s.must(t, 200, "", "GET", "/healthz", nil)
	s.must(t, 200, s.officer, "DELETE", "/v1/subjects/erased", nil)
	if _, code := s.mustReveal(t, erased); code != "subject_erased" {
		t.Errorf("the token of the erased: %q", code)
	}

	// New people find keys that were made ahead, until there are no more.
	made := map[string]bool{}
	for i := 0; ; i++ {
		id := fmt.Sprintf("new-%d", i)
		a, err := s.call(s.app, "PUT", "/v1/subjects/"+id, fields{"phone": "16100000004"}.body())
		if err != nil {
			t.Fatal(err)
		}
		if made[id] = a.status == http.StatusCreated; !made[id] {
			if a.code() != "key_service_unavailable" {
				t.Fatalf("put: %d %s", a.status, a.body)
			}
			break
		}
	}
	if len(made) < 2 {
		t.Error("no key was made ahead")
	}

	v.vault.Unseal(t)
	s.untilReady(t)
	s.untilShown(t, "other", fields{"phone": "16100000002"})
	for id, there := range made {
		if there {
			s.untilShown(t, id, fields{"phone": "16100000004"})
		} else {
			s.mustCode(t, 404, "subject_not_found", s.app, "GET", get(id), nil)
		}
	}
	s.mustCode(t, 410, "subject_erased", s.app, "GET", get("erased"), nil)
	s.mustStop(t)

	// A key leaves memory when its time is over.
	s = v.start(t, "--cache-ttl", "300ms")
	s.mustShow(t, "other", fields{"phone": "16100000002"})
	v.vault.Seal(t)
	until(func() bool {
		status, code := s.reading(t, "other")
		if status != 200 && code != "key_service_unavailable" {
			t.Fatalf("%d %s", status, code)
		}
		return status != 200
	})
	v.vault.Unseal(t)
	s.untilShown(t, "other", fields{"phone": "16100000002"})
	s.mustStop(t)
	mustVerifyAudit(t, v.data)
}

// Vault answers in every way that is no answer. Callers get theirs while Vault still thinks, and all goes on by itself.
func TestVaultFaults(t *testing.T) {
	v := newVaulted(t)
	s := v.start(t, "--cache-entries", "1")
	s.mustPut(t, "cached", fields{"phone": "16100000001"})
	s.mustPut(t, "other", fields{"phone": "16100000002"})
	const slow = 30 * time.Second
	for _, tc := range []struct {
		name  string
		fault transittest.Fault
	}{
		{"refuses connections", transittest.Fault{Refuse: true}},
		{"drops answers", transittest.Fault{Drop: true}},
		{"slow", transittest.Fault{Delay: slow}},
		{"429", transittest.Fault{Status: 429}},
		{"403", transittest.Fault{Status: 403}},
		{"500", transittest.Fault{Status: 500}},
		{"502, no JSON", transittest.Fault{Status: 502, Body: "<html>bad gateway</html>"}},
		{"503", transittest.Fault{Status: 503}},
		{"standby", transittest.Fault{Status: 473}},
		{"200 without sense", transittest.Fault{Status: 200, Body: `{"data":{"batch_results":[]}}`}},
		{"200, no JSON", transittest.Fault{Status: 200, Body: "welcome"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.untilShown(t, "cached", fields{"phone": "16100000001"})
			v.proxy.Set(tc.fault)
			begun := time.Now()
			if status, code := s.reading(t, "other"); status != 503 || code != "key_service_unavailable" {
				t.Errorf("%d %s", status, code)
			}
			if took := time.Since(begun); took > slow {
				t.Errorf("the caller waited %v, as long as Vault", took)
			}
			// Who waits less than that is let go earlier.
			s.mustShow(t, "cached", fields{"phone": "16100000001"})
			v.proxy.Set(transittest.Fault{})
			s.untilShown(t, "other", fields{"phone": "16100000002"})
		})
	}
	s.mustStop(t)
}

// Every read asks Vault, while tokens end, are revoked, while Vault is killed and started again.
func TestVaultTokensEnd(t *testing.T) {
	v := newVaulted(t)
	v.vault.Do(t, "POST", v.role(t), map[string]any{"token_ttl": "2s", "token_max_ttl": "4s"})
	s := v.start(t, "--cache-ttl", "1ms")
	want := fields{"phone": "16100000001"}
	for i := range 4 {
		s.mustPut(t, fmt.Sprint("u", i), want)
	}
	var reads, failed atomic.Int64
	var away atomic.Bool // Vault is: then it may be said
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		crowd(4, func(worker int) {
			for {
				select {
				case <-stop:
					return
				default:
				}
				wasAway := away.Load()
				a, err := s.call(s.app, "GET", get(fmt.Sprint("u", worker)), nil)
				reads.Add(1)
				if err == nil && (a.status == 200 || (wasAway || away.Load()) && a.code() == "key_service_unavailable") {
					continue
				}
				failed.Add(1)
				t.Errorf("read: %d %s, %v\n%s", a.status, a.body, err, s.log)
				return
			}
		})
	}()
	logins := func() int { return v.proxy.Count("auth/approle/login") }
	// Two lives of a token, at least: it is renewed once or twice and then there is another.
	first := logins()
	until(func() bool { return logins() > first+1 || failed.Load() > 0 })
	further := func(n int64) { // so many reads more
		now := reads.Load()
		until(func() bool { return reads.Load() > now+n || failed.Load() > 0 })
	}
	for range 3 {
		known := logins()
		v.vault.Do(t, "PUT", "/v1/sys/leases/revoke-prefix/auth/approle/login", nil)
		until(func() bool { return logins() > known || failed.Load() > 0 })
		further(20)
	}
	away.Store(true)
	v.vault.Kill(t)
	until(func() bool { return len(s.notReady(t)) > 0 })
	v.vault.Restart(t)
	s.untilReady(t)
	s.untilShown(t, "u0", want)
	away.Store(false)
	further(100)
	close(stop)
	<-done
	if n := reads.Load(); n < 200 {
		t.Errorf("%d reads show little", n)
	}
	s.mustStop(t)
}

// A Vault or key that is not ours is refused at the start, and nothing is changed by trying.
func TestVaultRefused(t *testing.T) {
	v := newVaulted(t)
	s := v.start(t)
	s.mustPut(t, "u1", fields{"phone": "16100000001"})
	s.mustStop(t)
	before := v.tree(t)
	unchanged := func(t *testing.T) {
		t.Helper()
		mustEqualTrees(t, before, v.tree(t))
	}
	root, dek := v.key(t, "root"), v.key(t, "dek")
	t.Run("another Vault", func(t *testing.T) {
		other := newVaulted(t)
		message := mustRefuse(t, v.data, other.flags()...)
		mustContain(t, message, "key")
		unchanged(t)
	})
	t.Run("Vault away", func(t *testing.T) {
		v.proxy.Set(transittest.Fault{Refuse: true})
		mustContain(t, mustRefuse(t, v.data, v.flags()...), "Vault")
		v.proxy.Set(transittest.Fault{})
		unchanged(t)
	})
	t.Run("Vault sealed", func(t *testing.T) {
		v.vault.Seal(t)
		mustContain(t, mustRefuse(t, v.data, v.flags()...), "sealed")
		v.vault.Unseal(t)
		unchanged(t)
	})
	t.Run("keyring asked for", func(t *testing.T) {
		mustContain(t, mustRefuse(t, v.data, "--kms", "local"), "transit")
		unchanged(t)
	})
	for _, tc := range []struct {
		name, key string
		config    map[string]any
		word      string
	}{
		{"deletable", root, map[string]any{"deletion_allowed": true}, "delet"},
		{"rotates by itself", dek, map[string]any{"auto_rotate_period": "24h"}, "rotat"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v.vault.Do(t, "POST", tc.key+"/config", tc.config)
			mustContain(t, mustRefuse(t, v.data, v.flags()...), tc.word)
			v.vault.Do(t, "POST", tc.key+"/config", map[string]any{"deletion_allowed": false, "auto_rotate_period": 0})
			unchanged(t)
		})
	}
}

// Whoever administers Vault can also make a key exportable, delete it and make another of its name.
func TestVaultKeyLost(t *testing.T) {
	for _, name := range []string{"root", "dek"} {
		t.Run(name, func(t *testing.T) {
			v := newVaulted(t)
			s := v.start(t)
			s.mustPut(t, "u1", fields{"phone": "16100000001"})
			s.mustStop(t)
			before := v.tree(t)
			refused := func(words ...string) {
				t.Helper()
				mustContain(t, mustRefuse(t, v.data, v.flags()...), words...)
				mustEqualTrees(t, before, v.tree(t))
			}
			path := v.key(t, name)
			v.vault.Do(t, "POST", path+"/config", map[string]any{"exportable": true, "deletion_allowed": true})
			refused("exportable", "deleted")
			v.vault.Do(t, "DELETE", path, nil)
			refused("no such key", "cloakroom-"+v.instance(t)+"-"+name)
			v.vault.Do(t, "POST", path, map[string]any{"derived": name == "dek"})
			refused("does not open")
		})
	}
}

// Vault's own log, and what it stores, show nothing of ours.
func TestVaultSeesNoPlaintext(t *testing.T) {
	v := newVaulted(t)
	s := v.start(t, "--cache-ttl", "1ms")
	secrets := newScanner()
	people := customers(t)[:100]
	for _, c := range people {
		c.tokens = s.mustPut(t, c.id, c.values)
		c.watch(t, secrets)
	}
	for _, c := range people {
		for _, token := range c.tokens {
			s.mustReveal(t, token)
		}
		s.must(t, 200, s.officer, "DELETE", "/v1/subjects/"+c.id, nil)
	}
	s.mustStop(t)
	log, err := os.ReadFile(v.vault.Audit)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "transit/decrypt/"); n < 100 {
		t.Errorf("Vault's log has %d unwrappings", n)
	}
	if found, hits := secrets.find(log); hits > 0 {
		t.Errorf("in Vault's audit log: %q", found)
	}
	for path, text := range tree(t, filepath.Dir(v.data)) {
		if found, hits := secrets.find([]byte(text)); hits > 0 {
			t.Errorf("in %s: %q", path, found)
		}
	}
	for _, name := range []string{"role-id", "secret-id"} {
		text, err := os.ReadFile(filepath.Join(v.login, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(s.log.bytes()), strings.TrimSpace(string(text))) {
			t.Errorf("the server's log shows the %s", name)
		}
	}
}

// A thousand people are read at once by as many callers while no key is in memory.
func TestVaultColdBurst(t *testing.T) {
	v := newVaulted(t)
	s := v.start(t)
	const people = 1000
	id := func(i int) string { return fmt.Sprint("u", i) }
	mustAll(t, people, func(i int) error {
		a, err := s.call(s.app, "PUT", "/v1/subjects/"+id(i), fields{"phone": "16100000001"}.body())
		if err == nil && a.status != http.StatusCreated {
			err = fmt.Errorf("put: %d %s", a.status, a.body)
		}
		return err
	})
	s.mustStop(t)
	s = v.start(t)
	before := v.proxy.Count("transit/decrypt/")
	// A slow Vault, so that the count does not hang on how fast this machine sends the requests: while a call is under
	// way, all who come share the next.
	v.proxy.Set(transittest.Fault{
		Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "transit/decrypt/") },
		Delay: time.Second,
	})
	crowd(people, func(i int) {
		if a, err := s.call(s.app, "GET", get(id(i)), nil); err != nil || a.status != http.StatusOK {
			t.Errorf("read: %d %s, %v", a.status, a.body, err)
		}
	})
	calls := v.proxy.Count("transit/decrypt/") - before
	t.Logf("%d calls for %d people", calls, people)
	if calls > people/20 {
		t.Errorf("%d calls to Vault for %d people", calls, people)
	}
	s.mustStop(t)
}
