package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
)

// exchange is one request and its answer. Exchanges and their buffers are used again; the buffers are cleared before,
// for they hold values.
type exchange struct {
	s     *service
	c     *gin.Context
	rt    *route
	id    string // of the request
	query query
	who   vault.Principal
	code  wire.Code // of the problem that was answered; "" on success
	in    bytes.Buffer
	out   bytes.Buffer
}

// keptBuffer is the largest buffer that is kept for the next exchange, so that one batch of 8 MiB does not hold its
// memory for good.
const keptBuffer = 256 << 10

func (x *exchange) release() {
	in, out, pool := x.in, x.out, &x.s.exchanges
	clear(in.Bytes())
	clear(out.Bytes())
	in.Reset()
	out.Reset()
	if in.Cap() > keptBuffer || out.Cap() > keptBuffer {
		in, out = bytes.Buffer{}, bytes.Buffer{}
	}
	*x = exchange{in: in, out: out}
	pool.Put(x)
}

// Header values that never change are shared by all answers; net/http only reads them.
var (
	valueNoStore   = []string{"no-store"}
	valueNoSniff   = []string{"nosniff"}
	valueJSON      = []string{"application/json"}
	valueProblem   = []string{"application/problem+json"}
	valueNDJSON    = []string{"application/x-ndjson"}
	valueBearer    = []string{"Bearer"}
	valueClose     = []string{"close"}
	valueOneSecond = []string{"1"}
)

// serve is the way of every request, whatever its route.
func (s *service) serve(c *gin.Context, rt *route) {
	start := time.Now()
	x := s.exchanges.Get().(*exchange)
	x.s, x.c, x.rt = s, c, rt
	s.meter.inFlight.Inc()
	defer func() {
		begun := false
		if p := recover(); p != nil {
			begun = x.panicked(p)
		}
		took := time.Since(start)
		s.meter.inFlight.Dec()
		rt.meter.count(c.Request.Method, c.Writer.Status(), x.code, took)
		x.logAccess(took)
		x.release()
		if begun {
			panic(http.ErrAbortHandler)
		}
	}()
	x.id = s.requestID(c.Request.Header["X-Request-Id"])
	h := c.Writer.Header()
	h["X-Request-Id"] = []string{x.id}
	h["Cache-Control"] = valueNoStore
	h["X-Content-Type-Options"] = valueNoSniff
	if err := x.run(); err != nil {
		x.fail(err)
	}
}

// run does what a request asks, or says why not.
func (x *exchange) run() error {
	if err := x.beginBody(); err != nil {
		return err
	}
	if err := x.admit(); err != nil {
		return err
	}
	if err := x.parseQuery(); err != nil {
		return err
	}
	if err := x.readBody(); err != nil {
		return err
	}
	return x.rt.handle(x)
}

// admit finds out who calls.
func (x *exchange) admit() error {
	if x.rt.admit == openToAll || x.rt.admit != byKey && local(x.c.Request.RemoteAddr) {
		return nil
	}
	bearer, ok := bearerOf(x.c.Request.Header["Authorization"])
	if !ok {
		return vault.ErrUnauthenticated
	}
	who, err := x.s.vault.Authenticate(x.c.Request.Context(), secret.NewText(bearer))
	if err != nil {
		return err
	}
	x.who = who
	if x.rt.admit == operatorFar && who.Role != operatorRole {
		return vault.ErrForbidden
	}
	return nil
}

// bearerOf reads RFC 6750, section 2.1. Two headers are as good as none: a proxy and the vault could each take another.
func bearerOf(headers []string) (string, bool) {
	const scheme, longest = "bearer ", 512
	if len(headers) != 1 || len(headers[0]) <= len(scheme) || len(headers[0]) > longest {
		return "", false
	}
	if !strings.EqualFold(headers[0][:len(scheme)], scheme) {
		return "", false
	}
	return headers[0][len(scheme):], true
}

// local reports whether the peer of the connection is this machine. X-Forwarded-For is what anybody may write and is
// not looked at.
func local(remote string) bool {
	a, err := netip.ParseAddr(hostOf(remote))
	return err == nil && a.IsLoopback()
}

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// call is what every method of the vault wants to know of a request.
func (x *exchange) call() (vault.Call, error) {
	r := x.c.Request
	call := vault.Call{Principal: x.who, RequestID: x.id, Source: hostOf(r.RemoteAddr)}
	keys := r.Header["Idempotency-Key"]
	if len(keys) == 0 || !x.rt.change {
		return call, nil
	}
	if len(keys) > 1 || !printable(keys[0], 128) {
		return call, malformed("Idempotency-Key is one header of 1 to 128 printable ASCII characters without spaces")
	}
	call.Idempotency = &vault.Idempotency{
		Key:     keys[0],
		Request: [][]byte{[]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), x.body()},
	}
	return call, nil
}

