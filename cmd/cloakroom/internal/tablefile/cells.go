package tablefile

import "bytes"

// Cell is one cell of a record. Its text is a person's data: print it nowhere.
type Cell struct {
	Text string
	// JSON is the value as an NDJSON file wrote it, "" in other formats and where a record has no such member.
	JSON string
}

// Nested reports whether the cell is a list or an object, which only NDJSON has.
func (c Cell) Nested() bool { return c.JSON != "" && (c.JSON[0] == '{' || c.JSON[0] == '[') }

// cells splits a record whose quotes were found right. The cells are parts of rec, which is overwritten where a doubled
// quote becomes one; into is reused.
func cells(rec []byte, delimiter byte, into [][]byte) [][]byte {
	into = into[:0]
	rec = withoutLineEnd(rec)
	for {
		var cell []byte
		if len(rec) > 0 && rec[0] == '"' {
			cell, rec = unquote(rec)
		} else if i := bytes.IndexByte(rec, delimiter); i >= 0 {
			cell, rec = rec[:i], rec[i:]
		} else {
			cell, rec = rec, nil
		}
		into = append(into, cell)
		if len(rec) == 0 {
			return into
		}
		rec = rec[1:]
	}
}

// unquote takes a quoted cell off rec.
func unquote(rec []byte) (cell, rest []byte) {
	n := 0 // length of the cell, which moves to the front of rec
	for i := 1; i < len(rec); i++ {
		if rec[i] == '"' {
			if i++; i == len(rec) || rec[i] != '"' {
				return rec[:n], rec[i:]
			}
		}
		rec[n] = rec[i]
		n++
	}
	return rec[:n], nil
}

// withoutLineEnd takes LF, CR LF, or the CR that an end of file cut off.
func withoutLineEnd(rec []byte) []byte {
	rec = bytes.TrimSuffix(rec, []byte{'\n'})
	return bytes.TrimSuffix(rec, []byte{'\r'})
}
