package sqltable_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

func TestLockedRow(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 3)
		db := open(t, d.DSN, hasty())
		table := look(t, db, spec("people", "phone"), true)
		app := s.session(t, d)
		app.Exec("BEGIN", "UPDATE people SET phone = 'locked' WHERE id = 2")
		called := false
		_, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			called = true
			return tokenize(ctx, rows)
		})
		if !errors.Is(err, sqltable.ErrBusy) || called {
			t.Errorf("a locked row: %v, work called: %v", err, called)
		}
		equal(t, "tokens", d.Query(t, "SELECT count(phone_token) FROM people"), [][]string{{"0"}})
		// A row that is not wanted is not waited for.
		d.Exec(t, "UPDATE people SET phone_token = 'x' WHERE id = 1")
		if b, err := table.Batch(t.Context(), sqltable.WithToken, sqltable.Place{}, 9, clear); err != nil || b.Changed != 1 {
			t.Errorf("beside a locked row: %+v, %v", b, err)
		}
		app.Exec("COMMIT")
		if b, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize); err != nil || b.Changed != 2 {
			t.Errorf("after the lock: %+v, %v", b, err)
		}
		equal(t, "table", d.Query(t, "SELECT phone, phone_token FROM people WHERE id = 2"), [][]string{{"locked", token("locked")}})
	})
}

// The lock of a batch holds the application's writes up, and lets its reads and, in PostgreSQL, references to the row through.
func TestTheBatchLocks(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 2)
		d.Exec(t, "CREATE TABLE orders (person int, FOREIGN KEY (person) REFERENCES people(id))")
		db := open(t, d.DSN, hasty())
		table := look(t, db, spec("people", "phone"), true)
		app := s.session(t, d)
		app.Exec(s.pick("SET lock_timeout = 50", "SET innodb_lock_wait_timeout = 1"))
		_, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 1, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			app.Exec("SELECT * FROM people", "UPDATE people SET phone = 'other' WHERE id = 2")
			if !s.my {
				app.Exec("INSERT INTO orders VALUES (1)")
			}
			if err := app.exec("UPDATE people SET phone = 'lost' WHERE id = 1"); err == nil {
				t.Error("a row was changed under the batch")
			}
			return tokenize(ctx, rows)
		})
		if err != nil {
			t.Fatal(err)
		}
		app.Exec("UPDATE people SET phone = 'later' WHERE id = 1")
	})
}

// Two sessions that each hold what the other wants: the database ends one of them, and a batch that it ends comes back.
func TestDeadlockIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 2)
		d.Exec(t, "CREATE TABLE heavy (n int)"+s.pick("", " ENGINE=InnoDB"))
		opt := hasty()
		opt.LockWait, opt.Attempts = time.Minute, 5
		db := open(t, d.DSN, opt)
		table := look(t, db, spec("people", "phone"), true)
		app := s.session(t, d)
		if s.my {
			// InnoDB ends the one who changed fewer rows: this one changes some more.
			app.Exec("SET innodb_lock_wait_timeout = 60", "BEGIN", "INSERT INTO heavy SELECT seq FROM seq_1_to_1000")
		} else {
			// PostgreSQL ends the one who notices first: not this one.
			app.Exec("SET deadlock_timeout = '60s'", "BEGIN")
		}
		app.Exec("UPDATE people SET phone = 'theirs' WHERE id = 2")
		calls := 0
		finished := make(chan error, 1)
		b, err := table.BatchOf(t.Context(), []string{"1"}, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			if calls++; calls == 1 {
				go func() {
					err := app.exec("UPDATE people SET phone = 'theirs' WHERE id = 1")
					finished <- errors.Join(err, app.exec("COMMIT"))
				}()
				if err := s.waited(d); err != nil {
					return nil, err
				}
			}
			return tokenize(ctx, rows)
		})
		if err != nil || b.Changed != 1 || calls != 1 {
			t.Fatalf("one row, no deadlock yet: %+v, %v, %d calls", b, err, calls)
		}
		if err := <-finished; err != nil {
			t.Fatal(err)
		}

		d.Exec(t, "UPDATE people SET phone_token = NULL")
		app.Exec("BEGIN")
		if s.my {
			app.Exec("INSERT INTO heavy SELECT seq FROM seq_1_to_1000")
		}
		app.Exec("UPDATE people SET phone = 'again' WHERE id = 2")
		go func() {
			// The batch holds row 1 and waits for row 2; this closes the circle.
			err := s.waited(d)
			if err == nil {
				err = app.exec("UPDATE people SET phone = 'again' WHERE id = 1")
			}
			finished <- errors.Join(err, app.exec("COMMIT"))
		}()
		b, err = table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize)
		if err != nil || b.Changed != 2 {
			t.Fatalf("after a deadlock: %+v, %v", b, err)
		}
		if err := <-finished; err != nil {
			t.Fatalf("the database ended the other session: %v", err)
		}
		equal(t, "table", d.Query(t, "SELECT phone, phone_token FROM people ORDER BY id"),
			[][]string{{"again", token("again")}, {"again", token("again")}})
	})
}

