package sqltable

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// statements are the SQL of one table. Names in it are quoted; the table is t wherever rows are read, because a bare
// name in ORDER BY would be the column of the output, which is text.
type statements struct {
	table   string // schema and name
	from    string // what follows FROM
	key     string
	keyText string
	keyKept string // that the key's text leads back to it; "": always
	after   string // the key of a Place, as a parameter
	sample  string // order of a sample, with its seed as a parameter
	cells   []cellSQL

	// place makes a key's text the parameter of after.
	place func(key string) (any, error)
	// pick is the condition of being one of these keys, at most maxPick, and its parameters.
	pick func(keys []string) (where string, args []any, err error)
	// write is the one statement that gives rows their new contents in the columns named by sets.
	write func(sets []set, rows []Row) (statement string, args []any, err error)

	begin []string // of a batch's transaction
	read  []string // of one that only reads
	lock  string   // what makes a SELECT lock its rows
	alter alterSQL
	clean []string
}

// cellSQL is a pair of columns as expressions.
type cellSQL struct {
	plain, plainText string
	has              string // that there is a value: true or false, never NULL
	kept             string // that plainText leads back to what is stored: never NULL; "": always
	token, tokenText string // NULL where the column is not there
}

// alterSQL are the clauses of the ALTER TABLE statements.
type alterSQL struct {
	begin   []string // of a transaction around the statement; none: it is one by itself
	guard   []string // in it, before something is looked up that must still be so when the statement runs
	add     []string
	notNull []string // and without a default
	drop    []string
	tails   []string // tried in this order, until the database can
}

// set is a column that is written.
type set struct {
	cell  int
	token bool
}

func (s set) of(r Row) *Text {
	if s.token {
		return &r.Cells[s.cell].Token
	}
	return &r.Cells[s.cell].Plain
}

// maxPick bounds the keys of one statement: beyond 1,000 MariaDB would make a join of the list.
const maxPick = 500

// wanted is the condition of a Want; "" for every row.
func (s *statements) wanted(w Want) (string, error) {
	var each func(c cellSQL) string
	switch w {
	case All:
		return "", nil
	case ToFill:
		each = func(c cellSQL) string { return c.has + " AND " + c.token + " IS NULL" }
	case ToCutOver:
		each = func(c cellSQL) string { return c.has }
	case ToRestore:
		each = func(c cellSQL) string { return c.token + " IS NOT NULL AND " + c.plain + " IS NULL" }
	case WithToken:
		each = func(c cellSQL) string { return c.token + " IS NOT NULL" }
	default:
		return "", fmt.Errorf("no rows are known by the number %d", w)
	}
	parts := make([]string, len(s.cells))
	for i, c := range s.cells {
		parts[i] = "(" + each(c) + ")"
	}
	return "(" + strings.Join(parts, " OR ") + ")", nil
}

// rows is the SELECT of rows: the key, whether it is kept, whether the cells are, and the cells. where is made of its
// conditions, of which empty ones do not count.
func (s *statements) rows(tail string, where ...string) string {
	columns, kept := []string{}, []string{}
	for _, c := range s.cells {
		columns = append(columns, c.plainText, c.tokenText)
		kept = append(kept, c.kept)
	}
	return "SELECT " + s.keyText + ", " + all(s.keyKept) + ", " + all(kept...) + ", " + strings.Join(columns, ", ") +
		" FROM " + s.from + conditions(where) + tail
}

// keys is the SELECT of keys alone, and whether each is kept.
func (s *statements) keys(tail string, where ...string) string {
	return "SELECT " + s.keyText + ", " + all(s.keyKept) + " FROM " + s.from + conditions(where) + tail
}

// all is the conjunction of conditions, of which empty ones do not count.
func all(conditions ...string) string {
	parts := slices.DeleteFunc(slices.Clone(conditions), func(c string) bool { return c == "" })
	if len(parts) == 0 {
		return "TRUE"
	}
	return strings.Join(parts, " AND ")
}

// page is the SELECT of the next rows, and that of their keys alone.
func (s *statements) page(w Want, from Place, limit int) (p search, err error) {
	want, err := s.wanted(w)
	if err != nil {
		return search{}, err
	}
	p.where = want
	behind := ""
	if from.started {
		behind = s.key + " > " + s.after
		arg, err := s.place(from.key)
		if err != nil {
			return search{}, err
		}
		p.args = append(p.args, arg)
	}
	tail := " ORDER BY " + s.key + " LIMIT " + strconv.Itoa(limit)
	p.rows, p.keys = s.rows(tail, behind, want), s.keys(tail, behind, want)
	return p, nil
}

// sampled is the SELECT of a sample's rows.
func (s *statements) sampled(w Want, n int, seed int64) (p search, err error) {
	if p.where, err = s.wanted(w); err != nil {
		return search{}, err
	}
	tail := " ORDER BY " + s.sample + " LIMIT " + strconv.Itoa(n)
	p.rows, p.keys, p.args = s.rows(tail, p.where), s.keys(tail, p.where), []any{seed}
	return p, nil
}

// search is a SELECT of rows, and of the same rows' keys alone, for when the rows cannot be had at once.
type search struct {
	rows, keys string
	args       []any  // of either
	where      string // that a row is wanted
}

func conditions(where []string) string {
	if w := all(where...); w != "TRUE" {
		return " WHERE " + w
	}
	return ""
}

// needed is the SELECT that answers whether a row has a token and no plaintext.
func (s *statements) needed() (string, error) {
	where, err := s.wanted(ToRestore)
	return "SELECT EXISTS (SELECT 1 FROM " + s.from + conditions([]string{where}) + ")", err
}

// counts is the SELECT of Counts, in the order of its fields.
func (s *statements) counts() (string, error) {
	fill, err := s.wanted(ToFill)
	if err != nil {
		return "", err
	}
	cut, err := s.wanted(ToCutOver)
	if err != nil {
		return "", err
	}
	restore, err := s.wanted(ToRestore)
	if err != nil {
		return "", err
	}
	token, err := s.wanted(WithToken)
	if err != nil {
		return "", err
	}
	columns := []string{"COUNT(*)"}
	for _, c := range []string{fill, token + " AND NOT " + fill, cut, restore, "NOT " + token + " AND NOT " + cut} {
		columns = append(columns, "COALESCE(SUM(CASE WHEN "+c+" THEN 1 ELSE 0 END), 0)")
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + s.from, nil
}

// alterTable returns a statement's forms in the order in which they are tried; none where it has no clauses.
func (s *statements) alterTable(clauses []string) []string {
	if len(clauses) == 0 {
		return nil
	}
	forms := make([]string, len(s.alter.tails))
	for i, tail := range s.alter.tails {
		forms[i] = "ALTER TABLE " + s.table + " " + strings.Join(clauses, ", ") + tail
	}
	return forms
}
