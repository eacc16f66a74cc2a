package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// switchedLog is an audit log that can be away, and can be made to wait.
type switchedLog struct {
	vault.AuditLog
	away atomic.Bool
	mu   sync.Mutex // held by a test: entries wait
}

func (l *switchedLog) Append(ctx context.Context, e *audit.Event) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away.Load() {
		return 0, audit.ErrUnavailable
	}
	return l.AuditLog.Append(ctx, e)
}

func newSwitchedHouse(t testing.TB) (*house, *switchedLog) {
	log := new(switchedLog)
	h := newHouseWith(t, vaulttest.Options{Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log }})
	return h, log
}

// TestImportAnswersAsItGoes: a line that nothing follows for a while is answered before the body ends, whether its length
// is announced or not.
func TestImportAnswersAsItGoes(t *testing.T) {
	h := newHouse(t)
	line := func(n int64) string { return importLine(fmt.Sprintf("u%d", n), "13800138000") }
	for _, length := range []int64{-1, int64(5 * len(line(1)))} {
		l := h.goLiveWith(h.Client(), h.URL, length)
		for n := int64(1); n <= 5; n++ {
			l.send(line(n)[:10])
			l.send(line(n)[10:])
			if o := l.next(); o.Line != n || o.Error != nil || o.End {
				t.Fatalf("%+v %+v", o, o.Error)
			}
		}
		l.body.Close()
		if o := l.next(); !o.End || o.OK != 5 || o.Failed != 0 || o.Lines != 5 {
			t.Errorf("%+v", o)
		}
	}
}

// TestImportWithoutAudit: when the audit log goes away under way, the answer ends with the line that says so, and that line
// and those after it are not stored.
func TestImportWithoutAudit(t *testing.T) {
	h, log := newSwitchedHouse(t)
	l := h.goLive(h.Client(), h.URL)
	l.send(importLine("u1", "13800138000") + "x\n")
	l.next()
	if o := l.next(); o.Line != 2 || o.Error == nil {
		t.Fatalf("%+v", o)
	}
	log.away.Store(true)
	l.send("\n" + importLine("u4", "13800138000") + importLine("u1", "13900139000"))
	o := l.next()
	if !o.End || o.Error == nil || o.Error.Code != wire.AuditUnavailable || o.Line != 3 || o.Lines != 2 || o.OK != 1 || o.Failed != 1 {
		t.Errorf("%+v %+v", o, o.Error)
	}
	if l.in.Scan() || l.in.Err() != nil {
		t.Errorf("after the end: %q, %v", l.in.Text(), l.in.Err())
	}
	resp, body := h.as("app", "POST", "/v1/import", importLine("u4", "13800138000"), "Content-Type", ndjson)
	wantProblem(t, resp, body, 503, wire.AuditUnavailable)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	log.away.Store(false)
	if list := must[wire.SubjectList](h, 200, "operator", "GET", "/v1/subjects", ""); len(list.Subjects) != 1 {
		t.Errorf("%d subjects are stored", len(list.Subjects))
	}
	if got := must[wire.Subject](h, 200, "app", "GET", "/v1/subjects/u1?purpose=service", ""); string(got.Fields["phone"].Value) != "13800138000" {
		t.Error("a line was stored without audit")
	}
	if text := h.log.String(); !strings.Contains(text, `"route":"/v1/import","status":200,"code":"audit_unavailable"`) || strings.Contains(text, marker) {
		t.Error("the log does not tell of it, or tells a value")
	}
}

// TestImportOfDisabledCredential: a credential that is disabled under way stores nothing more.
func TestImportOfDisabledCredential(t *testing.T) {
	h := newHouse(t)
	made := must[wire.ServiceKey](h, 201, "operator", "POST", "/v1/services", `{"name":"batch","role":"app"}`)
	h.keys["app"] = string(made.Key)
	l := h.goLive(h.Client(), h.URL)
	l.send(importLine("u1", "13800138000"))
	l.next()
	must[struct{}](h, 204, "operator", "DELETE", "/v1/services/batch/keys/"+made.ID, "")
	l.send(importLine("u2", "13800138000"))
	if o := l.next(); !o.End || o.Error == nil || o.Error.Code != wire.Unauthenticated || o.Line != 2 {
		t.Errorf("%+v %+v", o, o.Error)
	}
	if list := must[wire.SubjectList](h, 200, "operator", "GET", "/v1/subjects", ""); len(list.Subjects) != 1 {
		t.Errorf("%d subjects are stored", len(list.Subjects))
	}
}