func TestKilledConnection(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 3)
		db := open(t, d.DSN, hasty())
		table := look(t, db, spec("people", "phone"), true)
		_, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			s.kill(t, d)
			return tokenize(ctx, rows)
		})
		if !errors.Is(err, sqltable.ErrLost) {
			t.Errorf("killed: %v", err)
		}
		equal(t, "tokens", d.Query(t, "SELECT count(phone_token) FROM people"), [][]string{{"0"}})
		if b, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize); err != nil || b.Changed != 3 {
			t.Errorf("again: %+v, %v", b, err)
		}
	})
}

// The server dies while a batch is at work, and comes back: what was committed is there, the batch is not.
func TestKilledServer(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 4)
		db := open(t, d.DSN, hasty())
		table := look(t, db, spec("people", "phone"), true)
		first, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 2, tokenize)
		if err != nil {
			t.Fatal(err)
		}
		_, err = table.Batch(t.Context(), sqltable.ToFill, first.Next, 2, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			s.server.Kill(t)
			return tokenize(ctx, rows)
		})
		if !errors.Is(err, sqltable.ErrLost) {
			t.Errorf("killed: %v", err)
		}
		if _, err := table.Counts(t.Context()); !errors.Is(err, sqltable.ErrUnreachable) {
			t.Errorf("while it is down: %v", err)
		}
		s.server.Restart(t)
		equal(t, "tokens", d.Query(t, "SELECT count(phone_token) FROM people"), [][]string{{"2"}})
		if b, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize); err != nil || b.Changed != 2 {
			t.Errorf("again: %+v, %v", b, err)
		}
	})
}

// ALTER TABLE gives up soon, so that nobody queues behind it, and goes through later.
func TestAlterWaitsShortly(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 1)
		db := open(t, d.DSN, hasty())
		table := look(t, db, spec("people", "phone"), false)
		app := s.session(t, d)
		app.Exec("BEGIN", "SELECT * FROM people")
		if err := table.AddTokenColumns(t.Context()); !errors.Is(err, sqltable.ErrBusy) {
			t.Errorf("beside a long transaction: %v", err)
		}
		app.Exec("COMMIT")
		for range 2 {
			if err := table.AddTokenColumns(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		walk(t, table, sqltable.ToFill, 9, tokenize)
		walk(t, table, sqltable.ToCutOver, 9, clear)
		if err := table.DropTokenColumns(t.Context()); !errors.Is(err, sqltable.ErrNeeded) {
			t.Errorf("drop what is needed: %v", err)
		}
		walk(t, table, sqltable.ToRestore, 9, restore)
		for range 2 {
			if err := table.DropTokenColumns(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "table", d.Query(t, "SELECT * FROM people"), [][]string{{"1", "13801"}})
	})
}
