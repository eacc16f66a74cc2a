package sqltable

import (
	"context"
	"errors"
	"fmt"
)

// errForm: the database cannot run an ALTER TABLE in this form; the next one may do.
var errForm = errors.New("the database cannot do it while others write to the table; run the plan's statement by hand at a quiet time, without its ALGORITHM")

// AddTokenColumns adds those that are not there. Like the other changes of columns it waits only shortly for the locks,
// because everybody who comes later queues behind it, and fails with ErrBusy when it did not get them.
func (t *Table) AddTokenColumns(ctx context.Context) error {
	return t.change(ctx, alteration{what: "add the token columns", clauses: func(a alterSQL) []string { return a.add }})
}

// DropNotNull lets the plaintext columns be NULL, and takes their defaults away: a row that is inserted without them has
// no plaintext then. A default would look like a value that is newer than the row's token.
func (t *Table) DropNotNull(ctx context.Context) error {
	return t.change(ctx, alteration{what: "let the columns be NULL, without a default", clauses: func(a alterSQL) []string { return a.notNull }})
}

// DropTokenColumns drops those that are there. It is refused with ErrNeeded while a row has a token and no plaintext. In
// PostgreSQL that is looked up once more under the lock of the change, and everybody waits while it is. MySQL cannot do
// both in one transaction: whoever writes tokens there must have stopped.
func (t *Table) DropTokenColumns(ctx context.Context) error {
	return t.change(ctx, alteration{what: "drop the token columns", clauses: func(a alterSQL) []string { return a.drop }, first: t.unneeded})
}

// unneeded is ErrNeeded when a token is.
func (t *Table) unneeded(ctx context.Context, c conn) error {
	statement, err := t.sql.needed()
	if err != nil {
		return err
	}
	var needed bool
	err = c.query(ctx, statement, nil, func(scan func(...any) error) error { return scan(&needed) })
	if err == nil && needed {
		return fmt.Errorf("%w: rows have a token and no plaintext; restore them first", ErrNeeded)
	}
	return err
}

// alteration is a change of columns.
type alteration struct {
	what    string
	clauses func(alterSQL) []string
	first   func(context.Context, conn) error // what must hold; asked before, and under the lock where the database can
}

// change alters the table until nothing is left to alter. Somebody else may do the same at the same time: where the
// columns are not what they were, the table is looked over again.
func (t *Table) change(ctx context.Context, a alteration) error {
	for range max(2, t.db.opt.Attempts) {
		forms := t.sql.alterTable(a.clauses(t.sql.alter))
		if len(forms) == 0 {
			return nil
		}
		err := t.alter(ctx, forms, a.first)
		if f, ok := errors.AsType[*fault](err); err != nil && (!ok || !f.stale) {
			return fmt.Errorf("%s: %w", a.what, loud(err))
		}
		if err := t.look(ctx); err != nil {
			return err
		}
	}
	if len(a.clauses(t.sql.alter)) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w: it was run, and the columns are not so", a.what, ErrStatement)
}

func (t *Table) alter(ctx context.Context, forms []string, first func(context.Context, conn) error) error {
	if first != nil {
		if err := t.reading(ctx, func(c conn) error { return first(ctx, c) }); err != nil {
			return err
		}
	}
	return t.db.attempts(ctx, func(c conn) error {
		var err error
		for _, form := range forms {
			if err = t.alterOnce(ctx, c, form, first); !errors.Is(err, errForm) {
				break
			}
		}
		return err
	})
}

func (t *Table) alterOnce(ctx context.Context, c conn, statement string, first func(context.Context, conn) error) error {
	if len(t.sql.alter.begin) == 0 {
		return c.exec(ctx, statement)
	}
	for _, s := range t.sql.alter.begin {
		if err := c.exec(ctx, s); err != nil {
			return err
		}
	}
	if err := t.alterLocked(ctx, c, statement, first); err != nil {
		undo(ctx, c)
		return err
	}
	return c.exec(ctx, "COMMIT")
}

func (t *Table) alterLocked(ctx context.Context, c conn, statement string, first func(context.Context, conn) error) error {
	if first != nil {
		for _, s := range t.sql.alter.guard {
			if err := c.exec(ctx, s); err != nil {
				return err
			}
		}
		if err := first(ctx, c); err != nil {
			return err
		}
	}
	return c.exec(ctx, statement)
}
