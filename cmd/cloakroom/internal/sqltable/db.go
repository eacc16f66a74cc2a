package sqltable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	maxIdle = 2
	// goodbye bounds what is said to a database after the caller has gone: a rollback, a farewell.
	goodbye = 5 * time.Second
)

// conn is one session. Its errors are faults, or that of the context.
type conn interface {
	exec(ctx context.Context, statement string, args ...any) error
	query(ctx context.Context, statement string, args []any, each func(scan func(into ...any) error) error) error
	ping(ctx context.Context) error
	close()
}

// engine is what PostgreSQL and MySQL differ in.
type engine interface {
	dial(ctx context.Context) (conn, error)
	version(ctx context.Context, c conn) (name string, err error) // ErrVersion when it is too old or something else
	look(ctx context.Context, c conn, spec Spec) (*found, error)
	statements(f *found) statements
	close()
}

// DB is one database. It is safe for concurrent use.
type DB struct {
	engine engine
	name   string
	opt    Options

	mu     sync.Mutex // guards what follows
	idle   []conn
	closed bool
}

func (o Options) withDefaults() Options {
	if o.LockWait <= 0 {
		o.LockWait = 5 * time.Second
	}
	if o.AlterWait <= 0 {
		o.AlterWait = 2 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return o
}

func openWith(ctx context.Context, e engine, opt Options) (*DB, error) {
	db := &DB{engine: e, opt: opt}
	err := db.use(ctx, func(c conn) (err error) {
		db.name, err = e.version(ctx, c)
		return err
	})
	if err != nil {
		return nil, errors.Join(loud(err), db.Close())
	}
	return db, nil
}

// Close closes the connections. Who still uses the database loses what was not committed.
func (db *DB) Close() error {
	db.mu.Lock()
	idle := db.idle
	db.idle, db.closed = nil, true
	db.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	db.engine.close()
	return nil
}

// Name returns product and version: "PostgreSQL 15.8".
func (db *DB) Name() string { return db.name }

// use lends a session. One that f returned an error from is closed, with which the database undoes what was begun.
func (db *DB) use(ctx context.Context, f func(conn) error) error {
	c, err := db.take(ctx)
	if err != nil {
		return err
	}
	if err := f(c); err != nil {
		c.close()
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed || len(db.idle) >= maxIdle {
		c.close()
		return nil
	}
	db.idle = append(db.idle, c)
	return nil
}

// take returns an idle session that still stands, or a new one.
func (db *DB) take(ctx context.Context) (conn, error) {
	for {
		db.mu.Lock()
		n := len(db.idle)
		if n == 0 {
			db.mu.Unlock()
			return db.engine.dial(ctx)
		}
		c := db.idle[n-1]
		db.idle = db.idle[:n-1]
		db.mu.Unlock()
		if c.ping(ctx) == nil {
			return c, nil
		}
		c.close()
	}
}

// attempts runs f until it is not held up by others any more, or often enough.
func (db *DB) attempts(ctx context.Context, f func(conn) error) error {
	for try := 1; ; try++ {
		err := db.use(ctx, f)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if try >= db.opt.Attempts {
			return fmt.Errorf("%w, after %d attempts", err, try)
		}
		// Both who met in a deadlock try again: not at the same moment.
		pause := time.Duration((0.5 + db.opt.Jitter()) * float64(min(50*time.Millisecond<<try, 2*time.Second)))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// undo rolls back, for who returns with an error, so that the locks are gone at once. Where that fails the session's end
// does it.
func undo(ctx context.Context, c conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	_ = c.exec(ctx, "ROLLBACK")
}
