package sqltable

import (
	"context"
	"fmt"
	"slices"
)

// Table is a table that was looked over. It is safe for concurrent use, but for the methods that change its columns.
type Table struct {
	db    *DB
	spec  Spec
	found *found
	sql   statements
}

// Table looks a table over: ErrTable, ErrKey, ErrColumn, ErrTokenColumn, or ErrGrant where it may not be read, when it
// is not fit. What would fail later is in Plan.Missing.
func (db *DB) Table(ctx context.Context, spec Spec) (*Table, error) {
	t := &Table{db: db, spec: spec}
	t.spec.Columns = slices.Clone(spec.Columns)
	if err := t.look(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// look reads what the database says about the table.
func (t *Table) look(ctx context.Context) error {
	err := t.db.use(ctx, func(c conn) error {
		f, err := t.db.engine.look(ctx, c, t.spec)
		if err != nil {
			return err
		}
		if err := f.fit(); err != nil {
			return err
		}
		t.found, t.sql = f, t.db.engine.statements(f)
		return nil
	})
	return loud(err)
}

// Plan returns what was found when the table was looked over, or after the last change of its columns.
func (t *Table) Plan() Plan {
	sample := Row{Cells: make([]Cell, len(t.found.columns))}
	form := func(token bool) []string {
		var sets []set
		for i := range t.found.columns {
			sets = append(sets, set{cell: i, token: token})
		}
		statement, _, err := t.sql.write(sets, []Row{sample})
		if err != nil {
			return []string{}
		}
		return []string{statement}
	}
	first := func(clauses []string) []string {
		if forms := t.sql.alterTable(clauses); len(forms) > 0 {
			return forms[:1]
		}
		return []string{}
	}
	var drop []string
	drop = append(drop, t.sql.alter.drop...)
	if len(drop) == 0 {
		drop = t.db.engine.statements(withTokens(t.found)).alter.drop
	}
	return Plan{
		Database: t.db.name, Table: t.sql.table,
		AddTokens: first(t.sql.alter.add), Fill: form(true),
		DropNotNull: first(t.sql.alter.notNull), CutOver: form(false), Clean: slices.Clone(t.sql.clean),
		Restore: form(false), DropTokens: first(drop),
		Missing: append([]Lack{}, t.found.missing...), Notes: append([]string{}, t.found.notes...),
	}
}

// withTokens is the table as it is once the token columns were added.
func withTokens(f *found) *found {
	later := *f
	later.tokens = slices.Clone(f.tokens)
	for i := range later.tokens {
		later.tokens[i].exists = true
	}
	return &later
}

// Counts counts the rows. It reads all of them, without locks.
func (t *Table) Counts(ctx context.Context) (Counts, error) {
	statement, err := t.sql.counts()
	if err != nil {
		return Counts{}, err
	}
	var n Counts
	err = t.reading(ctx, func(c conn) error {
		return c.query(ctx, statement, nil, func(scan func(...any) error) error {
			return scan(&n.Rows, &n.ToFill, &n.Filled, &n.Plain, &n.Cleared, &n.NoValues)
		})
	})
	return n, err
}

// Read returns the next rows, at most limit (1 to 10,000) with those that it refuses, without locks.
func (t *Table) Read(ctx context.Context, want Want, from Place, limit int) (Page, error) {
	if err := allowed(limit); err != nil {
		return Page{}, err
	}
	page, err := t.sql.page(want, from, limit)
	if err != nil {
		return Page{}, err
	}
	got, err := t.seek(ctx, page)
	if err != nil {
		return Page{}, err
	}
	p := Page{Rows: got.rows, Refused: got.refused, Next: from, Done: got.count < limit}
	if got.count > 0 {
		if p.Next, err = from.behind(got.last); err != nil {
			return Page{}, err
		}
	}
	return p, nil
}

// Sample returns up to n rows (1 to 10,000) spread over the table, in no order: the same ones for the same seed and
// table. Those that cannot be read are left out. It reads the whole table, without locks.
func (t *Table) Sample(ctx context.Context, want Want, n int, seed int64) ([]Row, error) {
	if err := allowed(n); err != nil {
		return nil, err
	}
	sample, err := t.sql.sampled(want, n, seed)
	if err != nil {
		return nil, err
	}
	got, err := t.seek(ctx, sample)
	return got.rows, err
}

func allowed(limit int) error {
	if limit < 1 || limit > maxBatch {
		return fmt.Errorf("1 to %d rows can be asked for at a time", maxBatch)
	}
	return nil
}
