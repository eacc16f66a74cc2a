package tablefile

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Writer writes records, UTF-8 with LF line ends, whatever the input had.
type Writer struct {
	format  Format
	columns []string
	out     *bufio.Writer
	quoted  string            // characters that make a cell quoted
	double  *strings.Replacer // of quotes
	json    *jsontext.Encoder // nil: CSV or TSV
	cells   []string
}

// NewWriter makes a writer for records of these columns. It writes nothing yet.
func NewWriter(w io.Writer, f Format, columns []string) *Writer {
	t := &Writer{format: f, columns: columns, out: bufio.NewWriterSize(w, 64<<10), cells: make([]string, len(columns))}
	if f == NDJSON {
		t.json = jsontext.NewEncoder(t.out)
		return t
	}
	t.quoted, t.double = "\"\t\r\n", strings.NewReplacer(`"`, `""`)
	if f == CSV {
		// A spreadsheet may be set to semicolons: then what follows one in a cell would be a cell, and could be a formula.
		t.quoted += ",;"
	}
	return t
}

// Header writes the names of the columns, where the format has such a line.
func (t *Writer) Header() error {
	if t.format == NDJSON {
		return nil
	}
	for i, name := range t.columns {
		t.cells[i] = Defuse(name)
	}
	return t.line()
}

// Write writes one record, a cell for each column. In CSV and TSV every cell is defused; in NDJSON a cell that came
// from NDJSON is written as it was there, and one without a value is left out.
func (t *Writer) Write(record []Cell) error {
	if len(record) != len(t.columns) {
		return errors.New("a record has another number of cells than there are columns")
	}
	if t.format == NDJSON {
		return t.object(record)
	}
	for i, c := range record {
		t.cells[i] = Defuse(c.Text)
	}
	return t.line()
}

// line writes the cells as RFC 4180 has them, with LF at the end.
func (t *Writer) line() error {
	for i, cell := range t.cells {
		if i > 0 {
			_ = t.out.WriteByte(t.format.delimiter()) // an error of bufio stays and is that of the last write
		}
		if strings.ContainsAny(cell, t.quoted) || strings.HasPrefix(cell, " ") {
			_ = t.out.WriteByte('"')
			_, _ = t.double.WriteString(t.out, cell)
			_ = t.out.WriteByte('"')
		} else {
			_, _ = t.out.WriteString(cell)
		}
	}
	return t.out.WriteByte('\n')
}

func (t *Writer) object(record []Cell) error {
	if err := t.json.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for i, c := range record {
		if c == (Cell{}) {
			continue
		}
		err := t.json.WriteToken(jsontext.String(t.columns[i]))
		if err == nil && c.JSON != "" {
			err = t.json.WriteValue(jsontext.Value(c.JSON))
		} else if err == nil {
			err = t.json.WriteToken(jsontext.String(c.Text))
		}
		if err != nil {
			// What the encoder says may quote the value.
			return errors.New("a record cannot be written as JSON")
		}
	}
	return t.json.WriteToken(jsontext.EndObject)
}

// Flush hands everything to the file.
func (t *Writer) Flush() error {
	return t.out.Flush()
}
