package sqltable

import (
	"context"
	"slices"
	"strings"
)

// lookFollowers refuses columns whose changes a foreign key carries into other rows.
func (m *mySQL) lookFollowers(ctx context.Context, c conn, f *found) error {
	return c.query(ctx, `
		SELECT k.CONSTRAINT_NAME, k.TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.UPDATE_RULE
		FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r
		  ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME
		WHERE BINARY k.REFERENCED_TABLE_SCHEMA = ? AND BINARY k.REFERENCED_TABLE_NAME = ?
		  AND r.UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION')
		ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME`, []any{f.schema, f.table},
		func(scan func(...any) error) error {
			var constraint, table, column, rule string
			if err := scan(&constraint, &table, &column, &rule); err != nil || !f.mapped(column) {
				return err
			}
			return follows(constraint, table, column, rule)
		})
}

// noteUnseen tells where a foreign key could refer to a column without being seen: the information schema shows nobody
// those of tables on which he has no grant.
func (m *mySQL) noteUnseen(ctx context.Context, c conn, f *found) error {
	var global bool
	err := c.query(ctx, `
		SELECT COUNT(*) > 0 FROM information_schema.USER_PRIVILEGES
		WHERE PRIVILEGE_TYPE IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
		  AND GRANTEE = CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')`,
		nil, func(scan func(...any) error) error { return scan(&global) })
	if err != nil || global {
		return err
	}
	for _, x := range f.columns {
		if x.indexed {
			f.notes = append(f.notes, "column "+x.name+" is in an index: foreign keys of tables that this user may not see could refer to it, and with "+
				"ON UPDATE CASCADE or SET NULL the cut-over would clear their values too")
		}
	}
	return nil
}

// mapped reports whether a column is one of those that get tokens.
func (f *found) mapped(name string) bool {
	return slices.ContainsFunc(f.columns, func(x column) bool { return strings.EqualFold(x.name, name) })
}

// notes tells what the information schema knows to hang on the table and on the columns.
func (m *mySQL) notes(ctx context.Context, c conn, f *found) error {
	take := func(statement string, args []any, note func(a, b, c string) string) error {
		return c.query(ctx, statement, args, func(scan func(...any) error) error {
			var x, y, z string
			if err := scan(&x, &y, &z); err != nil {
				return err
			}
			if text := note(x, y, z); text != "" {
				f.notes = append(f.notes, text)
			}
			return nil
		})
	}
	here := []any{f.schema, f.table}
	err := take(`SELECT TRIGGER_NAME, '', '' FROM information_schema.TRIGGERS
		WHERE BINARY EVENT_OBJECT_SCHEMA = ? AND BINARY EVENT_OBJECT_TABLE = ? ORDER BY TRIGGER_NAME`, here,
		func(name, _, _ string) string {
			return "trigger " + name + " runs on this table: what it does with the values is not seen"
		})
	if err != nil {
		return err
	}
	err = take(`SELECT CONSTRAINT_NAME, COLUMN_NAME, '' FROM information_schema.KEY_COLUMN_USAGE
		WHERE BINARY TABLE_SCHEMA = ? AND BINARY TABLE_NAME = ? AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY CONSTRAINT_NAME`, here,
		func(name, column, _ string) string {
			if !f.mapped(column) {
				return ""
			}
			return "foreign key " + name + " uses column " + column + ": it will see NULL in place of values"
		})
	if err != nil {
		return err
	}
	err = take(`SELECT CONSTRAINT_NAME, REFERENCED_COLUMN_NAME, TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE
		WHERE BINARY REFERENCED_TABLE_SCHEMA = ? AND BINARY REFERENCED_TABLE_NAME = ? ORDER BY TABLE_NAME, CONSTRAINT_NAME`, here,
		func(name, column, table string) string {
			if !f.mapped(column) {
				return ""
			}
			return "foreign key " + name + " of table " + table + " refers to column " + column + ": rows that it refers to cannot be cut over"
		})
	if err != nil {
		return err
	}
	if err := m.noteUnseen(ctx, c, f); err != nil {
		return err
	}
	err = take(`SELECT c.CONSTRAINT_NAME, c.CHECK_CLAUSE, '' FROM information_schema.CHECK_CONSTRAINTS c
		JOIN information_schema.TABLE_CONSTRAINTS t USING (CONSTRAINT_SCHEMA, CONSTRAINT_NAME)
		WHERE BINARY t.TABLE_SCHEMA = ? AND BINARY t.TABLE_NAME = ? AND t.CONSTRAINT_TYPE = 'CHECK' ORDER BY c.CONSTRAINT_NAME`, here,
		func(name, clause, _ string) string {
			for _, x := range f.columns {
				if strings.Contains(strings.ToLower(clause), strings.ToLower(quoteMySQL(x.name))) {
					return "check constraint " + name + " uses column " + x.name + ": it will see NULL in place of values"
				}
			}
			return ""
		})
	if err != nil {
		return err
	}
	return take(`SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE LOCATE(?, VIEW_DEFINITION) > 0`,
		[]any{quoteMySQL(f.schema) + "." + quoteMySQL(f.table)},
		func(schema, name, definition string) string {
			for _, x := range f.columns {
				if strings.Contains(strings.ToLower(definition), strings.ToLower(quoteMySQL(x.name))) {
					return "view " + schema + "." + name + " shows column " + x.name + ": it will show NULL"
				}
			}
			return ""
		})
}
