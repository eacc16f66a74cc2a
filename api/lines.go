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

	"golang.org/x/sync/semaphore"
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

// lineQueue holds lines between their reader and whoever makes chunks of them. It is bounded by bytes and by number: many
// short lines wait there while the vault is busy, and few long ones.
type lineQueue struct {
	lines chan line // closed at the end
	room  *semaphore.Weighted
}

const (
	queuedLines = 64
	queuedBytes = 1 << 20
)

func newLineQueue() *lineQueue {
	return &lineQueue{make(chan line, queuedLines), semaphore.NewWeighted(queuedBytes)}
}

// put waits for room. It fails when ctx ends before.
func (q *lineQueue) put(ctx context.Context, l line) error {
	if err := q.room.Acquire(ctx, l.weight()); err != nil {
		return err
	}
	select {
	case q.lines <- l:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// took is called with each line that was taken out.
func (q *lineQueue) took(l line) { q.room.Release(l.weight()) }

// weight is at most queuedBytes, so that a line of any length has a place.
func (l line) weight() int64 { return int64(min(cap(l.text), queuedBytes)) }

// feed sends the lines of a body until it ends or nobody wants more; what comes then is thrown away, so that the caller
// gets to read why. It returns what ended the body, nil at its proper end.
func feed(ctx context.Context, in *lines, to *lineQueue) error {
	defer close(to.lines)
	for {
		l, err := in.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if to.put(ctx, l) != nil {
			_, err := io.Copy(io.Discard, in.in)
			return err
		}
	}
}
