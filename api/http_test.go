package api_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(vaulttest.Suite{M: m}) }

// marker stands in every bad input; no answer and no log line may hold it.
const marker = "13800138000"

// logbook is a log that can be searched.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serve starts a real listener for h.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// send sends bytes as they are, and reads one answer.
func send(t testing.TB, addr string, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return receive(t, bufio.NewReader(conn))
}

func receive(t testing.TB, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the answer breaks off: %v", err)
	}
	return resp, string(body)
}

// do sends one request through the ordinary client. header holds pairs.
func do(t testing.TB, srv *httptest.Server, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, srv.URL+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
			continue
		}
		req.Header[http.CanonicalHeaderKey(header[i])] = append(req.Header[http.CanonicalHeaderKey(header[i])][:0:0], strings.Split(header[i+1], "\n")...)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// wantProblem checks that an answer is one whole problem of the code, with all that a problem has.
func wantProblem(t testing.TB, resp *http.Response, body string, status int, code wire.Code) wire.Problem {
	t.Helper()
	var p wire.Problem
	if err := json.Unmarshal([]byte(body), &p, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("status %d, not a problem: %q: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || p.Status != status || p.Code != code {
		t.Fatalf("status %d, problem %+v; want %d %s", resp.StatusCode, p, status, code)
	}
	if p.Type != "urn:cloakroom:error:"+string(code) || p.Title == "" || p.Detail == "" {
		t.Errorf("incomplete problem %+v", p)
	}
	if p.RequestID == "" || p.RequestID != resp.Header.Get("X-Request-Id") {
		t.Errorf("request_id %q, header %q", p.RequestID, resp.Header.Get("X-Request-Id"))
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	wantHeaders(t, resp)
	return p
}

// wantHeaders checks what every answer carries and what none does.
func wantHeaders(t testing.TB, resp *http.Response) {
	t.Helper()
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": ""} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(resp.Header.Get("X-Request-Id")) == 0 {
		t.Error("no X-Request-Id")
	}
}

// wantSilence checks that nothing of the input came back, neither in the answer nor in the log.
func wantSilence(t testing.TB, resp *http.Response, body string, log *logbook) {
	t.Helper()
	var head bytes.Buffer
	_ = resp.Header.Write(&head)
	for where, text := range map[string]string{"body": body, "header": head.String(), "log": log.String()} {
		if strings.Contains(text, marker) {
			t.Errorf("the %s repeats the input: %s", where, text)
		}
	}
}

func echo(t testing.TB, limits api.Limits) (*httptest.Server, *logbook) {
	t.Helper()
	log := &logbook{}
	return serve(t, api.Echo(api.Config{Logger: log.logger(), Limits: limits})), log
}
