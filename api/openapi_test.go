package api_test

import (
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// description is openapi.yaml as it is served.
func description(t *testing.T, h *house) *openapi3.T {
	t.Helper()
	_, text := h.as("", "GET", "/openapi.yaml", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Fatalf("OpenAPI %s", doc.OpenAPI)
	}
	return doc
}

// subjectU1 is the subject id as a word: ids of jobs and requests may hold its letters.
var subjectU1 = regexp.MustCompile(`\bu1\b`)

var colon = regexp.MustCompile(`:([a-z]+)`)

func documented(template string) string { return colon.ReplaceAllString(template, "{$1}") }

// parameters returns the names of an operation's parameters at one place.
func parameters(op *openapi3.Operation, in string) []string {
	var out []string
	for _, p := range op.Parameters {
		if p.Value.In == in {
			out = append(out, p.Value.Name)
		}
	}
	slices.Sort(out)
	return out
}

func TestDescriptionHasEveryRoute(t *testing.T) {
	doc := description(t, newHouse(t))
	known := map[string]bool{}
	for _, r := range api.Routes() {
		name := r.Method + " " + documented(r.Path)
		known[name] = true
		item := doc.Paths.Value(documented(r.Path))
		if item == nil || item.GetOperation(r.Method) == nil {
			t.Errorf("%s is not described", name)
			continue
		}
		op := item.GetOperation(r.Method)
		var inPath []string
		for _, m := range colon.FindAllStringSubmatch(r.Path, -1) {
			inPath = append(inPath, m[1])
		}
		slices.Sort(inPath)
		query := slices.Sorted(slices.Values(r.Query))
		if got := parameters(op, "path"); !slices.Equal(got, inPath) {
			t.Errorf("%s: path parameters %v, described %v", name, inPath, got)
		}
		if got := parameters(op, "query"); !slices.Equal(got, query) {
			t.Errorf("%s: query parameters %v, described %v", name, query, got)
		}
		if got := slices.Contains(parameters(op, "header"), "Idempotency-Key"); got != r.Change {
			t.Errorf("%s: takes an Idempotency-Key: %v, described %v", name, r.Change, got)
		}
		if got := op.RequestBody != nil; got != r.TakesBody {
			t.Errorf("%s: takes a body: %v, described %v", name, r.TakesBody, got)
		}
		if got := op.Security != nil && len(*op.Security) == 0; got != r.Open {
			t.Errorf("%s: open to all: %v, described %v", name, r.Open, got)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !known[method+" "+path] {
				t.Errorf("%s %s is described and is no route", method, path)
			}
		}
	}
}

func TestDescriptionHasEveryCode(t *testing.T) {
	doc := description(t, newHouse(t))
	var described []string
	for _, v := range doc.Components.Schemas["Code"].Value.Enum {
		described = append(described, v.(string))
	}
	var known []string
	for code := range api.Statuses() {
		known = append(known, string(code))
	}
	slices.Sort(described)
	slices.Sort(known)
	if !slices.Equal(described, known) {
		t.Errorf("described %v\nknown     %v", described, known)
	}
}

// witness checks real exchanges against the description and keeps what it has seen.
type witness struct {
	*house
	doc  *openapi3.T
	seen map[string]bool // "PUT /v1/subjects/{subject} 200"
}

// ask sends a request, which must itself be as described unless it is to fail, and checks the answer.
func (w *witness) ask(role, method, template, path, body string, want int, header ...string) string {
	w.t.Helper()
	op := w.doc.Paths.Value(template).GetOperation(method)
	if body != "" && want < 400 {
		for kind, content := range op.RequestBody.Value.Content {
			if err := visit(kind, content.Schema.Value, body); err != nil {
				w.t.Errorf("%s %s: the request is not as described: %v", method, path, err)
			}
		}
	}
	resp, got := w.as(role, method, path, body, header...)
	name := method + " " + template
	if resp.StatusCode != want {
		w.t.Errorf("%s: %d, want %d: %s", name, resp.StatusCode, want, got)
		return got
	}
	name += " " + strconv.Itoa(want)
	w.seen[name] = true
	described := op.Responses.Status(want)
	if described == nil {
		w.t.Errorf("%s is not described", name)
		return got
	}
	for h, d := range described.Value.Headers {
		value := resp.Header.Get(h)
		if value == "" && d.Value.Required {
			w.t.Errorf("%s: no header %s", name, h)
		}
		if value != "" {
			if err := d.Value.Schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
				w.t.Errorf("%s: header %s: %v", name, h, err)
			}
		}
	}
	if described.Value.Content == nil {
		if got != "" || resp.Header.Get("Content-Type") != "" {
			w.t.Errorf("%s: a body %q where none is described", name, got)
		}
		return got
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		w.t.Errorf("%s: Content-Type: %v", name, err)
		return got
	}
	content := described.Value.Content[kind]
	if content == nil {
		w.t.Errorf("%s: Content-Type %s is not described", name, kind)
		return got
	}
	if strings.HasSuffix(kind, "json") {
		if err := visit(kind, content.Schema.Value, got); err != nil {
			w.t.Errorf("%s: the answer is not as described: %v\n%s", name, err, got)
		}
	}
	return got
}

