package main

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// codeRow is the code of a row that is bad before the server sees it; the rule says why. Other codes are the server's.
const codeRow wire.Code = "invalid_row"

// subjectField stands in the errors file where the subject's id is at fault.
const subjectField = "subject"

// rowFault is why a row is bad. It never holds a value.
type rowFault struct {
	field   string // "" = the row as a whole
	code    wire.Code
	rule    string
	meaning string
}

// tableRow is a row of the input on its way.
type tableRow struct {
	number, line int64
	after        tablefile.Position
	encoding     tablefile.Encoding // as far as it is known
	subject      tablefile.Cell
	kept         []tablefile.Cell
	values       []string // of plan.Fields; "" = none. nil: the row could not be read
	fault        *rowFault
	size         int64 // bytes that it keeps in memory, about
}

// message is what the server gets.
func (r tableRow) message(p importPlan) wire.ImportRow {
	out := wire.ImportRow{Subject: r.subject.Text, Fields: wire.Fields{}}
	for i, f := range p.Fields {
		if r.values[i] != "" {
			out.Fields[f.Field] = wire.FieldValue{Value: wire.Plain(r.values[i])}
		}
	}
	return out
}

// maxMessage is the longest line that the server reads.
const maxMessage = 1 << 20

// tooLong reports whether the server would refuse the row for its length. An escape makes up to six bytes of one, so
// that short rows need no look.
func (r tableRow) tooLong(p importPlan) bool {
	if 6*r.size < maxMessage/2 {
		return false
	}
	text, err := json.Marshal(r.message(p))
	return err != nil || len(text) >= maxMessage
}

// tableRows reads the rows of an input and finds what is bad about them without a server.
type tableRows struct {
	plan   importPlan
	reader *tablefile.Reader
	index  []int    // of the cells, for each of plan.Fields
	unseen []string // columns of an NDJSON input that its first records do not have
	seen   map[uint64]struct{}
	seed   maphash.Seed // new in each run: nobody can make ids that meet
}

// openRows begins to read a table, which file names.
func (p *program) openRows(in *importInput, file string, plan importPlan) (*tableRows, error) {
	t, err := newTableRows(in, plan)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", inputName(file), err)
	}
	if len(t.unseen) > 0 {
		_, _ = fmt.Fprintf(p.err, "The first records do not have %s; a record without it has no value there.\n", printable(strings.Join(t.unseen, ", ")))
	}
	return t, nil
}

func newTableRows(in *importInput, plan importPlan) (*tableRows, error) {
	reader, err := tablefile.NewReader(in, tablefile.Options{Format: plan.Format, Encoding: plan.Encoding})
	if err != nil {
		return nil, err
	}
	columns := plan.columns()
	var unseen []string
	if err := reader.Select(columns...); err != nil {
		var missing *tablefile.ColumnsError
		// A record of NDJSON may leave members out, the first ones too; but each has an id.
		if plan.Format != tablefile.NDJSON || !errors.As(err, &missing) || slices.Contains(missing.Missing, plan.Subject) {
			return nil, err
		}
		unseen = missing.Missing
	}
	t := &tableRows{plan: plan, reader: reader, unseen: unseen, seen: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	for _, f := range plan.Fields {
		t.index = append(t.index, slices.Index(columns, f.Column))
	}
	return t, nil
}

// next returns the next row, or io.EOF.
func (t *tableRows) next() (tableRow, error) {
	in, err := t.reader.Next()
	if err != nil {
		return tableRow{}, err
	}
	row := tableRow{number: in.Number, line: in.Line, after: in.After, encoding: t.reader.Encoding(), size: 256}
	if in.Fault != "" {
		row.fault = &rowFault{code: codeRow, rule: string(in.Fault), meaning: "the row " + in.Fault.Meaning()}
		return row, nil
	}
	row.subject, row.kept = in.Cells[0], in.Cells[1:1+len(t.plan.Keep)]
	for _, c := range in.Cells {
		row.size += int64(len(c.Text) + len(c.JSON))
	}
	row.values = make([]string, len(t.index))
	row.fault = t.subjectFault(row.subject)
	for i, at := range t.index {
		c := in.Cells[at]
		if !c.Nested() {
			row.values[i] = c.Text
		} else if row.fault == nil {
			row.fault = &rowFault{t.plan.Fields[i].Field, codeRow, string(tablefile.Surprise), "the row " + tablefile.Surprise.Meaning()}
		}
	}
	if row.fault == nil && row.tooLong(t.plan) {
		row.fault = &rowFault{code: codeRow, rule: string(tablefile.TooLong), meaning: "the row " + tablefile.TooLong.Meaning()}
	}
	return row, nil
}

// subjectFault looks at an id, and notes it.
func (t *tableRows) subjectFault(c tablefile.Cell) *rowFault {
	id := c.Text
	if fault := idFault(id); fault != nil {
		return fault
	}
	h := maphash.String(t.seed, id)
	if _, again := t.seen[h]; again {
		return &rowFault{subjectField, codeRow, "duplicate_subject", "an earlier row has the same id"}
	}
	t.seen[h] = struct{}{}
	return nil
}

// idFault looks at an id by the server's rules.
func idFault(id string) *rowFault {
	switch {
	case tokenizer.IdentifyingID(id):
		return &rowFault{subjectField, wire.IdentifyingSubjectID, "", "the id itself tells who the person is"}
	case !tokenizer.ValidSubjectID(id):
		return &rowFault{subjectField, wire.InvalidSubjectID, "", "an id is 1 to 128 of A-Z a-z 0-9 . _ : -"}
	}
	return nil
}
