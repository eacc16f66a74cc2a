// Package client talks to a Cloakroom server. A Client is made once and shared: it keeps its connections open and may
// be used from any goroutine.
//
//	c, err := client.New(client.Options{Addr: "https://vault.internal:8440", Key: key})
//	stored, err := c.PutSubject(ctx, "u1", wire.PutSubject{Fields: map[string]wire.FieldValue{"phone": {Value: phone}}})
//	token := stored.Tokens["phone"]
//
// Keep the token; give the value to nobody. Whoever may see the value asks for it by token:
//
//	answer, err := c.Detokenize(ctx, wire.Detokenize{Purpose: "service", Tokens: []wire.Plain{token}})
//
// A call that fails as a whole returns an *Error with the server's problem in it. Batch calls answer item by item, in
// the order of the input: look at the Error of each item.
//
// Values and tokens have the type wire.Plain, which prints as "[redacted]"; string(value) gives the content.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// Options says where the server is and who calls.
type Options struct {
	// Addr is the server's base URL. "host:port" alone means http on loopback and https elsewhere; the zero value is
	// http://127.0.0.1:8440.
	Addr string
	// Key is the credential, "ck_...". Empty: only Health, Ready and OpenAPI answer.
	Key wire.Plain
	// HTTP replaces the built-in client, with its proxy, time limits and certificates. The built-in one uses no proxy,
	// keeps up to 256 idle connections, never follows a redirect, and sets no time limit: that is the context's part.
	HTTP *http.Client
	// TLS is used by the built-in HTTP client: own roots, a client certificate. nil means the system's roots.
	TLS *tls.Config
	// InsecureHTTP allows plain HTTP to a host that is not this machine. The key and all values then travel readable.
	InsecureHTTP bool
	// Retries is how often a call that is safe to repeat is repeated when the server answers 503 with Retry-After.
	// 0 means 3, a negative number none.
	Retries int
	// MaxAnswer bounds an answer's body in bytes; 0 means 64 MiB.
	MaxAnswer int64
}

const (
	defaultAddr      = "http://127.0.0.1:8440"
	defaultRetries   = 3
	defaultMaxAnswer = 64 << 20
	idleConnections  = 256
)

// Client calls one server with one credential.
type Client struct {
	base      string // without a slash at the end
	key       wire.Plain
	http      *http.Client
	retries   int
	maxAnswer int64
	sleep     func(ctx context.Context, d time.Duration) error
	jitter    func() float64 // 0 <= x < 1
}

// New checks the options. It does not connect.
func New(o Options) (*Client, error) {
	base, err := parseAddr(o.Addr, o.InsecureHTTP)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(string(o.Key), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("client: the key holds characters that no key has; give it without quotes, spaces or a line end")
	}
	c := &Client{
		base: base, key: o.Key, http: o.HTTP, retries: o.Retries, maxAnswer: o.MaxAnswer,
		sleep: sleep, jitter: rand.Float64,
	}
	if c.http == nil {
		c.http = newHTTP(o.TLS)
	}
	switch {
	case c.retries == 0:
		c.retries = defaultRetries
	case c.retries < 0:
		c.retries = 0
	}
	if c.maxAnswer <= 0 {
		c.maxAnswer = defaultMaxAnswer
	}
	return c, nil
}

// Addr returns the base URL in use.
func (c *Client) Addr() string { return c.base }

// Close gives up idle connections. Calls that run are not disturbed.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func newHTTP(config *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			// The standard two idle connections per host would make a program of 64 goroutines dial anew all the time.
			MaxIdleConns:        idleConnections,
			MaxIdleConnsPerHost: idleConnections,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		// A redirect would carry values to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func parseAddr(addr string, insecure bool) (string, error) {
	if addr == "" {
		addr = defaultAddr
	}
	if !strings.Contains(addr, "://") {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return "", fmt.Errorf("client: address is neither a URL nor host:port: %w", err)
		}
		if isLoopback(host) || insecure {
			addr = "http://" + addr
		} else {
			addr = "https://" + addr
		}
	}
	u, err := url.Parse(addr)
	if err != nil {
		return "", errors.New("client: the address is no URL; write it as https://host:port")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("client: address scheme %q; it is http or https", u.Scheme)
	case u.Host == "":
		return "", errors.New("client: the address names no host; write it as https://host:port")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("client: the address holds more than scheme, host and path; the key goes into its own option")
	case u.Scheme == "http" && !insecure && !isLoopback(u.Hostname()):
		return "", errors.New("client: plain HTTP to another machine would show key and values to the network; use https, or allow it (InsecureHTTP, --insecure-http)")
	}
	return strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"), nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// request is one call before it is sent.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	body   any // nil for none
	// repeatable: doing it twice is the same as doing it once, and the second answer is as good as the first. An
	// erasure is not: the second answer has no certificate.
	repeatable     bool
	idempotencyKey string
	requestID      string
}

