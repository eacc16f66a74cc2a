package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// server is a process that listens, with the credentials of its first start.
type server struct {
	*process
	data    string
	url     string
	app     string
	officer string
	root    string // operator.key
	http    *http.Client
	seen    func(answer) // gets every answer; nil for none
}

func connect(t testing.TB, p *process, data, url string) *server {
	t.Helper()
	s := &server{process: p, data: data, url: url, http: newClient()}
	s.app, s.officer, s.root = readKey(t, data, "app"), readKey(t, data, "officer"), readKey(t, data, "operator")
	t.Cleanup(s.http.CloseIdleConnections)
	return s
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
}

func readKey(t testing.TB, data, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// answer is one of the server's.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request. A body that is no string is sent as JSON; header is name, value, name, value...
func (s *server) call(key, method, path string, body any, header ...string) (answer, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, s.url+path, in)
	if err != nil {
		return answer{}, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{resp.StatusCode, resp.Header, text}
	if s.seen != nil {
		s.seen(a)
	}
	return a, nil
}

// must sends a request that must be answered with status.
func (s *server) must(t testing.TB, status int, key, method, path string, body any, header ...string) answer {
	t.Helper()
	a, err := s.call(key, method, path, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, s.log)
	}
	if a.status != status {
		t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// mustCode sends a request that must be refused with a code.
func (s *server) mustCode(t testing.TB, status int, code, key, method, path string, body any, header ...string) answer {
	t.Helper()
	a := s.must(t, status, key, method, path, body, header...)
	if got := a.code(); got != code {
		t.Fatalf("%s %s: code %q, want %q: %s", method, path, got, code, a.body)
	}
	return a
}

// code is that of a problem, "" for any other answer.
func (a answer) code() string {
	var p struct {
		Code   string `json:"code"`
		Status int    `json:"status"`
	}
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil || p.Status != a.status {
		return ""
	}
	return p.Code
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

// fields is what is put.
type fields map[string]string

func (f fields) body() any { return map[string]any{"fields": map[string]string(f)} }

// put answers PUT and PATCH, and GET.
type put struct {
	Subject string            `json:"subject"`
	Created bool              `json:"created"`
	Tokens  map[string]string `json:"tokens"`
	Fields  map[string]struct {
		Token string `json:"token"`
		Value string `json:"value"`
		View  string `json:"view"`
	} `json:"fields"`
}

// items answers tokenize and detokenize.
type items struct {
	Items []struct {
		Token string `json:"token"`
		Value string `json:"value"`
		View  string `json:"view"`
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	} `json:"items"`
}

func (s *server) mustPut(t testing.TB, id string, f fields) map[string]string {
	t.Helper()
	a, err := s.call(s.app, "PUT", "/v1/subjects/"+id, f.body())
	if err != nil {
		t.Fatal(err)
	}
	if a.status != 200 && a.status != 201 {
		t.Fatalf("put: %d %s", a.status, a.body)
	}
	var p put
	a.into(t, &p)
	return p.Tokens
}

func detokenizeBody(tokens ...string) any {
	return map[string]any{"purpose": "service", "reason": "order 77", "tokens": tokens}
}

// mustReveal detokenizes one token and returns the value, or the code of its error.
func (s *server) mustReveal(t testing.TB, token string) (value, code string) {
	t.Helper()
	a := s.must(t, 200, s.app, "POST", "/v1/detokenize", detokenizeBody(token))
	var got items
	a.into(t, &got)
	if len(got.Items) != 1 {
		t.Fatalf("%d items for one token: %s", len(got.Items), a.body)
	}
	return got.Items[0].Value, got.Items[0].Error.Code
}

func get(id string) string { return "/v1/subjects/" + id + "?purpose=service" }

// mustShow reads a subject whose fields must be want, no more and no fewer.
func (s *server) mustShow(t testing.TB, id string, want fields) {
	t.Helper()
	var got put
	s.must(t, 200, s.app, "GET", get(id), nil).into(t, &got)
	if fault := differs(got, want); fault != "" {
		t.Fatalf("subject %s: %s", id, fault)
	}
}

func differs(got put, want fields) string {
	if len(got.Fields) != len(want) {
		return fmt.Sprintf("%d fields, want %d", len(got.Fields), len(want))
	}
	for name, value := range want {
		if got.Fields[name].Value != value {
			return fmt.Sprintf("%s is %q, want %q", name, got.Fields[name].Value, value)
		}
	}
	return ""
}

// crowd runs n workers and waits for them.
func crowd(n int, work func(worker int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { work(i) })
	}
	wg.Wait()
}

// mustAll runs a worker for each of n jobs, 16 at a time; the first error ends the test.
func mustAll(t testing.TB, n int, job func(i int) error) {
	t.Helper()
	next := make(chan int)
	failed := make(chan error, 16)
	go func() {
		defer close(next)
		for i := range n {
			next <- i
		}
	}()
	crowd(16, func(int) {
		var first error
		for i := range next {
			if first == nil {
				first = job(i)
			}
		}
		if first != nil {
			failed <- first
		}
	})
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
}
