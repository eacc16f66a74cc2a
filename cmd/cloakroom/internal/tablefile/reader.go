package tablefile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxColumns is how many columns a table may have.
const MaxColumns = 1000

// Options say what a file is. The zero value of Encoding finds out; a format has to be named.
type Options struct {
	Format   Format
	Encoding Encoding
}

// Row is one record.
type Row struct {
	Number int64 // as a spreadsheet counts: the header of a CSV is 1, blank lines count
	Line   int64 // on which it begins, from 1
	Cells  []Cell
	Fault  Fault    // not "": there are no cells
	After  Position // where the next record begins
}

// ColumnsError says that the header lacks columns that were asked for. It shows the header where another column that
// was asked for proves it to be one: else it may be a person.
type ColumnsError struct {
	Missing []string
	Have    []string
	Found   int // of those that were asked for
}

func (e *ColumnsError) Error() string {
	const shown = 50
	have, more := e.Have, ""
	if len(have) > shown {
		have, more = have[:shown], fmt.Sprintf(", and %d more", len(e.Have)-shown)
	}
	missing := "there is no column " + strings.Join(e.Missing, ", ")
	switch {
	case len(have) == 0:
		return missing + "; there are none at all"
	case slices.ContainsFunc(have, LooksLikeData):
		return missing + "; the first line does not look like a header, which must name the columns"
	case e.Found == 0:
		return fmt.Sprintf("%s; %s", missing, Unshown(len(e.Have)))
	}
	return missing + "; there are: " + strings.Join(have, ", ") + more
}

// Unshown is what to say in place of n names that may be no names.
func Unshown(n int) string {
	return fmt.Sprintf("the first line has %d names that are not shown, as they may be a person's data: it must name the columns; look at it with: head -n 1 FILE", n)
}

// LooksLikeData tells a value from a column's name, roughly: of a file without a header the first person must not be
// printed.
func LooksLikeData(name string) bool {
	digits := 0
	for _, r := range name {
		if r >= '0' && r <= '9' || r >= '０' && r <= '９' {
			digits++
		}
	}
	return digits >= 5 || strings.Contains(name, "@") || utf8.RuneCountInString(name) > 40
}

// record is one that was read ahead.
type record struct {
	text []byte
	row  Row
}

// Reader reads a table. It is used by one goroutine.
type Reader struct {
	format   Format
	encoding Encoding
	split    *splitter
	header   []string
	selected []int          // of the header, by position among the cells asked for (CSV and TSV)
	members  map[string]int // likewise by name (NDJSON)
	count    int            // cells asked for
	parts    [][]byte
	json     jsontext.Decoder
	ahead    []record
}

// NewReader looks at the beginning of a file and reads its header. Errors name no cell.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	in := bufio.NewReaderSize(r, headSize)
	head, err := in.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(head) == 0 {
		return nil, ErrEmpty
	}
	if err := NotATable(head); err != nil {
		return nil, err
	}
	enc, skip, err := chooseEncoding(head, o.Encoding)
	if err != nil {
		return nil, err
	}
	t := &Reader{format: o.Format, encoding: enc}
	if err := checkLineEnds(head[skip:], o.Format, enc); err != nil {
		return nil, err
	}
	if _, err := in.Discard(skip); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	t.split = newSplitter(decoded(in, enc), o.Format, enc, Position{Offset: int64(skip)})
	if o.Format == NDJSON {
		return t, t.lookAhead()
	}
	return t, t.readHeader()
}

// Encoding is the one found or given; Detect as long as everything was ASCII.
func (t *Reader) Encoding() Encoding { return t.encoding }

// Columns are the names in the header; for NDJSON, the members that the first records have, in the order met.
func (t *Reader) Columns() []string { return t.header }

func (t *Reader) readHeader() error {
	rec, fault, err := t.split.next()
	switch {
	case errors.Is(err, io.EOF):
		return ErrEmpty
	case err != nil:
		return err
	case fault == "" && bytes.IndexByte(rec, 0) >= 0:
		fault = NULByte
	}
	if err := checkSeparator(rec, t.format); err != nil {
		return err
	}
	var line []byte
	if fault == "" {
		if line, fault, err = t.decode(rec); err != nil {
			return err
		}
	}
	if fault != "" {
		return fmt.Errorf("the header, which is the first line, %s", fault.Meaning())
	}
	names := cells(line, t.format.delimiter(), nil)
	if len(names) > MaxColumns {
		return fmt.Errorf("the header has %d columns; the most is %d", len(names), MaxColumns)
	}
	for i, n := range names {
		name := strings.TrimSpace(string(n))
		switch {
		case name != "" && slices.Contains(t.header, name) && LooksLikeData(name):
			return errors.New("the first line does not look like a header, which must name the columns, each once")
		case name != "" && slices.Contains(t.header, name):
			// Which name is not shown: where there is no header it is a person's data.
			return fmt.Errorf("the header names columns %d and %d alike; rename one", slices.Index(t.header, name)+1, i+1)
		}
		t.header = append(t.header, name)
	}
	if len(names) == 1 && names[0] == nil || slices.IndexFunc(t.header, func(n string) bool { return n != "" }) < 0 {
		return errors.New("the first line is blank; it must name the columns")
	}
	return nil
}

