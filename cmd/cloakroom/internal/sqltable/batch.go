package sqltable

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// errMisuse: work returned rows that it was not given.
var errMisuse = errors.New("a batch's work returned what it was not given")

// Batch works on the next rows, at most limit (1 to 10,000), in one transaction. It fails with ErrBusy, ErrLost,
// ErrGrant, ErrStatement or the error of work; then nothing was changed, or, with ErrLost, perhaps all of it: the same
// call again does what is left to do.
func (t *Table) Batch(ctx context.Context, want Want, from Place, limit int, work Work) (Batch, error) {
	if err := allowed(limit); err != nil {
		return Batch{}, err
	}
	page, err := t.sql.page(want, from, limit)
	if err != nil {
		return Batch{}, err
	}
	var b Batch
	err = t.db.attempts(ctx, func(c conn) error {
		b = Batch{Next: from}
		// Which keys are next is read without a lock. The end of the batch is thereby fixed before anybody is waited for:
		// a row whose key changes meanwhile cannot make the walk jump. And no row is locked that is not wanted.
		pick := func() ([]string, error) {
			keys, err := t.readKeys(ctx, c, page.keys, page.args)
			if n := len(keys); n > 0 && err == nil {
				b.Next, err = from.behind(keys[n-1])
			}
			b.Done = len(keys) < limit
			return keys, err
		}
		return t.transact(ctx, c, pick, page.where, work, &b)
	})
	if err != nil {
		return Batch{}, err
	}
	return b, nil
}

// BatchOf works on the rows with these keys (at most 10,000), whatever they hold, as Batch does. Next and Done say nothing.
func (t *Table) BatchOf(ctx context.Context, keys []string, work Work) (Batch, error) {
	if err := allowed(max(1, len(keys))); err != nil {
		return Batch{}, err
	}
	var b Batch
	err := t.db.attempts(ctx, func(c conn) error {
		b = Batch{}
		return t.transact(ctx, c, func() ([]string, error) { return keys, nil }, "", work, &b)
	})
	if err != nil {
		return Batch{}, err
	}
	return b, nil
}

// transact is a batch's transaction.
func (t *Table) transact(ctx context.Context, c conn, pick func() ([]string, error), where string, work Work, b *Batch) error {
	for _, s := range t.sql.begin {
		if err := c.exec(ctx, s); err != nil {
			return err
		}
	}
	keys, err := pick()
	if err == nil {
		err = t.inside(ctx, c, keys, where, work, b)
	}
	if err != nil {
		undo(ctx, c)
		return err
	}
	return c.exec(ctx, "COMMIT")
}

func (t *Table) inside(ctx context.Context, c conn, keys []string, where string, work Work, b *Batch) error {
	locked, err := t.pickEach(ctx, c, keys, where, t.sql.lock)
	if err != nil {
		return err
	}
	rows := locked.rows
	b.Rows, b.Refused = len(rows), locked.refused
	if len(rows) == 0 {
		return nil
	}
	given := make([]Row, len(rows))
	for i, r := range rows {
		given[i] = Row{Key: r.Key, Cells: slices.Clone(r.Cells)}
	}
	changed, err := work(ctx, given)
	if err != nil {
		return err
	}
	w := writer{table: t, conn: c}
	if err := w.compare(rows, changed); err != nil {
		return err
	}
	if err := w.write(ctx, w.rows); err != nil {
		return err
	}
	b.Changed, b.Refused = len(w.rows)-len(w.refused), append(b.Refused, w.refused...)
	return nil
}

// writer gives rows their new contents inside a transaction.
type writer struct {
	table   *Table
	conn    conn
	sets    []set // columns that change in some row
	rows    []Row // that change
	refused []Refusal
}

// compare finds what work changed.
func (w *writer) compare(before, after []Row) error {
	was := make(map[string]Row, len(before))
	for _, r := range before {
		was[r.Key] = r
	}
	for _, r := range after {
		old, ok := was[r.Key]
		if !ok || len(r.Cells) != len(old.Cells) {
			return errMisuse
		}
		delete(was, r.Key)
		differs := false
		for i := range r.Cells {
			for _, s := range []set{{cell: i}, {cell: i, token: true}} {
				if *s.of(r) == *s.of(old) {
					continue
				}
				if differs = true; slices.Contains(w.sets, s) {
					continue
				}
				if s.token && !w.table.found.tokens[i].exists {
					return fmt.Errorf("%w: %s is not there yet", ErrTokenColumn, w.table.found.tokens[i].name)
				}
				w.sets = append(w.sets, s)
			}
		}
		if differs {
			w.rows = append(w.rows, r)
		}
	}
	return nil
}

// write writes rows with one statement and reads them back. Where the database refuses the statement for a value in it,
// the rows are halved until the one is found; rows that read back as something else are taken out.
func (w *writer) write(ctx context.Context, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	if err := w.conn.exec(ctx, "SAVEPOINT cloakroom"); err != nil {
		return err
	}
	altered, err := w.try(ctx, rows)
	if err == nil && len(altered) == 0 {
		return w.conn.exec(ctx, "RELEASE SAVEPOINT cloakroom")
	}
	why, row := ofRow(err)
	if err != nil && !row {
		return err
	}
	if err := w.conn.exec(ctx, "ROLLBACK TO SAVEPOINT cloakroom"); err != nil {
		return err
	}
	switch {
	case err == nil:
		var rest []Row
		for i, r := range rows {
			if altered[i] {
				w.refused = append(w.refused, Refusal{Key: r.Key, Err: ErrAltered})
			} else {
				rest = append(rest, r)
			}
		}
		return w.write(ctx, rest)
	case len(rows) == 1:
		w.refused = append(w.refused, Refusal{Key: rows[0].Key, Err: why})
		return nil
	}
	if err := w.write(ctx, rows[:len(rows)/2]); err != nil {
		return err
	}
	return w.write(ctx, rows[len(rows)/2:])
}

// try returns the places of the rows that read back as something else.
func (w *writer) try(ctx context.Context, rows []Row) (altered map[int]bool, err error) {
	statement, args, err := w.table.sql.write(w.sets, rows)
	if err != nil {
		return nil, err
	}
	if err := w.conn.exec(ctx, statement, args...); err != nil {
		return nil, err
	}
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = r.Key
	}
	back, err := w.table.pick(ctx, w.conn, keys, "", "")
	if err != nil {
		return nil, err
	}
	stands := make(map[string]Row, len(back.rows))
	for _, r := range back.rows {
		stands[r.Key] = r
	}
	altered = map[int]bool{}
	for i, r := range rows {
		if !slices.Equal(stands[r.Key].Cells, r.Cells) {
			altered[i] = true
		}
	}
	return altered, nil
}
