package api_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// access is one route and who may call it.
type access struct {
	path  string // instead of the template
	body  string
	roles []string // that may; every other one is forbidden
	found int      // the status for who may
	open  bool     // nobody needs a credential here
}

// Every registered route has a row. What a role is granted here is what the starter policy grants.
func accessTable(token, desk string) map[string]access {
	return map[string]access{
		"PUT /v1/subjects/:subject":                  {"/v1/subjects/u1", `{"fields":{"name":"张三"}}`, []string{"app"}, 200, false},
		"PATCH /v1/subjects/:subject":                {"/v1/subjects/u1", `{"fields":{"name":"张三"}}`, []string{"app"}, 200, false},
		"GET /v1/subjects/:subject":                  {"/v1/subjects/u1?purpose=support", "", []string{"app", "support", "officer"}, 200, false},
		"GET /v1/subjects":                           {"/v1/subjects", "", []string{"operator"}, 200, false},
		"GET /v1/subjects/:subject/export":           {"/v1/subjects/u1/export", "", []string{"officer"}, 200, false},
		"GET /v1/export":                             {"/v1/export", "", []string{"officer"}, 200, false},
		"DELETE /v1/subjects/:subject":               {"/v1/subjects/nobody", "", []string{"app", "officer"}, 404, false},
		"DELETE /v1/subjects/:subject/fields/:field": {"/v1/subjects/nobody/fields/phone", "", []string{"app", "officer"}, 404, false},
		"POST /v1/import":                            {"/v1/import", "", []string{"app"}, 200, false},
		"POST /v1/tokenize":                          {"/v1/tokenize", `{"items":[]}`, []string{"app"}, 200, false},
		"POST /v1/detokenize":                        {"/v1/detokenize", `{"purpose":"support","tokens":["` + token + `"]}`, []string{"app", "support"}, 200, false},
		"GET /v1/tokens":                             {"/v1/tokens", "", []string{"operator"}, 200, false},
		"POST /v1/tokens/inspect":                    {"/v1/tokens/inspect", `{"tokens":["` + token + `"]}`, []string{"app"}, 200, false},
		"POST /v1/tokens/revoke":                     {"/v1/tokens/revoke", `{"tokens":[]}`, []string{"app"}, 200, false},
		"GET /v1/erasures":                           {"/v1/erasures", "", []string{"officer"}, 200, false},
		"GET /v1/erasures/:id":                       {"/v1/erasures/era_none", "", []string{"officer"}, 404, false},
		"POST /v1/services":                          {"/v1/services", `{"name":"` + desk + `","role":"support"}`, []string{"operator"}, 409, false},
		"GET /v1/services":                           {"/v1/services", "", []string{"operator"}, 200, false},
		"DELETE /v1/services/:name":                  {"/v1/services/nobody", "", []string{"operator"}, 404, false},
		"POST /v1/services/:name/keys":               {"/v1/services/nobody/keys", "", []string{"operator"}, 404, false},
		"DELETE /v1/services/:name/keys/:id":         {"/v1/services/nobody/keys/x", "", []string{"operator"}, 404, false},
		"GET /v1/policy":                             {"/v1/policy", "", []string{"operator"}, 200, false},
		"GET /v1/keys":                               {"/v1/keys", "", []string{"operator"}, 200, false},
		"POST /v1/jobs":                              {"/v1/jobs", `{"kind":"none"}`, []string{"operator"}, 400, false},
		"GET /v1/jobs":                               {"/v1/jobs", "", []string{"operator"}, 200, false},
		"GET /v1/jobs/:id":                           {"/v1/jobs/job_none", "", []string{"operator"}, 404, false},
		"GET /healthz":                               {"/healthz", "", nil, 200, true},
		"GET /readyz":                                {"/readyz", "", nil, 200, true},
		"GET /metrics":                               {"/metrics", "", nil, 200, true},
		"GET /openapi.yaml":                          {"/openapi.yaml", "", nil, 200, true},
	}
}