// printable reports whether s has 1 to longest visible ASCII characters.
func printable(s string, longest int) bool {
	if len(s) == 0 || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}

// requestID keeps the caller's id where it can stand in a log line without harm, and makes one otherwise.
func (s *service) requestID(headers []string) string {
	if len(headers) == 1 && goodRequestID(headers[0]) {
		return headers[0]
	}
	var b [16]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		s.log.Error("no randomness for a request id", "err", err)
	}
	return hex.EncodeToString(b[:])
}

func goodRequestID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._:-", rune(c)) {
			return false
		}
	}
	return true
}

// answer sends body, which is a pointer so that no copy of it is made.
func (x *exchange) answer(status int, body any) error {
	x.out.Reset()
	if err := encode(&x.out, body); err != nil {
		return &fault{code: wire.InternalError, detail: vault.ErrInternal.Detail, cause: err}
	}
	x.send(status, valueJSON)
	return nil
}

func (x *exchange) answerNothing() error {
	x.c.Writer.WriteHeader(http.StatusNoContent)
	x.c.Writer.WriteHeaderNow()
	return nil
}

// send writes what stands in x.out. An error of the connection concerns nobody who is still there.
func (x *exchange) send(status int, contentType []string) {
	w := x.c.Writer
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(x.out.Len())}
	w.WriteHeader(status)
	_, _ = w.Write(x.out.Bytes())
}

// fail answers a problem.
func (x *exchange) fail(err error) {
	p, gone := x.problem(err)
	if gone {
		x.c.Writer.WriteHeader(statusClientClosed)
		return
	}
	f, own := err.(*fault)
	h := x.c.Writer.Header()
	switch p.Status {
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = valueBearer
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h["Retry-After"] = valueOneSecond
	}
	if own && f.close {
		h["Connection"] = valueClose
	}
	clear(x.out.Bytes())
	x.out.Reset()
	if err := encode(&x.out, &p); err != nil {
		x.s.log.Error("a problem cannot be encoded", "request_id", x.id, "code", string(p.Code))
	}
	x.send(p.Status, valueProblem)
}

// problem notes a failure and returns what the caller is told, unless it is gone.
func (x *exchange) problem(err error) (p wire.Problem, gone bool) {
	if _, own := err.(*fault); !own && x.c.Request.Context().Err() != nil {
		x.code = codeClientClosed
		return p, true
	}
	p = x.s.problemOf(err, x.rt.change)
	p.RequestID = x.id
	x.code = p.Code
	if p.Status >= http.StatusInternalServerError {
		x.s.log.Error("request failed", "request_id", x.id, "route", x.rt.path, "code", string(p.Code), "cause", cause(err))
	}
	return p, false
}

// cause is what lies below a failure, for the log; the failure itself is told by its code.
func cause(err error) error {
	if f, ok := err.(*fault); ok {
		return f.cause
	}
	return vault.AsError(err).Unwrap()
}

// panicked answers 500, or reports that an answer has begun already and the connection must be cut.
func (x *exchange) panicked(p any) (begun bool) {
	x.logPanic(p)
	if x.c.Writer.Written() {
		x.code = wire.InternalError
		return true
	}
	x.fail(vault.ErrInternal)
	return false
}

// logPanic is called while the panic goes by. What was thrown may be a value of a person; its type is logged, and itself
// only when the runtime made it. The stack is names and lines: a printed stack shows arguments too.
func (x *exchange) logPanic(p any) {
	attrs := []any{"request_id", x.id, "route", x.rt.path, "type", fmt.Sprintf("%T", p), "stack", callers()}
	if e, ok := p.(runtime.Error); ok {
		attrs = append(attrs, "err", e.Error())
	}
	x.s.log.Error("panic", attrs...)
}

func callers() []string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var lines []string
	for {
		f, more := frames.Next()
		lines = append(lines, f.Function+" "+f.File+":"+strconv.Itoa(f.Line))
		if !more {
			return lines
		}
	}
}

// logAccess writes one line per request: the route's template, never the path, for subject ids stand in it.
func (x *exchange) logAccess(took time.Duration) {
	level, status := slog.LevelDebug, x.c.Writer.Status()
	if status >= http.StatusInternalServerError {
		level = slog.LevelInfo
	}
	ctx := context.WithoutCancel(x.c.Request.Context())
	if !x.s.log.Enabled(ctx, level) {
		return
	}
	x.s.log.LogAttrs(ctx, level, "request",
		slog.String("method", methodLabel(x.c.Request.Method)), slog.String("route", x.rt.path), slog.Int("status", status),
		slog.String("code", string(x.code)), slog.Duration("took", took), slog.String("request_id", x.id),
		slog.String("service", x.who.Service))
}

// methodLabel keeps invented methods out of labels and logs.
func methodLabel(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}