// visit holds a text to a schema, each of its lines where the kind is one of lines.
func visit(kind string, schema *openapi3.Schema, text string) error {
	if kind == "application/x-ndjson" {
		for line := range strings.Lines(text) {
			if err := visit("application/json", schema, line); err != nil {
				return err
			}
		}
		return nil
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return err
	}
	return schema.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation())
}

func TestAnswersAreAsDescribed(t *testing.T) {
	h := newHouseWith(t, vaulttest.Options{Other: vaulttest.Second})
	w := &witness{h, description(t, h), map[string]bool{}}
	const (
		subject = "/v1/subjects/{subject}"
		field   = "/v1/subjects/{subject}/fields/{field}"
	)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"phone":"13800138000","name":{"value":"张三","source":"partner"}}}`, 201)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"email":"zhang@example.com"}}`, 200, "Idempotency-Key", "k1")
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"email":"li@example.com"}}`, 409, "Idempotency-Key", "k1")
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"phone":"12"}}`, 422)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"colour":"red"}}`, 422)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{}`, 400)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{}}`, 415, "Content-Type", "text/plain")
	w.ask("app", "PATCH", subject, "/v1/subjects/u1", `{"fields":{"name":null,"address":"上海市浦东新区1号"}}`, 200)
	w.ask("app", "PATCH", subject, "/v1/subjects/nobody", `{"fields":{"name":"李四"}}`, 404)
	read := w.ask("app", "GET", subject, "/v1/subjects/u1?purpose=service&view=full&fields=phone,email", "", 200)
	w.ask("app", "GET", subject, "/v1/subjects/u1?purpose=ads", "", 403)
	w.ask("app", "GET", subject, "/v1/subjects/u1", "", 400)
	w.ask("app", "GET", subject, "/v1/subjects/nobody?purpose=service", "", 404)
	w.ask("operator", "GET", "/v1/subjects", "/v1/subjects?limit=1", "", 200)
	w.ask("operator", "GET", "/v1/subjects", "/v1/subjects?limit=0", "", 400)

	var got wire.Subject
	if err := json.Unmarshal([]byte(read), &got); err != nil {
		t.Fatal(err)
	}
	phone := string(got.Fields["phone"].Token)
	list := `{"tokens":["` + phone + `","tok_nonsense"]}`
	w.ask("app", "POST", "/v1/tokenize", "/v1/tokenize", `{"items":[{"subject":"u2","field":"phone","value":"13900139000","ttl":"24h","single_use":true},{"subject":"u2","field":"phone","value":"x"},{"subject":"u2","field":"phone","value":"x","ttl":"never"}]}`, 200)
	w.ask("app", "POST", "/v1/detokenize", "/v1/detokenize", `{"purpose":"service","reason":"order 77","view":"masked",`+list[1:], 200)
	w.ask("app", "POST", "/v1/tokens/inspect", "/v1/tokens/inspect", list, 200)
	w.ask("app", "POST", "/v1/tokens/revoke", "/v1/tokens/revoke", list, 200, "Idempotency-Key", "k2")
	w.ask("app", "POST", "/v1/tokens/inspect", "/v1/tokens/inspect", list, 200)

	w.ask("operator", "GET", "/v1/tokens", "/v1/tokens?limit=1&audience=app&fields=phone,name", "", 200)
	w.ask("operator", "GET", "/v1/tokens", "/v1/tokens", "", 200)
	w.ask("operator", "GET", "/v1/tokens", "/v1/tokens?audience=nobody", "", 422)
	w.ask("operator", "GET", "/v1/tokens", "/v1/tokens?fields=colour", "", 422)
	w.ask("operator", "GET", "/v1/tokens", "/v1/tokens?cursor=x", "", 400)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"phone":{"value":"13800138000","source":"partner","authorization":"contract 12"}}}`, 200)
	w.ask("officer", "GET", "/v1/export", "/v1/export?limit=1", "", 200)
	w.ask("officer", "GET", "/v1/export", "/v1/export", "", 200)
	w.ask("officer", "GET", "/v1/export", "/v1/export?limit=1001", "", 400)
	w.ask("officer", "GET", "/v1/subjects/{subject}/export", "/v1/subjects/u1/export", "", 200)
	w.ask("officer", "GET", "/v1/subjects/{subject}/export", "/v1/subjects/nobody/export", "", 404)
	w.ask("officer", "GET", "/v1/subjects/{subject}/export", "/v1/subjects/13800138000/export", "", 422)

	const lines = "application/x-ndjson"
	w.ask("app", "POST", "/v1/import", "/v1/import", `{"subject":"u3","fields":{"phone":"13900139000","name":{"value":"李四","source":"partner"}}}`+"\n"+
		`{"subject":"u3","fields":{"phone":"13900139000"}}`+"\n"+`{"subject":"u3","fields":{"phone":"x"}}`, 200, "Content-Type", lines)
	w.ask("app", "POST", "/v1/import", "/v1/import?replace=same-source", `{"subject":"u3","fields":{"name":{"value":"张三","source":"dealer"}}}`, 200, "Content-Type", lines)
	w.ask("app", "POST", "/v1/import", "/v1/import?recreate=maybe", "{}\n", 400, "Content-Type", lines)

	w.ask("app", "DELETE", field, "/v1/subjects/u1/fields/email", `{"reason":"asked for it"}`, 200)
	w.ask("app", "DELETE", field, "/v1/subjects/u1/fields/email", "", 410)
	w.ask("app", "DELETE", subject, "/v1/subjects/u1", "", 200)
	w.ask("app", "DELETE", subject, "/v1/subjects/u1", "", 410)
	w.ask("app", "GET", subject, "/v1/subjects/u1?purpose=service", "", 410)
	w.ask("officer", "GET", "/v1/subjects/{subject}/export", "/v1/subjects/u1/export", "", 410)
	w.ask("app", "PUT", subject, "/v1/subjects/u1", `{"fields":{"name":"王五"}}`, 410)
	w.ask("app", "PATCH", subject, "/v1/subjects/u1", `{"fields":{"name":"王五"}}`, 410)
	w.ask("app", "PUT", subject, "/v1/subjects/u1?recreate=true", `{"fields":{"name":"王五"}}`, 201)
	erasures := w.ask("officer", "GET", "/v1/erasures", "/v1/erasures?limit=1", "", 200)
	var page struct {
		Erasures []struct {
			Erasure string `json:"erasure"`
		} `json:"erasures"`
	}
	if err := json.Unmarshal([]byte(erasures), &page); err != nil || len(page.Erasures) != 1 {
		t.Fatalf("%v: %s", err, erasures)
	}
	one := w.ask("officer", "GET", "/v1/erasures/{id}", "/v1/erasures/"+page.Erasures[0].Erasure, "", 200)
	if !strings.Contains(erasures, one) {
		t.Errorf("the list spells a certificate in another way than was signed:\n%s\n%s", erasures, one)
	}
	w.ask("officer", "GET", "/v1/erasures/{id}", "/v1/erasures/era_none", "", 404)

	made := w.ask("operator", "POST", "/v1/services", "/v1/services", `{"name":"desk","role":"support"}`, 201)
	var key wire.ServiceKey
	if err := json.Unmarshal([]byte(made), &key); err != nil {
		t.Fatal(err)
	}
	w.ask("operator", "POST", "/v1/services", "/v1/services", `{"name":"desk","role":"support"}`, 409)
	w.ask("operator", "POST", "/v1/services/{name}/keys", "/v1/services/desk/keys", "", 201)
	w.ask("operator", "DELETE", "/v1/services/{name}/keys/{id}", "/v1/services/desk/keys/"+key.ID, "", 204)
	w.ask("operator", "GET", "/v1/services", "/v1/services", "", 200)
	w.ask("operator", "DELETE", "/v1/services/{name}", "/v1/services/desk", "", 204)
	w.ask("operator", "GET", "/v1/policy", "/v1/policy", "", 200)
	w.ask("operator", "GET", "/v1/keys", "/v1/keys", "", 200)
	job := w.ask("operator", "POST", "/v1/jobs", "/v1/jobs", moveBody(), 202)
	var begun wire.JobStarted
	if err := json.Unmarshal([]byte(job), &begun); err != nil {
		t.Fatal(err)
	}
	w.ask("operator", "GET", "/v1/jobs/{id}", "/v1/jobs/"+begun.ID, "", 200)
	w.ask("operator", "GET", "/v1/jobs", "/v1/jobs?limit=1", "", 200)
	w.ask("operator", "GET", "/v1/jobs", "/v1/jobs?cursor=x", "", 400)
	awaitJob(h, begun.ID, jobEnded)
	w.ask("operator", "GET", "/v1/jobs/{id}", "/v1/jobs/"+begun.ID, "", 200)
	w.ask("operator", "POST", "/v1/jobs", "/v1/jobs", moveBody(), 409)
	w.ask("", "GET", "/healthz", "/healthz", "", 200)
	w.ask("", "GET", "/readyz", "/readyz", "", 200)
	w.ask("", "GET", "/metrics", "/metrics", "", 200)
	w.ask("", "GET", "/openapi.yaml", "/openapi.yaml", "", 200)

	// Every call can be refused, and says so as described.
	for _, r := range api.Routes() {
		if table := accessTable(phone, "desk")[r.Method+" "+r.Path]; !table.open {
			w.ask("", r.Method, documented(r.Path), table.path, table.body, 401)
			other := "operator"
			if slices.Contains(table.roles, other) {
				other = "app"
			}
			w.ask(other, r.Method, documented(r.Path), table.path, table.body, 403)
			if !r.TakesBody {
				continue
			}
			who := table.roles[0]
			w.ask(who, r.Method, documented(r.Path), table.path, `<x/>`, 415, "Content-Type", "application/xml")
			if r.Streams {
				continue
			}
			w.ask(who, r.Method, documented(r.Path), table.path, `{"x":1}`, 400)
			w.ask(who, r.Method, documented(r.Path), table.path, strings.Repeat(" ", 9*mib), 413)
		}
	}
	for path, item := range w.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				name := method + " " + path + " " + status
				if status[0] == '2' && !w.seen[name] {
					t.Errorf("%s was never seen", name)
				}
			}
		}
	}
	if strings.Contains(h.log.String(), "13800138000") || strings.Contains(h.log.String(), phone) || subjectU1.MatchString(h.log.String()) {
		t.Error("the log holds a value, a token or a subject id")
	}
}
