package systemtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// Keys move from the keyring file to Vault and back while callers read, write and erase, and the server is killed on
// the way. Afterwards each key service is enough by itself.
func TestKeysMove(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	vault := transittest.Start(t, transittest.Options{Storage: filepath.Join(dir, "vault")})
	proxy := transittest.NewProxy(t, vault.URL)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(vault.Root+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	toVault := []string{"--vault-addr", proxy.URL, "--vault-token-file", token, "--cache-ttl", "1ms"}

	s := start(t, data)
	const people = 3000
	want := func(i int) fields { return fields{"phone": fmt.Sprint(16100000000 + i)} }
	id := func(i int) string { return fmt.Sprint("u", i) }
	mustAll(t, people, func(i int) error {
		a, err := s.call(s.app, "PUT", "/v1/subjects/"+id(i), want(i).body())
		if err == nil && a.status != 201 {
			err = fmt.Errorf("put: %d %s", a.status, a.body)
		}
		return err
	})
	s.mustStop(t)

	for _, move := range []struct{ from, to string }{{"local", "transit"}, {"transit", "local"}} {
		t.Run("from "+move.from+" to "+move.to, func(t *testing.T) {
			s := start(t, data, append([]string{"--kms", "local"}, toVault...)...)
			a := s.must(t, 202, s.root, "POST", "/v1/jobs", map[string]any{"kind": "move-keys", "options": map[string]string{"from": move.from, "to": move.to}})
			var job struct {
				ID    string `json:"id"`
				State string `json:"state"`
				Done  int    `json:"done"`
				Error struct {
					Code   string `json:"code"`
					Detail string `json:"detail"`
				} `json:"error"`
			}
			a.into(t, &job)
			state := func() string {
				s.must(t, 200, s.root, "GET", "/v1/jobs/"+job.ID, nil).into(t, &job)
				return job.State
			}
			until(func() bool { return state() != "running" || job.Done > 0 })
			s.kill()
			if job.State == "running" {
				// With one of the two alone, a half moved store is refused.
				proxy.Set(transittest.Fault{Refuse: true})
				mustRefuse(t, data, toVault...)
				proxy.Set(transittest.Fault{})
				mustRename(t, data+".keyring", data+".keyring.away")
				mustRename(t, data+".keyring.mirror", data+".keyring.mirror.away")
				mustContain(t, mustRefuse(t, data, toVault...), "keyring")
				mustRename(t, data+".keyring.away", data+".keyring")
				mustRename(t, data+".keyring.mirror.away", data+".keyring.mirror")
			}

			s = start(t, data, toVault...)
			stop, done := make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			go func() {
				defer close(done)
				crowd(4, func(worker int) {
					for i := worker; ; i += 4 {
						select {
						case <-stop:
							return
						default:
						}
						n := i % people
						calls.Add(1)
						var got put
						a, err := s.call(s.app, "GET", get(id(n)), nil)
						if err != nil || a.status != 200 || json.Unmarshal(a.body, &got) != nil || differs(got, want(n)) != "" {
							t.Errorf("read while keys move: %d %s, %v", a.status, a.body, err)
							return
						}
						fresh := fmt.Sprintf("%s-%s-%d", move.to, "new", i)
						if a, err = s.call(s.app, "PUT", "/v1/subjects/"+fresh, want(n).body()); err != nil || a.status != 201 {
							t.Errorf("put while keys move: %d %s, %v", a.status, a.body, err)
							return
						}
						if a, err = s.call(s.app, "DELETE", "/v1/subjects/"+fresh, nil); err != nil || a.status != 200 {
							t.Errorf("erase while keys move: %d %s, %v", a.status, a.body, err)
							return
						}
					}
				})
			}()
			until(func() bool { return state() != "running" })
			now := calls.Load()
			until(func() bool { return calls.Load() > now+20 || t.Failed() })
			close(stop)
			<-done
			if job.State != "done" {
				t.Fatalf("the move is %s: %+v", job.State, job.Error)
			}
			s.mustStop(t)

			// The other key service is needed no more.
			var alone []string
			if move.to == "transit" {
				mustRename(t, data+".keyring", data+".keyring.away")
				mustRename(t, data+".keyring.mirror", data+".keyring.mirror.away")
				alone = append([]string{"--kms", "transit"}, toVault...)
				mustContain(t, mustRefuse(t, data, "--kms", "local"), "transit")
			} else {
				alone = []string{"--kms", "local"}
				mustContain(t, mustRefuse(t, data, append([]string{"--kms", "transit"}, toVault...)...), "local")
			}
			s = start(t, data, alone...)
			mustAll(t, people, func(i int) error {
				var got put
				a, err := s.call(s.app, "GET", get(id(i)), nil)
				if err == nil && (a.status != 200 || json.Unmarshal(a.body, &got) != nil || differs(got, want(i)) != "") {
					err = fmt.Errorf("read: %d %s", a.status, a.body)
				}
				return err
			})
			s.mustCode(t, 410, "subject_erased", s.app, "GET", get(move.to+"-new-0"), nil)
			s.mustStop(t)
			if move.to == "transit" {
				mustRename(t, data+".keyring.away", data+".keyring")
				mustRename(t, data+".keyring.mirror.away", data+".keyring.mirror")
			}
		})
	}
	mustVerifyAudit(t, data)
}
