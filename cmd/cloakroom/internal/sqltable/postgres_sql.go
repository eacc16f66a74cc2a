package sqltable

import (
	"fmt"
	"slices"
	"strings"
)

func quotePostgres(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (p *postgres) statements(f *found) statements {
	q := quotePostgres
	s := statements{table: q(f.schema) + "." + q(f.table)}
	s.from = s.table + " AS t"
	s.key = "t." + q(f.key.name)
	s.keyText = s.key + "::text"
	s.keyKept = postgresKept(f, f.key)
	s.after = "$1::text::" + f.key.cast
	s.sample = `hashtextextended((` + s.keyText + `) COLLATE "C", $1::bigint)`
	s.place = func(key string) (any, error) { return key, nil }
	s.pick = func(keys []string) (string, []any, error) {
		return s.key + " = ANY($1::text[]::" + f.key.cast + "[])", []any{keys}, nil
	}
	s.write = func(sets []set, rows []Row) (string, []any, error) {
		statement, args := p.write(f, s.table, sets, rows)
		return statement, args, nil
	}
	s.begin = []string{
		"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
		unhurried,
		localSettings(
			"lock_timeout", milliseconds(p.opt.LockWait),
			// Where this process or its network dies without a word, the rows are free again after ten minutes.
			"idle_in_transaction_session_timeout", "600000",
			// Rows are found by their keys' index. Without fresh statistics the planner would rather read and sort the rest
			// of the table, for each batch again.
			"enable_seqscan", "off", "enable_bitmapscan", "off", "enable_sort", "off",
		),
		// A deferred constraint would fail at the commit, where no row can be told from the others.
		"SET CONSTRAINTS ALL IMMEDIATE",
	}
	// Unlike FOR UPDATE this lets others insert rows that refer to these.
	s.lock = " FOR NO KEY UPDATE OF t"
	s.read = []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", unhurried}
	s.alter.begin = []string{"BEGIN", unhurried, localSettings("lock_timeout", milliseconds(p.opt.AlterWait))}
	// The lock of the ALTER itself, and not a lesser one first: two sessions that both want more than they have would wait
	// for each other, and the application's might be the one to be ended.
	s.alter.guard = []string{"LOCK TABLE " + s.table + " IN ACCESS EXCLUSIVE MODE"}
	s.alter.tails = []string{""}
	for i, c := range f.columns {
		plain, token := q(c.name), q(f.tokens[i].name)
		x := cellSQL{plain: "t." + plain, plainText: "t." + plain + "::text", kept: postgresKept(f, c), token: "NULL::text", tokenText: "NULL::text"}
		x.has = x.plain + " IS NOT NULL"
		if c.kind == text {
			x.has += " AND octet_length(" + x.plainText + ") > 0"
		}
		if f.tokens[i].exists {
			x.token = "t." + token
			x.tokenText = x.token + "::text"
			s.alter.drop = append(s.alter.drop, "DROP COLUMN "+token)
		} else {
			s.alter.add = append(s.alter.add, "ADD COLUMN "+token+" text")
		}
		if c.notNull {
			s.alter.notNull = append(s.alter.notNull, "ALTER COLUMN "+plain+" DROP NOT NULL")
		}
		if c.dflt {
			// Not DROP DEFAULT: it would let the default of a domain through.
			s.alter.notNull = append(s.alter.notNull, "ALTER COLUMN "+plain+" SET DEFAULT NULL")
		}
		s.cells = append(s.cells, x)
	}
	s.clean = []string{"VACUUM (FULL, ANALYZE) " + s.table}
	return s
}

// postgresKept tells that a text is the same after a way to UTF-8 and back: EUC_JP has some characters twice. What has no
// place in UTF-8 is an error.
func postgresKept(f *found, c column) string {
	if c.kind != text || !f.converts {
		return ""
	}
	ref := "t." + quotePostgres(c.name) + "::text"
	return "COALESCE(convert_from(convert_to(" + ref + `, 'UTF8'), 'UTF8') COLLATE "C" = ` + ref + ` COLLATE "C", TRUE)`
}

// unhurried takes away, until the end of the transaction, what the role or the database sets against slow statements of
// an application: a walk over a large table is one. Versions know different ones.
const unhurried = "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')"

// localSettings sets names to values, of this package, until the end of the transaction.
func localSettings(pairs ...string) string {
	var parts []string
	for pair := range slices.Chunk(pairs, 2) {
		parts = append(parts, fmt.Sprintf("set_config('%s', '%s', true)", pair[0], pair[1]))
	}
	return "SELECT " + strings.Join(parts, ", ")
}

// write joins the table with arrays of keys and contents, one parameter for each column.
func (p *postgres) write(f *found, table string, sets []set, rows []Row) (string, []any) {
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = r.Key
	}
	args := []any{keys}
	arrays, names, assign := []string{"$1::text[]"}, []string{"k"}, []string{}
	for n, s := range sets {
		column, from := f.columns[s.cell], fmt.Sprintf("v.c%d", n)
		if s.token {
			column = f.tokens[s.cell]
		} else if column.kind == integer {
			from += "::" + column.cast
		}
		contents := make([]*string, len(rows))
		for i, r := range rows {
			contents[i] = s.of(r).pointer()
		}
		args = append(args, contents)
		arrays = append(arrays, fmt.Sprintf("$%d::text[]", n+2))
		names = append(names, fmt.Sprintf("c%d", n))
		assign = append(assign, quotePostgres(column.name)+" = "+from)
	}
	return "UPDATE " + table + " AS t SET " + strings.Join(assign, ", ") +
		" FROM unnest(" + strings.Join(arrays, ", ") + ") AS v(" + strings.Join(names, ", ") + ")" +
		" WHERE t." + quotePostgres(f.key.name) + " = v.k::" + f.key.cast, args
}
