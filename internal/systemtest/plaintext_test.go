package systemtest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/sample"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// customer is one person with all that may stand nowhere.
type customer struct {
	id            string
	values        fields
	authorization string
	tokens        map[string]string
}

// customers returns the sample with texts, sources and spellings of its own.
func customers(t testing.TB) []*customer {
	t.Helper()
	rows, err := sample.Customers()
	if err != nil {
		t.Fatal(err)
	}
	var out []*customer
	for i, row := range rows {
		c := &customer{id: row.ID, authorization: fmt.Sprintf("signed-form-%05d-of-the-dealer", i), values: fields{
			"phone": row.Phone, "name": row.Name, "address": row.Address, "email": row.Email,
			"text": fmt.Sprintf("allergic to penicillin no. %05d\n对青霉素过敏", i),
		}}
		out = append(out, c)
	}
	// Spellings that the sample does not have.
	for i, values := range []fields{
		{"phone": "１６４００１３８０００", "name": "买买提•吐尔逊", "email": "张三丰@例子.中国", "address": "上海市浦东新区世纪大道１号", "text": "<script>alert('x')</script>"},
		{"phone": "008616100138001", "name": "ZHANG  San-Feng", "email": "Zhang+Tag@Example.COM", "address": "No. 1, Example Road, 100000", "text": "quotes \" and \\ and \t tabs"},
		{"phone": "010-12345678", "name": "张\u200b三丰\u200b王", "email": "o'neil@example.org", "address": "北京市海淀区中关村大街２７号（Ａ座）", "text": "𠮷野家的卡号忘记了"},
	} {
		out = append(out, &customer{id: fmt.Sprintf("crm:kunde_%03d.x", i), values: values, authorization: fmt.Sprintf("verbal consent of call %d", i)})
	}
	return out
}

// watch adds all that is secret of a customer.
func (c *customer) watch(t testing.TB, s *scanner) {
	t.Helper()
	kinds := tokenizer.NewKinds(tokenizer.Options{})
	s.add("id of "+c.id, c.id)
	s.add("authorization of "+c.id, c.authorization)
	for name, value := range c.values {
		what := name + " of " + c.id
		s.add(what, value)
		kind, ok := kinds.Lookup(name)
		if !ok {
			t.Fatalf("no kind %s", name)
		}
		canonical, err := kind.Canonical(value)
		if err != nil {
			t.Fatal(what, err)
		}
		form := canonical.Text.Reveal()
		s.add(what+", canonical", form)
		if name == "phone" {
			number, _, _ := strings.Cut(strings.TrimPrefix(form, "+"), ";")
			s.add(what+", digits", number)
			s.add(what+", national", strings.TrimPrefix(number, "86"))
		}
	}
	for name, token := range c.tokens {
		s.add("token of "+name+" of "+c.id, token)
	}
}

// quiet collects what a person's data must not stand in, by where it stood, and what it must stand in.
type quiet struct {
	mu    sync.Mutex
	parts map[string][]byte
	shown []byte
}

func (q *quiet) add(where string, data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.parts[where] = append(append(q.parts[where], data...), '\n')
}

// answer keeps the header of every answer and the body of every error.
func (q *quiet) answer(a answer) {
	for name, values := range a.header {
		q.add("response headers", []byte(name+": "+strings.Join(values, ", ")))
	}
	if a.status >= 300 {
		q.add("error bodies", a.body)
	}
}

