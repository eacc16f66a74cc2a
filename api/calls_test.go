package api_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

func TestLifeOfASubject(t *testing.T) {
	h := newHouse(t)
	const u1 = "/v1/subjects/u1"
	put := must[wire.SubjectTokens](h, 201, "app", "PUT", u1, `{"fields":{"phone":"138 0013 8000","name":"张三"}}`)
	if !put.Created || put.Subject != "u1" || len(put.Tokens) != 2 {
		t.Fatalf("%d tokens of %s", len(put.Tokens), put.Subject)
	}
	again := must[wire.SubjectTokens](h, 200, "app", "PUT", u1, `{"fields":{"phone":"+86 13800138000"}}`)
	if again.Created || again.Tokens["phone"] != put.Tokens["phone"] {
		t.Error("another spelling of a value got another token")
	}
	full := must[wire.Subject](h, 200, "app", "GET", u1+"?purpose=service&fields=phone,name", "")
	if f := full.Fields["phone"]; string(f.Value) != "+86 13800138000" || f.View != "full" || f.Kind != "phone" || f.Token != put.Tokens["phone"] || time.Since(f.UpdatedAt) > time.Minute {
		t.Errorf("view %s, kind %s, %q", f.View, f.Kind, string(f.Value))
	}
	masked := must[wire.Subject](h, 200, "support", "GET", u1+"?purpose=support&view=masked", "")
	if f := masked.Fields["phone"]; !strings.Contains(string(f.Value), "*") || f.View != "masked" {
		t.Errorf("masked: %q, %s", string(f.Value), f.View)
	}
	resp, body := h.as("support", "GET", u1+"?purpose=support&view=full", "")
	wantProblem(t, resp, body, 403, wire.Forbidden)

	open := must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize",
		fmt.Sprintf(`{"purpose":"service","tokens":[%q,%q,%q]}`, string(put.Tokens["name"]), "tok_wrong", string(put.Tokens["phone"])))
	if got := open.Items; len(got) != 3 || got[0].Value == nil || string(*got[0].Value) != "张三" || got[1].Error == nil || got[1].Error.Code != wire.TokenMalformed ||
		string(got[1].Token) != "tok_wrong" || got[2].Value == nil || string(*got[2].Value) != "+86 13800138000" {
		t.Errorf("outcomes out of order: %d", len(got))
	}

	patched := must[wire.SubjectTokens](h, 200, "app", "PATCH", u1, `{"fields":{"name":null,"email":{"value":"zhang@example.com","source":"partner:dealer-7","authorization":"contract"}}}`)
	if keys := slices.Sorted(maps.Keys(patched.Tokens)); !slices.Equal(keys, []string{"email"}) {
		t.Errorf("tokens of %v", keys)
	}
	left := must[wire.Subject](h, 200, "app", "GET", u1+"?purpose=service", "")
	if keys := slices.Sorted(maps.Keys(left.Fields)); !slices.Equal(keys, []string{"email", "phone"}) {
		t.Errorf("fields %v", keys)
	}
	list := must[wire.SubjectList](h, 200, "operator", "GET", "/v1/subjects", "")
	if len(list.Subjects) != 1 || list.Subjects[0].Subject != "u1" {
		t.Errorf("%d subjects", len(list.Subjects))
	}

	resp, certificate := h.as("app", "DELETE", u1, `{"reason":"asked for it"}`)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", resp.StatusCode, certificate)
	}
	one := must[struct {
		Erasures []map[string]any `json:"erasures"`
	}](h, 200, "officer", "GET", "/v1/erasures", "")
	id := one.Erasures[0]["erasure"].(string)
	if _, same := h.as("officer", "GET", "/v1/erasures/"+id, ""); same != certificate {
		t.Errorf("the certificate reads otherwise than it was given:\n%s\n%s", same, certificate)
	}
	for _, c := range [][2]string{{"GET", u1 + "?purpose=service"}, {"DELETE", u1}} {
		resp, body := h.as("app", c[0], c[1], "")
		wantProblem(t, resp, body, 410, wire.SubjectErased)
	}
	closed := must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", fmt.Sprintf(`{"purpose":"service","tokens":[%q]}`, string(put.Tokens["phone"])))
	if e := closed.Items[0].Error; e == nil || e.Code != wire.SubjectErased {
		t.Errorf("the token of an erased subject: %+v", e)
	}
	resp, body = h.as("app", "PUT", u1+"?recreate=false", `{"fields":{"name":"王五"}}`)
	wantProblem(t, resp, body, 410, wire.SubjectErased)
	anew := must[wire.SubjectTokens](h, 201, "app", "PUT", u1+"?recreate=true", `{"fields":{"phone":"138 0013 8000"}}`)
	if anew.Tokens["phone"] == put.Tokens["phone"] {
		t.Error("a subject that begins anew has its old token")
	}
}

