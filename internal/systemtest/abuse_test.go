package systemtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// mark stands in every abusive request and in no answer.
const mark = "Zhang-13800138000-mark"

// raw speaks to the server below HTTP.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func (s *server) dial(t *testing.T) *raw {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &raw{t, c, bufio.NewReader(c)}
}

// send writes; that the server has closed the connection meanwhile is fine.
func (r *raw) send(text string) { _, _ = io.WriteString(r.conn, text) }

// answer reads one answer. It must not be the server's fault, must not repeat the mark, and must be a problem when
// the server itself gave it.
func (r *raw) answer() answer {
	r.t.Helper()
	return r.answerTo("GET")
}

func (r *raw) answerTo(method string) answer {
	r.t.Helper()
	resp, err := http.ReadResponse(r.r, &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	must(r.t, err)
	a := answer{resp.StatusCode, resp.Header, body}
	// 501 and 505 are net/http's, for a transfer coding and a version that it does not know.
	if a.status >= 500 && a.status != 501 && a.status != 505 {
		r.t.Errorf("%d %s", a.status, body)
	}
	if bytes.Contains(body, []byte(mark)) || strings.Contains(fmt.Sprint(resp.Header), mark) {
		r.t.Errorf("the answer repeats what was sent: %v %s", resp.Header, body)
	}
	if a.status >= 400 && a.code() == "" && method != "HEAD" && resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		r.t.Errorf("no problem: %d %v %s", a.status, resp.Header, body)
	}
	return a
}

// end waits for the server to close the connection, and returns what it still sent.
func (r *raw) end() string {
	r.t.Helper()
	rest, err := io.ReadAll(r.r)
	if ne := net.Error(nil); err != nil && errors.As(err, &ne) && ne.Timeout() {
		r.t.Fatal(err)
	}
	return string(rest)
}

// mustBeHealthy: a request as it should be is answered as it should be.
func (s *server) mustBeHealthy(t *testing.T) {
	t.Helper()
	s.must(t, 200, "", "GET", "/healthz", nil)
	s.mustPut(t, "healthy", fields{"phone": "16100000001"})
	s.mustShow(t, "healthy", fields{"phone": "16100000001"})
}

