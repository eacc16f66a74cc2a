package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// migrateSummary is what --json prints. Numbers are of rows.
type migrateSummary struct {
	Done      bool           `json:"done"`
	Plan      *tablePlan     `json:"plan"`
	Rows      int64          `json:"rows"`      // of the table, before
	Filled    int64          `json:"filled"`    // by this run
	Bad       int64          `json:"bad"`       // that this run left as they are
	Verified  int64          `json:"verified"`  // of the sample, compared with what their tokens open to
	Refreshed int64          `json:"refreshed"` // with --refresh: stored again, and all compared
	LateBad   int64          `json:"late_bad"`  // of Bad, those that the cut-over found: they keep their plaintext
	Cut       int64          `json:"cut"`       // that this run took the plaintext out of, each compared before
	Warnings  int64          `json:"warnings"`  // values that were accepted with a doubt
	Plain     int64          `json:"plain"`     // rows that hold plaintext at the end; -1 = not counted
	Reasons   []importReason `json:"reasons"`
	Errors    string         `json:"errors,omitzero"` // the file with the bad rows; "" = there are none
	Resume    string         `json:"resume,omitzero"` // the command that goes on
	Seconds   float64        `json:"seconds"`
}

// end says how it went, and turns that into an exit code.
func (m *migration) end(ctx context.Context, failed error, again string) error {
	t := &m.bad.totals
	m.sum.Done, m.sum.Bad, m.sum.Warnings, m.sum.Reasons, m.sum.Errors = failed == nil, t.Failed, m.warnings, t.sorted(), m.bad.written()
	if failed == nil && !m.flags.dryRun {
		counts, err := m.table.Counts(ctx)
		if err != nil {
			return err
		}
		m.sum.Plain = counts.Plain
	}
	if failed != nil {
		if !m.begun {
			return errors.Join(m.showPlan(), unbegun(ctx, failed))
		}
		m.sum.Resume = again
	}
	if err := m.show(failed); err != nil {
		return err
	}
	switch {
	case errors.Is(failed, errNotConfirmed):
		return usage("not confirmed; the tokens are there, and no plaintext was cleared")
	case failed != nil:
		return m.p.tableStopped(ctx, failed, again)
	case m.flags.dryRun:
		return items(int(m.report.Failed), int(max(m.sum.Rows, m.report.Failed)))
	}
	return items(int(t.Failed), int(max(m.sum.Rows, t.Failed)))
}

// showPlan prints what a dry run found that cannot be carried out, where nobody has seen it yet.
func (m *migration) showPlan() error {
	if !m.flags.dryRun || !m.p.json || m.plan == nil {
		return nil
	}
	return m.p.printJSON(m.sum)
}

func (m *migration) show(failed error) error {
	if m.p.json {
		return m.p.printJSON(m.sum)
	}
	if m.flags.dryRun {
		_, err := fmt.Fprintln(m.p.out, "Nothing was changed.")
		return err
	}
	if m.flags.addColumns {
		_, err := io.WriteString(m.p.err, m.next())
		return err
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	t := newTable("ROWS", number(m.sum.Rows))
	t.add("filled", number(m.sum.Filled))
	t.add("compared", number(m.sum.Verified))
	if m.flags.refresh {
		t.add("stored again", number(m.sum.Refreshed))
	}
	if m.flags.cutover {
		t.add("cut over", number(m.sum.Cut))
	}
	t.add("bad", number(m.sum.Bad))
	if m.sum.Warnings > 0 {
		t.add("doubtful values", number(m.sum.Warnings))
	}
	if m.sum.Plain >= 0 {
		t.add("with plaintext", number(m.sum.Plain))
	}
	if m.sum.Errors != "" {
		t.add("bad rows", m.sum.Errors)
	}
	if err := t.write(m.p.out); err != nil {
		return err
	}
	if err := showReasons(m.p.out, m.sum.Reasons); err != nil || failed != nil {
		return err
	}
	_, err := io.WriteString(m.p.err, m.next())
	return err
}

// next says what a run that came to its end leaves to do.
func (m *migration) next() string {
	var b strings.Builder
	switch {
	case m.flags.addColumns:
		return "The token columns are there. Release an application that sets them to NULL wherever it writes or clears the plaintext, then run this without --add-columns.\n"
	case !m.flags.cutover && m.sum.Plain == 0:
		return "No row holds plaintext. Rows that come with some are met by running this again.\n"
	case !m.flags.cutover:
		return "The plaintext is still there. Rows that come without a token are met by running this again; --cutover clears the plaintext.\n"
	}
	if m.sum.LateBad > 0 {
		fmt.Fprintf(&b, "%d rows turned out bad only when they were stored again. They keep their plaintext; what their tokens open to may be older or another source's. %s names them.\n",
			m.sum.LateBad, printable(m.sum.Errors))
	}
	b.WriteString("Rows that the application writes with plaintext from now on are met by running this again.\nOld values are still held by:\n")
	writeLines(&b, "  - ", m.plan.Elsewhere)
	if len(m.plan.Clean) > 0 {
		b.WriteString("Run in the database, at a quiet time (it locks the table), when no transaction from before the cut-over is open any more:\n")
		writeLines(&b, "  ", m.plan.Clean)
	}
	return b.String()
}

// unbegun is an error of a run that has changed nothing.
func unbegun(ctx context.Context, failed error) error {
	switch {
	case errors.Is(failed, errNotConfirmed):
		return usage("not confirmed; nothing was changed")
	case ctx.Err() != nil:
		return leftError{"interrupted; nothing was changed"}
	}
	return failed
}

// tableStopped says that a run can be gone on with.
func (p *program) tableStopped(ctx context.Context, failed error, again string) error {
	if ctx.Err() != nil {
		return leftError{"interrupted; what is done stays done; go on with: " + again}
	}
	if !p.json && !errors.Is(failed, errBadRows) {
		_, _ = fmt.Fprintf(p.err, "Stopped; what is done stays done, and no row is done by half. Go on with:\n  %s\n", again)
	}
	return failed
}

// againCommand is the command as it was given, for a shell, without a password.
func (p *program) againCommand(c *cobra.Command, where database) string {
	words := []string{"cloakroom", c.Name()}
	c.Flags().Visit(func(f *pflag.Flag) {
		switch list, isList := f.Value.(pflag.SliceValue); {
		case f.Name == "dsn":
			words = append(words, "--dsn", shellWord(where.flag))
		case isList:
			for _, v := range list.GetSlice() {
				words = append(words, "--"+f.Name, shellWord(v))
			}
		case f.Value.Type() == "bool":
			words = append(words, "--"+f.Name+"="+f.Value.String())
		default:
			words = append(words, "--"+f.Name, shellWord(f.Value.String()))
		}
	})
	out := strings.Join(words, " ")
	if where.had {
		out += "   # and the password, in " + dsnVariable + " in place of --dsn"
	}
	return out
}
