// Package bolt keeps a store in one file, through go.etcd.io/bbolt: a B+tree that readers map into memory and one
// writer changes copy-on-write. Every keyspace is a bucket.
//
// A View reads bbolt's snapshot in place; nothing is copied and nothing is locked against the writer.
//
// An Update queues. One writer goroutine opens a bbolt transaction, gives each waiting caller its turn on the same
// overlay (the changes of this group so far, over the transaction), writes the overlay in key order and commits:
// two disk syncs for the whole group, during which the next one gathers. A callback runs in the goroutine of its
// caller, so that a panic ends where it started; when it fails, its entries are taken out of the overlay and the
// others in the group do not notice.
//
// A commit that fails before bbolt's meta page is written has changed nothing: ErrUnavailable, and the next group
// tries again. One that fails after it may hold or not: the store answers ErrUnknown from then on, Failed is
// closed, and the process has to open the file anew.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/cloakroom-io/cloakroom/store"
)

// DefaultResidentLimit is the ResidentLimit of the zero Options.
const DefaultResidentLimit = 56 << 20

// Options of Open. The zero value is good for a server.
type Options struct {
	// ResidentLimit is the number of bytes of its file that the process may hold mapped before the store lets go of
	// them; the kernel's page cache keeps them. One large commit can map as much again for a moment. 0 means
	// DefaultResidentLimit, negative no limit. It works on Linux only. Reads all over a file much larger than the limit pay for it with a page fault or two
	// each, some microseconds.
	ResidentLimit int64
}

// Store is an open file. It implements store.Store.
//
// A callback must not call Update, and a View should be short: pages that a snapshot still shows cannot be reused,
// and once the file has outgrown the address space reserved for it (8 GiB, then 1 GiB at a time) the writer waits
// for running Views before it can reserve more, and new Views wait for the writer.
type Store struct {
	db     *bbolt.DB
	file   *os.File // the descriptor bbolt uses, to read the meta pages without its mapping
	path   string
	page   int // bytes
	spaces map[store.Keyspace]int

	queue    queue
	ran      chan bool     // a caller ends its turn: whether its changes stay
	stopped  chan struct{} // the writer has ended
	failed   chan struct{}
	broken   bool // bbolt panicked and may hold its locks; read after stopped
	closed   atomic.Bool
	unready  atomic.Pointer[error] // why the last commit failed
	resident resident

	commit func(*bbolt.Tx) error // (*bbolt.Tx).Commit, except in a test of its failure
}

var _ store.Store = (*Store)(nil)

// Open opens the file at path, or creates it, mode 0600. The folder must exist. The file is locked for this process
// alone: while another holds it Open fails at once.
//
// After a clean Close opening is quick; after a crash bbolt walks all pages to find the free ones.
func Open(path string, opt Options) (*Store, error) {
	s := &Store{
		path:    path,
		spaces:  make(map[store.Keyspace]int),
		queue:   queue{wake: make(chan struct{}, 1)},
		ran:     make(chan bool),
		stopped: make(chan struct{}),
		failed:  make(chan struct{}),
		commit:  (*bbolt.Tx).Commit,
	}
	for i, ks := range store.Keyspaces() {
		s.spaces[ks] = i
	}
	s.resident.open(opt.ResidentLimit)
	if err := s.openFile(path); err != nil {
		s.resident.close()
		return nil, fmt.Errorf("store/bolt: open %s: %w", path, err)
	}
	s.trim()
	go s.write()
	return s, nil
}

func (s *Store) openFile(path string) (err error) {
	defer func() {
		// bbolt panics when the pages of the file contradict each other.
		if p := recover(); p != nil {
			err = fmt.Errorf("file is damaged: %v", p)
		}
	}()
	opt := &bbolt.Options{
		Timeout:         time.Nanosecond, // one try
		PageSize:        newPage,
		FreelistType:    bbolt.FreelistMapType,
		NoFreelistSync:  true,
		NoStatistics:    true,
		InitialMmapSize: reserve,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if err != nil {
				return nil, err
			}
			if err := inspect(f); err != nil {
				_ = f.Close()
				return nil, err
			}
			s.file = f
			return f, nil
		},
	}
	db, err := bbolt.Open(path, 0o600, opt)
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return errors.New("another server has this file open")
	}
	if err != nil {
		return err
	}
	s.db, s.page = db, db.Info().PageSize
	if err := s.prepare(); err != nil {
		_ = db.Close()
		return err
	}
	return nil
}

// reserve is the address space taken at once. It costs nothing until the file is that large, and while the file
// fits no View can hold up the writer. A 32-bit machine has none to spare.
const reserve = (8 << 30) * (bits.UintSize / 64)

// prepare makes the buckets that are missing, and the entry in the folder durable.
func (s *Store) prepare() error {
	missing := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		for ks := range s.spaces {
			missing = missing || tx.Bucket([]byte(ks)) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		for _, ks := range store.Keyspaces() {
			if _, err := tx.CreateBucketIfNotExists([]byte(ks)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Path returns the path that the store was opened with.
func (s *Store) Path() string { return s.path }

// Failed is closed when the outcome of a commit is unknown. Every call after that answers store.ErrUnknown.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.ReadTx) error) error {
	if err := ctx.Err(); err != nil {
		return notBegun(err)
	}
	if err := s.queue.refusal(); err != nil {
		return err
	}
	tx, err := s.db.Begin(false)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	r := &readTx{s: s, tx: tx}
	defer r.end()
	return fn(r)
}

// Close implements store.Store. Updates that wait for their turn are answered store.ErrClosed.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return store.ErrClosed
	}
	s.queue.refuse(store.ErrClosed)
	<-s.stopped
	defer s.resident.close()
	if s.broken {
		return s.file.Close()
	}
	s.keepFreelist()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("store/bolt: close: %w", err)
	}
	return nil
}

// keepFreelist spares the next Open the walk over all pages. Commits leave the list of free pages out of the file
// because it would be written whole each time.
func (s *Store) keepFreelist() {
	select {
	case <-s.failed:
		return
	default:
	}
	if m, err := newestMeta(s.file, s.page); err != nil || m.freelist != noFreelist {
		return
	}
	s.db.NoFreelistSync = false
	if tx, err := s.db.Begin(true); err == nil {
		_ = tx.Commit() // the next Open walks the pages instead
	}
}

func notBegun(err error) error { return fmt.Errorf("store: transaction not begun: %w", err) }
