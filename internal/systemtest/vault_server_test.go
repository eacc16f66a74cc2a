package systemtest

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// vaulted is an installation whose key service is a real HashiCorp Vault, set up from empty by the script that the
// documentation offers. Between the two stands a proxy.
type vaulted struct {
	vault *transittest.Server
	proxy *transittest.Proxy
	data  string
	login string // folder with role-id and secret-id
	said  string // what the script printed
}

// newVaulted runs the script on an empty Vault, which keeps its data in a folder.
func newVaulted(t testing.TB) *vaulted {
	t.Helper()
	dir := t.TempDir()
	v := &vaulted{
		vault: transittest.Start(t, transittest.Options{Bare: true, Storage: filepath.Join(dir, "vault")}),
		data:  filepath.Join(dir, "data"),
		login: filepath.Join(dir, "login"),
	}
	v.proxy = transittest.NewProxy(t, v.vault.URL)
	v.said = v.setUp(t)
	return v
}

// setUp runs the script as an administrator.
func (v *vaulted) setUp(t testing.TB) string {
	t.Helper()
	out, err := v.script(v.vault.Root)
	if err != nil {
		t.Fatalf("setup.sh: %v\n%s", err, out)
	}
	return out
}

func (v *vaulted) script(token string) (string, error) {
	cmd := exec.Command("../../docs/vault/setup.sh", v.data, v.login)
	cmd.Env = append(cleanEnvironment(),
		"VAULT_ADDR="+v.vault.URL, "VAULT_TOKEN="+token, "VAULT_AUDIT_FILE="+v.vault.Audit,
		"CLOAKROOM="+program, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// cleanEnvironment is this process's without what would speak of some other Vault.
func cleanEnvironment() []string {
	var out []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "VAULT_") && !strings.HasPrefix(e, "CLOAKROOM_VAULT_") {
			out = append(out, e)
		}
	}
	return out
}

// flags are those of a server that logs in by the role that the script made, through the proxy.
func (v *vaulted) flags(more ...string) []string {
	return append([]string{"--kms", "transit", "--vault-addr", v.proxy.URL,
		"--vault-role-id-file", filepath.Join(v.login, "role-id"), "--vault-secret-id-file", filepath.Join(v.login, "secret-id")}, more...)
}

func (v *vaulted) start(t testing.TB, more ...string) *server {
	t.Helper()
	return start(t, v.data, v.flags(more...)...)
}

var keyNames = regexp.MustCompile(`cloakroom-([0-9a-f]{32})-service`)

// instance is the installation's id, as the script named the policy.
func (v *vaulted) instance(t testing.TB) string {
	t.Helper()
	m := keyNames.FindStringSubmatch(v.said)
	if m == nil {
		t.Fatalf("the script names no policy: %s", v.said)
	}
	return m[1]
}

// key is the path of one of the two keys: "root" or "dek".
func (v *vaulted) key(t testing.TB, name string) string {
	return fmt.Sprintf("/v1/transit/keys/cloakroom-%s-%s", v.instance(t), name)
}

// role is the path of the script's AppRole.
func (v *vaulted) role(t testing.TB) string {
	return "/v1/auth/approle/role/cloakroom-" + v.instance(t)
}

// reading reads a person and returns the status and the code of the refusal, which must say when to come again.
func (s *server) reading(t testing.TB, id string) (status int, code string) {
	t.Helper()
	a, err := s.call(s.app, "GET", get(id), nil)
	if err != nil {
		t.Fatalf("reading %s: %v\n%s", id, err, s.log)
	}
	if a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
		t.Errorf("503 without Retry-After: %s", a.body)
	}
	return a.status, a.code()
}

// untilShown waits until a person can be read again.
func (s *server) untilShown(t testing.TB, id string, want fields) {
	t.Helper()
	until(func() bool {
		status, code := s.reading(t, id)
		if status != http.StatusOK && code != "key_service_unavailable" {
			t.Fatalf("reading %s: %d %s\n%s", id, status, code, s.log)
		}
		return status == http.StatusOK
	})
	s.mustShow(t, id, want)
}

// tree is everything that Cloakroom has on disk.
func (v *vaulted) tree(t testing.TB) map[string]string {
	t.Helper()
	all := tree(t, filepath.Dir(v.data))
	maps.DeleteFunc(all, func(path, _ string) bool { return !strings.HasPrefix(path, v.data) })
	return all
}

func mustEqualTrees(t testing.TB, before, after map[string]string) {
	t.Helper()
	for path := range after {
		if text, there := before[path]; !there || text != after[path] {
			t.Errorf("%s was written", path)
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			t.Errorf("%s was removed", path)
		}
	}
}
