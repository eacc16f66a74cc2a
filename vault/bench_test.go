package vault_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
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
	shape := dump(b, v.Store, store.Subjects, store.Tokens, store.Index)
	path := filepath.Join(v.Dir, "store.db")
	first := transactions(b, path)
	var n atomic.Uint64
	b.ResetTimer()
	parallel(b, func() error {
		i := n.Add(1)
		_, err := v.Put(bg, app, vault.PutRequest{Subject: fmt.Sprintf("u%d", i), Fields: fiveFields(i)})
		return err
	})
	b.StopTimer()
	took := b.Elapsed()
	count := transactions(b, path) - first
	raw := rawPuts(b, shape, b.N, max(1, int(count)))
	b.ReportMetric(float64(b.N)/took.Seconds(), "subjects/s")
	b.ReportMetric(float64(b.N)/float64(max(1, count)), "subjects/tx")
	b.ReportMetric(float64(b.N)/raw.Seconds(), "raw-subjects/s")
	b.ReportMetric(took.Seconds()/raw.Seconds(), "x-raw")
}

// transactions reads from its two meta pages how many write transactions a bbolt file has seen.
func transactions(b *testing.B, path string) uint64 {
	b.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	var newest uint64
	for page := range 2 {
		meta := make([]byte, 72)
		if _, err := file.ReadAt(meta, int64(page*os.Getpagesize()+16)); err != nil {
			b.Fatal(err)
		}
		newest = max(newest, binary.NativeEndian.Uint64(meta[48:]))
	}
	return newest
}

// rawPuts writes rows of shape n times over, with random keys, in count transactions.
func rawPuts(b *testing.B, shape []row, n, count int) time.Duration {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true, InitialMmapSize: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, r := range shape {
			if _, err := tx.CreateBucketIfNotExists([]byte(r.ks)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]byte, n*len(shape)*64)
	_, _ = rand.Read(keys)
	start := time.Now()
	for t := range count {
		err := db.Update(func(tx *bbolt.Tx) error {
			for i := n * t / count; i < n*(t+1)/count; i++ {
				sid := keys[i*len(shape)*64:][:16]
				for j, r := range shape {
					key := keys[(i*len(shape)+j)*64:][:len(r.key):len(r.key)]
					if r.ks == store.Subjects {
						key = append(append([]byte(nil), sid...), r.key[16:]...)
					}
					if err := tx.Bucket([]byte(r.ks)).Put(key, r.value); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}