// TestImportWaitsForItsReader: who does not read is not read from; once it reads, all is answered.
func TestImportWaitsForItsReader(t *testing.T) {
	h := newHouse(t)
	l := h.goLive(h.Client(), h.URL)
	var sent atomic.Int64
	const total = 200_000 // lines of 200 bytes, and an answer of half of that for each
	done := make(chan error, 1)
	go func() {
		defer l.body.Close()
		for sent.Load() < total {
			if _, err := io.WriteString(l.body, strings.Repeat("{}"+strings.Repeat(" ", 197)+"\n", 100)); err != nil {
				done <- err
				return
			}
			sent.Add(100)
		}
		done <- nil
	}()
	l.next()
	var before int64
	for still := 0; still < 5; time.Sleep(100 * time.Millisecond) {
		if now := sent.Load(); now == before {
			still++
		} else {
			before, still = now, 0
		}
	}
	if before >= total {
		t.Errorf("all of %d lines were taken from a caller that reads none", total)
	}
	for n := int64(2); ; n++ {
		o := l.next()
		if o.End {
			if o.Failed != total || o.Error != nil {
				t.Errorf("%+v", o)
			}
			break
		}
		if o.Line != n {
			t.Fatalf("line %d in place of %d", o.Line, n)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestImportTakesNoMemory: a hundred thousand lines need no more than a few thousand.
func TestImportTakesNoMemory(t *testing.T) {
	h := newHouse(t)
	l := h.goLive(h.Client(), h.URL)
	const lines = 100_000
	go func() {
		defer l.body.Close()
		out := bufio.NewWriter(l.body)
		defer out.Flush()
		for n := range lines {
			if _, err := out.WriteString(importLine(fmt.Sprintf("u%d", n%3000), "13800138000")); err != nil {
				return
			}
		}
	}()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early, most uint64
	for n := int64(1); ; n++ {
		o := l.next()
		if o.End {
			if o.OK != lines {
				t.Errorf("%+v %+v", o, o.Error)
			}
			break
		}
		switch {
		case n == 10_000:
			early = heap()
		case n%10_000 == 0:
			most = max(most, heap())
		}
	}
	if most > early+32*mib {
		t.Errorf("%d MiB are in use after 10,000 lines, and up to %d later", early/mib, most/mib)
	}
}

// TestImportWhenTheServerStops: an import ends with a line that says so, and does not hold the server up.
func TestImportWhenTheServerStops(t *testing.T) {
	h := newHouse(t)
	addr, end, ended := listen(t, h.api)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	l := h.goLive(client, "http://"+addr)
	l.send(importLine("u1", "13800138000"))
	l.next()
	end()
	if o := l.next(); !o.End || o.Error == nil || o.Error.Code != wire.ServerStopping || o.Line != 2 || o.OK != 1 {
		t.Errorf("%+v %+v", o, o.Error)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestImportFromSilentCaller: a caller from which nothing comes is told, and let go of.
func TestImportFromSilentCaller(t *testing.T) {
	h := newHouse(t)
	srv := serve(t, api.New(api.Config{Vault: h.vault, Limits: api.Limits{Silence: time.Second, BodyTime: time.Millisecond}}))
	l := h.goLive(srv.Client(), srv.URL)
	l.send(importLine("u1", "13800138000"))
	l.next()
	if o := l.next(); !o.End || o.Error == nil || o.Error.Code != wire.RequestTimeout || o.Line != 2 {
		t.Errorf("%+v %+v", o, o.Error)
	}
	l = h.goLive(srv.Client(), srv.URL)
	resp := <-l.resp
	text, _ := io.ReadAll(resp.Body)
	wantProblem(t, resp, string(text), 408, wire.RequestTimeout)
	resp.Body.Close()
}

// TestImportThatNobodyReads: a caller that takes no answers for too long is let go of.
func TestImportThatNobodyReads(t *testing.T) {
	h := newHouse(t)
	log := &logbook{}
	srv := serve(t, api.New(api.Config{Vault: h.vault, Logger: log.logger(), Limits: api.Limits{Silence: 300 * time.Millisecond}}))
	conn := dial(t, srv)
	fmt.Fprintf(conn, "POST /v1/import HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", h.keys["app"], ndjson, 1<<40)
	_ = conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
	text := strings.Repeat("{}\n", 10_000)
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("the connection stays open")
			}
			break
		}
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), `"code":"client_closed_request"`); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log: %s", log.String())
		}
	}
}

