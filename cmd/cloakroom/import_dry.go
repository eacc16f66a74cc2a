package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// fieldKinds are the kinds of the policy's fields. Without a server, or a key that may read its policy, they are those
// of the starter policy, and the note says so.
func (p *program) fieldKinds(ctx context.Context) (kinds map[string]tokenizer.Kind, note string, err error) {
	known := tokenizer.NewKinds(tokenizer.Options{})
	isKind := func(name string) bool {
		_, ok := known.Lookup(name)
		return ok
	}
	rules, err := p.currentPolicy(ctx, isKind)
	if err != nil {
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		note = "The server's policy could not be read; the fields are taken to be those of the starter policy."
		if rules, err = policy.Parse(policy.Starter(), isKind); err != nil {
			return nil, "", err
		}
	}
	kinds = map[string]tokenizer.Kind{}
	for _, f := range rules.Fields() {
		kinds[f.Name], _ = known.Lookup(f.Kind)
	}
	return kinds, note, nil
}

func (p *program) currentPolicy(ctx context.Context, isKind func(string) bool) (*policy.Policy, error) {
	cl, err := p.connect(operatorKey)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	text, err := cl.Policy(ctx)
	if err != nil {
		return nil, err
	}
	return policy.Parse([]byte(text.Policy), isKind)
}

// fieldReport is what a dry run tells of one field.
type fieldReport struct {
	Field    string `json:"field"`
	Column   string `json:"column"`
	Kind     string `json:"kind"`
	Valid    int64  `json:"valid"`
	Warnings int64  `json:"warnings"` // of the valid ones, accepted with a doubt
	Empty    int64  `json:"empty"`
	Invalid  int64  `json:"invalid"`
	Distinct int64  `json:"distinct"`       // of the valid ones, in their form for comparing
	Exact    bool   `json:"distinct_exact"` // false: estimated, to 1 % or so

	kind   tokenizer.Kind
	values *distinct
}

// dryReport is what a dry run prints with --json. Rows counts those that could be read as rows at all in Fields.
type dryReport struct {
	Rows    int64          `json:"rows"`
	Good    int64          `json:"good"`
	Failed  int64          `json:"failed"`
	Reasons []importReason `json:"reasons"`
	Fields  []*fieldReport `json:"fields"`
	Policy  string         `json:"policy"` // server, or starter when that could not be read
}

// dryReport makes an empty report of the fields, which the policy must have.
func (p *program) dryReport(ctx context.Context, fields []fieldColumn) (*dryReport, error) {
	kinds, note, err := p.fieldKinds(ctx)
	if err != nil {
		return nil, err
	}
	report := &dryReport{Policy: "server"}
	if note != "" {
		report.Policy = "starter"
		_, _ = fmt.Fprintln(p.err, note)
	}
	for _, f := range fields {
		kind, ok := kinds[f.Field]
		if !ok {
			return nil, usage("the policy has no field " + printable(f.Field) + "; cloakroom policy show lists them")
		}
		report.Fields = append(report.Fields, &fieldReport{Field: f.Field, Column: f.Column, Kind: kind.Name(), kind: kind, values: newDistinct()})
	}
	return report, nil
}

func (p *program) importDryRun(ctx context.Context, file string, plan importPlan) error {
	report, err := p.dryReport(ctx, plan.Fields)
	if err != nil {
		return err
	}
	in, err := p.openInput(ctx, file)
	if err != nil {
		return err
	}
	defer in.close()
	rows, err := p.openRows(in, file, plan)
	if err != nil {
		return err
	}
	bar := p.importBar(in.size(), 0)
	state := importProgress{}
	for {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = stopped(ctx, state.Totals.Rows)
		}
		if err != nil {
			bar.end()
			return err
		}
		report.look(row, &state.Totals)
		state.Next = row.after
		if state.Totals.Rows%1024 == 0 {
			bar.show(state)
		}
	}
	bar.end()
	report.sum(state.Totals)
	if err := p.showDry(report); err != nil {
		return err
	}
	return items(int(report.Failed), int(report.Rows))
}

// look judges one row as the server would. Each of its fields is counted; the row is bad for the first that is.
func (d *dryReport) look(row tableRow, t *importTotals) {
	fault := row.fault
	warnings := 0
	for i, value := range row.values {
		f := d.Fields[i]
		if value == "" {
			f.Empty++
			continue
		}
		canonical, err := f.kind.Canonical(value)
		if err != nil {
			f.Invalid++
			if fault == nil {
				fault = &rowFault{field: f.Field, code: wire.InvalidValue, rule: ruleOf(err)}
			}
			continue
		}
		f.Valid++
		if len(canonical.Warnings) > 0 {
			f.Warnings++
			warnings++
		}
		f.values.add(canonical.Text.Reveal())
	}
	if fault != nil {
		t.failed(*fault)
		return
	}
	t.stored(warnings)
}

func ruleOf(err error) string {
	var invalid tokenizer.Invalid
	if errors.As(err, &invalid) {
		return invalid.Rule
	}
	return ""
}

// sum closes the report.
func (d *dryReport) sum(t importTotals) {
	d.Rows, d.Good, d.Failed, d.Reasons = t.Rows, t.Stored, t.Failed, t.sorted()
	for _, f := range d.Fields {
		f.Distinct, f.Exact = f.values.count()
	}
}

func (p *program) showDry(d *dryReport) error {
	if p.json {
		return p.printJSON(d)
	}
	return d.write(p.out, " Nothing was stored.")
}

// write prints the report for people, with a remark behind its counts.
func (d *dryReport) write(w io.Writer, remark string) error {
	t := newTable("FIELD", "COLUMN", "KIND", "VALID", "DOUBTFUL", "EMPTY", "INVALID", "DISTINCT")
	for _, f := range d.Fields {
		n := strconv.FormatInt(f.Distinct, 10)
		if !f.Exact {
			n = "about " + n
		}
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		t.add(f.Field, f.Column, f.Kind, number(f.Valid), number(f.Warnings), number(f.Empty), number(f.Invalid), n)
	}
	if err := t.write(w); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%d rows: %d good, %d bad.%s\n", d.Rows, d.Good, d.Failed, remark); err != nil {
		return err
	}
	return showReasons(w, d.Reasons)
}
