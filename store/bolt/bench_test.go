package bolt

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

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

// BenchmarkUpdate64 is b.N calls by 64 callers at once. The metric raw/grouped is the time that a plain loop takes
// for the same rows in transactions of the same size, over the time taken here: 1 is as fast as the file goes.
func BenchmarkUpdate64(b *testing.B) {
	for _, c := range []struct {
		name  string
		limit int64
	}{{"limit=default", 0}, {"limit=none", -1}} {
		b.Run(c.name, func(b *testing.B) {
			var stores [2]*Store
			for i := range stores {
				s, err := Open(filepath.Join(b.TempDir(), "store.db"), Options{ResidentLimit: c.limit})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				fill(b, s, 1<<40, filled)
				stores[i] = s
			}
			commits := counted(stores[0])
			calls := benchCalls(b.N)
			var group, loop time.Duration
			txs := 0
			b.ReportAllocs()
			b.ResetTimer()
			for len(calls) > 0 {
				// In turns, so that both meet the same weather on the machine.
				n := min(8*benchCallers, len(calls))
				b.StartTimer()
				start := time.Now()
				grouped(b, stores[0], calls[:n])
				group += time.Since(start)
				b.StopTimer()
				start = time.Now()
				txs += raw(b, stores[1].db, calls[:n])
				loop += time.Since(start)
				calls = calls[n:]
			}
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "calls/tx")
			b.ReportMetric(float64(b.N)/float64(txs), "rawcalls/tx")
			b.ReportMetric(float64(b.N)/group.Seconds(), "calls/s")
			b.ReportMetric(loop.Seconds()/group.Seconds(), "raw/grouped")
		})
	}
}

func benchCalls(n int) [][]benchRow {
	calls := make([][]benchRow, n)
	for i := range calls {
		calls[i] = benchCall(uint64(i))
	}
	return calls
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

// BenchmarkRawBolt writes the same rows in a plain loop, 64 calls in each bbolt transaction.
func BenchmarkRawBolt(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "store.db"))
	defer s.Close()
	fill(b, s, 1<<40, filled)
	calls := benchCalls(b.N)
	b.ReportAllocs()
	b.ResetTimer()
	txs := raw(b, s.db, calls)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/float64(txs), "calls/tx")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// raw returns the number of transactions.
func raw(b *testing.B, db *bbolt.DB, calls [][]benchRow) (txs int) {
	for part := range slices.Chunk(calls, benchCallers) {
		txs++
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, rows := range part {
				for _, r := range rows {
					if err := tx.Bucket([]byte(r.ks)).Put(r.key, r.value); err != nil {
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
	return txs
}

// BenchmarkView reads 4 random rows of a file of about 500 MB in a View, with and without the limit on resident
// memory. The metric MiB-mapped is what the process had mapped of files at the end.
func BenchmarkView(b *testing.B) {
	const calls = 34 << 10
	path := filepath.Join(b.TempDir(), "store.db")
	s := open(b, path)
	fill(b, s, 0, calls)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		limit int64
	}{{"limit=default", 0}, {"limit=none", -1}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := Open(path, Options{ResidentLimit: c.limit})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			wanted := make([]benchRow, 0, 4*b.N)
			r := rand.New(rand.NewPCG(5, 6))
			some := make([][]benchRow, 1<<10)
			for i := range some {
				some[i] = benchCall(r.Uint64N(calls))
			}
			for range 4 * b.N {
				wanted = append(wanted, some[r.IntN(len(some))][r.IntN(benchRows)])
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				err := s.View(context.Background(), func(tx store.ReadTx) error {
					for _, row := range wanted[4*i : 4*i+4] {
						if _, err := tx.Get(row.ks, row.key); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			var m mappedStat
			if m.open() {
				b.ReportMetric(float64(m.bytes())/(1<<20), "MiB-mapped")
				m.close()
			}
		})
	}
}
