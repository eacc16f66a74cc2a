package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
)

func tokens(n int) string {
	return `{"purpose":"service","tokens":[` + strings.TrimSuffix(strings.Repeat(`"tok_a",`, n), ",") + `]}`
}

// The body checks are the same for all routes; Echo has them without a vault.
func TestBadInput(t *testing.T) {
	srv, log := echo(t, api.Limits{})
	const path = "/v1/detokenize"
	deep := strings.Repeat("[", 100_000)
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               wire.Code
		detail             string // part of it
	}{
		"broken JSON":                 {body: `{"purpose":"` + marker + `",`, status: 400, code: wire.MalformedRequest, detail: "ends too early"},
		"not JSON":                    {body: `x` + marker, status: 400, code: wire.MalformedRequest, detail: "not valid JSON"},
		"a string only":               {body: `"` + marker + `"`, status: 400, code: wire.MalformedRequest, detail: "expected an object, found a string at the top"},
		"an array":                    {body: `["` + marker + `"]`, status: 400, code: wire.MalformedRequest, detail: "expected an object, found an array"},
		"null":                        {body: `null`, status: 400, code: wire.MalformedRequest, detail: "null at the top"},
		"deep arrays":                 {body: deep, status: 400, code: wire.MalformedRequest},
		"deep in a member":            {body: `{"tokens":` + deep, status: 400, code: wire.MalformedRequest},
		"deep in a token":             {body: `{"tokens":[` + deep, status: 400, code: wire.MalformedRequest},
		"deep and closed":             {body: `{"tokens":[` + deep + strings.Repeat("]", 100_000) + "]}", status: 400, code: wire.MalformedRequest},
		"deep unknown member":         {body: `{"` + marker + `":` + strings.Repeat(`{"a":`, 100_000), status: 400, code: wire.MalformedRequest},
		"unknown member":              {body: `{"purpose":"service","tokens":[],"` + marker + `":1}`, status: 400, code: wire.MalformedRequest, detail: "does not know at the top"},
		"member in another case":      {body: `{"Purpose":"service","tokens":[]}`, status: 400, code: wire.MalformedRequest, detail: "does not know"},
		"duplicate member":            {body: `{"purpose":"` + marker + `","purpose":"x","tokens":[]}`, status: 400, code: wire.MalformedRequest, detail: "twice"},
		"duplicate in another escape": {body: `{"purpose":"x","purp\u006fse":"` + marker + `","tokens":[]}`, status: 400, code: wire.MalformedRequest, detail: "twice"},
		"number for a string":         {body: `{"purpose":"service","tokens":["a",` + marker + `]}`, status: 400, code: wire.MalformedRequest, detail: "expected a string, found a number at /tokens/1"},
		"object for a string":         {body: `{"purpose":{"` + marker + `":1},"tokens":[]}`, status: 400, code: wire.MalformedRequest, detail: "expected a string, found an object at /purpose"},
		"object for an array":         {body: `{"purpose":"service","tokens":{"` + marker + `":"a"}}`, status: 400, code: wire.MalformedRequest, detail: "expected an array, found an object at /tokens"},
		"null token":                  {body: `{"purpose":"service","tokens":["` + marker + `",null]}`, status: 400, code: wire.MalformedRequest, detail: "null at /tokens/1 is not allowed"},
		"null list":                   {body: `{"purpose":"service","tokens":null}`, status: 400, code: wire.MalformedRequest, detail: "null at /tokens"},
		"null purpose":                {body: `{"purpose":null,"tokens":[]}`, status: 400, code: wire.MalformedRequest, detail: "null at /purpose"},
		"no list":                     {body: `{"purpose":"` + marker + `"}`, status: 400, code: wire.MalformedRequest, detail: "tokens is missing"},
		"trailing data":               {body: tokens(1) + `{"` + marker + `":1}`, status: 400, code: wire.MalformedRequest, detail: "more after the JSON value"},
		"trailing word":               {body: tokens(1) + marker, status: 400, code: wire.MalformedRequest, detail: "more after the JSON value"},
		"invalid UTF-8":               {body: "{\"purpose\":\"" + marker + "\xff\",\"tokens\":[]}", status: 400, code: wire.MalformedRequest, detail: "UTF-8"},
		"lone surrogate":              {body: `{"purpose":"` + marker + `\ud800","tokens":[]}`, status: 400, code: wire.MalformedRequest},
		"raw NUL":                     {body: "{\"purpose\":\"" + marker + "\x00\",\"tokens\":[]}", status: 400, code: wire.MalformedRequest},
		"NUL between":                 {body: "{\x00\"purpose\":\"" + marker + "\",\"tokens\":[]}", status: 400, code: wire.MalformedRequest},
		"byte order mark":             {body: "\ufeff" + tokens(1), status: 400, code: wire.MalformedRequest},
		"UTF-16":                      {body: "{\x00}\x00", status: 400, code: wire.MalformedRequest},
		"1,001 items":                 {body: tokens(1001), status: 400, code: wire.MalformedRequest, detail: "at most 1000"},
		"no body":                     {body: "", header: []string{"Content-Type", "application/json"}, status: 400, code: wire.MalformedRequest, detail: "no body"},
		"white space only":            {body: "   ", status: 400, code: wire.MalformedRequest, detail: "ends too early"},

		"no content type":      {body: tokens(1), header: []string{"Content-Type", ""}, status: 415, code: wire.UnsupportedMediaType},
		"other content type":   {body: "tokens=" + marker, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: wire.UnsupportedMediaType},
		"other charset":        {body: tokens(1), header: []string{"Content-Type", "application/json; charset=gbk"}, status: 415, code: wire.UnsupportedMediaType},
		"other parameter":      {body: tokens(1), header: []string{"Content-Type", "application/json; version=" + marker}, status: 415, code: wire.UnsupportedMediaType},
		"broken content type":  {body: tokens(1), header: []string{"Content-Type", "application/json; ;;" + marker}, status: 415, code: wire.UnsupportedMediaType},
		"two content types":    {body: tokens(1), header: []string{"Content-Type", "application/json\ntext/" + marker}, status: 415, code: wire.UnsupportedMediaType},
		"compressed":           {body: tokens(1), header: []string{"Content-Encoding", "gzip"}, status: 415, code: wire.UnsupportedMediaType},
		"two encodings":        {body: tokens(1), header: []string{"Content-Encoding", "identity\nidentity"}, status: 415, code: wire.UnsupportedMediaType},
		"unknown query":        {path: path + "?" + marker + "=1", body: tokens(1), status: 400, code: wire.MalformedRequest, detail: "does not know"},
		"query without a name": {path: path + "?=" + marker, body: tokens(1), status: 400, code: wire.MalformedRequest},
		"query with semicolon": {path: path + "?a;" + marker, body: tokens(1), status: 400, code: wire.MalformedRequest},
		"query broken escape":  {path: path + "?a=%zz" + marker, body: tokens(1), status: 400, code: wire.MalformedRequest},
		"body on GET":          {method: "GET", path: "/healthz", body: `{"` + marker + `":1}`, status: 400, code: wire.MalformedRequest, detail: "no body"},

		"unknown path":            {path: "/v1/" + marker, body: tokens(1), status: 404, code: wire.NotFound},
		"trailing slash":          {path: path + "/", body: tokens(1), status: 404, code: wire.NotFound},
		"two slashes":             {path: "/" + path, body: tokens(1), status: 404, code: wire.NotFound},
		"path in another case":    {path: "/V1/detokenize", body: tokens(1), status: 404, code: wire.NotFound},
		"path in another escape":  {path: "/v1/%64etokenize", body: tokens(1), status: 404, code: wire.NotFound},
		"encoded slash":           {path: "/v1%2fdetokenize", body: tokens(1), status: 404, code: wire.NotFound},
		"dots in the path":        {path: "/v1/x/../detokenize", body: tokens(1), status: 404, code: wire.NotFound},
		"another method":          {method: "PUT", body: tokens(1), status: 405, code: wire.MethodNotAllowed},
		"an invented method":      {method: "X" + marker, body: tokens(1), status: 405, code: wire.MethodNotAllowed},
		"HEAD is not GET":         {method: "OPTIONS", path: path, status: 405, code: wire.MethodNotAllowed},
		"method on no path":       {method: "DELETE", path: "/" + marker, status: 404, code: wire.NotFound},
		"control in the query":    {path: path + "?a=%00" + marker, body: tokens(1), status: 400, code: wire.MalformedRequest},
		"over the query's limits": {path: path + "?" + strings.Repeat("a=1&", 2000), body: tokens(1), status: 400, code: wire.MalformedRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if c.path == "" {
				c.path = path
			}
			if c.method == "" {
				c.method = "POST"
			}
			resp, body := do(t, srv, c.method, c.path, c.body, c.header...)
			p := wantProblem(t, resp, body, c.status, c.code)
			if !strings.Contains(p.Detail, c.detail) {
				t.Errorf("detail %q, want %q in it", p.Detail, c.detail)
			}
			if len(p.Detail) > 200 {
				t.Errorf("detail of %d bytes", len(p.Detail))
			}
			if c.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
			wantSilence(t, resp, body, log)
		})
	}
}

