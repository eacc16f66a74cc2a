package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/store/bolt/bolttest"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// hammer sends one request again and again over 32 connections, and checks that each is answered with 200.
func hammer(b *testing.B, srv *httptest.Server, values int, request string) {
	each(b, srv, 16, func() string { return request })
	b.ReportMetric(float64(values*b.N)/b.Elapsed().Seconds(), "values/s")
}

// each sends requests over parallel connections for each processor.
func each(b *testing.B, srv *httptest.Server, parallel int, next func() string) {
	b.ReportAllocs()
	b.SetParallelism(parallel)
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
			if _, err := io.WriteString(conn, next()); err != nil {
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
			if resp.StatusCode >= http.StatusBadRequest {
				b.Error(resp.Status)
				return
			}
		}
	})
	b.StopTimer()
}

// BenchmarkPut makes subjects with five fields over 64 connections. In the same run a bare bbolt writes rows of the same
// sizes in as many transactions; x-raw says how much longer the server took, HTTP, encryption and audit included.
func BenchmarkPut(b *testing.B) {
	in := vaulttest.Open(b, b.TempDir(), vaulttest.Options{})
	srv := serve(b, api.New(api.Config{Vault: in.Vault}))
	put := func(n uint64) string {
		body := fmt.Sprintf(`{"fields":{"phone":"138%08d","name":"张%c","email":"zhang.san%d@example.com","address":"北京市海淀区中关村大街27号","text":"a note of some length about nothing at all"}}`,
			n%1e8, rune('一'+n/1000), n)
		return fmt.Sprintf("PUT /v1/subjects/u%d HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
			n, in.Key["app"].Reveal(), len(body), body)
	}
	var n atomic.Uint64
	fields := vaulttest.Fields("phone", "13800000000", "name", "张一", "email", "zhang.san0@example.com", "address", "北京市海淀区中关村大街27号", "text", "a note of some length about nothing at all")
	if _, err := in.Put(b.Context(), vaulttest.Call("app", ""), vault.PutRequest{Subject: "u0", Fields: fields}); err != nil {
		b.Fatal(err)
	}
	shape := bolttest.ShapeOf(b, in.Store, store.Subjects, store.Tokens, store.Index)
	b.Run("vault", func(b *testing.B) {
		first := bolttest.Transactions(b, in.Bolt.Path())
		each(b, srv, 64/runtime.GOMAXPROCS(0), func() string { return put(n.Add(1)) })
		bolttest.Report(b, shape, b.Elapsed(), bolttest.Transactions(b, in.Bolt.Path())-first)
	})
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
