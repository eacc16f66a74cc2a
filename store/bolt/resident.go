package bolt

import (
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
)

// resident keeps the mapped file from filling the memory that the process is charged for. Every page that a read
// touches stays mapped, and counts, until somebody lets go of it; the kernel's own copy of the page is not affected.
type resident struct {
	limit int64 // bytes; negative: none
	cost  atomic.Int64

	mu   sync.Mutex
	stat mappedStat
	base int64 // bytes mapped before the file was: the program itself, which cannot be let go of
}

// lookEvery is how many reads pass between two looks: one maps up to 64 KiB around the row.
const (
	lookEvery = 128
	readBytes = 64 << 10 // of a large value count as one more read
)

func (r *resident) open(limit int64) {
	if limit == 0 {
		limit = DefaultResidentLimit
	}
	r.limit = limit
	if limit < 0 {
		return
	}
	if !r.stat.open() {
		r.limit = -1
		return
	}
	r.base = r.stat.bytes()
}

func (r *resident) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stat.close()
}

// touched counts the read of a value of n bytes in tx.
func (s *Store) touched(tx *bbolt.Tx, n int) {
	r := &s.resident
	if r.limit < 0 {
		return
	}
	if r.cost.Add(int64(1+n/readBytes)) >= lookEvery {
		r.look(s.db, tx)
	}
}

// trim looks without waiting for reads. The transaction holds the mapping in its place.
func (s *Store) trim() {
	if s.resident.limit < 0 {
		return
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return // closed or failed: nothing to let go of
	}
	defer func() { _ = tx.Rollback() }()
	s.resident.look(s.db, tx)
}

// look lets go of the file's pages when too many are mapped. One caller at a time does; others go on.
func (r *resident) look(db *bbolt.DB, tx *bbolt.Tx) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	r.cost.Store(0)
	if r.stat.bytes() > r.base+r.limit {
		letGo(db.Info().Data, uintptr(tx.Size()))
	}
}
