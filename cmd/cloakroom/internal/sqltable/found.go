package sqltable

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxBatch = 10_000 // rows at a time
	maxCols  = 64
	maxName  = 256 // bytes of a name, before the database is asked
	// minToken is how long a token column has to be: "tok_", 32 of a field's name, "_", 28 of base62.
	minToken = 65
)

type kind int

const (
	other kind = iota
	integer
	text
	uuid
)

// found is what the database says about a table.
type found struct {
	schema  string
	table   string
	key     column
	index   string // of the key
	columns []column
	tokens  []column // in the order of columns; name only where exists is false
	notes   []string
	missing []Lack

	converts bool // PostgreSQL: the database's texts are not UTF-8
}

// column is what the database says about a column.
type column struct {
	name     string
	exists   bool
	kind     kind
	typ      string // as people write it
	cast     string // as SQL has it: PostgreSQL's base type, MySQL's charset and collation
	collate  string
	length   int64 // of texts, in characters; 0: no limit that matters
	notNull  bool
	computed bool   // generated
	dflt     bool   // has a default that is not NULL
	numbered bool   // the database makes its values, one by one
	indexed  bool   // MySQL: is in an index, so that a foreign key may refer to it
	unsigned bool   // MySQL
	alter    string // MySQL: the definition with NULL in place of NOT NULL, without a default
	sel, upd bool   // what the user may
	number   int64  // PostgreSQL's attnum
}

// newFound checks the names of a Spec as far as that needs no database.
func newFound(spec Spec, maxLen int, longest func(string) int) (*found, error) {
	f := &found{}
	var err error
	if f.schema, f.table, err = parseTable(spec.Table); err != nil {
		return nil, err
	}
	if len(spec.Columns) == 0 || len(spec.Columns) > maxCols {
		return nil, fmt.Errorf("%w: one to %d columns can be mapped", ErrColumn, maxCols)
	}
	f.key.name = spec.Key
	seen := []string{strings.ToLower(spec.Key)}
	take := func(name string) error {
		if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) || !utf8.ValidString(name) {
			return fmt.Errorf("%w: a name is empty or too long", ErrColumn)
		}
		// Case counts in PostgreSQL; whoever has two columns that differ in nothing else may rename one.
		if slices.Contains(seen, strings.ToLower(name)) {
			return fmt.Errorf("%w: %s is named twice", ErrColumn, name)
		}
		seen = append(seen, strings.ToLower(name))
		return nil
	}
	if spec.Key == "" || len(spec.Key) > maxName || strings.ContainsRune(spec.Key, 0) {
		return nil, fmt.Errorf("%w: its name is empty or too long", ErrKey)
	}
	for _, c := range spec.Columns {
		token := c.TokenColumn
		if token == "" {
			token = c.Name + "_token"
		}
		if err := take(c.Name); err != nil {
			return nil, err
		}
		if err := take(token); err != nil {
			return nil, err
		}
		if longest(token) > maxLen {
			return nil, fmt.Errorf("%w: the name %s is longer than the database allows; choose another", ErrTokenColumn, token)
		}
		f.columns = append(f.columns, column{name: c.Name})
		f.tokens = append(f.tokens, column{name: token})
	}
	return f, nil
}

// parseTable splits "table", "schema.table" and `"odd.schema"."odd ""table"""`.
func parseTable(s string) (schema, table string, err error) {
	var parts []string
	rest := s
	for {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			rest = rest[1:]
			for {
				before, after, ok := strings.Cut(rest, `"`)
				b.WriteString(before)
				if !ok {
					return "", "", fmt.Errorf("%w: a quote in its name is not closed", ErrTable)
				}
				if rest = after; !strings.HasPrefix(rest, `"`) {
					break
				}
				b.WriteByte('"')
				rest = rest[1:]
			}
			part = b.String()
			if rest != "" && rest[0] != '.' {
				return "", "", fmt.Errorf("%w: something follows the closing quote in its name", ErrTable)
			}
		} else {
			part, _, _ = strings.Cut(rest, ".")
			rest = rest[len(part):]
		}
		if part == "" || len(part) > maxName || strings.ContainsRune(part, 0) || !utf8.ValidString(part) {
			return "", "", fmt.Errorf("%w: a part of its name is empty or too long", ErrTable)
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		rest = rest[1:]
	}
	switch len(parts) {
	case 1:
		return "", parts[0], nil
	case 2:
		return parts[0], parts[1], nil
	}
	return "", "", fmt.Errorf("%w: write schema.table or table", ErrTable)
}

// fit judges what both databases say in the same way.
func (f *found) fit() error {
	if !f.key.exists {
		return fmt.Errorf("%w: the table has no column %s, or this user may not see it (names are taken exactly as written)", ErrKey, f.key.name)
	}
	if f.key.kind == other {
		return fmt.Errorf("%w: %s is of type %s; it has to be an integer, a text or a uuid", ErrKey, f.key.name, f.key.typ)
	}
	if !f.key.notNull {
		return fmt.Errorf("%w: %s may be NULL; a row without a key cannot be found again", ErrKey, f.key.name)
	}
	if f.index == "" {
		return fmt.Errorf("%w: %s alone is not the primary key and has no unique index of its own, over all rows and in the column's own order",
			ErrKey, f.key.name)
	}
	if !f.key.sel {
		return lacksSelect(f.key.name)
	}
	for i := range f.columns {
		if err := f.fitPlain(&f.columns[i]); err != nil {
			return err
		}
		if err := f.fitToken(&f.tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

func lacksSelect(column string) error {
	return fmt.Errorf("%w: SELECT on column %s", ErrGrant, column)
}

func (f *found) fitPlain(c *column) error {
	switch {
	case !c.exists:
		return fmt.Errorf("%w: the table has no column %s, or this user may not see it (names are taken exactly as written)", ErrColumn, c.name)
	case c.kind != integer && c.kind != text:
		return fmt.Errorf("%w: %s is of type %s; only text and integer columns can become tokens", ErrColumn, c.name, c.typ)
	case c.computed:
		return fmt.Errorf("%w: %s is a generated column; map the columns it is made from", ErrColumn, c.name)
	case c.numbered:
		return fmt.Errorf("%w: %s is numbered by the database, and never NULL; map another, or let it be an ordinary column first", ErrColumn, c.name)
	case !c.sel:
		return lacksSelect(c.name)
	}
	return nil
}

// follows tells that a foreign key would carry NULL into the rows that refer to a value: they would lose theirs.
func follows(constraint, table, column, rule string) error {
	return fmt.Errorf("%w: foreign key %s of table %s refers to %s with ON UPDATE %s: clearing a value would clear or change it there too; "+
		"drop that foreign key, or let it be ON UPDATE RESTRICT", ErrColumn, constraint, table, column, rule)
}

func (f *found) fitToken(c *column) error {
	if !c.exists {
		return nil
	}
	switch {
	case c.kind != text:
		return fmt.Errorf("%w: %s is there already, of type %s; choose another name", ErrTokenColumn, c.name, c.typ)
	case c.computed:
		return fmt.Errorf("%w: %s is there already, and generated; choose another name", ErrTokenColumn, c.name)
	case c.notNull || c.dflt:
		return fmt.Errorf("%w: %s is there already, and is not NULL for new rows; let it be NULL, without a default", ErrTokenColumn, c.name)
	case c.length > 0 && c.length < minToken:
		return fmt.Errorf("%w: %s is there already, for %d characters; a token has up to %d", ErrTokenColumn, c.name, c.length, minToken)
	case !c.sel:
		return lacksSelect(c.name)
	}
	return nil
}
