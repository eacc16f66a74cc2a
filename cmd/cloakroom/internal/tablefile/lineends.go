package tablefile

import (
	"bytes"
	"errors"
	"io"
)

var errReturns = errors.New("the line ends are CR alone (old Mac); save it with LF or CR LF")

// checkLineEnds refuses a file in which CR alone ends the first line: all of it would be one header. Within a quoted cell
// a CR is text. A CR that is the last byte proves nothing.
func checkLineEnds(head []byte, f Format, enc Encoding) error {
	if isUTF16(enc) {
		head, _ = io.ReadAll(decoded(bytes.NewReader(head), enc)) // its last character may be cut
	}
	inQuotes, before := false, f.delimiter()
	for i, c := range head {
		switch {
		case c == '"' && f != NDJSON && (inQuotes || before == '"' || before == f.delimiter()):
			inQuotes = !inQuotes
		case inQuotes:
		case c == '\n':
			return nil
		case c == '\r' && i+1 < len(head) && endsLine(head[i+1], f):
			return errReturns
		}
		before = c
	}
	return nil
}

// endsLine tells whether a CR before next ends a line. In JSON it may be white space.
func endsLine(next byte, f Format) bool {
	if f == NDJSON {
		return next == '{'
	}
	return next != '\n'
}

// checkSeparator looks at a header that is a single cell for what separates its names instead.
func checkSeparator(header []byte, f Format) error {
	outside := map[byte]int{}
	inQuotes := false
	for _, c := range header {
		if c == '"' {
			inQuotes = !inQuotes
		} else if !inQuotes {
			outside[c]++
		}
	}
	semicolons, tabs, commas := outside[';'], outside['\t'], outside[',']
	switch {
	case outside[f.delimiter()] > 0:
	case f == CSV && tabs > 0 && tabs >= semicolons:
		return errors.New("the first line is a single cell, and the separator looks like a tab; give --format tsv")
	case f == TSV && commas > 0 && commas >= semicolons:
		return errors.New("the first line is a single cell, and the separator looks like a comma; give --format csv")
	case semicolons > 0:
		return errors.New("the first line is a single cell, and the separator looks like \";\"; save it with commas, or as text with tabs (--format tsv)")
	}
	return nil
}
