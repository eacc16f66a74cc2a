package tablefile

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
)

// MaxRecord is the most bytes that a record may have, its line end included.
const MaxRecord = 1 << 20

// Position is a place between two records.
type Position struct {
	Rows   int64  `json:"rows"`   // records before it, the header and blank lines among them
	Lines  int64  `json:"lines"`  // line ends before it
	Offset int64  `json:"offset"` // bytes of the file before it
	Sum    uint64 `json:"sum"`    // CRC-64 (ECMA-182) of these bytes, without a mark and, for UTF-16, as UTF-8
}

// splitter cuts a stream into records. Its buffer grows to MaxRecord and no further.
type splitter struct {
	r          io.Reader
	quotes     bool // quoted cells may hold line ends
	strict     bool // a quote inside an unquoted cell is a fault
	delimiter  byte
	width      func([]byte) int64
	table      *crc64.Table
	buf        []byte
	start, end int
	eof        bool
	pos        Position
}

const firstBuffer = 128 << 10

func newSplitter(r io.Reader, f Format, enc Encoding, at Position) *splitter {
	return &splitter{
		r: r, quotes: f != NDJSON, strict: f == CSV, delimiter: f.delimiter(), width: widthOf(enc),
		table: crc64.MakeTable(crc64.ECMA), buf: make([]byte, firstBuffer), pos: at,
	}
}

// fill reads more. It reports false when there is no more, or no room.
func (s *splitter) fill() (bool, error) {
	if s.eof {
		return false, nil
	}
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if s.end == len(s.buf) {
		if len(s.buf) >= MaxRecord {
			return false, nil
		}
		s.buf = append(s.buf, make([]byte, min(len(s.buf), MaxRecord-len(s.buf)))...)
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		switch {
		case errors.Is(err, io.EOF):
			s.eof = true
			return n > 0, nil
		case err != nil:
			return false, fmt.Errorf("reading: %w", err)
		case n > 0:
			return true, nil
		}
	}
	return false, io.ErrNoProgress
}

// take ends the record after n bytes. What it returns stands until the next call.
func (s *splitter) take(n int) []byte {
	rec := s.buf[s.start : s.start+n]
	s.start += n
	s.count(rec)
	s.pos.Rows++
	return rec
}

func (s *splitter) count(b []byte) {
	s.pos.Lines += int64(bytes.Count(b, []byte{'\n'}))
	s.pos.Offset += s.width(b)
	s.pos.Sum = crc64.Update(s.pos.Sum, s.table, b)
}

// next returns the next record with its line end, or io.EOF. Of a record with a fault only the first line is taken,
// so that a quote which is never closed costs one row and not all that follow.
func (s *splitter) next() ([]byte, Fault, error) {
	scan := recordScan{splitter: s}
	for i := 0; ; {
		for ; s.start+i < s.end; i++ {
			if scan.ends(i, s.buf[s.start+i]) {
				if scan.fault != "" {
					return s.take(scan.firstLine), scan.fault, nil
				}
				return s.take(i + 1), "", nil
			}
		}
		more, err := s.fill()
		switch {
		case err != nil:
			return nil, "", err
		case more:
			continue
		case !s.eof:
			return s.overlong(scan)
		case s.start == s.end:
			return nil, "", io.EOF
		case scan.state == quoted && scan.firstLine > 0:
			return s.take(scan.firstLine), Quote, nil
		case scan.state == quoted || scan.fault != "":
			return s.take(s.end - s.start), Quote, nil
		default:
			return s.take(s.end - s.start), "", nil
		}
	}
}

// overlong passes over what does not fit: to the end of the first line when a quote swallowed the others, else to the
// next line end, none of it kept.
func (s *splitter) overlong(scan recordScan) ([]byte, Fault, error) {
	if scan.firstLine > 0 {
		return s.take(scan.firstLine), Quote, nil
	}
	s.pos.Rows++
	for {
		if i := bytes.IndexByte(s.buf[s.start:s.end], '\n'); i >= 0 {
			s.count(s.buf[s.start : s.start+i+1])
			s.start += i + 1
			return nil, TooLong, nil
		}
		s.count(s.buf[s.start:s.end])
		s.start, s.end = 0, 0
		more, err := s.fill()
		if err != nil {
			return nil, "", err
		}
		if !more {
			return nil, TooLong, nil
		}
	}
}

// ahead returns what is read already behind the last record, at least a little when there is more.
func (s *splitter) ahead() []byte { return s.buf[s.start:s.end] }

type scanState uint8

const (
	cellStart scanState = iota
	plain
	quoted
	afterQuote  // in a quoted cell, behind a quote: doubled, or the cell's end
	afterReturn // behind the CR that follows a quoted cell
)

// recordScan follows the quotes of one record.
type recordScan struct {
	*splitter
	state     scanState
	fault     Fault
	firstLine int // length of the record's first line with its end; 0 = its end was not seen yet
}

// ends looks at byte i of the record and reports whether the record ends there.
func (s *recordScan) ends(i int, c byte) bool {
	if c == '\n' && s.firstLine == 0 {
		s.firstLine = i + 1
	}
	if !s.quotes {
		return c == '\n'
	}
	if s.fault != "" {
		return s.firstLine > 0
	}
	switch s.state {
	case cellStart:
		switch c {
		case '"':
			s.state = quoted
		case s.delimiter:
		case '\n':
			return true
		default:
			s.state = plain
		}
	case plain:
		switch c {
		case s.delimiter:
			s.state = cellStart
		case '\n':
			return true
		case '"':
			return s.strict && s.stray()
		}
	case quoted:
		if c == '"' {
			s.state = afterQuote
		}
	case afterQuote:
		switch c {
		case '"':
			s.state = quoted
		case s.delimiter:
			s.state = cellStart
		case '\n':
			return true
		case '\r':
			s.state = afterReturn
		default:
			return s.stray()
		}
	case afterReturn:
		return c == '\n' || s.stray()
	}
	return false
}

// stray notes a quote that stands where none may. The record ends at its first line's end, which may be behind.
func (s *recordScan) stray() bool {
	s.fault = Quote
	return s.firstLine > 0
}
