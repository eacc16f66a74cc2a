package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	maxLine    = 1 << 20 // bytes, its end not counted
	lineBuffer = 64 << 10
)

// line is one line of a streamed body.
type line struct {
	n    int64  // from 1
	text []byte // without its end; nil when it is longer than maxLine
}

// lines cuts a body into lines. What goes beyond the limit of one is read and dropped.
type lines struct {
	in   *bufio.Reader
	last int64 // number of the last line
}

func newLines(r io.Reader) *lines { return &lines{in: bufio.NewReaderSize(r, lineBuffer)} }

// next returns the next line that is not blank. io.EOF stands alone; a line that another error cuts is dropped.
func (l *lines) next() (line, error) {
	for {
		text, tooLong, err := l.read()
		if err != nil && (err != io.EOF || len(text) == 0 && !tooLong) {
			return line{}, err
		}
		l.last++
		if tooLong {
			return line{n: l.last}, nil
		}
		if len(bytes.Trim(text, " \t\r")) > 0 {
			return line{l.last, text}, nil
		}
	}
}

// read takes everything up to the end of a line or of the body.
func (l *lines) read() (text []byte, tooLong bool, err error) {
	for {
		part, err := l.in.ReadSlice('\n')
		ended := err == nil
		if ended {
			part = part[:len(part)-1]
		}
		if tooLong = tooLong || len(text)+len(part) > maxLine; tooLong {
			text = nil
		} else {
			text = append(text, part...)
		}
		if ended || !errors.Is(err, bufio.ErrBufferFull) {
			return text, tooLong, err
		}
	}
}

// pacedBody gives each read its own time, so that a body may take as long as it likes as long as it goes on. Between reads
// there is no limit: then it is the server that lets the caller wait.
type pacedBody struct {
	body    io.Reader
	control *http.ResponseController
	silence time.Duration

	mu  sync.Mutex
	end time.Time // of all reading; zero: none is set
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.limit(time.Now().Add(b.silence))
	n, err := b.body.Read(p)
	b.limit(time.Time{})
	return n, err
}

func (b *pacedBody) limit(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end.IsZero() {
		_ = b.control.SetReadDeadline(t) // fails where the body is no connection's, and nothing can be slow
	}
}

// endBy ends a read that is under way and all later ones at t.
func (b *pacedBody) endBy(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = t
	_ = b.control.SetReadDeadline(t)
}

// feed sends the lines of a body until it ends or nobody wants more; what comes then is thrown away, so that the caller
// gets to read why. It returns what ended the body, nil at its proper end.
func feed(ctx context.Context, in *lines, to chan<- line) error {
	defer close(to)
	for {
		l, err := in.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case to <- l:
		case <-ctx.Done():
			_, err := io.Copy(io.Discard, in.in)
			return err
		}
	}
}
