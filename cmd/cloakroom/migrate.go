package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
)

const migrateHelp = `Replace columns of a live PostgreSQL, MySQL or MariaDB table by tokens, while the application goes on using it.

First comes a plan, and a dry run that reads what is to do and changes nothing; --dry-run stops there. Then a token column is
added for each mapped column (--add-columns does that alone), and filled in batches: rows are locked, their values stored,
and the tokens written in one transaction. A row is done whole or not at all. Rows that Cloakroom does not take stay as they
are and are listed in a file, without their values. Then a sample is opened for the purpose and compared, byte for byte.

Before the tokens are filled the application must set the token column to NULL wherever it writes or clears the plaintext:
a token that stays beside another value would open to the old one. --refresh is for one that cannot: it stores every
row with plaintext once more, under locks, and compares all. docs/tables.md tells how, step by step.

Only --cutover takes plaintext away: every row is locked, stored once more, so that what the application wrote meanwhile is
kept, every token opened and compared byte for byte, and only then set to NULL. What else holds old values, such as
backups, is named in the plan.

A person's field has one value. Where another table, another column or the application has stored another one under the same
id, the row is bad and keeps its plaintext (rule "held"), unless --overwrite. A --prefix for each table keeps their ids apart.

What is still to do is told by the table itself. After an interruption, a failure or a crash the same command goes on.
Rows that come later with plaintext are met by running it again.

The table's address comes from CLOAKROOM_DSN or --dsn: postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE. A
password belongs into CLOAKROOM_DSN, a file (--dsn @FILE), PGPASSWORD or ~/.pgpass, not into an argument.

Exit codes: 0 done, 3 some rows are bad, 1 failed or all rows are bad, 2 wrong usage.`

// tableFlags are those that migrate-table and restore-table have in common.
type tableFlags struct {
	dsn, table, key string
	prefix          string
	fields, tokens  []string
	batch           int
	purpose         string
	errors          string
	dryRun, yes     bool
	force           bool
}

func (f *tableFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.dsn, "dsn", "", "the database's `address`, or @FILE that holds it (CLOAKROOM_DSN)")
	fs.StringVar(&f.table, "table", "", "the `table`, or schema.table")
	fs.StringVar(&f.key, "key", "", "the `column` that tells rows apart: a primary or unique key")
	fs.StringArrayVar(&f.fields, "map", nil, "`FIELD=COLUMN`,...: the column holds the field's values; may be repeated")
	fs.StringArrayVar(&f.tokens, "token-column", nil, "`FIELD=COLUMN`,...: the column for the field's tokens (default: the mapped column's name and _token)")
	fs.IntVar(&f.batch, "batch", 1000, "`rows` that are locked at once, 1 to 10000")
	fs.StringVar(&f.purpose, "purpose", "service", "the purpose that values are opened for")
	fs.StringVar(&f.errors, "errors", "", "`file` for bad rows (default TABLE.errors.csv, or another name where that is there already)")
	fs.BoolVar(&f.dryRun, "dry-run", false, "change nothing; show the plan, and what would fail")
	fs.BoolVar(&f.yes, "yes", false, "do not ask on a terminal")
	fs.StringVar(&f.prefix, "prefix", "", "`text` before the key, to make the subject's id, such as users:")
	fs.BoolVar(&f.force, "force", false, "write over the file for bad rows")
}