// What the vault judges, and what only a route with a vault refuses. Nothing of it comes back.
func TestBadCalls(t *testing.T) {
	h := newHouse(t)
	must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", `{"fields":{"name":"张三"}}`)
	detok := func(members string) string { return `{"tokens":["tok_` + marker + `"],` + members + `}` }
	for name, c := range map[string]struct {
		role, method, path, body string
		header                   []string
		status                   int
		code                     wire.Code
		detail                   string
	}{
		"no fields":                 {method: "PUT", body: `{}`, status: 400, code: wire.MalformedRequest, detail: "fields is missing"},
		"fields null":               {method: "PUT", body: `{"fields":null}`, status: 400, code: wire.MalformedRequest, detail: "null at /fields"},
		"field null in PUT":         {method: "PUT", body: `{"fields":{"name":null}}`, status: 400, code: wire.MalformedRequest, detail: "PATCH"},
		"field a number":            {method: "PUT", body: `{"fields":{"phone":` + marker + `}}`, status: 400, code: wire.MalformedRequest, detail: "expected a string, found a number at /fields/*"},
		"field a list":              {method: "PUT", body: `{"fields":{"` + marker + `":["` + marker + `"]}}`, status: 400, code: wire.MalformedRequest, detail: "found an array at /fields/*"},
		"field twice":               {method: "PUT", body: `{"fields":{"` + marker + `":"a","` + marker + `":"b"}}`, status: 400, code: wire.MalformedRequest, detail: "twice"},
		"provenance without value":  {method: "PUT", body: `{"fields":{"phone":{"source":"` + marker + `"}}}`, status: 400, code: wire.MalformedRequest, detail: "the member value is missing at /fields/*"},
		"provenance with null":      {method: "PUT", body: `{"fields":{"phone":{"value":null,"source":"` + marker + `"}}}`, status: 400, code: wire.MalformedRequest},
		"provenance, null source":   {method: "PUT", body: `{"fields":{"phone":{"value":"` + marker + `","source":null}}}`, status: 400, code: wire.MalformedRequest, detail: "null at /fields/*/source"},
		"provenance, unknown":       {method: "PUT", body: `{"fields":{"phone":{"value":"` + marker + `","` + marker + `":1}}}`, status: 400, code: wire.MalformedRequest, detail: "does not know at /fields/*"},
		"provenance, wrong type":    {method: "PUT", body: `{"fields":{"phone":{"value":["` + marker + `"]}}}`, status: 400, code: wire.MalformedRequest, detail: "/fields/*/value"},
		"provenance, twice":         {method: "PUT", body: `{"fields":{"phone":{"value":"` + marker + `","value":"x"}}}`, status: 400, code: wire.MalformedRequest, detail: "twice"},
		"escaped NUL in a value":    {method: "PUT", body: `{"fields":{"name":"` + marker + `\u0000"}}`, status: 422, code: wire.InvalidValue},
		"escaped NUL in a name":     {method: "PUT", body: `{"fields":{"` + marker + `\u0000":"x"}}`, status: 422, code: wire.UnknownField},
		"a value for a field":       {method: "PUT", body: `{"fields":{"` + marker + `":"x"}}`, status: 422, code: wire.UnknownField},
		"an invalid value":          {method: "PUT", body: `{"fields":{"phone":"` + marker + `9"}}`, status: 422, code: wire.InvalidValue},
		"recreate otherwise":        {method: "PUT", path: "/v1/subjects/u1?recreate=" + marker, body: `{"fields":{"name":"x"}}`, status: 400, code: wire.MalformedRequest, detail: "true or false"},
		"recreate twice":            {method: "PUT", path: "/v1/subjects/u1?recreate=true&recreate=true", body: `{"fields":{"name":"x"}}`, status: 400, code: wire.MalformedRequest, detail: "twice"},
		"recreate in DELETE":        {method: "DELETE", path: "/v1/subjects/u1?recreate=true", status: 400, code: wire.MalformedRequest, detail: "knows none"},
		"a phone number as subject": {method: "PUT", path: "/v1/subjects/" + marker, body: `{"fields":{"name":"x"}}`, status: 422, code: wire.IdentifyingSubjectID},
		"with a country code":       {method: "PUT", path: "/v1/subjects/86" + marker, body: `{"fields":{"name":"x"}}`, status: 422, code: wire.IdentifyingSubjectID},
		"a resident id as subject":  {method: "PUT", path: "/v1/subjects/11010519491231002X", body: `{"fields":{"name":"x"}}`, status: 422, code: wire.IdentifyingSubjectID},
		"a plus in the subject":     {method: "PUT", path: "/v1/subjects/a+b", body: `{"fields":{"name":"x"}}`, status: 422, code: wire.InvalidSubjectID},
		"a slash in the subject":    {method: "PUT", path: "/v1/subjects/a%2F" + marker, body: `{"fields":{"name":"x"}}`, status: 422, code: wire.InvalidSubjectID},
		"another route inside":      {method: "DELETE", path: "/v1/subjects/u1%2Ffields%2Fname", status: 422, code: wire.InvalidSubjectID},
		"escaped twice":             {method: "PUT", path: "/v1/subjects/%2561", body: `{"fields":{"name":"x"}}`, status: 422, code: wire.InvalidSubjectID},
		"dots for a subject":        {method: "DELETE", path: "/v1/subjects/%2e%2e", status: 422, code: wire.InvalidSubjectID},
		"NUL in the subject":        {method: "DELETE", path: "/v1/subjects/u1%00", status: 422, code: wire.InvalidSubjectID},
		"a long subject":            {method: "DELETE", path: "/v1/subjects/" + strings.Repeat("a", 129), status: 422, code: wire.InvalidSubjectID},
		"no subject":                {method: "DELETE", path: "/v1/subjects/", status: 404, code: wire.NotFound},
		"a slash more":              {method: "DELETE", path: "/v1/subjects/u1/", status: 404, code: wire.NotFound},
		"a slash in the field":      {method: "DELETE", path: "/v1/subjects/u1/fields/a%2f" + marker, status: 422, code: wire.UnknownField},

		"no purpose":             {method: "GET", status: 400, code: wire.MalformedRequest, detail: "purpose is missing"},
		"empty purpose":          {method: "GET", path: "/v1/subjects/u1?purpose=", status: 400, code: wire.MalformedRequest, detail: "purpose is missing"},
		"unknown purpose":        {method: "GET", path: "/v1/subjects/u1?purpose=p" + marker, status: 403, code: wire.PurposeNotAllowed},
		"purpose with a control": {method: "GET", path: "/v1/subjects/u1?purpose=a%0a" + marker, status: 400, code: wire.MalformedRequest},
		"purpose twice":          {method: "GET", path: "/v1/subjects/u1?purpose=service&purpose=service", status: 400, code: wire.MalformedRequest, detail: "purpose stands twice"},
		"unknown view":           {method: "GET", path: "/v1/subjects/u1?purpose=service&view=" + marker, status: 400, code: wire.MalformedRequest, detail: "masked or full"},
		"empty list of fields":   {method: "GET", path: "/v1/subjects/u1?purpose=service&fields=", status: 400, code: wire.MalformedRequest},
		"fields with a gap":      {method: "GET", path: "/v1/subjects/u1?purpose=service&fields=name,,phone", status: 400, code: wire.MalformedRequest},
		"unknown field":          {method: "GET", path: "/v1/subjects/u1?purpose=service&fields=" + marker, status: 422, code: wire.UnknownField},
		"consent":                {method: "GET", path: "/v1/subjects/u1?purpose=ads", status: 403, code: wire.ConsentRequired},
		"body on a read":         {method: "GET", path: "/v1/subjects/u1?purpose=service", body: `{}`, status: 400, code: wire.MalformedRequest, detail: "no body"},

		"limit 0":         {role: "operator", method: "GET", path: "/v1/subjects?limit=0", status: 400, code: wire.MalformedRequest, detail: "1 to 1000"},
		"limit 1,001":     {role: "operator", method: "GET", path: "/v1/subjects?limit=1001", status: 400, code: wire.MalformedRequest},
		"limit negative":  {role: "operator", method: "GET", path: "/v1/services?limit=-1", status: 400, code: wire.MalformedRequest},
		"limit no number": {role: "operator", method: "GET", path: "/v1/services?limit=" + marker + "x", status: 400, code: wire.MalformedRequest},
		"limit +1":        {role: "operator", method: "GET", path: "/v1/services?limit=%2B1", status: 400, code: wire.MalformedRequest},
		"limit 01":        {role: "officer", method: "GET", path: "/v1/erasures?limit=01", status: 400, code: wire.MalformedRequest},
		"limit empty":     {role: "officer", method: "GET", path: "/v1/erasures?limit=", status: 400, code: wire.MalformedRequest},
		"foreign cursor":  {role: "operator", method: "GET", path: "/v1/subjects?cursor=" + marker, status: 400, code: wire.MalformedRequest},
		"cursor controls": {role: "operator", method: "GET", path: "/v1/subjects?cursor=%00", status: 400, code: wire.MalformedRequest},

		"detokenize, no purpose":     {method: "POST", path: "/v1/detokenize", body: `{"tokens":["` + marker + `"]}`, status: 400, code: wire.MalformedRequest, detail: "purpose is missing"},
		"detokenize, view":           {method: "POST", path: "/v1/detokenize", body: detok(`"purpose":"service","view":"` + marker + `"`), status: 400, code: wire.MalformedRequest, detail: "masked or full"},
		"detokenize, long reason":    {method: "POST", path: "/v1/detokenize", body: detok(`"purpose":"service","reason":"` + strings.Repeat("a", 257) + `"`), status: 400, code: wire.MalformedRequest, detail: "256 bytes"},
		"detokenize, control":        {method: "POST", path: "/v1/detokenize", body: detok(`"purpose":"service","reason":"a\n` + marker + `"`), status: 400, code: wire.MalformedRequest, detail: "256 bytes"},
		"detokenize, line separator": {method: "POST", path: "/v1/detokenize", body: detok(`"purpose":"service","reason":"a\u2028"`), status: 400, code: wire.MalformedRequest, detail: "256 bytes"},
		"erase, control":             {method: "DELETE", body: `{"reason":"a\u0000` + marker + `"}`, status: 400, code: wire.MalformedRequest, detail: "256 bytes"},
		"erase field, long reason":   {method: "DELETE", path: "/v1/subjects/u1/fields/name", body: `{"reason":"` + strings.Repeat("长", 86) + `"}`, status: 400, code: wire.MalformedRequest, detail: "256 bytes"},
		"inspect 1,001":              {method: "POST", path: "/v1/tokens/inspect", body: `{"tokens":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`, status: 400, code: wire.MalformedRequest, detail: "1000"},
		"tokenize 1,001":             {method: "POST", path: "/v1/tokenize", body: `{"items":[` + strings.Repeat(`{},`, 1000) + `{}]}`, status: 400, code: wire.MalformedRequest, detail: "1000"},
		"tokenize, item a string":    {method: "POST", path: "/v1/tokenize", body: `{"items":["` + marker + `"]}`, status: 400, code: wire.MalformedRequest, detail: "expected an object, found a string at /items/0"},
		"tokenize, unknown member":   {method: "POST", path: "/v1/tokenize", body: `{"items":[{},{"` + marker + `":1}]}`, status: 400, code: wire.MalformedRequest, detail: "at /items/1"},
		"tokenize, single_use text":  {method: "POST", path: "/v1/tokenize", body: `{"items":[{"single_use":"` + marker + `"}]}`, status: 400, code: wire.MalformedRequest, detail: "expected true or false, found a string at /items/0/single_use"},

		"idempotency key, empty":    {method: "PUT", body: `{"fields":{"name":"x"}}`, header: []string{"Idempotency-Key", " "}, status: 400, code: wire.MalformedRequest, detail: "Idempotency-Key"},
		"idempotency key, long":     {method: "PUT", body: `{"fields":{"name":"x"}}`, header: []string{"Idempotency-Key", strings.Repeat("a", 129)}, status: 400, code: wire.MalformedRequest, detail: "Idempotency-Key"},
		"idempotency key, Chinese":  {method: "PUT", body: `{"fields":{"name":"x"}}`, header: []string{"Idempotency-Key", "订单" + marker}, status: 400, code: wire.MalformedRequest, detail: "Idempotency-Key"},
		"idempotency key, two":      {method: "PUT", body: `{"fields":{"name":"x"}}`, header: []string{"Idempotency-Key", "a\n" + marker}, status: 400, code: wire.MalformedRequest, detail: "Idempotency-Key"},
		"service, a role that isnt": {role: "operator", method: "POST", path: "/v1/services", body: `{"name":"desk","role":"` + marker + `"}`, status: 400, code: wire.MalformedRequest},
		"service, a name that isnt": {role: "operator", method: "POST", path: "/v1/services", body: `{"name":"` + marker + `","role":"app"}`, status: 400, code: wire.MalformedRequest},
		"key with a body":           {role: "operator", method: "POST", path: "/v1/services/app/keys", body: `{"` + marker + `":1}`, status: 400, code: wire.MalformedRequest},
		"no such service":           {role: "operator", method: "DELETE", path: "/v1/services/" + marker, status: 404, code: wire.NotFound},
		"no such key":               {role: "operator", method: "DELETE", path: "/v1/services/app/keys/" + marker, status: 404, code: wire.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if c.role == "" {
				c.role = "app"
			}
			if c.path == "" {
				c.path = "/v1/subjects/u1"
			}
			resp, body := h.as(c.role, c.method, c.path, c.body, c.header...)
			p := wantProblem(t, resp, body, c.status, c.code)
			if !strings.Contains(p.Detail, c.detail) {
				t.Errorf("detail %q, want %q in it", p.Detail, c.detail)
			}
			wantSilence(t, resp, body, h.log)
		})
	}
}