func TestNoPlaintextAnywhere(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data, "--log-format", "text")
	q := &quiet{parts: map[string][]byte{}}
	s.seen = q.answer
	all := customers(t)

	fill(t, s, q, all)
	desk := addService(t, s, "desk", "support")
	readAll(t, s, q, all)
	refusals(t, s, desk, q, all)
	q.add("metrics", s.must(t, 200, "", "GET", "/metrics", nil).body)
	s.mustStop(t)
	q.add("log", s.log.bytes())

	// The rest with the other form of the log, and with rows that a start has read.
	s = start(t, data, "--log-format", "json")
	s.seen = q.answer
	eraseSome(t, s, all[:200])
	refusals(t, s, desk, q, all)
	readAll(t, s, q, all[200:])
	q.add("metrics", s.must(t, 200, "", "GET", "/metrics", nil).body)
	q.add("answers of the operator", s.must(t, 200, s.root, "GET", "/v1/services", nil).body)
	q.add("answers of the operator", s.must(t, 200, s.root, "GET", "/v1/keys", nil).body)
	q.add("answers of the officer", s.must(t, 200, s.officer, "GET", "/v1/erasures?limit=1000", nil).body)
	s.mustStop(t)
	q.add("log", s.log.bytes())

	persons, secrets := newScanner(), newScanner()
	for _, c := range all {
		c.watch(t, persons)
	}
	for _, key := range []string{s.app, s.officer, s.root, desk} {
		secrets.add("an API key", key)
		secrets.add("an API key's secret", key[strings.LastIndexByte(key, '_')+1:])
	}
	watchKeyring(t, secrets, data+".keyring")

	if found, hits := persons.find(q.shown); hits < 3*len(all) || len(found) == 0 {
		t.Errorf("only %d values are found in what was shown on purpose: the scan does not work", hits)
	}
	files := 0
	err := filepath.WalkDir(filepath.Dir(data), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		report(t, persons, path, text)
		report(t, persons, "the name of "+path, []byte(path))
		if !strings.HasSuffix(path, ".key") && !strings.Contains(filepath.Base(path), ".keyring") {
			report(t, secrets, path, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 12 {
		t.Errorf("only %d files were scanned", files)
	}
	for where, text := range q.parts {
		if len(text) < 500 {
			t.Errorf("of %s only %d bytes were scanned", where, len(text))
		}
		report(t, persons, where, text)
		report(t, secrets, where, text)
	}
	report(t, secrets, "what was shown", q.shown)
	mustVerifyAudit(t, data)
}

func report(t testing.TB, s *scanner, where string, text []byte) {
	t.Helper()
	found, hits := s.find(text)
	if hits > 0 {
		t.Errorf("%s: %d times, such as %q", where, hits, found[:min(len(found), 8)])
	}
}

// watchKeyring adds the two keys of a keyring file that is not sealed (layout: keys/local).
func watchKeyring(t testing.TB, s *scanner, path string) {
	t.Helper()
	const header, entry, key, sum = 30, 13, 32, 32
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(file) != header+1+2*(entry+key)+sum {
		t.Fatalf("a keyring of %d bytes is laid out in another way", len(file))
	}
	for n := range 2 {
		at := header + 1 + n*(entry+key) + entry
		for from := 0; from <= key-16; from += 8 {
			s.add(fmt.Sprintf("key %d of the keyring", n), string(file[at+from:at+from+16]))
		}
	}
}

// fill puts everybody, one half by PUT and one by POST /v1/tokenize, with idempotency keys that are themselves secret.
func fill(t *testing.T, s *server, q *quiet, all []*customer) {
	t.Helper()
	mustAll(t, len(all), func(i int) error {
		c := all[i]
		c.tokens = map[string]string{}
		if i%2 == 0 {
			set := map[string]any{}
			for name, value := range c.values {
				set[name] = value
			}
			set["name"] = map[string]string{"value": c.values["name"], "source": "partner:dealer-7", "authorization": c.authorization}
			for range 2 { // once more: the same answer, from the idempotency row
				a, err := s.call(s.app, "PUT", "/v1/subjects/"+c.id, map[string]any{"fields": set}, "Idempotency-Key", c.id+"/"+url.PathEscape(c.values["email"]))
				if err != nil || a.status/100 != 2 {
					return fmt.Errorf("put: %d %s %w", a.status, a.body, err)
				}
				var p put
				if err := json.Unmarshal(a.body, &p); err != nil {
					return err
				}
				maps.Copy(c.tokens, p.Tokens)
			}
			return nil
		}
		var order []string
		var list []map[string]any
		for name, value := range c.values {
			order = append(order, name)
			list = append(list, map[string]any{"subject": c.id, "field": name, "value": value, "ttl": "24h"})
		}
		a, err := s.call(s.app, "POST", "/v1/tokenize", map[string]any{"items": list}, "Idempotency-Key", c.id)
		if err != nil || a.status != 200 {
			return fmt.Errorf("tokenize: %d %s %w", a.status, a.body, err)
		}
		var got items
		if err := json.Unmarshal(a.body, &got); err != nil {
			return err
		}
		for n, it := range got.Items {
			if it.Token == "" {
				return fmt.Errorf("tokenize: %s", a.body)
			}
			c.tokens[order[n]] = it.Token
		}
		return nil
	})
}

func addService(t *testing.T, s *server, name, role string) string {
	t.Helper()
	var made struct {
		Key string `json:"key"`
	}
	s.must(t, 201, s.root, "POST", "/v1/services", map[string]string{"name": name, "role": role}).into(t, &made)
	return made.Key
}

// readAll shows everybody's values, which must be right.
func readAll(t *testing.T, s *server, q *quiet, all []*customer) {
	t.Helper()
	mustAll(t, len(all), func(i int) error {
		c := all[i]
		if i%2 == 0 {
			a, err := s.call(s.app, "GET", get(c.id), nil)
			if err != nil || a.status != 200 {
				return fmt.Errorf("get: %d %s %w", a.status, a.body, err)
			}
			var got put
			if err := json.Unmarshal(a.body, &got); err != nil {
				return err
			}
			if fault := differs(got, c.values); fault != "" {
				return fmt.Errorf("%s: %s", c.id, fault)
			}
			q.show(a.body)
			return nil
		}
		var order, tokens []string
		for name, token := range c.tokens {
			order, tokens = append(order, name), append(tokens, token)
		}
		a, err := s.call(s.app, "POST", "/v1/detokenize", detokenizeBody(tokens...))
		if err != nil || a.status != 200 {
			return fmt.Errorf("detokenize: %d %s %w", a.status, a.body, err)
		}
		var got items
		if err := json.Unmarshal(a.body, &got); err != nil {
			return err
		}
		for n, it := range got.Items {
			if it.Value != c.values[order[n]] {
				return fmt.Errorf("%s: %s is %q", c.id, order[n], it.Value)
			}
		}
		q.show(a.body)
		return nil
	})
}

func (q *quiet) show(body []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shown = append(q.shown, body...)
}

func eraseSome(t *testing.T, s *server, some []*customer) {
	t.Helper()
	mustAll(t, len(some), func(i int) error {
		c := some[i]
		path := "/v1/subjects/" + c.id
		if i%4 == 0 {
			path += "/fields/phone"
		}
		a, err := s.call(s.app, "DELETE", path, map[string]string{"reason": "asked by letter"}, "Idempotency-Key", "erase/"+c.id)
		if err != nil || a.status != 200 {
			return fmt.Errorf("erase: %d %s %w", a.status, a.body, err)
		}
		return nil
	})
}

// refusals sends values wherever a caller may put them by mistake, and by every role. None is answered with success.
func refusals(t *testing.T, s *server, desk string, q *quiet, all []*customer) {
	t.Helper()
	calls := func(c *customer) []struct {
		key, method, path string
		body              any
		header            []string
	} {
		type call = struct {
			key, method, path string
			body              any
			header            []string
		}
		phone, name, email := c.values["phone"], c.values["name"], c.values["email"]
		return []call{
			{s.root, "PUT", "/v1/subjects/" + c.id, c.values.body(), nil},
			{s.root, "GET", get(c.id), nil, nil},
			{desk, "PUT", "/v1/subjects/" + c.id, c.values.body(), nil},
			{desk, "GET", get(c.id), nil, nil},
			{s.officer, "POST", "/v1/detokenize", detokenizeBody(c.tokens["phone"]), nil},
			{s.officer, "POST", "/v1/tokenize", map[string]any{"items": []any{map[string]string{"subject": c.id, "field": "phone", "value": phone}}}, nil},
			{"", "GET", get(c.id), nil, nil},
			{c.tokens["phone"], "GET", get(c.id), nil, nil},
			{s.app + "x", "GET", get(c.id), nil, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, fields{"email": phone, "name": name}.body(), nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, fields{"phone": name, "email": email}.body(), nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, fields{"name": "<b>" + name}.body(), nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, fields{phone: phone}.body(), nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, fields{name: name}.body(), nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, map[string]any{name: c.values}, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, map[string]any{"fields": name}, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, map[string]any{"fields": map[string]any{"phone": map[string]string{email: phone}}}, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, `{"fields":{"name":"` + name + `","name":"` + name + `"}}`, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, `{"fields":{"name":"` + name, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, name, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, "name=" + url.QueryEscape(name), []string{"Content-Type", "application/x-www-form-urlencoded"}},
			{s.app, "PUT", "/v1/subjects/" + c.id + "?phone=" + url.QueryEscape(phone), fields{"name": name}.body(), nil},
			{s.app, "PUT", "/v1/subjects/" + url.PathEscape(email), fields{"name": name}.body(), nil},
			{s.app, "GET", get(url.PathEscape(name)), nil, nil},
			{s.app, "GET", "/v1/subjects/" + c.id + "?purpose=" + url.QueryEscape(name), nil, nil},
			{s.app, "GET", "/v1/subjects/" + c.id + "?purpose=service&fields=" + url.QueryEscape(email), nil, nil},
			{s.app, "GET", "/v1/subjects/" + c.id + "?purpose=service&view=" + url.QueryEscape(phone), nil, nil},
			{s.app, "GET", "/" + url.PathEscape(name), nil, nil},
			{s.app, "POST", "/v1/subjects/" + url.PathEscape(name), nil, nil},
			{s.app, "DELETE", "/v1/subjects/" + url.PathEscape(name), nil, nil},
			{s.app, "DELETE", "/v1/subjects/" + c.id + "/fields/" + url.PathEscape(phone), nil, nil},
			{s.app, "POST", "/v1/detokenize", map[string]any{"purpose": "service", "reason": strings.Repeat(phone, 40), "tokens": []string{c.tokens["name"]}}, nil},
			{s.app, "POST", "/v1/detokenize", map[string]any{"purpose": "service", "tokens": phone}, nil},
			{s.app, "POST", "/v1/tokenize", map[string]any{"items": []any{map[string]string{name: phone}}}, nil},
			{s.root, "POST", "/v1/services", map[string]string{"name": email, "role": "app"}, nil},
			{s.root, "POST", "/v1/services", map[string]string{"name": "x", "role": name}, nil},
			{s.root, "DELETE", "/v1/services/" + url.PathEscape(name), nil, nil},
			{s.app, "PUT", "/v1/subjects/" + c.id, fields{"name": name}.body(), []string{"Idempotency-Key", name}},
			{s.app, "GET", get("nobody-" + c.id), nil, []string{"X-Request-Id", name}},
			{s.app, "GET", "/v1/erasures/" + url.PathEscape(phone), nil, nil},
			{"", "GET", "/metrics?name=" + url.QueryEscape(name), nil, nil},
			{"", "GET", "/healthz?phone=" + url.QueryEscape(phone), nil, nil},
		}
	}
	statuses := map[int]int{}
	var mu sync.Mutex
	// Every tenth, and those whose spellings are unusual.
	var some []*customer
	for i, c := range all {
		if i%10 == 1 || i >= len(all)-3 {
			some = append(some, c)
		}
	}
	mustAll(t, len(some), func(i int) error {
		for n, c := range calls(some[i]) {
			a, err := s.call(c.key, c.method, c.path, c.body, c.header...)
			if err != nil {
				return err
			}
			mu.Lock()
			statuses[a.status]++
			mu.Unlock()
			if a.status < 400 || a.status >= 500 || a.code() == "" {
				return fmt.Errorf("refusal %d: %s: %d %s", n, c.method, a.status, a.body)
			}
		}
		// Tokens that are none are refused one by one; the items repeat what was asked for, and no more.
		name, token := some[i].values["name"], some[i].tokens["name"]
		for _, body := range []map[string]any{
			{"purpose": "service", "tokens": []string{token + "x", "tok_name_" + some[i].tokens["phone"][4:]}},
			{"purpose": name, "tokens": []string{token}},
			{"purpose": name, "tokens": []string{}},
		} {
			a, err := s.call(s.app, "POST", "/v1/detokenize", body)
			if err != nil || a.status >= 500 {
				return fmt.Errorf("detokenize: %d %s %w", a.status, a.body, err)
			}
			if strings.Contains(string(a.body), `"value"`) {
				return fmt.Errorf("detokenize: %s", a.body)
			}
		}
		return nil
	})
	for _, status := range []int{400, 401, 403, 404, 415, 422} {
		if statuses[status] == 0 {
			t.Errorf("no refusal was a %d %s: %v", status, http.StatusText(status), statuses)
		}
	}
}
