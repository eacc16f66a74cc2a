package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

const exportTokensHelp = `Write which token stands for which field of whom: one row for each person, in no special order. Values are not shown,
and tokens that end by themselves (--ttl, --single-use) are left out.

CSV and TSV have the column subject and one for each field of --fields, or of the policy; an empty cell is no token. NDJSON
(--json, or an --out that ends in .ndjson) is {"subject","tokens"} with the fields that are there alone, also such as the policy
no longer names. In CSV and TSV an id that begins with - gets an apostrophe in front (see import).

--out is written under another name beside it and gets its own when it is whole; mode 0600. When the command is killed, the
other one stays (it ends in .partial): delete it.

Exit codes: 0 everybody is there, 3 the table is complete but for people who could not be read, 1 failed and no table, 2
wrong usage.`

// tokenExport is `cloakroom export-tokens` as it was asked for.
type tokenExport struct {
	to     exportTo
	query  client.TokenQuery
	format tablefile.Format
}

func (p *program) exportTokensCommand() *cobra.Command {
	var x tokenExport
	c := &cobra.Command{
		Use:   "export-tokens",
		Short: "Write the tokens of everybody as a table",
		Long:  exportTokensHelp,
		Example: `  cloakroom export-tokens --out tokens.csv
  cloakroom export-tokens --fields phone --audience dispatch --out dispatch.ndjson`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := x.check(p.json); err != nil {
				return err
			}
			return p.exportTokens(c.Context(), x)
		},
	}
	f := c.Flags()
	f.StringVar(&x.to.out, "out", "", "`file` to write, .csv, .tsv or .ndjson (default: CSV on standard output)")
	f.StringSliceVar(&x.query.Fields, "fields", nil, "`fields` of which to write the tokens, with commas between them; all by default")
	f.StringVar(&x.query.Audience, "audience", "", "the tokens that only this `service` may open, instead of those of nobody's")
	f.BoolVar(&x.to.force, "force", false, "write over a file that is there")
	p.connects(c)
	return c
}

func (x *tokenExport) check(asJSON bool) error {
	x.format = tablefile.CSV
	if x.to.out != "" {
		var ok bool
		if x.format, ok = tablefile.FormatOf(x.to.out); !ok {
			return usage("--out must end in .csv, .tsv or .ndjson")
		}
	} else if asJSON {
		x.format = tablefile.NDJSON
	}
	const list = "--fields is a list of fields with commas between them; without it there are all"
	if x.query.Fields != nil && len(x.query.Fields) == 0 {
		return usage(list)
	}
	for i, field := range x.query.Fields {
		field = strings.TrimSpace(field)
		x.query.Fields[i] = field
		switch {
		case field == "":
			return usage(list)
		case slices.Contains(x.query.Fields[:i], field):
			return usage("--fields names " + printable(field) + " twice")
		}
	}
	return nil
}

func (p *program) exportTokens(ctx context.Context, x tokenExport) error {
	cl, err := p.connect(operatorKey)
	if err != nil {
		return err
	}
	defer cl.Close()
	columns := x.query.Fields
	if columns == nil && x.format != tablefile.NDJSON {
		rules, err := p.currentPolicy(ctx, func(string) bool { return true })
		if err != nil {
			return fmt.Errorf("the policy cannot be read, so name the columns with --fields, or write NDJSON (%w)", err)
		}
		for _, f := range rules.Fields() {
			columns = append(columns, f.Name)
		}
	}
	if x.format != tablefile.NDJSON && slices.Contains(columns, "subject") {
		return usage("a field has the name subject, as the first column has; write NDJSON instead")
	}
	count := p.exportCount(x.to)
	left := map[string]bool{} // fields without a column
	err = p.export(x.to, func(w io.Writer) error {
		write, flush := func(s *wire.TokensOfSubject) error { return writeJSONLine(w, s) }, func() error { return nil }
		if x.format != tablefile.NDJSON {
			table := tablefile.NewWriter(w, x.format, append([]string{"subject"}, columns...))
			if err := table.Header(); err != nil {
				return err
			}
			write, flush = tokenRows(table, columns, left), table.Flush
		}
		err := pages(client.Page{}, true, func(page client.Page) (string, error) {
			part, err := cl.ListTokens(ctx, x.query, page)
			for i := range part.Subjects {
				s := &part.Subjects[i]
				if count.add(s.Error); s.Error == nil && err == nil {
					err = write(s)
				}
			}
			return part.NextCursor, err
		})
		return errors.Join(err, flush())
	})
	count.end()
	if err != nil {
		return err
	}
	if err := p.exportedTokens(x, count, left); err != nil {
		return err
	}
	return count.result()
}

// tokenRows writes a table.
func tokenRows(table *tablefile.Writer, columns []string, left map[string]bool) func(*wire.TokensOfSubject) error {
	row := make([]tablefile.Cell, len(columns)+1)
	return func(s *wire.TokensOfSubject) error {
		row[0].Text = s.Subject
		shown := 0
		for i, field := range columns {
			token, ok := s.Tokens[field]
			if row[i+1].Text = string(token); ok {
				shown++
			}
		}
		if shown < len(s.Tokens) {
			for field := range s.Tokens {
				if !slices.Contains(columns, field) {
					left[field] = true
				}
			}
		}
		return table.Write(row)
	}
}

// writeJSONLine writes one line of NDJSON.
func writeJSONLine(w io.Writer, v any) error {
	line, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return errors.New("a person cannot be written as JSON") // what the encoder says may quote the value
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// exportedTokens says how it went, where that does not stand among the tokens.
func (p *program) exportedTokens(x tokenExport, count *exportCount, left map[string]bool) error {
	if x.to.out != "" && p.json {
		if err := p.printJSON(exportSummary{People: count.People, Failed: count.Failed, Out: x.to.out}); err != nil {
			return err
		}
	} else if x.to.out != "" {
		_, _ = fmt.Fprintf(p.err, "%d people in %s\n", count.People, printable(x.to.out))
	}
	if len(left) > 0 {
		_, _ = fmt.Fprintf(p.err, "The policy does not name these fields, so they have no column; NDJSON has their tokens: %s\n", printable(strings.Join(slices.Sorted(maps.Keys(left)), ", ")))
	}
	if count.Failed > 0 && !p.json {
		_, _ = fmt.Fprintf(p.err, "%d people could not be read and are left out: %s\n", count.Failed, count.reasons())
	}
	return nil
}
