package sqltable

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// definitions keeps the definition of each column that is NOT NULL, as the server writes it, but for that and its
// default: MODIFY COLUMN forgets what it is not told again.
func (m *mySQL) definitions(ctx context.Context, c conn, f *found) error {
	if !slices.ContainsFunc(f.columns, func(x column) bool { return x.notNull }) {
		return nil
	}
	var table, create string
	err := c.query(ctx, "SHOW CREATE TABLE "+quoteMySQL(f.schema)+"."+quoteMySQL(f.table), nil,
		func(scan func(...any) error) error { return scan(&table, &create) })
	if err != nil {
		return err
	}
	for i := range f.columns {
		x := &f.columns[i]
		if !x.notNull {
			continue
		}
		for line := range strings.Lines(create) {
			if definition, ok := strings.CutPrefix(strings.TrimRight(line, ",\n"), "  "+quoteMySQL(x.name)+" "); ok {
				if definition, ok = nullable(definition); ok {
					x.alter = quoteMySQL(x.name) + " " + definition
				}
				break
			}
		}
		if x.alter == "" {
			return fmt.Errorf("%w: the definition of %s was not understood; let it be NULL, without a default, by hand first", ErrColumn, x.name)
		}
	}
	return nil
}

// nullable rewrites the definition of a column that is NOT NULL: it may be NULL, and has no default.
func nullable(definition string) (string, bool) {
	words, ok := clauses(definition)
	var out []string
	loose := false
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch {
		case words[i] == "NOT" && next == "NULL":
			out, loose = append(out, "NULL"), true
			i++
		case words[i] == "DEFAULT" && next != "":
			i++
		default:
			out = append(out, words[i])
		}
	}
	return strings.Join(out, " "), ok && loose
}

// clauses splits a definition at its blanks. What stands in quotes or in parentheses is whole. It is not ok when one of
// them is not closed.
func clauses(definition string) (words []string, ok bool) {
	depth, begin := 0, 0
	for i := 0; i < len(definition); i++ {
		switch b := definition[i]; {
		case b == '\'' || b == '`' || b == '"':
			for i++; i < len(definition) && definition[i] != b; i++ {
				if definition[i] == '\\' && b != '`' {
					i++
				}
			}
			if i >= len(definition) {
				return nil, false
			}
		case b == '(':
			depth++
		case b == ')':
			depth--
		case b == ' ' && depth == 0:
			if i > begin {
				words = append(words, definition[begin:i])
			}
			begin = i + 1
		}
	}
	if begin < len(definition) {
		words = append(words, definition[begin:])
	}
	return words, depth == 0
}
