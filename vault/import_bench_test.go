package vault_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/store/bolt/bolttest"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// BenchmarkImport makes subjects with three fields, a thousand in each import and two imports at once. In the same run a
// bare bbolt writes rows of the same sizes in transactions of a thousand subjects; x-raw is how many times longer the
// import took, which also encrypts and waits for the audit log's disk.
func BenchmarkImport(b *testing.B) {
	v := vaulttest.Open(b, b.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	if _, err := v.Put(bg, app, vault.PutRequest{Subject: "one", Fields: fiveFields(0)[:3]}); err != nil {
		b.Fatal(err)
	}
	shape := bolttest.ShapeOf(b, v.Store, store.Subjects, store.Tokens, store.Index)
	next := make(chan []vault.PutRequest)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for rows := range next {
				out, err := v.Import(bg, app, rows)
				if err != nil {
					b.Error(err)
				}
				for i := range out {
					if out[i].Err != nil {
						b.Error(out[i].Err)
					}
				}
			}
		})
	}
	b.ResetTimer()
	for i := 0; i < b.N; i += vault.MaxImportRows {
		rows := make([]vault.PutRequest, min(vault.MaxImportRows, b.N-i))
		for j := range rows {
			rows[j] = vault.PutRequest{Subject: fmt.Sprintf("u%d", i+j), Fields: fiveFields(uint64(i + j))[:3]}
		}
		next <- rows
	}
	close(next)
	all.Wait()
	b.StopTimer()
	bolttest.Report(b, shape, b.Elapsed(), uint64((b.N+vault.MaxImportRows-1)/vault.MaxImportRows))
}
