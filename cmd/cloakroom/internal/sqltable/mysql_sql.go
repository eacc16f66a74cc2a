package sqltable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

func quoteMySQL(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func (m *mySQL) statements(f *found) statements {
	q := quoteMySQL
	s := statements{table: q(f.schema) + "." + q(f.table)}
	s.from = s.table + " AS t FORCE INDEX (" + q(f.index) + ")"
	s.key = "t." + q(f.key.name)
	s.keyText = mysqlText(f.key)
	s.keyKept = mysqlKept(f.key)
	s.after = mysqlKey(f.key, "?")
	s.sample = "MD5(CONCAT(?, ':', " + s.keyText + "))"
	s.place = func(key string) (any, error) { return mysqlArg(f.key, key) }
	s.pick = func(keys []string) (string, []any, error) {
		args := make([]any, len(keys))
		for i, key := range keys {
			var err error
			if args[i], err = mysqlArg(f.key, key); err != nil {
				return "", nil, err
			}
		}
		marks := strings.Repeat(", "+s.after, len(keys))
		return s.key + " IN (" + strings.TrimPrefix(marks, ", ") + ")", args, nil
	}
	s.write = func(sets []set, rows []Row) (string, []any, error) { return m.write(f, s.from, sets, rows) }
	s.begin = []string{"START TRANSACTION"}
	s.read = []string{"START TRANSACTION READ ONLY"}
	s.lock = " FOR UPDATE"
	s.alter.tails = []string{", ALGORITHM=INSTANT", ", ALGORITHM=INPLACE, LOCK=NONE"}
	for i, c := range f.columns {
		token := q(f.tokens[i].name)
		x := cellSQL{plain: "t." + q(c.name), plainText: mysqlText(c), kept: mysqlKept(c), token: "NULL", tokenText: "NULL"}
		x.has = x.plain + " IS NOT NULL"
		if c.kind == text {
			x.has += " AND LENGTH(" + x.plain + ") > 0" // in most collations blanks equal the empty string
		}
		if f.tokens[i].exists {
			x.token = "t." + token
			x.tokenText = x.token
			s.alter.drop = append(s.alter.drop, "DROP COLUMN "+token)
		} else {
			s.alter.add = append(s.alter.add, "ADD COLUMN "+token+" VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL")
		}
		switch {
		case c.notNull:
			s.alter.notNull = append(s.alter.notNull, "MODIFY COLUMN "+c.alter)
		case c.dflt:
			// DROP DEFAULT would make a column that may not be left out.
			s.alter.notNull = append(s.alter.notNull, "ALTER COLUMN "+q(c.name)+" SET DEFAULT NULL")
		}
		s.cells = append(s.cells, x)
	}
	s.clean = []string{"OPTIMIZE TABLE " + s.table}
	return s
}

// mysqlText is a column as text. The driver would read an integer without the zeros of ZEROFILL.
func mysqlText(c column) string {
	ref := "t." + quoteMySQL(c.name)
	if c.kind == text {
		return ref
	}
	return "CAST(" + ref + " AS CHAR)"
}

// mysqlKept tells that a text is the same bytes after a way to UTF-8 and back. What has no place there is read as "?";
// and some character sets have one character twice.
func mysqlKept(c column) string {
	if c.kind != text || c.cast == "utf8mb4" {
		return ""
	}
	ref := "t." + quoteMySQL(c.name)
	return "HEX(" + ref + ") <=> HEX(CONVERT(CONVERT(" + ref + " USING utf8mb4) USING " + c.cast + "))"
}

// mysqlKey makes an expression what is compared with the key: of its type, in its own collation.
func mysqlKey(key column, from string) string {
	switch key.kind {
	case text:
		return "CONVERT(" + from + " USING " + key.cast + ") COLLATE " + key.collate
	case uuid:
		return "CAST(" + from + " AS UUID)"
	}
	return from
}

// mysqlArg makes a key's text a parameter. Beside an integer, text may be compared as floating point.
func mysqlArg(key column, s string) (any, error) {
	switch {
	case key.kind != integer:
		return s, nil
	case key.unsigned:
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: one is not an integer", ErrKey)
		}
		return n, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: one is not an integer", ErrKey)
	}
	return n, nil
}

// write joins the table with a JSON document, of which a member that is absent is NULL.
func (m *mySQL) write(f *found, from string, sets []set, rows []Row) (string, []any, error) {
	type object = map[string]string
	all := make([]object, len(rows))
	for i, r := range rows {
		all[i] = object{"k": r.Key}
		for n, s := range sets {
			if contents := s.of(r); contents.Valid {
				all[i]["c"+strconv.Itoa(n)] = contents.Value
			}
		}
	}
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(all); err != nil {
		return "", nil, fmt.Errorf("rows as json: %w", err)
	}
	// A column of JSON_TABLE has the character set of the session's database, unless it says otherwise.
	const texts = "LONGTEXT CHARACTER SET utf8mb4"
	keyType := texts
	switch {
	case f.key.kind == integer && f.key.unsigned:
		keyType = "BIGINT UNSIGNED"
	case f.key.kind == integer:
		keyType = "BIGINT"
	case f.key.kind == uuid:
		keyType = "VARCHAR(36)"
	}
	columns, assign := []string{"k " + keyType + " PATH '$.k'"}, []string{}
	for n, s := range sets {
		column := f.columns[s.cell]
		if s.token {
			column = f.tokens[s.cell]
		}
		columns = append(columns, fmt.Sprintf("c%d %s PATH '$.c%d'", n, texts, n))
		assign = append(assign, fmt.Sprintf("t.%s = v.c%d", quoteMySQL(column.name), n))
	}
	return "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (" + strings.Join(columns, ", ") + ")) AS v STRAIGHT_JOIN " + from +
		" ON t." + quoteMySQL(f.key.name) + " = " + mysqlKey(f.key, "v.k") +
		" SET " + strings.Join(assign, ", "), []any{doc.String()}, nil
}