// spec checks the flags.
func (f *tableFlags) spec(c *cobra.Command) (sqltable.Spec, []fieldColumn, error) {
	spec := sqltable.Spec{Table: f.table, Key: f.key}
	fields, err := fieldColumns("map", f.fields)
	if err != nil {
		return spec, nil, err
	}
	tokens, err := fieldColumns("token-column", f.tokens)
	if err != nil {
		return spec, nil, err
	}
	switch {
	case f.table == "" || f.key == "" || len(fields) == 0:
		return spec, nil, usage(c.Name() + " needs --table TABLE, --key COLUMN and --map FIELD=COLUMN; see " + c.CommandPath() + " --help")
	case f.batch < 1 || f.batch > 10_000:
		return spec, nil, usage("--batch is 1 to 10000")
	case f.purpose == "":
		return spec, nil, usage("--purpose is empty; the purposes stand in the policy (cloakroom policy show)")
	}
	seen := map[string]bool{}
	for _, m := range fields {
		if seen["field "+m.Field] || seen["column "+m.Column] || m.Column == f.key {
			return spec, nil, usage("--map names each field and each column once, and not the key")
		}
		seen["field "+m.Field], seen["column "+m.Column] = true, true
		column := sqltable.Column{Name: m.Column, TokenColumn: m.Column + "_token"}
		if i := slices.IndexFunc(tokens, func(t fieldColumn) bool { return t.Field == m.Field }); i >= 0 {
			column.TokenColumn = tokens[i].Column
			tokens = slices.Delete(tokens, i, i+1)
		}
		spec.Columns = append(spec.Columns, column)
	}
	if len(tokens) > 0 {
		return spec, nil, usage("--token-column names field " + printable(tokens[0].Field) + " twice, or one that --map does not have")
	}
	return spec, fields, nil
}

func (p *program) migrateTableCommand() *cobra.Command {
	var f migrateFlags
	c := &cobra.Command{
		Use:   "migrate-table --table TABLE --key COLUMN --map FIELD=COLUMN,...",
		Short: "Turn columns of a live SQL table into tokens",
		Long:  migrateHelp,
		Example: `  export CLOAKROOM_DSN=postgres://shop@db.example/shop
  cloakroom migrate-table --table users --key id --map phone=phone,name=full_name --prefix users: --dry-run
  cloakroom migrate-table --table users --key id --map phone=phone,name=full_name --prefix users: --add-columns
  cloakroom migrate-table --table users --key id --map phone=phone,name=full_name --prefix users:
  cloakroom migrate-table --table users --key id --map phone=phone,name=full_name --prefix users: --cutover`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.migrateTable(c, f) },
	}
	f.add(c)
	fs := c.Flags()
	fs.BoolVar(&f.addColumns, "add-columns", false, "add the token columns and do nothing else")
	fs.BoolVar(&f.refresh, "refresh", false, "store every row with plaintext again, and take tokens away beside empty values; clears nothing")
	fs.BoolVar(&f.overwrite, "overwrite", false, "store values also where another source stored another value of the field")
	fs.BoolVar(&f.reissue, "reissue", false, "replace tokens that the server never issued, where the plaintext is there")
	fs.IntVar(&f.sample, "sample", 1000, "`rows` that are compared after filling, 1 to 10000")
	fs.BoolVar(&f.cutover, "cutover", false, "then set the plaintext to NULL, of every row whose tokens open to it")
	fs.BoolVar(&f.leaveBad, "leave-bad", false, "cut over although rows are bad; these keep their plaintext")
	p.connects(c)
	return c
}

// migrateFlags are the flags as they were given.
type migrateFlags struct {
	tableFlags
	sample     int
	addColumns bool
	refresh    bool
	overwrite  bool
	reissue    bool
	cutover    bool
	leaveBad   bool
}

// check refuses what does not go together.
func (f *migrateFlags) check() error {
	switch {
	case f.sample < 1 || f.sample > 10_000:
		return usage("--sample is 1 to 10000")
	case f.leaveBad && !f.cutover:
		return usage("--leave-bad is for --cutover")
	case f.addColumns && (f.cutover || f.refresh || f.overwrite || f.reissue):
		return usage("--add-columns adds the token columns and does nothing else")
	case f.refresh && f.cutover:
		return usage("--refresh clears nothing; run it before --cutover, which stores every row again too")
	}
	return nil
}

