package vault_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/store/bolt/bolttest"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

const callers = 64

// parallel runs op from 64 goroutines.
func parallel(b *testing.B, op func() error) {
	b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := op(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkDetokenize reveals values whose data keys are cached: one of one subject, and a hundred of a hundred. Each
// call waits for its audit entry.
func BenchmarkDetokenize(b *testing.B) {
	v := vaulttest.Open(b, b.TempDir(), vaulttest.Options{})
	tokens := make([]secret.Text, 100)
	for i := range tokens {
		tokens[i] = put(b, v, fmt.Sprintf("u%d", i), "phone", "13800138000", "name", "张三")["phone"]
	}
	app := vaulttest.Call("app", "service")
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			parallel(b, func() error {
				out, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: tokens[:n]})
				if err == nil && out[n-1].Err != nil {
					err = out[n-1].Err
				}
				return err
			})
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "values/s")
		})
	}
}

// fiveFields are those of the n-th subject; a thousand share a name.
func fiveFields(n uint64) []vault.FieldInput {
	return vaulttest.Fields("phone", fmt.Sprintf("138%08d", n%1e8), "name", "张"+string(rune('一'+n/1000)), "email", fmt.Sprintf("zhang.san%d@example.com", n),
		"address", "北京市海淀区中关村大街27号", "text", "a note of some length about nothing at all")
}

// BenchmarkPut makes subjects with five fields. In the same run a bare bbolt writes rows of the same sizes in as many
// transactions; x-raw says how much longer the vault took, which also encrypts and waits for the audit log's disk.
func BenchmarkPut(b *testing.B) {
	v := vaulttest.Open(b, b.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	if _, err := v.Put(bg, app, vault.PutRequest{Subject: "one", Fields: fiveFields(0)}); err != nil {
		b.Fatal(err)
	}
	shape := bolttest.ShapeOf(b, v.Store, store.Subjects, store.Tokens, store.Index)
	first := bolttest.Transactions(b, v.Bolt.Path())
	var n atomic.Uint64
	b.ResetTimer()
	parallel(b, func() error {
		i := n.Add(1)
		_, err := v.Put(bg, app, vault.PutRequest{Subject: fmt.Sprintf("u%d", i), Fields: fiveFields(i)})
		return err
	})
	b.StopTimer()
	took := b.Elapsed()
	bolttest.Report(b, shape, took, bolttest.Transactions(b, v.Bolt.Path())-first)
}
