package api

import (
	"context"
	"strconv"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// A chunk ends at any of these.
const (
	chunkLines   = 1000
	chunkBytes   = 1 << 20               // a further line may exceed it
	chunkSilence = 50 * time.Millisecond // in which no further line comes
)

// chunk is some lines of an import that go through the vault together.
type chunk struct {
	lines []line
	bytes int

	rows     []vault.PutRequest
	place    []int // of rows, among lines
	subjects map[string]bool
	parsed   chan struct{} // closed when the above are known

	answers []wire.ImportResult // of the first lines, as many as are done
	fault   error               // why the others are not
	done    chan struct{}       // closed when the above are known
}

// gather takes lines until a chunk is full, and reports whether there may be more.
func gather(ctx context.Context, incoming *lineQueue) (c *chunk, more bool) {
	c = &chunk{parsed: make(chan struct{}), done: make(chan struct{})}
	pause := time.NewTimer(chunkSilence)
	defer pause.Stop()
	var silence <-chan time.Time // a chunk without lines waits for as long as it takes
	for len(c.lines) < chunkLines && c.bytes < chunkBytes {
		select {
		case l, ok := <-incoming.lines:
			if !ok {
				return c, false
			}
			incoming.took(l)
			c.lines = append(c.lines, l)
			c.bytes += len(l.text)
			pause.Reset(chunkSilence)
			silence = pause.C
		case <-silence:
			return c, true
		case <-ctx.Done():
			return c, false
		}
	}
	return c, true
}

// parse reads the lines; a bad one gets its answer at once.
func (c *chunk) parse(recreate, same bool) []wire.ImportResult {
	defer close(c.parsed)
	answers := make([]wire.ImportResult, len(c.lines))
	c.subjects = make(map[string]bool, len(c.lines))
	for i, l := range c.lines {
		answers[i].Line = l.n
		var row wire.ImportRow
		err := parseRow(l, &row)
		c.lines[i].text = nil // its values stand in the row from here on
		if err != nil {
			answers[i].Error = malformedItem(err)
			continue
		}
		answers[i].Subject = row.Subject
		c.subjects[row.Subject] = true
		req := putRequest(row.Subject, row.Fields, recreate)
		req.SameSource = same
		c.rows, c.place = append(c.rows, req), append(c.place, i)
	}
	return answers
}

func parseRow(l line, row *wire.ImportRow) error {
	if l.text == nil {
		return malformed("the line is longer than " + strconv.Itoa(maxLine) + " bytes")
	}
	if err := decode(l.text, row); err != nil {
		return err
	}
	if row.Fields == nil {
		return malformed(noFields)
	}
	return nil
}

// do sends a chunk through the vault. One that has a subject in common with the chunk before waits until that is done, so
// that the later line of the two wins.
func (im *importing) do(ctx context.Context, c, before *chunk) {
	defer close(c.done)
	defer func() { c.lines, c.rows = nil, nil }() // the chunk waits to be answered, and is asked for its subjects
	defer func() {
		if p := recover(); p != nil {
			im.x.logPanic(p)
			c.answers, c.fault = nil, vault.ErrInternal
		}
	}()
	answers := c.parse(im.recreate, im.same)
	if before != nil {
		<-before.parsed
		if c.meets(before) {
			<-before.done
			if before.fault != nil {
				c.fault = before.fault
				return
			}
		}
	}
	for at := 0; ; {
		n := batch(c.rows[at:])
		out, err := im.x.s.vault.Import(ctx, im.call, c.rows[at:at+n])
		if err != nil {
			c.fault = err
			if at > 0 {
				c.answers = answers[:c.place[at]]
			}
			return
		}
		for i := range out {
			fill(&answers[c.place[at+i]], &out[i])
		}
		if at += n; at == len(c.rows) {
			c.answers = answers
			return
		}
	}
}

// meets reports whether a subject is in both chunks.
func (c *chunk) meets(other *chunk) bool {
	for id := range c.subjects {
		if other.subjects[id] {
			return true
		}
	}
	return false
}

// batch is how many of the rows the vault takes at once.
func batch(rows []vault.PutRequest) int {
	fields := 0
	for i := range rows {
		if fields += max(1, len(rows[i].Fields)); fields > vault.MaxImportFields {
			return i
		}
	}
	return len(rows)
}

func fill(to *wire.ImportResult, from *vault.ImportResult) {
	if e := from.Err; e != nil {
		to.Error = itemError(e)
		if e.Is(vault.ErrSubjectID) || e.Is(vault.ErrIdentifyingSubject) {
			to.Subject = "" // it may be a value in the wrong place
		}
		return
	}
	to.Created, to.Warnings = from.Created, warnings(from.Warnings)
	to.Tokens = tokensByField(from.Tokens)
}
