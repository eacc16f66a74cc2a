package main

import (
	"context"
	"fmt"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
)

// clear takes tokens out beside values.
func (r *restoration) clear(_ context.Context, rows []sqltable.Row, _ *outcome) ([]sqltable.Row, error) {
	for _, row := range rows {
		for at, c := range row.Cells {
			if holds(c) {
				row.Cells[at].Token = sqltable.Text{}
			}
		}
	}
	return rows, nil
}

// gone reports whether the value is erased: nothing brings it back.
func gone(code wire.Code) bool { return code == wire.SubjectErased || code == wire.FieldErased }

// drop drops the token columns. Tokens of what is erased are given up first, unless others are needed.
func (r *restoration) drop(ctx context.Context) error {
	for _, reason := range r.bad.totals.Reasons {
		if !gone(reason.Code) {
			return fmt.Errorf("the token columns were not dropped: %w (%s names the rows)", sqltable.ErrNeeded, printable(r.bad.path))
		}
	}
	if err := r.p.agree(r.flags.yes, "Drop the token columns? Type yes", "yes"); err != nil {
		return err
	}
	if _, err := r.round(ctx, sqltable.ToRestore, r.giveUp, func(int64) {}); err != nil {
		return err
	}
	if err := r.table.DropTokenColumns(ctx); err != nil {
		return err
	}
	r.sum.Dropped = true
	return nil
}

// giveUp takes tokens out that open nothing any more because of an erasure. It looks again: the table may have changed.
func (r *restoration) giveUp(ctx context.Context, rows []sqltable.Row, _ *outcome) ([]sqltable.Row, error) {
	faults, _, err := r.openRows(ctx, rows)
	if err != nil {
		return nil, err
	}
	var out []sqltable.Row
	for i, row := range rows {
		if faults[i] == nil || !gone(faults[i].code) {
			continue
		}
		for at, c := range row.Cells {
			if c.Token.Valid && !c.Plain.Valid {
				row.Cells[at].Token = sqltable.Text{}
			}
		}
		out = append(out, row)
	}
	return out, nil
}
