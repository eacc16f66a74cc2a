package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// errEnd ends readSegment early.
var errEnd = errors.New("end")

// readSegment verifies the lines of r as the continuation of c, up to its end, and hands each entry to fn (nil for
// none). It returns the offset behind the last line that fits. Errors: CorruptError (of a torn line with errTorn
// in its chain), those of r, of ctx and of fn.
func readSegment(ctx context.Context, r io.Reader, name string, c *chain, fn func(entry) error) (int64, error) {
	l := newLines(r)
	for n := 0; ; n++ {
		if n&0xff == 0 {
			if err := ctx.Err(); err != nil {
				return l.Start, err
			}
		}
		line, err := l.next()
		switch {
		case err == io.EOF:
			return l.Start, nil
		case errors.Is(err, errTorn):
			return l.Start, errors.Join(&CorruptError{name, c.head.Size, "torn"}, errTorn)
		case errors.Is(err, errSyntax):
			return l.Start, &CorruptError{name, c.head.Size, err.Error()}
		case err != nil:
			return l.Start, err
		}
		e, err := c.verify(line)
		if err != nil {
			return l.Start, &CorruptError{name, c.head.Size, err.Error()}
		}
		if fn != nil {
			if err := fn(e); err != nil {
				return l.Start, err
			}
		}
	}
}

// Scan calls fn with each durable entry from index from on, up to those that are durable when Scan begins. An error of
// fn ends it and is returned. What it reads is verified as part of its segment; damage is a CorruptError.
func (l *Log) Scan(ctx context.Context, from uint64, fn func(Record) error) error {
	l.mu.RLock()
	size, segments := l.head.Size, l.segments
	l.mu.RUnlock()
	if from >= size {
		return ctx.Err()
	}
	i := sort.Search(len(segments), func(i int) bool { return segments[i].first > from }) - 1
	start := Head{0, genesis(l.signer.Name())}
	if i > 0 {
		var err error
		if start, err = endOf(l.dir, segments[i-1]); err != nil {
			return fmt.Errorf("audit: %s: %w", segments[i-1].name, err)
		}
	}
	c := newChain(start)
	for ; i < len(segments); i++ {
		err := l.scanSegment(ctx, segments[i], c, func(e entry) error {
			if e.index >= from {
				if err := fn(Record{e.index, e.event}); err != nil {
					return err
				}
			}
			if e.index == size-1 {
				return errEnd
			}
			return nil
		})
		if errors.Is(err, errEnd) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return &CorruptError{segments[len(segments)-1].name, c.head.Size, "missing"}
}

func (l *Log) scanSegment(ctx context.Context, s segment, c *chain, fn func(entry) error) error {
	file, err := os.Open(l.path(s))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer file.Close()
	_, err = readSegment(ctx, file, s.name, c, fn)
	return err
}
