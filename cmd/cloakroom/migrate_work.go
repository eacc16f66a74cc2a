package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

// tableJob is work on a live table, batch by batch. What is still to do is told by the table itself, so a job that ends
// at any point is gone on with by beginning it again.
type tableJob struct {
	table  *sqltable.Table
	server *tableServer
	bad    *badRows
	fields []fieldColumn // of the table's columns, in their order
	prefix string        // before a key, to make a subject's id
	batch  int           // rows in one transaction

	sources []string // of the values of each column, as the server keeps them
	reissue bool     // tokens that the server never issued are replaced
	refresh bool     // the plaintext is the truth, also where it is empty beside a token

	warnings int64
	proved   int64 // rows whose tokens were opened and compared, in batches
}

const (
	// maxRounds bounds how often a job goes over a table that the application goes on writing to.
	maxRounds = 20
	// differTries is how often a batch is tried whose tokens do not open to their values: somebody may have written to
	// Cloakroom at that moment without waiting for the row's lock.
	differTries = 3
)

// rounds goes over the wanted rows, again and again, until a round has found little: what was written behind it while
// it ran is met by the next one. It returns how many rows were changed.
func (j *tableJob) rounds(ctx context.Context, want sqltable.Want, work rowWork, bar *tableBar) (changed int64, err error) {
	defer bar.end()
	for range maxRounds {
		n, err := j.round(ctx, want, work, func(n int64) { bar.show(changed+n, j.bad.totals.Failed) })
		changed += n
		if err != nil || n < int64(j.batch) {
			return changed, err
		}
	}
	return changed, nil
}

// round goes once over the wanted rows in the order of their keys.
func (j *tableJob) round(ctx context.Context, want sqltable.Want, work rowWork, each func(changed int64)) (changed int64, err error) {
	var place sqltable.Place
	for {
		b, err := j.one(ctx, work, func(ctx context.Context, work sqltable.Work) (sqltable.Batch, error) {
			return j.table.Batch(ctx, want, place, j.batch, work)
		})
		if err != nil {
			return changed, err
		}
		changed += int64(b.Changed)
		each(changed)
		if b.Done {
			return changed, nil
		}
		place = b.Next
	}
}

// one does one batch, and again while Cloakroom is away. What it found counts when it has committed.
func (j *tableJob) one(ctx context.Context, work rowWork, do func(context.Context, sqltable.Work) (sqltable.Batch, error)) (sqltable.Batch, error) {
	var (
		b sqltable.Batch
		o outcome
	)
	try := func(ctx context.Context) (err error) {
		b, err = do(ctx, func(ctx context.Context, rows []sqltable.Row) (out []sqltable.Row, err error) {
			o = outcome{}
			err = j.server.locked(ctx, func(ctx context.Context) error {
				out, err = work(ctx, rows, &o)
				return err
			})
			return out, err
		})
		return err
	}
	err := j.server.patiently(ctx, func(ctx context.Context) error {
		var err error
		for range differTries {
			if err = try(ctx); !errors.As(err, new(differsError)) {
				return err
			}
		}
		return err
	})
	if err != nil {
		return b, err
	}
	for _, r := range b.Refused {
		o.fail(r.Key, refusedFault(r.Err))
	}
	j.warnings += int64(o.warnings)
	j.proved += int64(max(o.proved-len(b.Refused), 0))
	for _, row := range o.bad {
		if err := j.bad.add(row.key, row.fault); err != nil {
			return b, fmt.Errorf("writing the bad rows: %w", err)
		}
	}
	return b, j.bad.flush()
}

// refusedFault says why the database left a row as it was.
func refusedFault(err error) rowFault {
	rule := "not_taken"
	switch {
	case errors.Is(err, sqltable.ErrDoesNotConvert):
		return rowFault{code: codeRow, rule: "does_not_convert", meaning: oneLine(err.Error())}
	case errors.Is(err, sqltable.ErrDoesNotFit):
		rule = "does_not_fit"
	case errors.Is(err, sqltable.ErrConstraint):
		rule = "constraint"
	case errors.Is(err, sqltable.ErrAltered):
		rule = "altered"
	}
	return rowFault{code: codeRow, rule: rule, meaning: "the database did not take the row's new contents: " + oneLine(err.Error())}
}

// verify compares rows spread over the table with what their tokens open to. Where they differ, the application may have
// written since: such a row is stored again under its lock, and looked at again.
func (j *tableJob) verify(ctx context.Context, sample int, seed int64) (compared int64, err error) {
	rows, err := j.table.Sample(ctx, sqltable.ToCutOver, sample, seed)
	if err != nil {
		return 0, err
	}
	var again []string
	for len(rows) > 0 {
		n := min(len(rows), j.batch)
		var differ []string
		var looked int
		if err := j.server.patiently(ctx, func(ctx context.Context) error {
			differ, looked, err = j.compare(ctx, rows[:n])
			return err
		}); err != nil {
			return compared, err
		}
		compared += int64(looked)
		again = append(again, differ...)
		rows = rows[n:]
	}
	for len(again) > 0 {
		n := min(len(again), j.batch)
		if _, err := j.one(ctx, j.prove, func(ctx context.Context, work sqltable.Work) (sqltable.Batch, error) {
			return j.table.BatchOf(ctx, again[:n], work)
		}); err != nil {
			return compared, err
		}
		again = again[n:]
	}
	return compared, nil
}

// look is the dry run: it reads what is still to do, without locks, and judges it as the server would. It also refuses a
// token column that is in use for something else, and tokens that the server never issued, as far as it can be seen in these
// rows and in a sample of the others.
func (j *tableJob) look(ctx context.Context, report *dryReport, sample int, seed int64, bar *tableBar) error {
	defer bar.end()
	others, err := j.table.Sample(ctx, sqltable.WithToken, sample, seed)
	if err != nil {
		return err
	}
	if err := j.ownAll(others); err != nil {
		return err
	}
	if err := j.known(ctx, others); err != nil {
		return err
	}
	if err := j.sameIDs(ctx, others); err != nil {
		return err
	}
	var totals importTotals
	err = j.walk(ctx, sqltable.ToFill, func(page sqltable.Page) error {
		if err := j.ownAll(page.Rows); err != nil {
			return err
		}
		if err := j.known(ctx, page.Rows); err != nil {
			return err
		}
		for _, row := range page.Rows {
			report.look(j.judged(row), &totals)
		}
		for _, r := range page.Refused {
			fault := refusedFault(r.Err)
			report.look(tableRow{fault: &fault, values: make([]string, len(j.fields))}, &totals)
		}
		bar.show(totals.Rows, totals.Failed)
		return nil
	})
	report.sum(totals)
	return err
}

// judged is a row as the report looks at it.
func (j *tableJob) judged(row sqltable.Row) tableRow {
	_, fault := j.message(row)
	if at := besideEmpty(row); fault == nil && at >= 0 && !j.refresh {
		fault = j.emptyFault(at)
	}
	in := tableRow{fault: fault, values: make([]string, len(row.Cells))}
	for at, c := range row.Cells {
		// Text that is none has a fault already.
		if holds(c) && (fault == nil || fault.rule != string(tablefile.Encoded)) {
			in.values[at] = c.Plain.Value
		}
	}
	return in
}
