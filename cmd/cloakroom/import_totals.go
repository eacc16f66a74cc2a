package main

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// importReason is how often rows were bad for one reason.
type importReason struct {
	Field string    `json:"field"` // "" = the row as a whole
	Code  wire.Code `json:"code"`
	Rule  string    `json:"rule"`
	Rows  int64     `json:"rows"`
}

// maxReasons bounds how many different reasons are counted; policies have a few dozen.
const maxReasons = 1000

// importTotals count the rows that are done, over all runs of an import.
type importTotals struct {
	Rows     int64          `json:"rows"`
	Stored   int64          `json:"stored"`
	Failed   int64          `json:"failed"`
	Warnings int64          `json:"warnings"` // values that were accepted with a doubt
	Reasons  []importReason `json:"reasons"`
}

func (t *importTotals) stored(warnings int) {
	t.Rows++
	t.Stored++
	t.Warnings += int64(warnings)
}

func (t *importTotals) failed(f rowFault) {
	t.Rows++
	t.Failed++
	for i := range t.Reasons {
		if r := &t.Reasons[i]; r.Field == f.field && r.Code == f.code && r.Rule == f.rule {
			r.Rows++
			return
		}
	}
	if len(t.Reasons) < maxReasons {
		t.Reasons = append(t.Reasons, importReason{f.field, f.code, f.rule, 1})
	}
}

// sorted puts the most frequent reason first.
func (t *importTotals) sorted() []importReason {
	out := slices.Clone(t.Reasons)
	slices.SortStableFunc(out, func(a, b importReason) int { return cmp.Compare(b.Rows, a.Rows) })
	if out == nil {
		out = []importReason{}
	}
	return out
}

// showReasons prints them below a table of totals.
func showReasons(w io.Writer, reasons []importReason) error {
	if len(reasons) == 0 {
		return nil
	}
	t := newTable("FIELD", "CODE", "RULE", "ROWS")
	for _, r := range reasons {
		t.add(cmp.Or(r.Field, "(row)"), string(r.Code), r.Rule, strconv.FormatInt(r.Rows, 10))
	}
	_, err := w.Write([]byte("\n"))
	return errors.Join(err, t.write(w))
}
