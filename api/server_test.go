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
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
)

func dial(t testing.TB, srv *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Over TLS the protocol is HTTP/2; limits and headers hold there too.
func TestServerOverTLS(t *testing.T) {
	other := httptest.NewUnstartedServer(nil) // for its certificate
	other.StartTLS()
	defer other.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan error, 1)
	h := api.Echo(api.Config{Limits: api.Limits{BodyTime: 200 * time.Millisecond}})
	go func() {
		ended <- api.NewServer(h, nil).Serve(ctx, l, &tls.Config{Certificates: other.TLS.Certificates})
	}()
	transport := other.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	post := func(body io.Reader) (*http.Response, string) {
		t.Helper()
		resp, err := client.Post("https://"+l.Addr().String()+"/v1/detokenize", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}
	resp, body := post(strings.NewReader(tokens(2)))
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Fatalf("%s %d %s", resp.Proto, resp.StatusCode, body)
	}
	wantHeaders(t, resp)
	slow, never := io.Pipe()
	defer never.Close()
	resp, body = post(slow)
	wantProblem(t, resp, body, 408, wire.RequestTimeout)
	transport.CloseIdleConnections()
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// listen runs a Server on a loopback port and returns its address, the way to end it and where Serve's result comes.
func listen(t *testing.T, h http.Handler) (addr string, end context.CancelFunc, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan error, 1)
	go func() { out <- api.NewServer(h, nil).Serve(ctx, l, nil) }()
	t.Cleanup(cancel)
	return l.Addr().String(), cancel, out
}

func TestServerFinishesWhatItBegan(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	addr, end, ended := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = io.WriteString(w, "done")
	}))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: vault\r\n\r\n")
	<-begun
	end()
	for { // until the listener is closed
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if _, body := receive(t, bufio.NewReader(conn)); body != "done" {
		t.Errorf("the request under way got %q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServerSaysWhyItCannotServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := api.NewServer(api.Echo(api.Config{}), nil).Serve(context.Background(), l, nil); err == nil {
		t.Error("served on a closed listener")
	}
}

func TestServerRefusesLargeHeaders(t *testing.T) {
	addr, end, ended := listen(t, api.Echo(api.Config{}))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: vault\r\nX-Large: %s\r\n\r\n", strings.Repeat("a", 64<<10))
	}()
	resp, body := receive(t, bufio.NewReader(conn))
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || strings.Contains(body, "aaa") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMetricsAndAccessLog(t *testing.T) {
	h := newHouse(t)
	h.as("app", "PUT", "/v1/subjects/u1", `{"fields":{"phone":"`+marker+`"}}`, "X-Request-Id", "rid-1")
	h.as("app", "GET", "/v1/subjects/nobody-of-that-name?purpose=service", "")
	h.as("app", "POST", "/v1/detokenize", `{"purpose":"service","tokens":["tok_`+marker+`","x"]}`)
	h.as("app", "POST", "/v1/tokenize", `{"items":[{"subject":"u2","field":"phone","value":"13900139000"},{"subject":"u2","field":"phone","value":"x","ttl":"-1h"}]}`)
	h.as("", "GET", "/no/such/"+marker, "")
	h.as("", "BREW", "/v1/subjects/"+marker, "")
	_, text := h.as("", "GET", "/metrics", "")
	for _, want := range []string{
		`cloakroom_http_requests_total{code="ok",method="PUT",route="/v1/subjects/:subject",status="201"} 1`,
		`cloakroom_http_requests_total{code="subject_not_found",method="GET",route="/v1/subjects/:subject",status="404"} 1`,
		`cloakroom_http_requests_total{code="not_found",method="GET",route="none",status="404"} 1`,
		`cloakroom_http_requests_total{code="method_not_allowed",method="other",route="none",status="405"} 1`,
		`cloakroom_http_request_duration_seconds_count{method="PUT",route="/v1/subjects/:subject"} 1`,
		`cloakroom_http_requests_in_flight 1`,
		`cloakroom_items_total{call="detokenize",code="token_malformed"} 2`,
		`cloakroom_items_total{call="tokenize",code="ok"} 1`,
		`cloakroom_items_total{call="tokenize",code="malformed_request"} 1`,
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	log := h.log.String()
	for _, want := range []string{
		`"level":"DEBUG","msg":"request","method":"PUT","route":"/v1/subjects/:subject","status":201,"code":"","took":`,
		`"request_id":"rid-1","service":"app"`,
		`"method":"other","route":"none","status":405,"code":"method_not_allowed"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	for _, never := range []string{marker, "u1", "nobody-of-that-name", "tok_"} {
		if strings.Contains(text, never) || strings.Contains(log, never) {
			t.Errorf("%s stands in metrics or log", never)
		}
	}
}

// A caller that hangs up is counted as that, not as a failure of the service.
func TestCallerHangsUp(t *testing.T) {
	log := &logbook{}
	srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		api.NewFailing(api.Config{Logger: log.logger()}, context.Canceled).ServeHTTP(w, r.WithContext(ctx))
	}))
	do(t, srv, "GET", "/fail", "")
	if got := log.String(); !strings.Contains(got, `"status":499,"code":"client_closed_request"`) || strings.Contains(got, "ERROR") {
		t.Errorf("log: %s", got)
	}
}

func TestTwoHandlersShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		srv := serve(t, api.Echo(api.Config{Registry: reg}))
		do(t, srv, "GET", "/healthz", "")
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "cloakroom_http_requests_total" {
			for _, m := range f.GetMetric() {
				if m.GetCounter().GetValue() == 2 {
					return
				}
			}
		}
	}
	t.Error("two requests were not counted together")
}

func TestBuffersAreCleared(t *testing.T) {
	for _, text := range []string{marker, strings.Repeat(marker, 1<<16)} {
		in, out := api.Released(text)
		if strings.Contains(string(in)+string(out), marker) {
			t.Error("a buffer that is used again holds a value")
		}
	}
}
