package sqltable

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// look reads the information schema of MySQL or MariaDB.
func (m *mySQL) look(ctx context.Context, c conn, spec Spec) (*found, error) {
	f, err := newFound(spec, 64, utf8.RuneCountInString)
	if err != nil {
		return nil, err
	}
	if err := m.lookTable(ctx, c, f); err != nil {
		return nil, err
	}
	if err := m.lookColumns(ctx, c, f); err != nil {
		return nil, err
	}
	if err := m.lookKey(ctx, c, f); err != nil {
		return nil, err
	}
	if err := m.lookFollowers(ctx, c, f); err != nil {
		return nil, err
	}
	if err := m.definitions(ctx, c, f); err != nil {
		return nil, err
	}
	if err := m.grants(ctx, c, f); err != nil {
		return nil, err
	}
	return f, m.notes(ctx, c, f)
}

func (m *mySQL) lookTable(ctx context.Context, c conn, f *found) error {
	name := quoteMySQL(f.table)
	if f.schema != "" {
		name = quoteMySQL(f.schema) + "." + name
	}
	var kind, storage string
	err := c.query(ctx, `
		SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, '') FROM information_schema.TABLES
		WHERE TABLE_SCHEMA = IF(? = '', DATABASE(), ?)
		  AND (BINARY TABLE_NAME = ? OR @@lower_case_table_names <> 0 AND LOWER(TABLE_NAME) = LOWER(?))`,
		[]any{f.schema, f.schema, f.table, f.table},
		func(scan func(...any) error) error { return scan(&f.schema, &f.table, &kind, &storage) })
	say := func(why string) error { return fmt.Errorf("%w: %s: %s", ErrTable, name, why) }
	switch {
	case err != nil:
		return err
	case kind == "":
		return say("there is no such table, or this user may not see it (names are taken exactly as written)")
	case strings.Contains(kind, "VIEW"):
		return say("it is a view; name the table that it shows")
	case kind == "SYSTEM VERSIONED":
		return say("it keeps every old version of a row; drop its system versioning first")
	case kind != "BASE TABLE":
		return say("it is not a table")
	case storage != "InnoDB":
		return say("its engine is " + storage + ", without transactions; ALTER TABLE … ENGINE=InnoDB first")
	}
	return nil
}

func (m *mySQL) lookColumns(ctx context.Context, c conn, f *found) error {
	byName := map[string]*column{strings.ToLower(f.key.name): &f.key} // names of columns have no case
	for i := range f.columns {
		byName[strings.ToLower(f.columns[i].name)] = &f.columns[i]
		byName[strings.ToLower(f.tokens[i].name)] = &f.tokens[i]
	}
	return c.query(ctx, `
		SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, COALESCE(CHARACTER_MAXIMUM_LENGTH, 0),
		       COALESCE(CHARACTER_SET_NAME, ''), COALESCE(COLLATION_NAME, ''),
		       COALESCE(GENERATION_EXPRESSION, ''),
		       COLUMN_DEFAULT IS NOT NULL AND NOT (VERSION() LIKE '%MariaDB%' AND COLUMN_DEFAULT = 'NULL'), -- MariaDB has SQL there
		       EXTRA, PRIVILEGES
		FROM information_schema.COLUMNS WHERE BINARY TABLE_SCHEMA = ? AND BINARY TABLE_NAME = ?`, []any{f.schema, f.table},
		func(scan func(...any) error) error {
			var x column
			var base, nullable, generated, extra, privileges string
			if err := scan(&x.name, &base, &x.typ, &nullable, &x.length, &x.cast, &x.collate, &generated, &x.dflt, &extra, &privileges); err != nil {
				return err
			}
			if strings.Contains(strings.ToLower(extra), "on update current_timestamp") {
				f.notes = append(f.notes, "column "+x.name+" is set to the current time by each change of a row")
			}
			if generated != "" {
				for _, p := range f.columns {
					if strings.Contains(strings.ToLower(generated), strings.ToLower(quoteMySQL(p.name))) {
						f.notes = append(f.notes, "column "+x.name+" is generated from column "+p.name+": it will be made from NULL")
					}
				}
			}
			into, ok := byName[strings.ToLower(x.name)]
			if !ok {
				return nil
			}
			x.exists, x.notNull = true, nullable == "NO"
			x.computed, x.numbered = generated != "", strings.Contains(strings.ToLower(extra), "auto_increment")
			x.unsigned = strings.Contains(strings.ToLower(x.typ), "unsigned")
			x.sel, x.upd = strings.Contains(privileges, "select"), strings.Contains(privileges, "update")
			switch strings.ToLower(base) {
			case "tinyint", "smallint", "mediumint", "int", "bigint":
				x.kind = integer
			case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
				x.kind = text
			case "uuid":
				x.kind = uuid
			}
			*into = x
			return nil
		})
}

