package bolt

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

// The rows of one call, as writing a person's record makes them: 12 rows of 17 to 1500 bytes at random keys.
const (
	benchRows    = 12
	benchCallers = 64
)

type benchRow struct {
	ks         store.Keyspace
	key, value []byte
}

// benchCall makes the rows of the n-th call; the same n gives the same rows.
func benchCall(n uint64) []benchRow {
	r := rand.New(rand.NewPCG(n, 17))
	spaces := store.Keyspaces()
	rows := make([]benchRow, benchRows)
	noise := make([]byte, 1500)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for i := range rows {
		key := make([]byte, 17)
		binary.BigEndian.PutUint64(key, r.Uint64())
		binary.BigEndian.PutUint64(key[8:], r.Uint64())
		rows[i] = benchRow{spaces[i%3+3], key, noise[:17+r.IntN(len(noise)-16)]}
	}
	return rows
}

func benchBytes(calls int) (n int64) {
	for i := range calls {
		for _, r := range benchCall(uint64(i)) {
			n += int64(len(r.key) + len(r.value))
		}
	}
	return n
}

// counted lets commits through and counts them.
func counted(s *Store) *atomic.Int64 {
	var n atomic.Int64
	s.commit = func(tx *bbolt.Tx) error {
		n.Add(1)
		return tx.Commit()
	}
	return &n
}

// fill writes n calls in large transactions.
func fill(b testing.TB, s *Store, from, n uint64) {
	for i := from; i < from+n; i += 1024 {
		err := s.Update(context.Background(), func(tx store.Tx) error {
			for j := i; j < min(i+1024, from+n); j++ {
				for _, r := range benchCall(j) {
					if err := tx.Put(r.ks, r.key, r.value); err != nil {
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
}

// filled is how many calls the benchmarks start on: about 60 MB.
const filled = 1 << 12

// BenchmarkUpdate64 is b.N calls by 64 callers at once, against BenchmarkRawBolt.
func BenchmarkUpdate64(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "store.db"))
	defer s.Close()
	fill(b, s, 1<<40, filled)
	commits := counted(s)
	calls := make([][]benchRow, b.N)
	for i := range calls {
		calls[i] = benchCall(uint64(i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	grouped(b, s, calls)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/float64(commits.Load()), "calls/tx")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func grouped(b *testing.B, s *Store, calls [][]benchRow) {
	var next atomic.Int64
	done := make(chan error, benchCallers)
	for range benchCallers {
		go func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(calls)) {
					done <- nil
					return
				}
				err := s.Update(context.Background(), func(tx store.Tx) error {
					for _, r := range calls[i] {
						if err := tx.Put(r.ks, r.key, r.value); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range benchCallers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkRawBolt writes the same rows in a plain loop, 64 calls in each bbolt transaction: what the file can do.
func BenchmarkRawBolt(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "store.db"))
	defer s.Close()
	fill(b, s, 1<<40, filled)
	calls := make([][]benchRow, b.N)
	for i := range calls {
		calls[i] = benchCall(uint64(i))
	}
	txs := 0
	b.ReportAllocs()
	b.ResetTimer()
	for len(calls) > 0 {
		n := min(benchCallers, len(calls))
		if err := raw(s.db, calls[:n]); err != nil {
			b.Fatal(err)
		}
		calls = calls[n:]
		txs++
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/float64(txs), "calls/tx")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func raw(db *bbolt.DB, calls [][]benchRow) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for _, rows := range calls {
			for _, r := range rows {
				if err := tx.Bucket([]byte(r.ks)).Put(r.key, r.value); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
