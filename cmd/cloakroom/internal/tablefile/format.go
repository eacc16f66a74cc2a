package tablefile

import (
	"path/filepath"
	"strings"
)

// Format is how a file holds its rows.
type Format string

const (
	// CSV is RFC 4180: commas, quoted cells may hold line ends, the first record names the columns.
	CSV Format = "csv"
	// TSV is CSV with tabs, as spreadsheets write it. A quote inside a cell that does not begin with one is itself.
	TSV Format = "tsv"
	// NDJSON is one JSON object a line; its members are the columns.
	NDJSON Format = "ndjson"
)

// ParseFormat reads a format's name.
func ParseFormat(name string) (Format, bool) {
	switch f := Format(strings.ToLower(name)); f {
	case CSV, TSV, NDJSON:
		return f, true
	case "jsonl":
		return NDJSON, true
	}
	return "", false
}

// FormatOf tells a file's format by the end of its name. Spreadsheets call their tab-separated text .txt.
func FormatOf(path string) (Format, bool) {
	ext := strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), ".")
	if ext == "txt" || ext == "tab" {
		return TSV, true
	}
	return ParseFormat(ext)
}

func (f Format) delimiter() byte {
	if f == TSV {
		return '\t'
	}
	return ','
}
