package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
)

const mib = 1 << 20

func post(contentLength int) string {
	return fmt.Sprintf("POST /v1/detokenize HTTP/1.1\r\nHost: vault\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", contentLength)
}

const chunked = "POST /v1/detokenize HTTP/1.1\r\nHost: vault\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

func TestBodyLimits(t *testing.T) {
	srv, log := echo(t, api.Limits{})
	addr := srv.Listener.Addr().String()
	pad := func(n int) string { return strings.Repeat(" ", n-len(marker)) + marker }
	asChunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for name, c := range map[string]struct {
		request string
		closes  bool
	}{
		"9 MiB":                            {post(9*mib) + pad(9*mib), false},
		"9 MiB in chunks":                  {chunked + asChunk(pad(9*mib)) + "0\r\n\r\n", true}, // as after all chunks
		"one byte above 8 MiB":             {post(8*mib+1) + pad(8*mib+1), false},
		"16 MiB":                           {post(16*mib) + pad(16*mib), false},
		"17 MiB announced, none sent":      {post(17 * mib), true},
		"a little above 16 MiB, in chunks": {chunked + asChunk(pad(16*mib)) + asChunk(pad(1024)) + "0\r\n\r\n", true},
		"17 MiB in chunks":                 {chunked + asChunk(pad(8*mib)) + asChunk(pad(9*mib)), true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			written := make(chan struct{})
			go func() {
				defer close(written)
				_, _ = io.WriteString(conn, c.request)
			}()
			r := bufio.NewReader(conn)
			resp, body := receive(t, r)
			wantProblem(t, resp, body, 413, wire.BodyTooLarge)
			wantSilence(t, resp, body, log)
			if resp.Close != c.closes {
				t.Errorf("Connection: close is %v, want %v", resp.Close, c.closes)
			}
			if c.closes {
				if _, err := r.ReadByte(); err == nil {
					t.Error("the connection stays open")
				}
				conn.Close()
				<-written
				return
			}
			<-written
			if _, err := io.WriteString(conn, post(len(tokens(1)))+tokens(1)); err != nil {
				t.Fatal(err)
			}
			if resp, _ := receive(t, r); resp.StatusCode != http.StatusOK {
				t.Errorf("the next request on the connection: %d", resp.StatusCode)
			}
		})
	}
	t.Run("8 MiB is read", func(t *testing.T) {
		body := tokens(1) + strings.Repeat(" ", 8*mib-len(tokens(1)))
		if resp, got := send(t, addr, post(len(body))+body); resp.StatusCode != http.StatusOK {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
	})
	t.Run("17 MiB through a client", func(t *testing.T) {
		resp, body := do(t, srv, "POST", "/v1/detokenize", strings.Repeat(" ", 17*mib))
		wantProblem(t, resp, body, 413, wire.BodyTooLarge)
	})
}

func TestSlowBody(t *testing.T) {
	srv, log := echo(t, api.Limits{BodyTime: 50 * time.Millisecond})
	addr := srv.Listener.Addr().String()
	for name, request := range map[string]string{
		"nothing comes":           post(100),
		"half comes":              post(100) + `{"purpose":"` + marker,
		"half of a chunk":         chunked + "64\r\n{" + marker,
		"too large and slow":      post(9*mib) + marker,
		"waiting for a go-ahead":  strings.Replace(post(100), "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1),
		"chunk without an ending": chunked + "1\r\n{\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			resp, body := receive(t, r)
			if resp.StatusCode == http.StatusContinue {
				resp, body = receive(t, r)
			}
			wantProblem(t, resp, body, 408, wire.RequestTimeout)
			wantSilence(t, resp, body, log)
			if !resp.Close {
				t.Error("no Connection: close")
			}
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
	t.Run("a refused request with a slow body ends too", func(t *testing.T) {
		resp, body := send(t, addr, strings.Replace(post(100), "application/json", "text/plain", 1))
		wantProblem(t, resp, body, 415, wire.UnsupportedMediaType)
		resp, body = send(t, addr, strings.Replace(post(100), "/v1/detokenize", "/nowhere", 1))
		wantProblem(t, resp, body, 404, wire.NotFound)
	})
}

// The time of a body ends with the body: a deadline that was left behind would end an answer that takes long.
func TestBodyTimeEndsWithTheBody(t *testing.T) {
	const bodyTime = 200 * time.Millisecond
	srv := serve(t, api.NewWaiting(api.Config{Limits: api.Limits{BodyTime: bodyTime}}, 2*bodyTime))
	for range 2 {
		if resp, body := do(t, srv, "POST", "/wait", "{}"); resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
}

func TestBodyThatBreaks(t *testing.T) {
	srv, log := echo(t, api.Limits{})
	addr := srv.Listener.Addr().String()
	resp, body := send(t, addr, chunked+"zz"+marker+"\r\n")
	wantProblem(t, resp, body, 400, wire.MalformedRequest)
	wantSilence(t, resp, body, log)

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, post(100)+marker); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, body = receive(t, bufio.NewReader(conn))
	wantProblem(t, resp, body, 400, wire.MalformedRequest)
	wantSilence(t, resp, body, log)
}

func TestExpectContinue(t *testing.T) {
	srv, _ := echo(t, api.Limits{})
	addr := srv.Listener.Addr().String()
	ask := func(contentType string) string {
		return "POST /v1/detokenize HTTP/1.1\r\nHost: vault\r\nContent-Type: " + contentType + "\r\nExpect: 100-continue\r\n" +
			fmt.Sprintf("Content-Length: %d\r\n\r\n", len(tokens(1)))
	}
	t.Run("granted", func(t *testing.T) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		if _, err := io.WriteString(conn, ask("application/json")); err != nil {
			t.Fatal(err)
		}
		if resp, _ := receive(t, r); resp.StatusCode != http.StatusContinue {
			t.Fatalf("%d", resp.StatusCode)
		}
		if _, err := io.WriteString(conn, tokens(1)); err != nil {
			t.Fatal(err)
		}
		if resp, _ := receive(t, r); resp.StatusCode != http.StatusOK {
			t.Fatalf("%d", resp.StatusCode)
		}
	})
	t.Run("refused before the body", func(t *testing.T) {
		resp, body := send(t, addr, ask("text/plain"))
		wantProblem(t, resp, body, 415, wire.UnsupportedMediaType)
	})
}
