package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

// importStream stores rows: it takes them from next until io.EOF and calls each with their results, in the same order.
type importStream func(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error)

// importRun is one run of an import. Its parts work side by side: one reads rows, one sends them, one writes what became
// of them in the order of the input, and one watches that the server is there. Rows under way are bounded by number and by size.
type importRun struct {
	rows  *tableRows
	files *importFiles
	store importStream
	watch *importWatch
	bar   *importBar
	fresh bool // the outputs were made by this run

	encoding tablefile.Encoding // of the rows written, as far as it is known

	room    *semaphore.Weighted
	pending chan tableRow       // read, in the order of the input
	send    chan wire.ImportRow // of these, the ones for the server
	results chan wire.ImportResult
	broken  error // why reading ended before the end of the input; read after send is closed
}

const (
	pendingRows  = 4096
	pendingBytes = 16 << 20
	// checkpointEvery bounds what has to be sent again after a crash.
	checkpointEvery = time.Second
	drawEvery       = 200 * time.Millisecond
)

// run works to the end of the input or to the first failure. files then say how far it came.
func (r *importRun) run(ctx context.Context) error {
	r.room = semaphore.NewWeighted(pendingBytes)
	r.pending = make(chan tableRow, pendingRows)
	r.send = make(chan wire.ImportRow)
	r.results = make(chan wire.ImportResult)
	g, ctx := errgroup.WithContext(ctx)
	// Not part of the group: a read of standard input cannot be interrupted, and nobody waits for it.
	go r.read(ctx)
	g.Go(func() error { return r.write(ctx) })
	ended := make(chan struct{})
	g.Go(func() error { return r.watch.run(ctx, ended) })
	g.Go(func() error {
		defer close(ended)
		end, err := r.store(ctx, func() (wire.ImportRow, error) { return r.next(ctx) }, func(result wire.ImportResult) error {
			select {
			case r.results <- result:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			return err
		}
		if end.Error != nil {
			return itemError{*end.Error}
		}
		close(r.results)
		return nil
	})
	return g.Wait()
}

// read goes through the input.
func (r *importRun) read(ctx context.Context) {
	defer close(r.send)
	defer close(r.pending)
	for {
		row, err := r.rows.next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			row.size = min(row.size, pendingBytes)
			err = r.room.Acquire(ctx, row.size)
		}
		if err != nil {
			r.broken = err
			return
		}
		select {
		case r.pending <- row:
		case <-ctx.Done():
			r.broken = ctx.Err()
			return
		}
		if row.fault != nil {
			continue
		}
		select {
		case r.send <- row.message(r.rows.plan):
		case <-ctx.Done():
			r.broken = ctx.Err()
			return
		}
	}
}

// next is the row to send.
func (r *importRun) next(ctx context.Context) (wire.ImportRow, error) {
	select {
	case row, ok := <-r.send:
		switch {
		case ok:
			return row, nil
		case r.broken != nil:
			return wire.ImportRow{}, fmt.Errorf("reading the input: %w", r.broken)
		}
		return wire.ImportRow{}, io.EOF
	case <-ctx.Done():
		return wire.ImportRow{}, ctx.Err()
	}
}

var errUnanswered = errors.New("the server ended the import without an answer for each row")

// write joins rows and results, and makes them safe now and then.
func (r *importRun) write(ctx context.Context) error {
	safe, draw := time.NewTicker(checkpointEvery), time.NewTicker(drawEvery)
	defer safe.Stop()
	defer draw.Stop()
	var head *tableRow // sent, and not answered yet
	var saved int64
	for {
		rows, results := r.pending, r.results
		if head == nil {
			results = nil
		} else {
			rows = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-draw.C:
			r.bar.show(r.files.state)
		case <-safe.C:
			if n := r.files.state.Next.Rows; n != saved {
				if err := r.files.checkpoint(); err != nil {
					return err
				}
				saved = n
			}
		case row, ok := <-rows:
			if !ok {
				return r.noMore(ctx)
			}
			r.encoding = row.encoding
			if row.fault == nil {
				head = &row
				r.watch.begins()
				continue
			}
			if err := r.files.fail(row, *row.fault); err != nil {
				return err
			}
			r.room.Release(row.size)
		case result, ok := <-results:
			if !ok {
				return errUnanswered
			}
			if err := r.answered(*head, result); err != nil {
				return err
			}
			r.room.Release(head.size)
			r.watch.answered()
			head = nil
		}
	}
}

// noMore waits for the end of the stream: a result that no row asked for is a fault.
func (r *importRun) noMore(ctx context.Context) error {
	select {
	case _, more := <-r.results:
		if more {
			return errors.New("the server answered more rows than it was sent")
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answered writes what the server said of a row.
func (r *importRun) answered(row tableRow, result wire.ImportResult) error {
	if e := result.Error; e != nil {
		if e.Code == wire.UnknownField {
			// It would be the same for every row.
			return r.unknownField(e.Field)
		}
		r.files.answered = true
		return r.files.fail(row, rowFault{e.Field, e.Code, e.Rule, e.Detail})
	}
	if result.Subject != row.subject.Text {
		return errors.New("the server answered for another subject than it was asked")
	}
	tokens := make([]string, len(row.values))
	for i, f := range r.rows.plan.Fields {
		tokens[i] = string(result.Tokens[f.Field])
		if row.values[i] != "" && tokens[i] == "" {
			return errors.New("the server gave no token for field " + printable(f.Field))
		}
		if row.values[i] == "" {
			tokens[i] = ""
		}
	}
	r.files.answered = true
	return r.files.store(row, tokens, len(result.Warnings))
}

// unknownField says which field of --map the policy lacks. The server does not repeat a name that has not the form of one.
func (r *importRun) unknownField(name string) error {
	if name != "" {
		return fmt.Errorf("the policy has no field %s; set --map right, or add the field", printable(name))
	}
	var asked []string
	for _, f := range r.rows.plan.Fields {
		asked = append(asked, printable(f.Field))
	}
	return fmt.Errorf("the policy has not all of the fields %s; set --map right (a field's name has a-z, 0-9 and _), or add the field", strings.Join(asked, ", "))
}