func TestBatchWithBadItems(t *testing.T) {
	h := newHouse(t)
	const n = 1000
	bad := func(i int) bool { return i%10 < 3 } // 300 of them
	var items []string
	for i := range n {
		item := fmt.Sprintf(`{"subject":"u%d","field":"text","value":"note %d"}`, i%50, i)
		if bad(i) {
			item = []string{
				fmt.Sprintf(`{"subject":"u%d","field":"phone","value":"12-%d"}`, i%50, i),
				fmt.Sprintf(`{"subject":"u%d","field":"name","value":"x","ttl":"%d"}`, i%50, i),
				fmt.Sprintf(`{"subject":"a/%d","field":"name","value":"x"}`, i),
			}[i%10]
		}
		items = append(items, item)
	}
	out := must[wire.Tokenized](h, 200, "app", "POST", "/v1/tokenize", `{"items":[`+strings.Join(items, ",")+`]}`)
	if len(out.Items) != n {
		t.Fatalf("%d outcomes", len(out.Items))
	}
	want := []wire.Code{wire.InvalidValue, wire.MalformedRequest, wire.InvalidSubjectID}
	var tokens []string
	for i, o := range out.Items {
		switch {
		case bad(i) && (o.Error == nil || o.Error.Code != want[i%10]):
			t.Fatalf("item %d: %+v, want %s", i, o.Error, want[i%10])
		case !bad(i) && (o.Error != nil || o.Token == ""):
			t.Fatalf("item %d: %+v", i, o.Error)
		}
		tokens = append(tokens, fmt.Sprintf("%q", string(o.Token))) // "" where there is none: malformed
	}
	back := must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", `{"purpose":"service","tokens":[`+strings.Join(tokens, ",")+`]}`)
	if len(back.Items) != n {
		t.Fatalf("%d outcomes", len(back.Items))
	}
	for i, o := range back.Items {
		if bad(i) {
			if o.Error == nil || o.Error.Code != wire.TokenMalformed || o.Value != nil {
				t.Fatalf("item %d: %+v", i, o.Error)
			}
			continue
		}
		last := i%50 + 950 // the last value set for that subject; its token is the same throughout
		if o.Error != nil || o.Value == nil || string(*o.Value) != fmt.Sprintf("note %d", last) {
			t.Fatalf("item %d: %+v", i, o.Error)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	h := newHouse(t)
	key := []string{"Idempotency-Key", "order-77"}
	item := `{"items":[{"subject":"u1","field":"phone","value":"13900139000","ttl":"1h"}]}`
	first := must[wire.Tokenized](h, 200, "app", "POST", "/v1/tokenize", item, key...)
	second := must[wire.Tokenized](h, 200, "app", "POST", "/v1/tokenize", item, key...)
	if first.Items[0].Token != second.Items[0].Token {
		t.Error("the same request made another token")
	}
	if third := must[wire.Tokenized](h, 200, "app", "POST", "/v1/tokenize", item); third.Items[0].Token == first.Items[0].Token {
		t.Error("a request without the key made the same token")
	}
	const fields = `{"fields":{"name":"张三"}}`
	must[wire.SubjectTokens](h, 200, "app", "PUT", "/v1/subjects/u1", fields, "Idempotency-Key", "order-78")
	for name, c := range map[string][3]string{
		"another body":   {"PUT", "/v1/subjects/u1", fields + " "},
		"another path":   {"PUT", "/v1/subjects/u2", fields},
		"another method": {"PATCH", "/v1/subjects/u1", fields},
		"another query":  {"PUT", "/v1/subjects/u1?recreate=false", fields},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := h.as("app", c[0], c[1], c[2], "Idempotency-Key", "order-78")
			wantProblem(t, resp, body, 409, wire.IdempotencyMismatch)
		})
	}
	// Reading never replays, so it does not look at the key either.
	for range 2 {
		token := string(first.Items[0].Token)
		must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", fmt.Sprintf(`{"purpose":"service","tokens":[%q]}`, token), "Idempotency-Key", "订")
		must[wire.TokenStates](h, 200, "app", "POST", "/v1/tokens/inspect", fmt.Sprintf(`{"tokens":[%q]}`, token), key...)
	}
	must[wire.ServiceKey](h, 201, "operator", "POST", "/v1/services", `{"name":"desk","role":"support"}`, key...)
	resp, body := h.as("operator", "POST", "/v1/services", `{"name":"desk","role":"support"}`, key...)
	wantProblem(t, resp, body, 409, wire.Conflict)
}