func TestAbuse(t *testing.T) {
	s := start(t, filepath.Join(t.TempDir(), "data"), "--body-timeout", "1s")
	auth := "Host: x\r\nAuthorization: Bearer " + s.app + "\r\n"
	json := auth + "Content-Type: application/json\r\n"
	put := "PUT /v1/subjects/abuse HTTP/1.1\r\n" + json

	// Slow ones first: they are waited for at the end, when their time is over.
	slowHeader := s.dial(t)
	slowHeader.send("PUT /v1/subjects/slow HTTP/1.1\r\nHost: x\r\nX-Mark: " + mark)
	silent := s.dial(t)
	slowBody := s.dial(t)
	slowBody.send(put + "Content-Length: 1000\r\n\r\n{\"fields\":{\"text\":\"" + mark)
	endless := s.dial(t)
	endless.send(put + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"fie\r\n")
	idle := make([]*raw, 300)
	for i := range idle {
		idle[i] = s.dial(t)
		if i%2 == 0 {
			idle[i].send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		}
	}

	one := func(name, request string, want ...int) {
		t.Run(name, func(t *testing.T) {
			r := s.dial(t)
			go r.send(request) // a large request is answered before it is written
			method, _, _ := strings.Cut(request, " ")
			a := r.answerTo(method)
			for _, status := range want {
				if a.status == status {
					s.must(t, 200, "", "GET", "/healthz", nil)
					return
				}
			}
			t.Errorf("%d %s, want %v", a.status, a.body, want)
		})
	}
	body := func(text string) string { return put + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text) }
	chunked := func(text string) string {
		return put + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(text), text)
	}
	value := func(n int) string { return `{"fields":{"text":"` + mark + strings.Repeat("x", n) + `"}}` }

	one("body of 9 MiB", body(value(9<<20)), 413)
	one("chunked body of 9 MiB", chunked(value(9<<20)), 413)
	one("body of 17 MiB", body(value(17<<20)), 413)
	one("chunked body of 17 MiB", chunked(value(17<<20)), 413)
	one("body announced as a terabyte", put+"Content-Length: 1099511627776\r\n\r\n"+mark, 413)
	one("length beyond all numbers", put+"Content-Length: 99999999999999999999999\r\n\r\n", 400)
	one("negative length", put+"Content-Length: -1\r\n\r\n", 400)
	one("deep array", body(`{"fields":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}"), 400)
	one("deep object", body(strings.Repeat(`{"fields":`, 100_000)+`1`+strings.Repeat("}", 100_000)), 400)
	one("many members", body(`{"fields":{`+strings.TrimSuffix(strings.Repeat(`"`+mark+`":"x",`, 100_000), ",")+"}}"), 400)
	one("invalid UTF-8", body("{\"fields\":{\"text\":\"\xff\xfe"+mark+"\"}}"), 400)
	one("lone surrogate", body(`{"fields":{"text":"\ud800`+mark+`"}}`), 400)
	one("NUL in a value", body(`{"fields":{"text":"\u0000`+mark+`"}}`), 422)
	one("huge number", body(`{"fields":{"text":1`+strings.Repeat("0", 100_000)+`}}`), 400)
	one("two values", body(`{"fields":{}} {"fields":{"text":"`+mark+`"}}`), 400)
	one("huge header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Mark: "+strings.Repeat(mark, 10_000)+"\r\n\r\n", 431)
	one("many headers", "GET /healthz HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-Mark: "+mark+"\r\n", 5_000)+"\r\n", 431)
	one("huge path", "GET /"+strings.Repeat(mark, 10_000)+" HTTP/1.1\r\nHost: x\r\n\r\n", 431, 414)
	one("both lengths", put+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
	one("two lengths", put+"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345", 400)
	one("two lengths in one", put+"Content-Length: 5, 6\r\n\r\n12345", 400)
	one("two codings", put+"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, 501)
	one("coding in disguise", put+"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, 501)
	one("space before the colon", "PUT /v1/subjects/abuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400)
	one("folded header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n "+mark+"\r\n\r\n", 200, 400)
	one("no host", "GET /healthz HTTP/1.1\r\n\r\n", 400)
	one("two hosts", "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400)
	one("chunk of no size", put+"Transfer-Encoding: chunked\r\n\r\n"+mark+"\r\n", 400)
	one("chunk too large for a number", put+"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400)
	one("HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", 200)
	one("HTTP/1.0 with a body", strings.Replace(body(`{"fields":{"text":"`+mark+`"}}`), "HTTP/1.1", "HTTP/1.0", 1), 201)
	one("HTTP/0.9", "GET /healthz\r\n\r\n", 400)
	one("HTTP/2 by force", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 404, 505)
	one("HTTP/3.0", "GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n", 505)
	one("no HTTP at all", mark+"\r\n\r\n", 400)
	one("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400)
	one("CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 404, 405)
	one("absolute URL", "GET http://evil.example/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200)
	one("asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200, 404, 405)
	one("upgrade", "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 200)
	one("compressed", put+"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxxx", 415)
	one("other media type", "PUT /v1/subjects/abuse HTTP/1.1\r\n"+auth+"Content-Type: text/"+mark+"\r\nContent-Length: 2\r\n\r\n{}", 415)
	one("two credentials", "GET /v1/subjects HTTP/1.1\r\n"+auth+"Authorization: Bearer "+mark+"\r\n\r\n", 401)
	for _, method := range []string{"TRACE", "PROPFIND", "PURGE", "get", "OPTIONS", "HEAD", "M-SEARCH", strings.Repeat("A", 3000)} {
		one("method "+method[:min(len(method), 10)], method+" /v1/subjects/abuse HTTP/1.1\r\n"+auth+"\r\n", 404, 405)
	}
	for _, id := range []string{"%2e%2e", "..", ".", "%2e", "a%2fb", "a%2Fb", "%00", "a%00b", "a%0d%0ab", "%E5%BC%A0", "%c0%ae", "%252e", "a%20b", "a+b",
		"%ff", strings.Repeat("a", 129), strings.Repeat("%61", 129), strings.Repeat("a", 5000), "a;b", "a@b", "13800138000", "%31%33800138000", "%2B8613800138000", "a\\b", "~", "é"} {
		one("id "+id[:min(len(id), 16)], "PUT /v1/subjects/"+id+" HTTP/1.1\r\n"+json+"Content-Length: 25\r\n\r\n"+`{"fields":{"text":"abcd"}}`[:25], 404, 405, 422, 400)
		one("read of "+id[:min(len(id), 16)], "GET /v1/subjects/"+id+"?purpose=service HTTP/1.1\r\n"+auth+"\r\n", 404, 405, 422, 400)
	}
	for _, path := range []string{"//healthz", "/v1//subjects/x", "/v1/subjects/x/", "/V1/subjects/x", "/v1/subjects/../../healthz", "/v1/%2e%2e/healthz", "/healthz%00", "/healthz/", "/%68ealthz?", "/v1/subjects/x/fields/../../../keys"} {
		one("path "+path, "GET "+path+" HTTP/1.1\r\n"+auth+"\r\n", 400, 404, 405, 422, 200)
	}

	t.Run("garbage behind a request", func(t *testing.T) {
		r := s.dial(t)
		r.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + mark + "\r\n\r\n")
		if a := r.answer(); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := r.answer(); a.status != 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
		if rest := r.end(); rest != "" {
			t.Errorf("a third answer: %s", rest)
		}
	})
	t.Run("pipelined", func(t *testing.T) {
		r := s.dial(t)
		r.send(strings.Repeat("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 50))
		for range 50 {
			if a := r.answer(); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	})
	t.Run("request hidden in a refused body", func(t *testing.T) {
		// The body of a refused request is not taken for the next one.
		hidden := "DELETE /v1/subjects/healthy HTTP/1.1\r\n" + auth + "\r\n"
		s.mustBeHealthy(t)
		for _, head := range []string{
			"GET /v1/subjects/healthy?purpose=service HTTP/1.1\r\n" + auth,
			"PUT /nowhere HTTP/1.1\r\n" + auth,
			"PUT /v1/subjects/abuse HTTP/1.1\r\nHost: x\r\n",
			"POST /healthz HTTP/1.1\r\nHost: x\r\n",
		} {
			r := s.dial(t)
			r.send(head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(hidden), hidden) + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if a := r.answer(); a.status < 400 {
				t.Errorf("%d %s", a.status, a.body)
			}
			if rest := r.end(); strings.Count(rest, "HTTP/1.1 ") > 1 {
				t.Errorf("more answers than requests: %s", rest)
			}
			s.mustBeHealthy(t)
		}
	})
	t.Run("both lengths", func(t *testing.T) {
		// A proxy that goes by the length passes the second request on as part of the first body; nobody must be
		// answered for it.
		hidden := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
		r := s.dial(t)
		r.send(put + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", 5+len(hidden)) + "0\r\n\r\n" + hidden)
		r.answer()
		if rest := r.end(); rest != "" {
			t.Errorf("the hidden request was answered: %s", rest)
		}
	})
	t.Run("slow body", func(t *testing.T) {
		if a := slowBody.answer(); a.code() != "request_timeout" {
			t.Errorf("%d %s", a.status, a.body)
		}
		slowBody.end()
		if a := endless.answer(); a.code() != "request_timeout" {
			t.Errorf("%d %s", a.status, a.body)
		}
		endless.end()
	})
	t.Run("chunks without end", func(t *testing.T) {
		r := s.dial(t)
		r.send(put + "Transfer-Encoding: chunked\r\n\r\n")
		go func() {
			chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("x", 64<<10))
			for {
				if _, err := io.WriteString(r.conn, chunk); err != nil {
					return
				}
			}
		}()
		if a := r.answer(); a.code() != "body_too_large" && a.code() != "request_timeout" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("idle connections are served still", func(t *testing.T) {
		for i, r := range idle {
			r.t = t
			if i%2 == 1 {
				r.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			if a := r.answer(); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	})
	t.Run("slow header", func(t *testing.T) {
		slowHeader.t, silent.t = t, t
		if rest := slowHeader.end(); rest != "" && !strings.HasPrefix(rest, "HTTP/1.1 408") {
			t.Errorf("a header that never ended was answered: %s", rest)
		}
		if rest := silent.end(); rest != "" {
			t.Errorf("silence was answered: %s", rest)
		}
	})
	s.mustBeHealthy(t)
	if bytes.Contains(s.log.bytes(), []byte(mark)) {
		t.Errorf("the log repeats what was sent")
	}
	s.mustStop(t)
	mustVerifyAudit(t, s.data)
}
