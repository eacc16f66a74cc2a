package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
)

// tablePlan is what a run is going to do to a table: it is shown before anything is done.
type tablePlan struct {
	sqltable.Plan
	Key       string          `json:"key"`
	Fields    []plannedField  `json:"fields"`
	Counts    sqltable.Counts `json:"counts"` // before
	Untouched []string        `json:"untouched"`
	Elsewhere []string        `json:"elsewhere"` // what keeps plaintext out of this command's reach
	Dry       *dryReport      `json:"dry_run,omitzero"`
}

// plannedField is a field and its two columns.
type plannedField struct {
	Field       string `json:"field"`
	Column      string `json:"column"`
	TokenColumn string `json:"token_column"`
	Source      string `json:"source"` // that the values are stored with
}

func planned(spec sqltable.Spec, fields []fieldColumn, sources []string) []plannedField {
	out := make([]plannedField, len(fields))
	for i, c := range spec.Columns {
		out[i] = plannedField{fields[i].Field, c.Name, c.TokenColumn, sources[i]}
	}
	return out
}

// migrationPlan says what a migration does.
func migrationPlan(spec sqltable.Spec, fields []fieldColumn, sources []string, found sqltable.Plan, counts sqltable.Counts) *tablePlan {
	if n := counts.Cleared; n > 0 {
		found.Notes = append(found.Notes, fmt.Sprintf("%d rows have a token beside NULL. Either they were cut over, or the application cleared the value and left the token: "+
			"then the token still opens to it, and it would come back. Where nothing of this table was cut over yet they are all of the second kind: set their tokens to NULL first", n))
	}
	return &tablePlan{
		Plan: found, Key: spec.Key, Fields: planned(spec, fields, sources), Counts: counts,
		Untouched: []string{
			"other columns of the table, and other tables",
			"rows whose values Cloakroom does not take: they are listed, and keep their plaintext",
			"empty strings: they stay, and get no token",
			"values that another source has stored otherwise under the same id: those rows are listed (rule held)",
			"the plaintext columns themselves: the cut-over sets them to NULL, and dropping them is left to you",
		},
		Elsewhere: elsewhere(found.Database),
	}
}

// elsewhere is where a database keeps old values that an UPDATE does not reach.
func elsewhere(database string) []string {
	if strings.HasPrefix(database, "PostgreSQL") {
		return []string{
			"dead row versions in the table's files, until VACUUM FULL with no older transaction, prepared transaction or replication slot left",
			"the planner's statistics (pg_stats shows frequent values), until ANALYZE",
			"the write-ahead log and its archive",
			"replicas and subscribers that keep a history",
			"backups, dumps and snapshots of disks",
			"the server's log, where it logs statements of the application",
		}
	}
	return []string{
		"free space in the table's pages and the undo log, until OPTIMIZE TABLE and a purge",
		"the redo log and the binary log, until it is purged (PURGE BINARY LOGS)",
		"histograms, where ANALYZE TABLE made some, until it is run again",
		"replicas that keep a history",
		"backups, dumps and snapshots of disks",
		"the general and the slow query log, where they are on",
	}
}

// write prints the plan for people. steps are what this command does, each with its statements.
func (t *tablePlan) write(w io.Writer, batch int, steps []planStep) error {
	var b strings.Builder
	c := t.Counts
	fmt.Fprintf(&b, "Plan for %s (%s)\n", printable(t.Table), printable(t.Database))
	fmt.Fprintf(&b, "  %d rows: %d to fill, %d filled, %d with plaintext, %d with a token and no plaintext, %d without values\n",
		c.Rows, c.ToFill, c.Filled, c.Plain, c.Cleared, c.NoValues)
	for _, f := range t.Fields {
		fmt.Fprintf(&b, "  field %s: column %s, tokens in %s, source %s\n", printable(f.Field), printable(f.Column), printable(f.TokenColumn), printable(f.Source))
	}
	for i, s := range steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, strings.ReplaceAll(s.what, "%BATCH", fmt.Sprint(batch)))
		writeLines(&b, "     ", s.sql)
	}
	section := func(title string, lines []string) {
		if len(lines) > 0 {
			b.WriteString(title + "\n")
			writeLines(&b, "  - ", lines)
		}
	}
	section("Missing grants:", t.Lacks())
	section("Look at this first:", t.Notes)
	section("Not touched:", t.Untouched)
	section("Not cleaned by it; old values stay here:", t.Elsewhere)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if t.Dry == nil {
		return nil
	}
	if _, err := io.WriteString(w, "What is still to fill, judged here without storing it:\n"); err != nil {
		return err
	}
	return t.Dry.write(w, "")
}

// granted refuses a run that would fail on its way for want of a grant.
func (t *tablePlan) granted(steps ...sqltable.Step) error {
	if lacks := t.Lacks(steps...); len(lacks) > 0 {
		return fmt.Errorf("%w, nothing was changed: %s", sqltable.ErrGrant, printable(strings.Join(lacks, "; ")))
	}
	return nil
}

// planStep is one step in words, and its statements.
type planStep struct {
	what string
	sql  []string
}

func writeLines(b *strings.Builder, indent string, lines []string) {
	for _, line := range lines {
		b.WriteString(indent + strings.ReplaceAll(printable(strings.ReplaceAll(line, "\n", " ")), "\n", " ") + "\n")
	}
}

var errNotConfirmed = errors.New("not confirmed")

// agree asks on a terminal for a line to be typed. Without one, or with --yes, it goes on.
func (p *program) agree(yes bool, question, line string) error {
	if yes || !p.inTerminal {
		return nil
	}
	_, _ = fmt.Fprintf(p.err, "%s: ", question)
	typed, err := readLine(p.in)
	if err != nil || typed != line {
		return errNotConfirmed
	}
	return nil
}

// readLine reads no byte behind the line: a later question reads on there.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	var one [1]byte
	for b.Len() < 4096 {
		n, err := r.Read(one[:])
		switch {
		case n > 0 && one[0] == '\n':
			return strings.TrimSuffix(b.String(), "\r"), nil
		case n > 0:
			b.WriteByte(one[0])
		case err != nil:
			return "", err
		}
	}
	return "", errNotConfirmed
}
