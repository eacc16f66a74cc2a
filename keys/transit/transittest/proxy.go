package transittest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what a Proxy does to requests. The zero value lets them pass.
type Fault struct {
	Match  func(*http.Request) bool // nil: all
	Delay  time.Duration            // before anything else; ends early when the client goes away
	Status int                      // answer this at once, without asking the server
	Header http.Header              // beside Status
	Body   string                   // beside Status; "" = {"errors":["..."]}
	Refuse bool                     // close the connection without an answer
	Drop   bool                     // ask the server, then close the connection without an answer
}

// Proxy stands between a client and a server, and injects faults.
type Proxy struct {
	URL string

	mu    sync.Mutex
	fault Fault
	seen  []Seen
}

// Seen is a request that came to a Proxy.
type Seen struct {
	Method, Path string
	Header       http.Header
}

// NewProxy runs a proxy in front of the server at target until the end of the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{}).DialContext}
	pass := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:    transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { hangUp(w) },
	}
	p := &Proxy{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, pass) }))
	p.URL = server.URL
	t.Cleanup(func() {
		p.Set(Fault{})
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, pass http.Handler) {
	p.mu.Lock()
	p.seen = append(p.seen, Seen{r.Method, r.URL.Path, r.Header.Clone()})
	f := p.fault
	p.mu.Unlock()
	if f.Match != nil && !f.Match(r) {
		f = Fault{}
	}
	if f.Delay > 0 {
		// A server notices that a client has left only once it has read the whole body.
		body, err := io.ReadAll(r.Body)
		if err != nil || !pause(r.Context(), f.Delay) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	switch {
	case f.Refuse:
		hangUp(w)
	case f.Status != 0:
		for name, values := range f.Header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(f.Status)
		body := f.Body
		if body == "" {
			body = `{"errors":["injected fault"]}`
		}
		_, _ = w.Write([]byte(body))
	case f.Drop:
		pass.ServeHTTP(httptest.NewRecorder(), r)
		hangUp(w)
	default:
		pass.ServeHTTP(w, r)
	}
}

func hangUp(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

// pause reports whether all of d went by.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Set replaces the fault for the requests that come from now on.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// Seen returns the requests whose path contains part, in the order in which they came.
func (p *Proxy) Seen(part string) []Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Seen
	for _, s := range p.seen {
		if strings.Contains(s.Path, part) {
			out = append(out, s)
		}
	}
	return out
}

// Count returns the number of requests whose path contains part.
func (p *Proxy) Count(part string) int { return len(p.Seen(part)) }
