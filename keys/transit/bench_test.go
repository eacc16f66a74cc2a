package transit

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// BenchmarkDecrypt compares this driver with what Vault's client does by itself, at one server and in one run. Beside
// keys per second it reports the processor time of this process alone, the server being another one.
func BenchmarkDecrypt(b *testing.B) {
	s := newStand(b, transittest.Options{NoAudit: true})
	k := open(b, withToken(s.URL, s.Root, s.inst))
	config := api.DefaultConfig()
	must(b, config.Error)
	config.Address = s.URL
	config.HttpClient.Transport.(*http.Transport).MaxIdleConnsPerHost = maxConnections
	client, err := api.NewClient(config)
	must(b, err)
	client.SetToken(s.Root)
	b.Cleanup(config.HttpClient.CloseIdleConnections)
	path := "transit/decrypt/" + vaultKey(s.inst, keys.DEKKey)
	for _, size := range []int{1, 100, 500} {
		items := wrapSome(b, k, keys.DEKKey, size)
		request := unwrapItems(items)
		b.Run(fmt.Sprintf("raw/%d", size), func(b *testing.B) {
			measure(b, size, func() error {
				in := make([]map[string]any, size)
				for i, it := range request {
					in[i] = map[string]any{"ciphertext": string(it.Wrapped), "context": base64.StdEncoding.EncodeToString(it.Context)}
				}
				out, err := client.Logical().Write(path, map[string]any{"batch_input": in, "partial_failure_response_code": 200})
				if err != nil {
					return err
				}
				results := out.Data["batch_results"].([]any)
				for _, r := range results {
					if _, err := base64.StdEncoding.DecodeString(r.(map[string]any)["plaintext"].(string)); err != nil {
						return err
					}
				}
				return nil
			})
		})
		b.Run(fmt.Sprintf("driver/%d", size), func(b *testing.B) {
			measure(b, size, func() error {
				out, err := k.Unwrap(b.Context(), keys.DEKKey, request)
				if err != nil {
					return err
				}
				for _, o := range out {
					if o.Err != nil {
						return o.Err
					}
				}
				return nil
			})
		})
	}
}

// measure runs batches side by side, four for each processor.
func measure(b *testing.B, size int, batch func() error) {
	b.SetParallelism(4)
	b.ReportAllocs()
	runtime.GC()
	before := processorTime(b)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := batch(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	n := float64(b.N * size)
	b.ReportMetric(n/b.Elapsed().Seconds(), "keys/s")
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/n, "cpu-ns/key")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