// keyCharsets are those in which every character has one place in Unicode, and no other has the same: a key's text leads
// back to it, without which a walk would not know where it has got to.
func keyCharsets() []string {
	return []string{"ascii", "latin1", "latin2", "utf8", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32"}
}

// lookKey looks for an index of the key alone, the primary key before others.
func (m *mySQL) lookKey(ctx context.Context, c conn, f *found) error {
	if f.key.kind == text && !slices.Contains(keyCharsets(), f.key.cast) {
		return fmt.Errorf("%w: %s is of character set %s, whose texts are not safe on the way to UTF-8 and back; it has to be one of %s",
			ErrKey, f.key.name, f.key.cast, strings.Join(keyCharsets(), ", "))
	}
	err := c.query(ctx, `
		SELECT INDEX_NAME FROM information_schema.STATISTICS
		WHERE BINARY TABLE_SCHEMA = ? AND BINARY TABLE_NAME = ? AND NON_UNIQUE = 0 AND INDEX_TYPE = 'BTREE'
		GROUP BY INDEX_NAME
		HAVING COUNT(*) = 1 AND MIN(COLUMN_NAME) = ? AND MIN(SUB_PART) IS NULL
		ORDER BY INDEX_NAME = 'PRIMARY', INDEX_NAME`, []any{f.schema, f.table, f.key.name},
		func(scan func(...any) error) error { return scan(&f.index) }) // the last one is kept
	if err != nil {
		return err
	}
	return c.query(ctx, `
		SELECT INDEX_NAME, COLUMN_NAME, NON_UNIQUE FROM information_schema.STATISTICS
		WHERE BINARY TABLE_SCHEMA = ? AND BINARY TABLE_NAME = ? AND COLUMN_NAME IS NOT NULL ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
		[]any{f.schema, f.table},
		func(scan func(...any) error) error {
			var index, name string
			var plural int
			if err := scan(&index, &name, &plural); err != nil {
				return err
			}
			for i := range f.columns {
				if f.columns[i].name != name {
					continue
				}
				f.columns[i].indexed = true
				switch {
				case index == "PRIMARY":
					return fmt.Errorf("%w: %s is part of the primary key, which is never NULL", ErrColumn, name)
				case plural == 0:
					f.notes = append(f.notes, "unique index "+index+" uses column "+name+": it will see NULL in place of values")
				default:
					f.notes = append(f.notes, "index "+index+" uses column "+name+": it will hold NULL in place of values")
				}
			}
			return nil
		})
}

// grants finds out whether the user may ALTER the table, where that shows: a role's grants do not.
func (m *mySQL) grants(ctx context.Context, c conn, f *found) error {
	var alter, update, role bool
	err := c.query(ctx, `
		SELECT COALESCE(MAX(g.PRIVILEGE_TYPE = 'ALTER'), 0), COALESCE(MAX(g.PRIVILEGE_TYPE = 'UPDATE'), 0),
		       COALESCE(CURRENT_ROLE(), 'NONE') <> 'NONE'
		FROM (
			SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
			UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE ? LIKE TABLE_SCHEMA
			UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?
		) g
		WHERE g.GRANTEE = CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')`,
		[]any{f.schema, f.schema, f.table},
		func(scan func(...any) error) error { return scan(&alter, &update, &role) })
	if err != nil {
		return err
	}
	f.lacks(alter || role, update || role)
	return nil
}
