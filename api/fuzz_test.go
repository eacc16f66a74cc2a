package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
)

// FuzzRequests sends any query and body to any route, in the role that may use it: nothing panics, nothing is the
// server's fault, every refusal is one whole problem, and none repeats the marker that the request held.
func FuzzRequests(f *testing.F) {
	for i, body := range []string{
		`{"fields":{"phone":"` + marker + `","name":null}}`,
		`{"fields":{"phone":{"value":"` + marker + `","source":"a","authorization":"b"}}}`,
		`{"items":[{"subject":"u1","field":"phone","value":"` + marker + `","ttl":"24h","single_use":true,"format":"opaque","audience":"app"}]}`,
		`{"purpose":"service","reason":"` + marker + `","view":"full","tokens":["tok_` + marker + `"]}`,
		`{"tokens":["` + marker + `","\u0000"]}`,
		`{"name":"desk","role":"` + marker + `"}`,
		`{"reason":"` + marker + `"}`,
		`{"fields":{"` + marker + `":["\ud800"]}}`, "[[[[" + marker, `{"a":1}{"b":` + marker, "\xff" + marker, "", "null", "{}",
	} {
		for route := range api.Routes() {
			f.Add(uint8(route), "", body)
		}
		f.Add(uint8(i), "purpose=service&view=full&fields=phone,"+marker+"&limit=1&cursor="+marker+"&recreate=true", body)
	}
	h := newHouse(f)
	routes := api.Routes()
	f.Fuzz(func(t *testing.T, n uint8, query, body string) {
		route := routes[int(n)%len(routes)]
		row := accessTable("tok_x", "desk")[route.Method+" "+route.Path]
		path, _, _ := strings.Cut(row.path, "?")
		req := httptest.NewRequest(route.Method, path, io.NopCloser(strings.NewReader(body)))
		req.ContentLength = int64(len(body))
		req.RequestURI, req.URL.RawQuery = "", query
		req.Header.Set("Content-Type", "application/json")
		if len(row.roles) > 0 {
			req.Header.Set("Authorization", "Bearer "+h.keys[row.roles[0]])
		}
		w := httptest.NewRecorder()
		h.api.ServeHTTP(w, req)
		if w.Code >= http.StatusInternalServerError {
			t.Fatalf("%s %s?%s %q: %d %s", route.Method, path, query, body, w.Code, w.Body)
		}
		if w.Code < http.StatusBadRequest {
			return
		}
		var p wire.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p, json.RejectUnknownMembers(true)); err != nil || p.Status != w.Code || p.Code == "" {
			t.Fatalf("%s %s: %d, not a problem: %s: %v", route.Method, path, w.Code, w.Body, err)
		}
		if strings.Contains(w.Body.String(), marker) {
			t.Fatalf("%s %s repeats the request: %s", route.Method, path, w.Body)
		}
	})
}