// migration is one run of migrate-table.
type migration struct {
	tableJob
	p      *program
	flags  migrateFlags
	spec   sqltable.Spec
	report *dryReport
	plan   *tablePlan
	begun  bool // something may have been changed
	sum    migrateSummary
}

func (p *program) migrateTable(c *cobra.Command, f migrateFlags) (err error) {
	ctx := c.Context()
	spec, fields, err := f.spec(c)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	m := &migration{p: p, flags: f, spec: spec}
	if m.report, err = p.dryReport(ctx, fields); err != nil {
		return err
	}
	began := p.now()
	where, done, err := p.openTable(ctx, &m.tableJob, f.tableFlags, spec, fields, "migrate-table", f.overwrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	m.reissue, m.refresh = f.reissue, f.refresh
	m.sum.Plain = -1
	failed := m.run(ctx)
	m.sum.Seconds = p.now().Sub(began).Seconds()
	return m.end(ctx, failed, p.againCommand(c, where))
}

// openTable joins a job with its table and with the server.
func (p *program) openTable(ctx context.Context, j *tableJob, f tableFlags, spec sqltable.Spec, fields []fieldColumn, reason string, overwrite bool) (where database, done func() error, err error) {
	if where, err = p.findDatabase(f.dsn); err != nil {
		return where, nil, err
	}
	if j.bad, err = findBadFile(f.errors, f.table, f.force); err != nil {
		return where, nil, err
	}
	p.conn.once = true
	cl, err := p.connect(appKey)
	if err != nil {
		return where, nil, err
	}
	db, err := sqltable.Open(ctx, where.dsn, sqltable.Options{})
	if err != nil {
		return where, nil, err
	}
	done = func() error {
		cl.Close()
		return errors.Join(db.Close(), j.bad.close())
	}
	if j.table, err = db.Table(ctx, spec); err != nil {
		return where, nil, errors.Join(err, done())
	}
	names, err := j.table.Names(ctx)
	if err != nil {
		return where, nil, errors.Join(err, done())
	}
	for _, c := range spec.Columns {
		j.sources = append(j.sources, columnSource(append(slices.Clip(names), c.Name)...))
	}
	j.server, j.fields, j.batch, j.prefix = p.tableServer(cl, f.purpose, reason, overwrite), fields, f.batch, f.prefix
	return where, done, nil
}

// run shows the plan and carries it out.
func (m *migration) run(ctx context.Context) error {
	counts, err := m.table.Counts(ctx)
	if err != nil {
		return err
	}
	m.plan = migrationPlan(m.spec, m.fields, m.sources, m.table.Plan(), counts)
	m.sum.Plan, m.sum.Rows = m.plan, counts.Rows
	seed := m.p.now().UnixNano()
	if !m.flags.addColumns {
		if err := m.look(ctx, m.report, m.flags.sample, seed, m.p.tableBar("looking", counts.ToFill)); err != nil {
			return err
		}
		m.plan.Dry = m.report
	}
	if !m.p.json {
		if err := m.plan.write(m.p.err, m.batch, m.steps()); err != nil {
			return err
		}
	}
	if err := m.plan.granted(m.needs()...); err != nil || m.flags.dryRun {
		return err
	}
	if m.flags.addColumns {
		return m.addColumns(ctx, "Add the token columns? Type yes")
	}
	// Whether the key may do what comes is asked before the table is changed.
	if _, err := m.server.put(ctx, nil); err != nil {
		return err
	}
	if m.flags.overwrite {
		if err := m.p.agree(m.flags.yes, "Write over what other sources have stored of these people? Type overwrite", "overwrite"); err != nil {
			return err
		}
	}
	if err := m.addColumns(ctx, "Add the token columns and fill them? Type yes"); err != nil {
		return err
	}
	if m.sum.Filled, err = m.rounds(ctx, sqltable.ToFill, m.fill, m.p.tableBar("filling", counts.ToFill)); err != nil {
		return err
	}
	if m.flags.refresh {
		return m.again(ctx, counts.Plain)
	}
	if m.sum.Verified, err = m.verify(ctx, m.flags.sample, seed); err != nil {
		return err
	}
	if !m.flags.cutover {
		return nil
	}
	return m.cutOver(ctx)
}

func (m *migration) addColumns(ctx context.Context, question string) error {
	if err := m.p.agree(m.flags.yes, question, "yes"); err != nil {
		return err
	}
	m.begun = true
	return m.table.AddTokenColumns(ctx)
}

// again stores every row that has plaintext, whatever its tokens say, and compares all of them.
func (m *migration) again(ctx context.Context, plain int64) error {
	before := m.proved
	_, err := m.rounds(ctx, sqltable.ToCutOver, m.prove, m.p.tableBar("storing again", plain))
	m.sum.Refreshed = m.proved - before
	if err != nil {
		return err
	}
	return m.clearEmptied(ctx)
}

// needs are the steps that a run is going to take.
func (m *migration) needs() []sqltable.Step {
	switch {
	case m.flags.addColumns:
		return []sqltable.Step{sqltable.StepAddTokens}
	case m.flags.cutover:
		return []sqltable.Step{sqltable.StepAddTokens, sqltable.StepFill, sqltable.StepDropNotNull, sqltable.StepCutOver}
	}
	return []sqltable.Step{sqltable.StepAddTokens, sqltable.StepFill}
}

func (m *migration) steps() []planStep {
	t := m.plan
	var steps []planStep
	if len(t.AddTokens) > 0 {
		steps = append(steps, planStep{"add the token columns", t.AddTokens})
	}
	if m.flags.addColumns {
		return append(steps, planStep{"nothing else; release an application now that sets them to NULL wherever it writes or clears the plaintext, and fill them then", nil})
	}
	steps = append(steps, planStep{"fill them, %BATCH rows at a time, under row locks", t.Fill})
	if m.flags.refresh {
		return append(steps, planStep{"store every row with plaintext again, %BATCH at a time, under row locks, and open and compare every token for the purpose " +
			printable(m.flags.purpose) + "; take tokens away beside empty values", nil})
	}
	steps = append(steps, planStep{"compare " + strconv.Itoa(m.flags.sample) + " rows, spread over the table, with what their tokens open to for the purpose " + printable(m.flags.purpose), nil})
	cut := planStep{"cut over, %BATCH rows at a time, under row locks: store every row again, open every token, compare, then clear the plaintext", append(slices.Clone(t.DropNotNull), t.CutOver...)}
	if !m.flags.cutover {
		cut.what = "not now, but with --cutover: " + strings.TrimPrefix(cut.what, "cut over, ")
	}
	return append(steps, cut)
}

// errBadRows: a cut-over would leave plaintext behind.
var errBadRows = errors.New("cut-over refused: bad rows keep their plaintext")

func (m *migration) cutOver(ctx context.Context) error {
	if err := m.listEmptied(ctx); err != nil {
		return err
	}
	before := m.bad.totals.Failed
	if before > 0 && !m.flags.leaveBad {
		return fmt.Errorf("%w: %d of them; set them right (%s names them), or leave them with --leave-bad", errBadRows, before, printable(m.bad.path))
	}
	counts, err := m.table.Counts(ctx)
	if err != nil {
		return err
	}
	if err := m.p.agree(m.flags.yes, fmt.Sprintf("Clear the plaintext of %d rows? Type the table's name, %s", counts.Plain, printable(m.spec.Table)), m.spec.Table); err != nil {
		return err
	}
	if err := m.table.DropNotNull(ctx); err != nil {
		return err
	}
	m.sum.Cut, err = m.rounds(ctx, sqltable.ToCutOver, m.cut, m.p.tableBar("cutting over", counts.Plain))
	m.sum.LateBad = m.bad.totals.Failed - before
	return err
}