// Who called, why and with which request reaches the audit log.
func TestAuditKnowsTheCall(t *testing.T) {
	h := newHouse(t)
	put := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", `{"fields":{"name":"张三"}}`, "X-Request-Id", "rid-put")
	must[wire.Subject](h, 200, "support", "GET", "/v1/subjects/u1?purpose=support", "", "X-Request-Id", "rid-get")
	must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize",
		fmt.Sprintf(`{"purpose":"service","reason":"order 77","tokens":[%q]}`, string(put.Tokens["name"])), "X-Request-Id", "rid-open")
	must[map[string]any](h, 200, "officer", "DELETE", "/v1/subjects/u1/fields/name", `{"reason":"wish 1"}`, "X-Request-Id", "rid-field")
	must[map[string]any](h, 200, "officer", "DELETE", "/v1/subjects/u1", `{"reason":"wish 2"}`, "X-Request-Id", "rid-erase")
	files, err := filepath.Glob(filepath.Join(h.dir, "audit", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(text), "\n")...)
	}
	for id, words := range map[string][]string{
		"rid-put":   {`"app"`, "127.0.0.1"},
		"rid-get":   {`"support"`, "127.0.0.1"},
		"rid-open":  {`"app"`, "order 77", `"service"`},
		"rid-field": {`"officer"`, "wish 1"},
		"rid-erase": {`"officer"`, "wish 2"},
	} {
		i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, id) })
		if i < 0 {
			t.Errorf("no entry of %s", id)
			continue
		}
		for _, w := range words {
			if !strings.Contains(lines[i], w) {
				t.Errorf("the entry of %s lacks %s: %s", id, w, lines[i])
			}
		}
	}
}

func TestPages(t *testing.T) {
	h := newHouse(t)
	for i := range 7 {
		must[wire.SubjectTokens](h, 201, "app", "PUT", fmt.Sprintf("/v1/subjects/u%d", i), `{"fields":{"name":"x"}}`)
	}
	seen := map[string]bool{}
	cursor := ""
	for pages := 0; ; pages++ {
		path := "/v1/subjects?limit=3"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		page := must[wire.SubjectList](h, 200, "operator", "GET", path, "")
		for _, s := range page.Subjects {
			seen[s.Subject] = true
		}
		if cursor = page.NextCursor; cursor == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d subjects on all pages", len(seen))
	}
	if list := must[wire.ErasureList](h, 200, "officer", "GET", "/v1/erasures", ""); list.Erasures == nil {
		t.Error("an empty list is null")
	}
	services := must[wire.ServiceList](h, 200, "operator", "GET", "/v1/services", "")
	if len(services.Services) != 4 || len(services.Services[0].Keys) != 1 {
		t.Errorf("%+v", services)
	}
}
