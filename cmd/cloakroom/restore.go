package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

const restoreHelp = `Put values back in the place of their tokens: the way back from migrate-table, for leaving.

Rows are locked in batches. Where a mapped column is NULL and there is a token, the token is opened for the purpose and its
value written, byte for byte as it was. Plaintext that is there is newer and stays. A token that does not open, because the
person was erased for example, leaves its column as it is; the row is listed in a file, and its other columns are restored.

--clear-tokens then takes the tokens out of rows whose values are there, so that an application may follow that knows no
tokens. --drop-tokens drops the token columns. It is refused while a token is needed: only those of erased people and fields
are given up, for nothing opens them any more. Before both, the application must no longer write tokens.

Whether a token is that row's own person's is not looked at for each row: with --prefix a few are, before anything is changed.
An empty string beside a token that is alive is neither value nor none: such a row is listed, and keeps both.

Values stay in Cloakroom until they are erased there. After an interruption, a failure or a crash the same command goes on.

Exit codes: 0 done, 3 some rows are bad, 1 failed or all rows are bad, 2 wrong usage.`

// restoreFlags are the flags as they were given.
type restoreFlags struct {
	tableFlags
	clearTokens bool
	dropTokens  bool
	sameIDs     bool // --prefix was given
}

func (p *program) restoreTableCommand() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use:   "restore-table --table TABLE --key COLUMN --map FIELD=COLUMN,...",
		Short: "Turn the tokens of an SQL table back into values",
		Long:  restoreHelp,
		Example: `  export CLOAKROOM_DSN=postgres://shop@db.example/shop
  cloakroom restore-table --table users --key id --map phone=phone,name=full_name --prefix users: --dry-run
  cloakroom restore-table --table users --key id --map phone=phone,name=full_name --prefix users:
  cloakroom restore-table --table users --key id --map phone=phone,name=full_name --prefix users: --clear-tokens
  cloakroom restore-table --table users --key id --map phone=phone,name=full_name --prefix users: --drop-tokens`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f.sameIDs = c.Flags().Changed("prefix")
			return p.restoreTable(c, f)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&f.clearTokens, "clear-tokens", false, "then take the tokens out of rows whose values are there")
	c.Flags().BoolVar(&f.dropTokens, "drop-tokens", false, "drop the token columns once no row needs them")
	p.connects(c)
	return c
}

// restoration is one run of restore-table.
type restoration struct {
	tableJob
	p     *program
	flags restoreFlags
	plan  *tablePlan
	begun bool // something may have been changed
	sum   restoreSummary
}

// restoreSummary is what --json prints. Numbers are of rows.
type restoreSummary struct {
	Done     bool           `json:"done"`
	Plan     *tablePlan     `json:"plan"`
	Rows     int64          `json:"rows"`     // of the table, before
	Restored int64          `json:"restored"` // by this run, in whole or in part
	Bad      int64          `json:"bad"`      // with a token that does not open, or whose value the database did not take
	Opened   int64          `json:"opened"`   // --dry-run: of a sample, those whose tokens all open
	Sampled  int64          `json:"sampled"`  // --dry-run: rows of the sample
	Cleared  int64          `json:"cleared"`  // that this run took tokens out of beside their values
	Dropped  bool           `json:"dropped"`  // the token columns
	Needed   int64          `json:"needed"`   // rows with a token and no plaintext at the end; -1 = not counted
	Reasons  []importReason `json:"reasons"`
	Errors   string         `json:"errors,omitzero"` // the file with the bad rows; "" = there are none
	Resume   string         `json:"resume,omitzero"` // the command that goes on
	Seconds  float64        `json:"seconds"`
}

