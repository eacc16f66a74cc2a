package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

const testKey = "ck_abc_secretsecretsecret"

// serve starts a server and a client of it whose waits are recorded instead of slept.
func serve(t *testing.T, o Options, h http.HandlerFunc) (*Client, *[]time.Duration) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	if o.Addr == "" {
		o.Addr = s.URL
	}
	if o.Key == "" {
		o.Key = testKey
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var waits []time.Duration
	c.sleep = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	c.jitter = func() float64 { return 0 }
	return c, &waits
}

func writeProblem(w http.ResponseWriter, status int, code wire.Code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"urn:x","title":"t","status":%d,"code":%q,"detail":%q,"request_id":"r1"}`, status, code, detail)
}

func TestRoutes(t *testing.T) {
	ctx := t.Context()
	cases := []struct {
		name string
		call func(c *Client) error
		want string // method, request target, body
	}{
		{"put", func(c *Client) error {
			_, err := c.PutSubject(ctx, "u:1", wire.PutSubject{Fields: map[string]wire.FieldValue{"phone": {Value: "138"}}}, Recreate())
			return err
		}, `PUT /v1/subjects/u:1?recreate=true {"fields":{"phone":"138"}}`},
		{"patch", func(c *Client) error {
			_, err := c.PatchSubject(ctx, "u1", wire.PutSubject{Fields: map[string]wire.FieldValue{"phone": {Remove: true}}})
			return err
		}, `PATCH /v1/subjects/u1 {"fields":{"phone":null}}`},
		{"get", func(c *Client) error {
			_, err := c.GetSubject(ctx, "u1", Read{Purpose: "service", View: "full", Fields: []string{"phone", "name"}})
			return err
		}, `GET /v1/subjects/u1?fields=phone%2Cname&purpose=service&view=full `},
		{"an id cannot leave its place", func(c *Client) error {
			_, err := c.GetSubject(ctx, "u1/fields/x?y#z", Read{Purpose: "service"})
			return err
		}, `GET /v1/subjects/u1%2Ffields%2Fx%3Fy%23z?purpose=service `},
		{"list", func(c *Client) error { _, err := c.ListSubjects(ctx, Page{Limit: 2, Cursor: "a b"}); return err }, `GET /v1/subjects?cursor=a+b&limit=2 `},
		{"export", func(c *Client) error { _, err := c.Export(ctx, Page{Limit: 2, Cursor: "x"}); return err }, `GET /v1/export?cursor=x&limit=2 `},
		{"export subject", func(c *Client) error { _, err := c.ExportSubject(ctx, "u1"); return err }, `GET /v1/subjects/u1/export `},
		{"list tokens", func(c *Client) error { _, err := c.ListTokens(ctx, TokenQuery{}, Page{}); return err }, `GET /v1/tokens `},
		{"list tokens of an audience", func(c *Client) error {
			_, err := c.ListTokens(ctx, TokenQuery{Audience: "desk", Fields: []string{"phone", "name"}}, Page{Limit: 2, Cursor: "x"})
			return err
		}, `GET /v1/tokens?audience=desk&cursor=x&fields=phone%2Cname&limit=2 `},
		{"erase", func(c *Client) error { _, err := c.EraseSubject(ctx, "u1", "asked"); return err }, `DELETE /v1/subjects/u1 {"reason":"asked"}`},
		{"erase without reason", func(c *Client) error { _, err := c.EraseSubject(ctx, "u1", ""); return err }, `DELETE /v1/subjects/u1 `},
		{"erase field", func(c *Client) error { _, err := c.EraseField(ctx, "u1", "phone", ""); return err }, `DELETE /v1/subjects/u1/fields/phone `},
		{"erasure", func(c *Client) error { _, err := c.Erasure(ctx, "e1"); return err }, `GET /v1/erasures/e1 `},
		{"erasures", func(c *Client) error { _, err := c.Erasures(ctx, Page{}); return err }, `GET /v1/erasures `},
		{"erasures of a subject", func(c *Client) error {
			_, err := c.Erasures(ctx, Page{Limit: 2}, OfSubject("u 1"))
			return err
		}, `GET /v1/erasures?limit=2&subject=u+1 `},
		{"tokenize", func(c *Client) error {
			_, err := c.Tokenize(ctx, []wire.TokenizeItem{{Subject: "u1", Field: "phone", Value: "138"}})
			return err
		}, `POST /v1/tokenize {"items":[{"subject":"u1","field":"phone","value":"138"}]}`},
		{"detokenize", func(c *Client) error {
			_, err := c.Detokenize(ctx, wire.Detokenize{Purpose: "service", Tokens: []wire.Plain{"tok_1"}})
			return err
		}, `POST /v1/detokenize {"purpose":"service","tokens":["tok_1"]}`},
		{"inspect", func(c *Client) error { _, err := c.Inspect(ctx, []wire.Plain{"tok_1"}); return err }, `POST /v1/tokens/inspect {"tokens":["tok_1"]}`},
		{"revoke", func(c *Client) error { _, err := c.Revoke(ctx, []wire.Plain{"tok_1"}); return err }, `POST /v1/tokens/revoke {"tokens":["tok_1"]}`},
		{"add service", func(c *Client) error { _, err := c.AddService(ctx, "desk", "support"); return err }, `POST /v1/services {"name":"desk","role":"support"}`},
		{"add key", func(c *Client) error { _, err := c.AddKey(ctx, "desk"); return err }, `POST /v1/services/desk/keys `},
		{"disable key", func(c *Client) error { return c.DisableKey(ctx, "desk", "k1") }, `DELETE /v1/services/desk/keys/k1 `},
		{"disable service", func(c *Client) error { return c.DisableService(ctx, "desk") }, `DELETE /v1/services/desk `},
		{"services", func(c *Client) error { _, err := c.Services(ctx, Page{}); return err }, `GET /v1/services `},
		{"policy", func(c *Client) error { _, err := c.Policy(ctx); return err }, `GET /v1/policy `},
		{"keys", func(c *Client) error { _, err := c.KeyStatus(ctx); return err }, `GET /v1/keys `},
		{"start job", func(c *Client) error {
			_, err := c.StartJob(ctx, wire.NewJob{Kind: "move-keys", Options: map[string]string{"from": "local", "to": "transit"}})
			return err
		}, `POST /v1/jobs {"kind":"move-keys","options":{"from":"local","to":"transit"}}`},
		{"job", func(c *Client) error { _, err := c.Job(ctx, "job_1"); return err }, `GET /v1/jobs/job_1 `},
		{"jobs", func(c *Client) error { _, err := c.Jobs(ctx, Page{Limit: 3}); return err }, `GET /v1/jobs?limit=3 `},
		{"health", func(c *Client) error { return c.Health(ctx) }, `GET /healthz `},
		{"openapi", func(c *Client) error { _, err := c.OpenAPI(ctx); return err }, `GET /openapi.yaml `},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			c, _ := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(body)
				if a := r.Header.Get("Authorization"); a != "Bearer "+testKey {
					t.Errorf("Authorization %q", a)
				}
				if ct := r.Header.Get("Content-Type"); (len(body) > 0) != (ct == "application/json") {
					t.Errorf("Content-Type %q with a body of %d bytes", ct, len(body))
				}
				_, _ = io.WriteString(w, `{"later_member":1}`)
			})
			if err := tc.call(c); err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestEmptyIDsAreNotSent(t *testing.T) {
	c, _ := serve(t, Options{}, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for name, call := range map[string]func() error{
		"subject": func() error { _, err := c.EraseSubject(t.Context(), "", ""); return err },
		"export":  func() error { _, err := c.ExportSubject(t.Context(), ""); return err },
		"field":   func() error { _, err := c.EraseField(t.Context(), "u1", "", ""); return err },
		"service": func() error { return c.DisableService(t.Context(), "") },
		"key":     func() error { return c.DisableKey(t.Context(), "desk", "") },
		"job":     func() error { _, err := c.Job(t.Context(), ""); return err },
		"erasure": func() error { _, err := c.Erasure(t.Context(), ""); return err },
	} {
		if err := call(); !errors.Is(err, errEmptyID) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProblems(t *testing.T) {
	c, _ := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/subjects/erased":
			writeProblem(w, 410, wire.SubjectErased, "the subject was erased")
		case "/v1/subjects/proxy":
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<b>13800138000</b>")
		case "/v1/subjects/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		default:
			_, _ = io.WriteString(w, `{"subject": 13800138000`)
		}
	})
	get := func(id string) error {
		_, err := c.GetSubject(t.Context(), id, Read{Purpose: "service"})
		if err == nil {
			t.Fatalf("%s: no error", id)
		}
		if strings.Contains(err.Error(), "13800138000") {
			t.Errorf("%s: the error repeats the answer: %v", id, err)
		}
		return err
	}
	err := get("erased")
	if !errors.Is(err, Code(wire.SubjectErased)) || errors.Is(err, Code(wire.SubjectNotFound)) || errors.Is(err, Code("")) {
		t.Errorf("codes are not told apart: %v", err)
	}
	if want := "subject_erased: the subject was erased [request r1]"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	var e *Error
	if err := get("proxy"); !errors.As(err, &e) || e.Problem.Status != 502 || e.Problem.Code != "" {
		t.Errorf("proxy page: %#v", err)
	}
	if err := get("moved"); !errors.As(err, &e) || e.Problem.Status != 302 {
		t.Errorf("a redirect was followed: %v", err)
	}
	if err := get("broken"); errors.As(err, &e) {
		t.Errorf("broken JSON: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := New(Options{Addr: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.GetSubject(t.Context(), "some-id", Read{Purpose: "service"})
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "some-id") {
		t.Errorf("the error names the subject: %v", err)
	}
}

func TestRetries(t *testing.T) {
	put := func(c *Client, o ...Option) error {
		_, err := c.PutSubject(t.Context(), "u1", wire.PutSubject{Fields: map[string]wire.FieldValue{"text": {Value: "v"}}}, o...)
		return err
	}
	tokenize := func(c *Client, o ...Option) error { _, err := c.Tokenize(t.Context(), nil, o...); return err }
	erase := func(c *Client, o ...Option) error { _, err := c.EraseSubject(t.Context(), "u1", "", o...); return err }
	cases := []struct {
		name     string
		options  Options
		status   int
		after    string
		fails    int
		call     func(c *Client, o ...Option) error
		option   []Option
		attempts int
		ok       bool
		waits    string
	}{
		{"a PUT is repeated", Options{}, 503, "1", 2, put, nil, 3, true, "[1s 2s]"},
		{"no more than asked", Options{Retries: 1}, 503, "1", 9, put, nil, 2, false, "[1s]"},
		{"default bound", Options{}, 503, "1", 9, put, nil, 4, false, "[1s 2s 4s]"},
		{"never", Options{Retries: -1}, 503, "1", 9, put, nil, 1, false, "[]"},
		{"a wait is bounded", Options{Retries: 1}, 503, "3600", 9, put, nil, 2, false, "[10s]"},
		{"not without Retry-After", Options{}, 503, "", 1, put, nil, 1, false, "[]"},
		{"not a date", Options{}, 503, "Fri, 31 Dec 1999 23:59:59 GMT", 1, put, nil, 1, false, "[]"},
		{"not another status", Options{}, 500, "1", 1, put, nil, 1, false, "[]"},
		{"not a POST that changes", Options{}, 503, "1", 1, tokenize, nil, 1, false, "[]"},
		{"but with a key", Options{}, 503, "1", 1, tokenize, []Option{IdempotencyKey("k")}, 2, true, "[1s]"},
		{"not an erasure", Options{}, 503, "1", 1, erase, nil, 1, false, "[]"},
		{"but with a key", Options{}, 503, "1", 1, erase, []Option{IdempotencyKey("k")}, 2, true, "[1s]"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var bodies []string
			c, waits := serve(t, tc.options, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(b)+r.Header.Get("Idempotency-Key"))
				if len(bodies) <= tc.fails {
					if tc.after != "" {
						w.Header().Set("Retry-After", tc.after)
					}
					writeProblem(w, tc.status, wire.StoreUnavailable, "try again")
					return
				}
				_, _ = io.WriteString(w, `{}`)
			})
			err := tc.call(c, tc.option...)
			if (err == nil) != tc.ok {
				t.Errorf("error %v", err)
			}
			if len(bodies) != tc.attempts {
				t.Errorf("%d attempts, want %d", len(bodies), tc.attempts)
			}
			for _, b := range bodies {
				if b != bodies[0] {
					t.Errorf("attempts differ: %q", bodies)
				}
			}
			if got := fmt.Sprint(*waits); got != tc.waits {
				t.Errorf("waits %s, want %s", got, tc.waits)
			}
		})
	}
}

func TestPauseStaysInBounds(t *testing.T) {
	c := &Client{jitter: func() float64 { return 0.999 }}
	for attempt := range 40 {
		if d := c.pause(attempt, time.Hour); d <= 0 || d > maxPause {
			t.Fatalf("attempt %d waits %v", attempt, d)
		}
	}
	if a, b := c.pause(0, time.Second), time.Second; a <= b {
		t.Errorf("no jitter: %v", a)
	}
}

func TestSleepGivesUpAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	if err := sleep(ctx, 2*time.Hour); err == nil {
		t.Error("slept past the deadline")
	}
	cancel()
	if err := sleep(ctx, time.Minute); err == nil {
		t.Error("slept though cancelled")
	}
}

func TestAnswerIsBounded(t *testing.T) {
	for name, length := range map[string]bool{"with a length": true, "chunked": false} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, Options{MaxAnswer: 1000}, func(w http.ResponseWriter, r *http.Request) {
				if length {
					w.Header().Set("Content-Length", "1001")
				}
				for range 1001 {
					_, _ = io.WriteString(w, " ")
					if !length {
						w.(http.Flusher).Flush()
					}
				}
			})
			if _, err := c.OpenAPI(t.Context()); !errors.Is(err, ErrTooLarge) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestReady(t *testing.T) {
	const parts = `{"ready":false,"checks":{"store":{"ok":true},"kms":{"ok":false,"detail":"gone"}}}`
	c, _ := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, parts)
	})
	got, err := c.Ready(t.Context())
	if err != nil || got.Ready || got.Checks["kms"].Detail != "gone" {
		t.Errorf("%+v, %v", got, err)
	}
	c, _ = serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if _, err := c.Ready(t.Context()); err == nil {
		t.Error("an empty answer counts as ready")
	}
}

func TestConnectionsAreReused(t *testing.T) {
	var dialled atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"items":[]}`)
	}))
	defer s.Close()
	c, err := New(Options{Addr: s.URL, HTTP: countingClient(&dialled)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const workers, calls = 64, 20
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range calls {
				if _, err := c.Inspect(t.Context(), []wire.Plain{"tok_1"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := dialled.Load(); n > 2*workers {
		t.Errorf("%d connections for %d workers", n, workers)
	}
}

func TestNew(t *testing.T) {
	cases := []struct {
		name, addr string
		insecure   bool
		want       string // "" for an error
	}{
		{"nothing", "", false, "http://127.0.0.1:8440"},
		{"loopback", "127.0.0.1:1", false, "http://127.0.0.1:1"},
		{"localhost", "localhost:1", false, "http://localhost:1"},
		{"loopback v6", "http://[::1]:1/", false, "http://[::1]:1"},
		{"mapped loopback", "http://[::ffff:127.0.0.1]:1/", false, "http://[::ffff:127.0.0.1]:1"},
		{"host without scheme", "vault.internal:8440", false, "https://vault.internal:8440"},
		{"https", "https://vault.internal/", false, "https://vault.internal"},
		{"prefix", "https://vault.internal/pii/", false, "https://vault.internal/pii"},
		{"plain HTTP elsewhere", "http://vault.internal:8440", false, ""},
		{"plain HTTP elsewhere, allowed", "http://vault.internal:8440", true, "http://vault.internal:8440"},
		{"looks like loopback", "http://127.0.0.1.example.com", false, ""},
		{"key in the address", "https://ck_a_b@vault.internal", false, ""},
		{"query", "https://vault.internal/?a=b", false, ""},
		{"other scheme", "ftp://127.0.0.1", false, ""},
		{"no host", "https://", false, ""},
		{"word", "vault", false, ""},
		{"control character", "http://127.0.0.1\x7f", false, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c, err := New(Options{Addr: tc.addr, InsecureHTTP: tc.insecure})
			if tc.want == "" {
				if err == nil {
					t.Fatalf("accepted as %s", c.Addr())
				}
				if strings.Contains(err.Error(), "ck_a_b") {
					t.Errorf("the error shows the key: %v", err)
				}
				return
			}
			if err != nil || c.Addr() != tc.want {
				t.Errorf("%v, %v", c, err)
			}
		})
	}
	if _, err := New(Options{Key: "ck_a_b\n"}); err == nil || strings.Contains(err.Error(), "ck_a_b") {
		t.Errorf("key with a line end: %v", err)
	}
}

func countingClient(dialled *atomic.Int64) *http.Client {
	h := newHTTP(&tls.Config{MinVersion: tls.VersionTLS12})
	tr := h.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Add(1)
		return dial(ctx, network, addr)
	}
	return h
}
