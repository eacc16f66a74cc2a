package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// ErrCut: an import's answer broke off. The rows that were answered are done; of the others some may be. Sending them
// again changes nothing of what is.
var ErrCut = errors.New("the answer broke off before its end")

const (
	importRoom = 256 << 10 // bytes of rows that wait to be sent
	importLine = 1 << 20   // longest line of an answer

	// importBreath is how long nothing is sent at most. net/http tells of a server that died before it answered only once
	// the body's next bytes cannot be written, and the server gives up a body that is silent for minutes. So a space goes
	// out, which means nothing in front of a row.
	importBreath = 5 * time.Second
)

// Import stores rows as PutSubject would, any number of them, and returns what became of each. It calls next for the
// rows, until io.EOF, and each with the outcomes, in the order of the rows: Line counts them from 1. A bad row is an
// outcome with an Error and ends nothing. next runs in a goroutine of its own, beside each; it is not called while the
// server takes no more, which is while each does not return, or the server has much to do.
//
// An error of next ends the input; the rows before it are still stored and told. An error of each, or ctx, ends the
// import at once. Any of them is returned. Where the server ends it there is an *Error, where the connection does ErrCut.
// The wire.ImportEnd tells how far it came in every case: Lines were answered, and Line is the first that was not when
// there is an error. Then next may be under way still; it is not called again.
func (c *Client) Import(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error, options ...Option) (wire.ImportEnd, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := with(request{method: http.MethodPost, path: "/v1/import"}, options)
	out := newOutbox()
	defer out.close()
	req, err := c.newRequest(ctx, r, out)
	if err != nil {
		return wire.ImportEnd{}, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	source := make(chan error, 1)
	go func() { source <- out.fill(next) }()
	end, err := c.importing(req, r, each)
	if err != nil {
		end.Line = end.Lines + 1
		return end, err
	}
	if !out.sent(end.OK + end.Failed) {
		end.Line = end.Lines + 1
		return end, errors.New("client: POST /v1/import: the server ended the import before the rows did")
	}
	if err := <-source; err != nil {
		end.Line = end.Lines + 1
		return end, err
	}
	return end, nil
}

// importing sends the request and reads its answer.
func (c *Client) importing(req *http.Request, r request, each func(wire.ImportResult) error) (end wire.ImportEnd, err error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return end, unreachable(r, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		raw, err := readAnswer(resp, c.maxAnswer)
		if err != nil {
			return end, fmt.Errorf("client: POST /v1/import: %w", err)
		}
		return end, problem(resp, raw)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, importLine)
	for lines.Scan() {
		var l importedLine
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			if lines.Err() != nil {
				break // the connection was cut within the line
			}
			return end, errors.New("client: POST /v1/import: the answer is not the documented JSON")
		}
		if l.End {
			return l.last(resp, end)
		}
		if l.Error == nil {
			end.OK++
		} else {
			end.Failed++
		}
		end.Lines = l.Line
		if err := each(l.result()); err != nil {
			return end, err
		}
	}
	if err := req.Context().Err(); err != nil {
		return end, err
	}
	err = ErrCut
	if cause := lines.Err(); cause != nil {
		err = fmt.Errorf("%w: %w", ErrCut, cause)
	}
	return end, fmt.Errorf("client: POST /v1/import: %d lines were answered: %w", end.Lines, err)
}

// importedLine is any line of the answer.
type importedLine struct {
	Line     int64                 `json:"line"`
	Subject  string                `json:"subject"`
	Created  bool                  `json:"created"`
	Tokens   map[string]wire.Plain `json:"tokens"`
	Warnings []wire.Warning        `json:"warnings"`
	Error    *wire.ItemError       `json:"error"`

	End    bool  `json:"end"`
	Lines  int64 `json:"lines"`
	OK     int64 `json:"ok"`
	Failed int64 `json:"failed"`
}

func (l *importedLine) result() wire.ImportResult {
	return wire.ImportResult{Line: l.Line, Subject: l.Subject, Created: l.Created, Tokens: l.Tokens, Warnings: l.Warnings, Error: l.Error}
}

// last reads the last line. The server's counts must be those of the lines that came: else some were lost on the way.
func (l *importedLine) last(resp *http.Response, seen wire.ImportEnd) (wire.ImportEnd, error) {
	if l.OK != seen.OK || l.Failed != seen.Failed {
		return seen, fmt.Errorf("client: POST /v1/import: %d lines were answered and not %d: %w", seen.OK+seen.Failed, l.OK+l.Failed, ErrCut)
	}
	end := wire.ImportEnd{End: true, Lines: l.Lines, OK: l.OK, Failed: l.Failed, Line: l.Line, Error: l.Error}
	if l.Error == nil {
		return end, nil
	}
	p := wire.Problem{Code: l.Error.Code, Detail: l.Error.Detail, RequestID: resp.Header.Get("X-Request-Id")}
	return end, fmt.Errorf("client: POST /v1/import: it ended at line %d: %w", l.Line, &Error{Problem: p})
}

// outbox holds rows on their way out. The transport takes what there is, so that rows travel together when they come fast
// and none waits for others when they come slowly; who fills it waits while it is full.
type outbox struct {
	mu     sync.Mutex
	moved  sync.Cond
	rows   bytes.Buffer
	count  int64 // of the rows that were put
	ended  bool  // no more rows come; stays false where it is the other side that ended
	closed bool  // nobody takes them
	breath bool  // nothing was taken for importBreath
}

func newOutbox() *outbox {
	o := new(outbox)
	o.moved.L = &o.mu
	return o
}

// fill writes rows until next ends or nobody takes them any more.
func (o *outbox) fill(next func() (wire.ImportRow, error)) error {
	for n := 1; o.room(); n++ {
		row, err := next()
		if err != nil {
			o.end()
			if err == io.EOF {
				return nil
			}
			return err
		}
		text, err := json.Marshal(row)
		if err != nil {
			o.end()
			return fmt.Errorf("client: row %d cannot be written as JSON; values must be UTF-8", n)
		}
		o.put(text)
	}
	return nil
}

// room waits until there is room, and reports whether anybody still takes rows.
func (o *outbox) room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.rows.Len() >= importRoom && !o.closed {
		o.moved.Wait()
	}
	return !o.closed
}

func (o *outbox) put(text []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rows.Write(text)
	o.rows.WriteByte('\n')
	o.count++
	o.moved.Broadcast()
}

func (o *outbox) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.moved.Broadcast()
}

// sent reports whether the input has come to its end and had n rows: so many answers are one for each.
func (o *outbox) sent(n int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended && o.count == n
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	clear(o.rows.Bytes())
	o.rows.Reset()
	o.moved.Broadcast()
}

// Read is for the transport.
func (o *outbox) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rows.Len() == 0 {
		o.breath = false
		timer := time.AfterFunc(importBreath, o.breathe)
		defer timer.Stop()
	}
	for o.rows.Len() == 0 && !o.ended && !o.closed && !o.breath {
		o.moved.Wait()
	}
	switch {
	case o.rows.Len() > 0:
	case o.ended || o.closed:
		return 0, io.EOF
	case len(p) > 0: // all rows were taken whole: this is the beginning of a line
		p[0] = ' '
		return 1, nil
	default:
		return 0, nil
	}
	n, err := o.rows.Read(p)
	o.moved.Broadcast()
	return n, err
}

func (o *outbox) breathe() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.breath = true
	o.moved.Broadcast()
}

// Close is for the transport: it takes no more.
func (o *outbox) Close() error {
	o.close()
	return nil
}
