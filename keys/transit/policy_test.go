package transit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// TestShippedPolicies: the files for operators are what the program prints, with a placeholder for the installation.
// CLOAKROOM_UPDATE=1 writes them anew.
func TestShippedPolicies(t *testing.T) {
	inst := keys.InstanceID{1, 2, 3}
	for name, text := range map[string]string{
		"service.hcl": ServicePolicy("transit", inst),
		"closer.hcl":  CloserPolicy("transit", inst),
	} {
		path := filepath.Join("..", "..", "docs", "vault", name)
		want := strings.ReplaceAll(text, inst.String(), "<instance>")
		if os.Getenv("CLOAKROOM_UPDATE") == "1" {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(want), 0o644))
		}
		got, err := os.ReadFile(path)
		must(t, err)
		if string(got) != want {
			t.Errorf("%s differs from what the program prints:\n%s", path, want)
		}
		if strings.ContainsAny(want, "*+") || strings.Contains(want, `"create"]`) {
			t.Errorf("%s has a wildcard, or creates", name)
		}
	}
}

func TestApplyPolicies(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	c := withToken(s.URL, s.Root, newInstance(t))
	c.Mount = "team/secrets"
	k := open(t, c)
	for range 2 { // over older ones
		must(t, k.ApplyPolicies(t.Context()))
	}
	service, closer := PolicyNames(c.Instance)
	for name, want := range map[string]string{
		service: ServicePolicy("team/secrets", c.Instance),
		closer:  CloserPolicy("team/secrets", c.Instance),
	} {
		got := s.Do(t, "GET", "/v1/sys/policies/acl/"+name, nil)["data"].(map[string]any)["policy"]
		if got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
