package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// hammer sends one request again and again over 32 connections, and checks that each is answered with 200.
func hammer(b *testing.B, srv *httptest.Server, values int, request string) {
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := io.WriteString(conn, request); err != nil {
				b.Error(err)
				return
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				b.Error(resp.Status)
				return
			}
		}
	})
	b.ReportMetric(float64(values*b.N)/b.Elapsed().Seconds(), "values/s")
}

// BenchmarkDetokenize compares opening tokens with Echo, which does all that the stack does and nothing else. The
// load generator shares the processors with the server; `cloakroom bench` separates them.
func BenchmarkDetokenize(b *testing.B) {
	h := &house{t: b, keys: map[string]string{}}
	in := vaulttest.Open(b, b.TempDir(), vaulttest.Options{})
	h.keys["app"] = in.Key["app"].Reveal()
	h.Server = serve(b, api.New(api.Config{Vault: in.Vault}))
	var items []string
	for i := range 100 {
		items = append(items, fmt.Sprintf(`{"subject":"u%d","field":"phone","value":"138 0013 80%02d"}`, i, i))
	}
	made := must[wire.Tokenized](h, 200, "app", "POST", "/v1/tokenize", `{"items":[`+strings.Join(items, ",")+`]}`)
	var tokens []string
	for _, t := range made.Items {
		tokens = append(tokens, fmt.Sprintf("%q", string(t.Token)))
	}
	echo := serve(b, api.Echo(api.Config{}))
	for _, n := range []int{1, 100} {
		body := `{"purpose":"service","tokens":[` + strings.Join(tokens[:n], ",") + `]}`
		request := strings.Replace(post(len(body)), "\r\n\r\n", "\r\nAuthorization: Bearer "+h.keys["app"]+"\r\n\r\n", 1) + body
		b.Run(fmt.Sprintf("echo/tokens=%d", n), func(b *testing.B) { hammer(b, echo, n, request) })
		b.Run(fmt.Sprintf("vault/tokens=%d", n), func(b *testing.B) { hammer(b, h.Server, n, request) })
	}
}