func TestRolesOfEveryRoute(t *testing.T) {
	h := newHouse(t)
	put := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", `{"fields":{"phone":"+86 138 0013 8000"}}`)
	desk := must[wire.ServiceKey](h, 201, "operator", "POST", "/v1/services", `{"name":"desk","role":"app"}`)
	must[struct{}](h, 204, "operator", "DELETE", "/v1/services/desk/keys/"+desk.ID, "")
	h.keys["disabled key"] = string(desk.Key)
	gone := must[wire.ServiceKey](h, 201, "operator", "POST", "/v1/services", `{"name":"gone","role":"app"}`)
	must[struct{}](h, 204, "operator", "DELETE", "/v1/services/gone", "")
	h.keys["disabled service"] = string(gone.Key)
	h.keys["mistyped"] = h.keys["app"][:len(h.keys["app"])-1] + "!"
	h.keys["unknown"] = "ck_0000000000_" + strings.Repeat("0", 49)

	table := accessTable(string(put.Tokens["phone"]), "desk")
	for _, r := range h.api.(*gin.Engine).Routes() {
		name := r.Method + " " + r.Path
		row, ok := table[name]
		if !ok {
			t.Errorf("%s has no row: say who may call it", name)
			continue
		}
		delete(table, name)
		for _, role := range []string{"", "app", "support", "officer", "operator", "disabled key", "disabled service", "mistyped", "unknown"} {
			t.Run(name+" as "+role, func(t *testing.T) {
				resp, body := h.as(role, r.Method, row.path, row.body)
				switch {
				case row.open:
					if resp.StatusCode != row.found {
						t.Errorf("%d %s", resp.StatusCode, body)
					}
				case role == "" || len(role) > len("operator") || role == "mistyped" || role == "unknown":
					wantProblem(t, resp, body, 401, wire.Unauthenticated)
					if resp.Header.Get("WWW-Authenticate") != "Bearer" {
						t.Error("no WWW-Authenticate")
					}
				case slices.Contains(row.roles, role):
					if resp.StatusCode != row.found {
						t.Errorf("%d %s", resp.StatusCode, body)
					}
				default:
					wantProblem(t, resp, body, 403, wire.Forbidden)
				}
			})
		}
	}
	for name := range table {
		t.Errorf("%s has a row and is no route", name)
	}
	for role, key := range h.keys {
		if strings.Contains(h.log.String(), key) {
			t.Errorf("the log holds the credential of %s", role)
		}
	}
}

func TestAuthorizationHeader(t *testing.T) {
	h := newHouse(t)
	key := h.keys["operator"]
	for name, c := range map[string]struct {
		header string
		status int
	}{
		"as documented":       {"Bearer " + key, 200},
		"scheme in lower":     {"bearer " + key, 200},
		"no scheme":           {key, 401},
		"basic":               {"Basic " + key, 401},
		"no key":              {"Bearer ", 401},
		"space before":        {"Bearer  " + key, 401},
		"two keys":            {"Bearer " + key + " " + key, 401},
		"two headers":         {"Bearer " + key + "\nBearer " + key, 401},
		"two kinds of header": {"Basic x\nBearer " + key, 401},
		"very long":           {"Bearer " + strings.Repeat("a", 9000), 401},
		"key of ones":         {"Bearer ck_1", 401},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := do(t, h.Server, "GET", "/v1/services", "", "Authorization", c.header)
			if resp.StatusCode != c.status {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			if c.status == 401 {
				wantProblem(t, resp, body, 401, wire.Unauthenticated)
			}
		})
	}
}

// Metrics and the description of the API are open on the machine itself; from elsewhere they need a credential,
// whatever a forwarded-for header says.
func TestFromElsewhere(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		name, path, remote, role string
		status                   int
	}{
		{"metrics, loopback", "/metrics", "127.0.0.1:9", "", 200},
		{"metrics, IPv6 loopback", "/metrics", "[::1]:9", "", 200},
		{"metrics, mapped loopback", "/metrics", "[::ffff:127.0.0.1]:9", "", 200},
		{"metrics, far", "/metrics", "192.0.2.1:9", "", 401},
		{"metrics, far, operator", "/metrics", "192.0.2.1:9", "operator", 200},
		{"metrics, far, app", "/metrics", "192.0.2.1:9", "app", 403},
		{"metrics, no address", "/metrics", "", "", 401},
		{"metrics, a socket", "/metrics", "@", "", 401},
		{"openapi, loopback", "/openapi.yaml", "127.0.0.1:9", "", 200},
		{"openapi, far", "/openapi.yaml", "192.0.2.1:9", "", 401},
		{"openapi, far, app", "/openapi.yaml", "192.0.2.1:9", "app", 200},
		{"health, far", "/healthz", "192.0.2.1:9", "", 200},
		{"ready, far", "/readyz", "192.0.2.1:9", "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := httptest.NewRequest("GET", c.path, nil)
			req.RemoteAddr = c.remote
			req.Header.Set("X-Forwarded-For", "127.0.0.1")
			req.Header.Set("X-Real-Ip", "127.0.0.1")
			if c.role != "" {
				req.Header.Set("Authorization", "Bearer "+h.keys[c.role])
			}
			w := httptest.NewRecorder()
			h.api.ServeHTTP(w, req)
			if w.Code != c.status {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if c.status >= 400 {
				wantProblem(t, w.Result(), w.Body.String(), c.status, map[int]wire.Code{401: wire.Unauthenticated, 403: wire.Forbidden}[c.status])
			}
		})
	}
}
