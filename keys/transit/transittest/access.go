package transittest

import (
	"maps"
	"testing"
	"time"
)

// PutPolicy writes an access policy, in HCL.
func (s *Server) PutPolicy(t testing.TB, name, text string) {
	t.Helper()
	s.Do(t, "PUT", "/v1/sys/policies/acl/"+name, map[string]any{"policy": text})
}

// Token makes a token with these policies and no other but default, renewable, of this lifetime.
func (s *Server) Token(t testing.TB, ttl time.Duration, policies ...string) string {
	t.Helper()
	answer := s.Do(t, "POST", "/v1/auth/token/create", map[string]any{"policies": policies, "ttl": ttl.String()})
	return answer["auth"].(map[string]any)["client_token"].(string)
}

// AppRole makes a role at auth/approle with these options (token_policies, token_ttl, ...) and returns what it logs in
// with.
func (s *Server) AppRole(t testing.TB, name string, options map[string]any) (roleID, secretID string) {
	t.Helper()
	s.Do(t, "POST", "/v1/auth/approle/role/"+name, maps.Clone(options))
	role := s.Do(t, "GET", "/v1/auth/approle/role/"+name+"/role-id", nil)
	return role["data"].(map[string]any)["role_id"].(string), s.SecretID(t, name)
}

// SecretID makes one more secret id of a role.
func (s *Server) SecretID(t testing.TB, role string) string {
	t.Helper()
	answer := s.Do(t, "POST", "/v1/auth/approle/role/"+role+"/secret-id", map[string]any{})
	return answer["data"].(map[string]any)["secret_id"].(string)
}
