package wire

// ImportRow is one line of the body of POST /v1/import: what PutSubject is for one subject.
type ImportRow struct {
	Subject string `json:"subject"`
	Fields  Fields `json:"fields"`
}

// ImportResult is one line of its answer: what the row became, or Error.
type ImportResult struct {
	Line     int64            `json:"line"`             // from 1, blank lines counted
	Subject  string           `json:"subject,omitzero"` // "" where the line could not be read, or holds no valid id
	Created  bool             `json:"created,omitzero"` // the subject is new
	Tokens   map[string]Plain `json:"tokens,omitempty"` // by field
	Warnings []Warning        `json:"warnings,omitempty"`
	Error    *ItemError       `json:"error,omitzero"`
}

// ImportEnd is the last line of its answer. An answer without one was cut.
type ImportEnd struct {
	End    bool       `json:"end"`            // true
	Lines  int64      `json:"lines"`          // that were read, blank ones counted; with Error, those before Line
	OK     int64      `json:"ok"`             // rows that were stored
	Failed int64      `json:"failed"`         // rows that were not
	Line   int64      `json:"line,omitzero"`  // with Error: the first line that was not done
	Error  *ItemError `json:"error,omitzero"` // why the import ended before the body did
}
