// Package bolttest measures what a bare bbolt does with the rows of a store, as the yardstick for benchmarks of what is
// built upon it.
package bolttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

// Shape is the rows that one call writes.
type Shape []row

type row struct {
	ks         store.Keyspace
	key, value []byte
}

// ShapeOf takes the rows of keyspaces as they stand, for a store that holds what one call wrote.
func ShapeOf(tb testing.TB, st store.Store, spaces ...store.Keyspace) Shape {
	tb.Helper()
	var shape Shape
	err := st.View(context.Background(), func(tx store.ReadTx) error {
		shape = nil
		for _, ks := range spaces {
			err := tx.Scan(ks, nil, nil, func(key, value []byte) error {
				shape = append(shape, row{ks, bytes.Clone(key), bytes.Clone(value)})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return shape
}

// ShapeOfFile is ShapeOf for the bbolt file at path, which no process has open.
func ShapeOfFile(tb testing.TB, path string, spaces ...store.Keyspace) Shape {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	var shape Shape
	err = db.View(func(tx *bbolt.Tx) error {
		for _, ks := range spaces {
			err := tx.Bucket([]byte(ks)).ForEach(func(key, value []byte) error {
				shape = append(shape, row{ks, bytes.Clone(key), bytes.Clone(value)})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return shape
}

// Transactions reads from its two meta pages how many write transactions a bbolt file has seen.
func Transactions(tb testing.TB, path string) uint64 {
	tb.Helper()
	file, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var newest uint64
	for page := range 2 {
		meta := make([]byte, 72)
		if _, err := file.ReadAt(meta, int64(page*os.Getpagesize()+16)); err != nil {
			tb.Fatal(err)
		}
		newest = max(newest, binary.NativeEndian.Uint64(meta[48:]))
	}
	return newest
}

// Write writes the shape n times over, with random keys, in a loop of count transactions, and returns how long that
// took. Rows of one subject stay neighbours.
func Write(tb testing.TB, shape Shape, n, count int) time.Duration {
	tb.Helper()
	db, err := bbolt.Open(filepath.Join(tb.TempDir(), "raw.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true, InitialMmapSize: 8 << 30})
	if err != nil {
		tb.Fatal(err)
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
		tb.Fatal(err)
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
			tb.Fatal(err)
		}
	}
	return time.Since(start)
}

// Report adds to a benchmark of n calls that took so long, and count transactions, what the bare loop did: "x-raw" is
// how many times longer the benchmark took.
func Report(b *testing.B, shape Shape, took time.Duration, count uint64) {
	b.Helper()
	raw := Write(b, shape, b.N, max(1, int(count)))
	b.ReportMetric(float64(b.N)/took.Seconds(), "subjects/s")
	b.ReportMetric(float64(b.N)/float64(max(1, count)), "subjects/tx")
	b.ReportMetric(float64(b.N)/raw.Seconds(), "raw-subjects/s")
	b.ReportMetric(took.Seconds()/raw.Seconds(), "x-raw")
}