// TestImportOfBrokenBody: lines before the break are stored, the one that it cuts is not.
func TestImportOfBrokenBody(t *testing.T) {
	h := newHouse(t)
	conn := dial(t, h.Server)
	good := importLine("u1", "13800138000")
	fmt.Fprintf(conn, "POST /v1/import HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n10\r\n{\"subject\":\"u2\",\r\nnonsense\r\n",
		h.keys["app"], ndjson, len(good), good)
	_, text := receive(t, bufio.NewReader(conn))
	a := readAnswer(t, text)
	if len(a.lines) != 1 || a.lines[0].Error != nil || a.end.Error == nil || a.end.Error.Code != wire.MalformedRequest || a.end.Line != 2 {
		t.Errorf("%+v %+v", a, a.end.Error)
	}
	// A caller that hangs up leaves nothing behind but the lines that were whole.
	conn = dial(t, h.Server)
	fmt.Fprintf(conn, "POST /v1/import HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n%s{\"subject\":\"u4\",\"fields\":{}}", h.keys["app"], ndjson, importLine("u3", "13800138000"))
	conn.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		_, metrics := h.as("", "GET", "/metrics", "")
		if strings.Contains(metrics, "cloakroom_http_requests_in_flight 1") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the import of a caller that hung up goes on")
		}
	}
	resp, body := h.as("app", "GET", "/v1/subjects/u4?purpose=service", "")
	wantProblem(t, resp, body, 404, wire.SubjectNotFound)
}

// TestImportOverTLS: HTTP/2 has deadlines of its own making, which must not end an import that goes on slowly.
func TestImportOverTLS(t *testing.T) {
	h, log := newSwitchedHouse(t)
	other := httptest.NewUnstartedServer(nil) // for its certificate
	other.StartTLS()
	defer other.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	handler := api.New(api.Config{Vault: h.vault, Limits: api.Limits{Silence: time.Second}})
	go func() {
		ended <- api.NewServer(handler, nil).Serve(ctx, l, &tls.Config{Certificates: other.TLS.Certificates})
	}()
	transport := other.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	defer transport.CloseIdleConnections()
	im := h.goLive(&http.Client{Transport: transport}, "https://"+l.Addr().String())
	im.send(importLine("u1", "13800138000"))
	im.next()
	// While the vault is busy the caller waits for it, which is no silence of the caller's: there are more lines than the
	// server takes before it waits.
	const more = 5000
	log.mu.Lock()
	im.send(importLine("u2", "13800138000"))
	im.send(strings.Repeat(importLine("u3", "13800138000"), more))
	time.Sleep(2 * time.Second)
	log.mu.Unlock()
	im.body.Close()
	for n := int64(2); n <= more+2; n++ {
		if o := im.next(); o.Line != n || o.Error != nil {
			t.Fatalf("%+v %+v", o, o.Error)
		}
	}
	if o := im.next(); !o.End || o.OK != more+2 || o.Error != nil {
		t.Errorf("%+v %+v", o, o.Error)
	}
	transport.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestImportPanics: a panic in one of the goroutines of an import is an answer like any other, and no value gets out.
func TestImportPanics(t *testing.T) {
	log := &logbook{}
	srv := serve(t, api.NewImporting(api.Config{Logger: log.logger()})) // without a vault
	resp, body := do(t, srv, "POST", "/v1/import", importLine("u1", marker), "Content-Type", ndjson)
	wantProblem(t, resp, body, 500, wire.InternalError)
	wantSilence(t, resp, body, log)
	if !strings.Contains(log.String(), `"msg":"panic"`) || !strings.Contains(log.String(), "chunk.go") {
		t.Error("the log does not say where")
	}
}
