package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// exportCount counts the people of an export, and shows on a terminal how far it is.
type exportCount struct {
	People int64 // that are whole
	Failed int64 // that could not be read, or not as a whole
	codes  map[wire.Code]int64

	terminal io.Writer // nil: nothing is shown
	now      func() time.Time
	began    time.Time
	drawn    time.Time
}

func (p *program) exportCount(to exportTo) *exportCount {
	c := &exportCount{codes: map[wire.Code]int64{}, now: p.now, began: p.now()}
	if p.errTerminal && (to.out != "" || !p.outTerminal) { // a line would stand between the lines of the export
		c.terminal = p.err
	}
	return c
}

// add counts one person; err is what is missing.
func (c *exportCount) add(err *wire.ItemError) {
	if err == nil {
		c.People++
	} else {
		c.Failed++
		c.codes[err.Code]++
	}
	if c.terminal == nil {
		return
	}
	if now := c.now(); now.Sub(c.drawn) >= drawEvery {
		c.drawn = now
		elapsed := max(now.Sub(c.began), time.Millisecond)
		n := c.People + c.Failed
		_, _ = fmt.Fprintf(c.terminal, "\r\x1b[K%d people, %.0f/s", n, float64(n)/elapsed.Seconds())
	}
}

// end takes the line away.
func (c *exportCount) end() {
	if c.terminal != nil {
		_, _ = fmt.Fprint(c.terminal, "\r\x1b[K")
	}
}

// reasons are why people could not be read, the most frequent first.
func (c *exportCount) reasons() string {
	codes := slices.SortedFunc(maps.Keys(c.codes), func(a, b wire.Code) int {
		return cmp.Or(cmp.Compare(c.codes[b], c.codes[a]), cmp.Compare(a, b))
	})
	var out []string
	for _, code := range codes {
		out = append(out, fmt.Sprintf("%s %d", printable(string(code)), c.codes[code]))
	}
	return strings.Join(out, ", ")
}

// result turns the count of an export that is complete into an exit code.
func (c *exportCount) result() error { return partly(items(int(c.Failed), int(c.People+c.Failed))) }
