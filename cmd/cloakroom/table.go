package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/rivo/uniseg"
)

// table prints rows in columns. text/tabwriter counts a hanzi as one cell, so columns after a name would not line up.
type table struct {
	rows [][]string
}

func newTable(header ...string) *table { return &table{rows: [][]string{header}} }

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(w io.Writer) error {
	var widths []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], uniseg.StringWidth(c))
		}
	}
	var b strings.Builder
	for _, r := range t.rows {
		if len(r) == 0 {
			continue
		}
		last := len(r) - 1
		for last > 0 && r[last] == "" {
			last--
		}
		for i, c := range r[:last+1] {
			b.WriteString(c)
			if i < last {
				b.WriteString(strings.Repeat(" ", widths[i]-uniseg.StringWidth(c)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable writes control and format characters as Go escapes: a value must not move the cursor or turn the writing
// direction of a terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			q := fmt.Sprintf("%q", r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// clock shows a time to the second, in UTC.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// print shows v as JSON with --json, else what human makes of it.
func (p *program) print(v any, human func() *table) error {
	if p.json {
		return p.printJSON(v)
	}
	return human().write(p.out)
}

// printJSON writes one value: indented for people on a terminal, one line for programs.
func (p *program) printJSON(v any) error {
	options := []json.Options{json.Deterministic(true)}
	if p.outTerminal {
		options = append(options, jsontext.WithIndent("  "))
	}
	out, err := json.Marshal(v, options...)
	if err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	_, err = p.out.Write(append(out, '\n'))
	return err
}