func TestGoodInput(t *testing.T) {
	srv, _ := echo(t, api.Limits{})
	for name, c := range map[string]struct {
		body   string
		header []string
		n      int
	}{
		"plain":                  {body: tokens(2), n: 2},
		"no tokens":              {body: tokens(0), n: 0},
		"1,000 tokens":           {body: tokens(1000), n: 1000},
		"charset":                {body: tokens(1), header: []string{"Content-Type", "application/json; charset=UTF-8"}, n: 1},
		"another spelling":       {body: tokens(1), header: []string{"Content-Type", "Application/JSON"}, n: 1},
		"identity encoding":      {body: tokens(1), header: []string{"Content-Encoding", "identity"}, n: 1},
		"null as text":           {body: `{"purpose":"null","tokens":["null"]}`, n: 1},
		"escaped NUL in a value": {body: `{"purpose":"service","tokens":["\u0000"]}`, n: 1},
		"white space":            {body: " \r\n\t" + tokens(1) + "\n", n: 1},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := do(t, srv, "POST", "/v1/detokenize", c.body, c.header...)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
			}
			wantHeaders(t, resp)
			if resp.ContentLength != int64(len(body)) {
				t.Errorf("Content-Length %d of %d", resp.ContentLength, len(body))
			}
			var out wire.Detokenized
			if err := json.Unmarshal([]byte(body), &out, json.RejectUnknownMembers(true)); err != nil {
				t.Fatal(err)
			}
			if len(out.Items) != c.n || strings.Contains(body, `"items":null`) {
				t.Errorf("%d items, want %d", len(out.Items), c.n)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	srv, _ := echo(t, api.Limits{})
	for name, c := range map[string]struct {
		id   string
		kept bool
	}{
		"plain":        {"order-77:retry.2_x", true},
		"longest":      {strings.Repeat("a", 128), true},
		"too long":     {strings.Repeat("a", 129), false},
		"space":        {"a b", false},
		"percent":      {"a%0a", false},
		"slash":        {"a/b", false},
		"not ASCII":    {"订单", false},
		"two headers":  {"a\nb", false},
		"quote":        {`a"b`, false},
		"one, missing": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			resp, _ := do(t, srv, "GET", "/healthz", "", "X-Request-Id", c.id)
			got := resp.Header.Get("X-Request-Id")
			if c.kept && got != c.id {
				t.Errorf("%q became %q", c.id, got)
			}
			if !c.kept && len(got) != 32 {
				t.Errorf("%q gave %q", c.id, got)
			}
		})
	}
	first, _ := do(t, srv, "GET", "/healthz", "")
	second, _ := do(t, srv, "GET", "/healthz", "")
	if first.Header.Get("X-Request-Id") == second.Header.Get("X-Request-Id") {
		t.Error("two requests have one id")
	}
}