// An Option changes one call.
type Option func(*request)

// IdempotencyKey makes a change safe to repeat for 24 hours: the server answers a second request with the same key and
// body as it did the first. 1 to 128 printable ASCII characters, best random. It has no effect on calls that read.
func IdempotencyKey(key string) Option { return func(r *request) { r.idempotencyKey = key } }

// RequestID names the call in the server's log, its audit log and its errors: 1 to 128 of A-Z a-z 0-9 . _ : -
func RequestID(id string) Option { return func(r *request) { r.requestID = id } }

// Recreate lets a write begin anew for an erased subject. Its old tokens stay dead.
func Recreate() Option { return func(r *request) { r.ask("recreate", "true") } }

// SameSource lets an import leave alone what another source stored: where a field holds another value from another source,
// the row is refused with the code conflict and the rule "held". Import only.
func SameSource() Option { return func(r *request) { r.ask("replace", "same-source") } }

// ask sets a parameter of the query.
func (r *request) ask(name, value string) {
	if r.query == nil {
		r.query = url.Values{}
	}
	r.query.Set(name, value)
}

// call sends r and decodes the answer. Members that this version does not know are passed over, so that an older
// client works with a newer server.
func call[T any](ctx context.Context, c *Client, r request, options []Option) (T, error) {
	var out T
	raw, err := c.send(ctx, r, options)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		// The decoder's own error may quote the answer.
		return out, fmt.Errorf("client: %s %s: the answer is not the documented JSON", r.method, template(r.path))
	}
	return out, nil
}

func with(r request, options []Option) request {
	for _, o := range options {
		o(&r)
	}
	return r
}

// send performs r, again where that is safe, and returns the body of a 2xx answer.
func (c *Client) send(ctx context.Context, r request, options []Option) ([]byte, error) {
	r = with(r, options)
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body, json.Deterministic(true)); err != nil {
			return nil, errors.New("client: the request cannot be written as JSON; values must be UTF-8")
		}
	}
	for attempt := 0; ; attempt++ {
		raw, err := c.once(ctx, r, body)
		var e *Error
		if err == nil || !errors.As(err, &e) {
			return raw, err
		}
		if attempt >= c.retries || !r.safeToRepeat() || e.Problem.Status != http.StatusServiceUnavailable || e.RetryAfter <= 0 {
			return nil, err
		}
		if c.sleep(ctx, c.pause(attempt, e.RetryAfter)) != nil {
			return nil, err
		}
	}
}

// once performs r one time and returns the body of a 2xx answer.
func (c *Client) once(ctx context.Context, r request, body []byte) ([]byte, error) {
	raw, resp, err := c.exchange(ctx, r, body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, problem(resp, raw)
	}
	return raw, nil
}

// exchange performs r and returns the answer whatever its status; the response's body is read.
func (c *Client) exchange(ctx context.Context, r request, body []byte) ([]byte, *http.Response, error) {
	var reader io.Reader
	if r.body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := c.newRequest(ctx, r, reader)
	if err != nil {
		return nil, nil, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, unreachable(r, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := readAnswer(resp, c.maxAnswer)
	if err != nil {
		return nil, nil, fmt.Errorf("client: %s %s: %w", r.method, template(r.path), err)
	}
	return raw, resp, nil
}

// newRequest makes r with a body but for its type.
func (c *Client) newRequest(ctx context.Context, r request, body io.Reader) (*http.Request, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: %s %s: the request cannot be made", r.method, template(r.path))
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.key))
	}
	if r.idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", r.idempotencyKey)
	}
	if r.requestID != "" {
		req.Header.Set("X-Request-Id", r.requestID)
	}
	return req, nil
}

// ErrTooLarge: the answer is longer than Options.MaxAnswer. Ask for fewer items.
var ErrTooLarge = errors.New("the answer is longer than allowed; ask for fewer items")

func readAnswer(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, ErrTooLarge
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", err)
	case n > limit:
		return nil, ErrTooLarge
	}
	return buf.Bytes(), nil
}
