package sqltable

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// picked are rows that were read, in the order in which they came.
type picked struct {
	rows    []Row
	refused []Refusal // that cannot be read exactly
	last    string    // key
	count   int       // of both
}

func (p *picked) add(more picked) {
	p.rows = append(p.rows, more.rows...)
	p.refused = append(p.refused, more.refused...)
	if more.count > 0 {
		p.last, p.count = more.last, p.count+more.count
	}
}

// reading runs f in a transaction that changes nothing and locks no rows.
func (t *Table) reading(ctx context.Context, f func(c conn) error) error {
	return t.db.use(ctx, func(c conn) error {
		for _, s := range t.sql.read {
			if err := c.exec(ctx, s); err != nil {
				return err
			}
		}
		if err := f(c); err != nil {
			undo(ctx, c)
			return err
		}
		return c.exec(ctx, "COMMIT")
	})
}

// seek reads rows without locks.
func (t *Table) seek(ctx context.Context, s search) (p picked, err error) {
	err = t.reading(ctx, func(c conn) error {
		err := t.retract(ctx, c, func() (err error) {
			p, err = t.readRows(ctx, c, s.rows, s.args)
			return err
		})
		if !errors.Is(err, ErrDoesNotFit) {
			return err
		}
		keys, err := t.readKeys(ctx, c, s.keys, s.args)
		if err == nil {
			p, err = t.pickEach(ctx, c, keys, s.where, "")
		}
		return err
	})
	return p, err
}

// pickEach reads rows by their keys, in the order of the keys, which is also the order of locking. Where the database
// cannot hand them over for a value in them, the rows are halved until the one is found.
func (t *Table) pickEach(ctx context.Context, c conn, keys []string, where, lock string) (p picked, err error) {
	if len(keys) == 0 {
		return picked{}, nil
	}
	err = t.retract(ctx, c, func() (err error) {
		p, err = t.pick(ctx, c, keys, where, lock)
		return err
	})
	if !errors.Is(err, ErrDoesNotFit) {
		return p, err
	}
	if len(keys) == 1 {
		return picked{refused: []Refusal{{Key: keys[0], Err: ErrDoesNotConvert}}, last: keys[0], count: 1}, nil
	}
	half := len(keys) / 2
	if p, err = t.pickEach(ctx, c, keys[:half], where, lock); err != nil {
		return picked{}, err
	}
	rest, err := t.pickEach(ctx, c, keys[half:], where, lock)
	p.add(rest)
	return p, err
}

// retract runs f so that the transaction can go on where f's statement is refused for a value.
func (t *Table) retract(ctx context.Context, c conn, f func() error) error {
	if err := c.exec(ctx, "SAVEPOINT cloakroom"); err != nil {
		return err
	}
	err := f()
	switch {
	case err == nil:
		return c.exec(ctx, "RELEASE SAVEPOINT cloakroom")
	case errors.Is(err, ErrDoesNotFit):
		if undone := c.exec(ctx, "ROLLBACK TO SAVEPOINT cloakroom"); undone != nil {
			return undone
		}
	}
	return err
}

// pick reads rows by their keys.
func (t *Table) pick(ctx context.Context, c conn, keys []string, where, lock string) (p picked, err error) {
	for some := range slices.Chunk(keys, maxPick) {
		in, args, err := t.sql.pick(some)
		if err != nil {
			return picked{}, err
		}
		part, err := t.readRows(ctx, c, t.sql.rows(" ORDER BY "+t.sql.key+lock, in, where), args)
		if err != nil {
			return picked{}, err
		}
		p.add(part)
	}
	return p, nil
}

func (t *Table) readRows(ctx context.Context, c conn, statement string, args []any) (p picked, err error) {
	texts := make([]*string, 2*len(t.sql.cells))
	into := make([]any, 3+len(texts))
	var key string
	var keyKept, kept bool
	into[0], into[1], into[2] = &key, &keyKept, &kept
	for i := range texts {
		into[3+i] = &texts[i]
	}
	err = c.query(ctx, statement, args, func(scan func(...any) error) error {
		if err := scan(into...); err != nil {
			return err
		}
		if !keyKept {
			return errKeyLost()
		}
		p.last = key
		p.count++
		if !kept {
			p.refused = append(p.refused, Refusal{Key: key, Err: ErrDoesNotConvert})
			return nil
		}
		r := Row{Key: key, Cells: make([]Cell, len(t.sql.cells))}
		for i := range r.Cells {
			r.Cells[i].Plain.set(texts[2*i])
			r.Cells[i].Token.set(texts[2*i+1])
		}
		p.rows = append(p.rows, r)
		return nil
	})
	return p, err
}

func (t *Table) readKeys(ctx context.Context, c conn, statement string, args []any) (keys []string, err error) {
	err = c.query(ctx, statement, args, func(scan func(...any) error) error {
		var key string
		var kept bool
		if err := scan(&key, &kept); err != nil {
			return err
		}
		if !kept {
			return errKeyLost()
		}
		keys = append(keys, key)
		return nil
	})
	if errors.Is(err, ErrDoesNotFit) {
		err = errKeyLost()
	}
	return keys, err
}

// errKeyLost: a row could not be found again, nor a walk know where it has got to.
func errKeyLost() error {
	return fmt.Errorf("%w: a key is damaged or has a character that does not survive the way to UTF-8 and back", ErrKey)
}

// behind is the place behind a key. A walk that comes back to where it was would go on for ever.
func (from Place) behind(key string) (Place, error) {
	if from.started && from.key == key {
		return from, fmt.Errorf("%w: the database sorts it in an order that leads the walk back to where it was", ErrKey)
	}
	return Place{key: key, started: true}, nil
}
