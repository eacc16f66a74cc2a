package tablefile

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Writer writes records, UTF-8 with LF line ends, whatever the input had.
type Writer struct {
	format  Format
	columns []string
	out     *bufio.Writer
	csv     *csv.Writer // writes to out
	json    *jsontext.Encoder
	cells   []string
}

// NewWriter makes a writer for records of these columns. It writes nothing yet.
func NewWriter(w io.Writer, f Format, columns []string) *Writer {
	t := &Writer{format: f, columns: columns, out: bufio.NewWriterSize(w, 64<<10), cells: make([]string, len(columns))}
	if f == NDJSON {
		t.json = jsontext.NewEncoder(t.out)
		return t
	}
	t.csv = csv.NewWriter(t.out)
	t.csv.Comma = rune(f.delimiter())
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
	return t.csv.Write(t.cells)
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
	return t.csv.Write(t.cells)
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
	if t.csv != nil {
		t.csv.Flush()
		if err := t.csv.Error(); err != nil {
			return err
		}
	}
	return t.out.Flush()
}