// How much of an NDJSON file is read ahead to learn which members its records have.
const (
	aheadRecords = 200
	aheadBytes   = 1 << 20
)

func (t *Reader) lookAhead() error {
	size := 0
	for len(t.ahead) < aheadRecords && size < aheadBytes {
		line, row, err := t.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		t.ahead = append(t.ahead, record{text: bytes.Clone(line), row: row})
		size += len(line)
		object(&t.json, line, func(name string, _ jsontext.Value) {
			if len(t.header) < MaxColumns && !slices.Contains(t.header, name) {
				t.header = append(t.header, name)
			}
		})
	}
	if len(t.ahead) == 0 {
		return ErrEmpty
	}
	return nil
}

// Select says which columns Next gives, in which order; each is named once. It is called before Next. Its error is a
// *ColumnsError. After one Next gives the others of an NDJSON file: there later records may have what the first lack.
func (t *Reader) Select(columns ...string) error {
	t.members, t.selected = map[string]int{}, nil
	t.count = len(columns)
	var missing []string
	for i, name := range columns {
		at := slices.Index(t.header, name)
		if at < 0 || name == "" {
			missing = append(missing, name)
		}
		t.selected = append(t.selected, at)
		t.members[name] = i
	}
	if len(missing) > 0 {
		return &ColumnsError{Missing: missing, Found: len(columns) - len(missing), Have: slices.DeleteFunc(slices.Clone(t.header), func(n string) bool { return n == "" })}
	}
	return nil
}

// Next returns the next record that is not blank, or io.EOF. A record of nothing but empty cells is blank too:
// spreadsheets write many below their last row.
func (t *Reader) Next() (Row, error) {
	for {
		var line []byte
		var row Row
		if len(t.ahead) > 0 {
			line, row = t.ahead[0].text, t.ahead[0].row
			t.ahead[0] = record{}
			t.ahead = t.ahead[1:]
		} else {
			var err error
			if line, row, err = t.read(); err != nil {
				return Row{}, err
			}
		}
		if row.Fault == "" {
			var blank bool
			if row.Cells, row.Fault, blank = t.pick(line); blank {
				continue
			}
		}
		return row, nil
	}
}

// read returns the next record, decoded, that is not a blank line.
func (t *Reader) read() (line []byte, row Row, err error) {
	for {
		row = Row{Number: t.split.pos.Rows + 1, Line: t.split.pos.Lines + 1}
		rec, fault, err := t.split.next()
		if err != nil {
			return nil, Row{}, err
		}
		row.Fault, row.After = fault, t.split.pos
		if fault != "" {
			return nil, row, nil
		}
		if len(withoutLineEnd(rec)) == 0 {
			continue
		}
		if bytes.IndexByte(rec, 0) >= 0 {
			row.Fault = NULByte
			return nil, row, nil
		}
		if line, row.Fault, err = t.decode(rec); err != nil {
			return nil, Row{}, err
		}
		return line, row, nil
	}
}

// decode settles the encoding at the first character beyond ASCII, when the file's beginning had none.
func (t *Reader) decode(rec []byte) ([]byte, Fault, error) {
	if t.encoding == Detect {
		if isASCII(rec) {
			return rec, "", nil
		}
		if len(t.split.ahead()) < headSize {
			// rec lies in the buffer that is filled: what detection needs is put together first.
			rec = bytes.Clone(rec)
			if _, err := t.split.fill(); err != nil {
				return nil, "", err
			}
		}
		ahead := t.split.ahead()
		enc, err := detect(append(bytes.Clone(rec), ahead[:min(len(ahead), headSize)]...))
		if err != nil {
			return nil, "", err
		}
		t.encoding = enc
	}
	out, ok := toUTF8(rec, t.encoding)
	if !ok {
		return nil, Encoded, nil
	}
	return out, "", nil
}

// pick takes the selected cells out of a record.
func (t *Reader) pick(line []byte) (out []Cell, fault Fault, blank bool) {
	out = make([]Cell, t.count)
	if t.format == NDJSON {
		bad := Fault("")
		ok := object(&t.json, line, func(name string, value jsontext.Value) {
			i, asked := t.members[name]
			if !asked {
				return
			}
			cell, fine := cellOf(value)
			if !fine {
				bad = BadJSON
			} else if strings.IndexByte(cell.Text, 0) >= 0 {
				bad = NULByte
			}
			out[i] = cell
		})
		if !ok {
			bad = BadJSON
		}
		return out, bad, false
	}
	t.parts = cells(line, t.format.delimiter(), t.parts)
	if !slices.ContainsFunc(t.parts, func(c []byte) bool { return len(c) > 0 }) {
		return nil, "", true
	}
	if len(t.parts) != len(t.header) {
		return nil, Ragged, false
	}
	for i, at := range t.selected {
		out[i].Text = string(t.parts[at])
	}
	return out, "", false
}