func (p *program) restoreTable(c *cobra.Command, f restoreFlags) (err error) {
	ctx := c.Context()
	spec, fields, err := f.spec(c)
	if err != nil {
		return err
	}
	began := p.now()
	r := &restoration{p: p, flags: f}
	where, done, err := p.openTable(ctx, &r.tableJob, f.tableFlags, spec, fields, "restore-table", false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	r.reissue = true // a token that the server never issued is a bad row here
	r.sum.Needed = -1
	failed := r.run(ctx, spec)
	r.sum.Seconds = p.now().Sub(began).Seconds()
	return r.end(ctx, failed, p.againCommand(c, where))
}

// restorationPlan says what a restoration does.
func restorationPlan(spec sqltable.Spec, fields []fieldColumn, sources []string, found sqltable.Plan, counts sqltable.Counts) *tablePlan {
	return &tablePlan{
		Plan: found, Key: spec.Key, Fields: planned(spec, fields, sources), Counts: counts,
		Untouched: []string{
			"plaintext that is there: it is newer than the token",
			"columns whose token does not open: they stay NULL, and the row is listed",
			"empty strings beside a token that is alive: both stay, and the row is listed",
			"NOT NULL on the plaintext columns: where it was dropped for the cut-over, it is not set again",
			"what Cloakroom holds: erase people there when the table is all you want to keep",
		},
		Elsewhere: []string{},
	}
}

func (r *restoration) run(ctx context.Context, spec sqltable.Spec) error {
	counts, err := r.table.Counts(ctx)
	if err != nil {
		return err
	}
	r.plan = restorationPlan(spec, r.fields, r.sources, r.table.Plan(), counts)
	r.sum.Plan, r.sum.Rows = r.plan, counts.Rows
	if !r.p.json {
		if err := r.plan.write(r.p.err, r.batch, r.steps()); err != nil {
			return err
		}
	}
	if err := r.plan.granted(r.needs()...); err != nil {
		return err
	}
	if r.flags.sameIDs {
		some, err := r.table.Sample(ctx, sqltable.ToRestore, restoreSample, r.p.now().UnixNano())
		if err != nil {
			return err
		}
		if err := r.tableJob.sameIDs(ctx, some); err != nil {
			return err
		}
	}
	if r.flags.dryRun {
		return r.try(ctx)
	}
	if err := r.p.agree(r.flags.yes, "Write the values back? Type yes", "yes"); err != nil {
		return err
	}
	r.begun = true
	if r.sum.Restored, err = r.rounds(ctx, sqltable.ToRestore, r.restore, r.p.tableBar("restoring", counts.Cleared)); err != nil {
		return err
	}
	if err := r.listEmptied(ctx); err != nil {
		return err
	}
	if r.flags.clearTokens {
		if err := r.p.agree(r.flags.yes, "Take the tokens out of rows whose values are there? Type yes", "yes"); err != nil {
			return err
		}
		if r.sum.Cleared, err = r.round(ctx, sqltable.WithToken, r.clear, func(int64) {}); err != nil {
			return err
		}
	}
	if !r.flags.dropTokens {
		return nil
	}
	return r.drop(ctx)
}

// needs are the steps that a run is going to take.
func (r *restoration) needs() []sqltable.Step {
	steps := []sqltable.Step{sqltable.StepRestore}
	if r.flags.dropTokens {
		steps = append(steps, sqltable.StepDropTokens)
	}
	return steps
}

func (r *restoration) steps() []planStep {
	steps := []planStep{{"open the tokens for the purpose " + printable(r.flags.purpose) + " and write the values, %BATCH rows at a time, under row locks", r.plan.Restore}}
	if r.flags.clearTokens {
		steps = append(steps, planStep{"take the tokens out of rows whose values are there, %BATCH rows at a time, under row locks", r.plan.Fill})
	}
	drop := planStep{"drop the token columns, when no row needs them", r.plan.DropTokens}
	if !r.flags.dropTokens {
		drop.what = "not now, but with --drop-tokens: " + drop.what
	}
	return append(steps, drop)
}

// restoreSample is how many rows a dry run opens.
const restoreSample = 1000

// try opens a sample and writes nothing.
func (r *restoration) try(ctx context.Context) error {
	rows, err := r.table.Sample(ctx, sqltable.ToRestore, restoreSample, r.p.now().UnixNano())
	if err != nil {
		return err
	}
	for len(rows) > 0 {
		n := min(len(rows), r.batch)
		var o outcome
		if err := r.server.patiently(ctx, func(ctx context.Context) error {
			o = outcome{}
			_, err := r.restore(ctx, rows[:n], &o)
			return err
		}); err != nil {
			return err
		}
		for _, row := range o.bad {
			r.bad.totals.failed(row.fault)
		}
		r.sum.Sampled += int64(n)
		r.sum.Opened += int64(n - len(o.bad))
		rows = rows[n:]
	}
	return nil
}

// restore opens the tokens of what is NULL. A row with one that does not open is bad, and gets the values of the others.
func (r *restoration) restore(ctx context.Context, rows []sqltable.Row, o *outcome) ([]sqltable.Row, error) {
	rows = slices.DeleteFunc(rows, func(row sqltable.Row) bool { return r.bad.has(row.Key) })
	faults, opened, err := r.openRows(ctx, rows)
	if err != nil {
		return nil, err
	}
	var out []sqltable.Row
	for i, row := range rows {
		if faults[i] != nil {
			o.fail(row.Key, *faults[i])
		}
		if opened[i] {
			out = append(out, row)
		}
	}
	return out, nil
}

// openRows writes into the rows what their tokens open to, where the value is NULL. It returns a fault of each row, nil
// where all opened; one that is not about erasure goes first. opened tells whether some did.
func (r *restoration) openRows(ctx context.Context, rows []sqltable.Row) (faults []*rowFault, opened []bool, err error) {
	type place struct{ row, at int }
	var (
		places []place
		tokens []wire.Plain
	)
	faults, opened = make([]*rowFault, len(rows)), make([]bool, len(rows))
	note := func(row int, f rowFault) {
		if was := faults[row]; was == nil || gone(was.code) && !gone(f.code) {
			faults[row] = &f
		}
	}
	for i, row := range rows {
		for at, c := range row.Cells {
			if !c.Token.Valid || c.Plain.Valid {
				continue
			}
			field := r.fields[at].Field
			if of, err := tokenizer.ParseToken(c.Token.Value); err != nil || of != field {
				note(i, rowFault{field, wire.TokenMalformed, "", "the token column holds something that is no token of the field"})
				continue
			}
			places, tokens = append(places, place{i, at}), append(tokens, wire.Plain(c.Token.Value))
		}
	}
	values, err := r.server.openAll(ctx, tokens, nil)
	if err != nil {
		return nil, nil, err
	}
	for n, v := range values {
		at := places[n]
		if v.fault != nil {
			note(at.row, rowFault{r.fields[at.at].Field, v.fault.Code, v.fault.Rule, v.fault.Detail})
			continue
		}
		rows[at.row].Cells[at.at].Plain = sqltable.Text{Value: string(v.value), Valid: true}
		opened[at.row] = true
	}
	return faults, opened, nil
}

// end says how it went, and turns that into an exit code.
func (r *restoration) end(ctx context.Context, failed error, again string) error {
	t := &r.bad.totals
	r.sum.Done, r.sum.Bad, r.sum.Reasons, r.sum.Errors = failed == nil, t.Failed, t.sorted(), r.bad.written()
	if failed == nil && r.begun && !r.sum.Dropped {
		counts, err := r.table.Counts(ctx)
		if err != nil {
			return err
		}
		r.sum.Needed = counts.Cleared
	}
	if failed != nil {
		if !r.begun {
			return unbegun(ctx, failed)
		}
		r.sum.Resume = again
	}
	if err := r.show(); err != nil {
		return err
	}
	switch {
	case errors.Is(failed, errNotConfirmed):
		return usage("not confirmed; the values are there, and the token columns too")
	case failed != nil:
		return r.p.tableStopped(ctx, failed, again)
	}
	return items(int(t.Failed), int(max(r.sum.Rows, t.Failed)))
}

func (r *restoration) show() error {
	if r.p.json {
		return r.p.printJSON(r.sum)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	t := newTable("ROWS", number(r.sum.Rows))
	if r.flags.dryRun {
		t.add("opened as a sample", number(r.sum.Sampled))
		t.add("that open", number(r.sum.Opened))
	} else {
		t.add("restored", number(r.sum.Restored))
		t.add("bad", number(r.sum.Bad))
	}
	if r.flags.clearTokens {
		t.add("tokens taken out of", number(r.sum.Cleared))
	}
	if r.sum.Needed >= 0 {
		t.add("with a token and no plaintext", number(r.sum.Needed))
	}
	if r.sum.Dropped {
		t.add("token columns", "dropped")
	}
	if r.sum.Errors != "" {
		t.add("bad rows", r.sum.Errors)
	}
	if err := t.write(r.p.out); err != nil {
		return err
	}
	if err := showReasons(r.p.out, r.sum.Reasons); err != nil {
		return err
	}
	var rest []string
	if r.flags.dryRun {
		rest = append(rest, "Nothing was changed.")
	} else if len(r.plan.DropNotNull) == 0 {
		rest = append(rest, "NOT NULL is not set again on columns that the cut-over took it from.")
	}
	if len(rest) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(r.p.err, strings.Join(rest, " "))
	return err
}
