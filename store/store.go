// Package store is Cloakroom's only persistence: ordered key-value rows in named keyspaces, read in
// snapshots and changed in serialisable transactions. It knows nothing of people, keys or tokens.
//
// Drivers live below it: store/bolt is the embedded default. store/storetest is the contract that each of
// them is held to.
package store

import (
	"context"
	"errors"
)

// Keyspace names a set of rows with its own key order.
type Keyspace string

// The keyspaces of a Cloakroom store. docs/design.md draws the rows of each.
const (
	Meta        Keyspace = "meta"        // instance id, layout version, ledger head and outbox
	Keys        Keyspace = "keys"        // root row, wrapped bucket, partition and service keys
	Generations Keyspace = "generations" // one row per bucket and per index partition
	Subjects    Keyspace = "subjects"    // key, body and large-value rows of each person
	Tokens      Keyspace = "tokens"      // keyed digest of a token -> where its value is
	Index       Keyspace = "index"       // blind index rows
	Idempotency Keyspace = "idempotency" // what a repeated change has to answer
	Tombstones  Keyspace = "tombstones"  // what was erased, and the certificates
	Policy      Keyspace = "policy"      // every version of the policy
	Jobs        Keyspace = "jobs"        // leases, cursors, progress
	Services    Keyspace = "services"    // callers and the digests of their credentials
)

// Keyspaces returns every keyspace, in a fixed order.
func Keyspaces() []Keyspace {
	return []Keyspace{Meta, Keys, Generations, Subjects, Tokens, Index, Idempotency, Tombstones, Policy, Jobs, Services}
}

// What a driver can answer. Callers compare with errors.Is.
var (
	// ErrNotFound: Get found no row.
	ErrNotFound = errors.New("store: no such row")
	// ErrExists: Create met a row that is there.
	ErrExists = errors.New("store: row exists")
	// ErrConflict: another transaction changed what this one read; run it again. Callbacks return it too, when
	// what they re-check has changed since they computed.
	ErrConflict = errors.New("store: conflicting change")
	// ErrUnavailable: the store could not be read or written; nothing was changed, and a later try may succeed.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrUnknown: the commit failed at a point where it cannot be told whether it holds. The store refuses
	// all further calls until it is opened anew.
	ErrUnknown = errors.New("store: outcome of the commit is unknown")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store: closed")
)

// Limits that every driver enforces with an error.
const (
	MaxKey   = 512     // bytes, at least 1
	MaxValue = 8 << 20 // bytes
)

// Store is an open database. Its methods may be called from any goroutine.
type Store interface {
	// View runs fn on one consistent snapshot. The error of fn is returned as it is.
	View(ctx context.Context, fn func(ReadTx) error) error

	// Update runs fn in one serialisable transaction and returns nil only when its changes are durable. When fn
	// returns an error, or panics, none of its changes are kept and the error (the panic) reaches the caller.
	// fn may run more than once and must have no effect beyond tx. A ctx that ends before the
	// transaction begins prevents it; one that ends later does not change the answer.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for running transactions and releases the files. Later calls answer ErrClosed.
	Close() error
}

// ReadTx reads one snapshot. Keys and values handed out are valid until the callback returns and must not be
// changed.
type ReadTx interface {
	// Get returns the value at key, or ErrNotFound.
	Get(ks Keyspace, key []byte) ([]byte, error)

	// GetMulti returns the values at keys, in their order, nil where there is no row. A driver over a network
	// answers it in one round trip.
	GetMulti(ks Keyspace, keys [][]byte) ([][]byte, error)

	// Scan calls fn with each row from <= key < to in ascending order; a nil bound is open. An error from fn ends
	// the scan and is returned.
	Scan(ks Keyspace, from, to []byte, fn func(key, value []byte) error) error
}

// Tx is a ReadTx that sees its own changes.
type Tx interface {
	ReadTx

	// Put writes the row, replacing one that is there.
	Put(ks Keyspace, key, value []byte) error

	// Create writes the row, or answers ErrExists.
	Create(ks Keyspace, key, value []byte) error

	// Delete removes the row; no row is no error.
	Delete(ks Keyspace, key []byte) error
}
