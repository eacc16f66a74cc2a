package sqltable_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

func TestOddNames(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		other := s.pick("Other.Schema", "")
		if !s.my {
			d.Exec(t, "CREATE SCHEMA "+s.quote(other))
		}
		db := open(t, d.DSN, sqltable.Options{})
		names := []struct{ name, table, key, column, token string }{
			{"mixed case and umlaut", "Üser table", "Id", "Phone No", "Phone Token"},
			{"reserved words", "select", "order", "from", "where"},
			{"quotes", "a\"b`c'd", "k\"`'", "p\"`'", "t\"`'"},
			{"hanzi", "客户", "编号", "手机号", "令牌"},
			{"SQL", "x; DROP TABLE y --", "$1", "?", "%s"},
			{"dots", "a.b", "c.d", "e.f", "g.h"},
			{"names of ours", "t", "k", "v", "c0"},
		}
		for _, n := range names {
			t.Run(n.name, func(t *testing.T) {
				prefix, spelled := "", n.table
				if strings.ContainsAny(n.table, `."`) {
					spelled = s2(n.table)
				}
				if n.name == "dots" && !s.my {
					prefix, spelled = s.quote(other)+".", s2(other)+"."+spelled
				}
				if n.name == "SQL" {
					spelled = d.Name + "." + spelled
					if !s.my {
						spelled = "public." + n.table
					}
				}
				name := prefix + s.quote(n.table)
				d.Exec(t, fmt.Sprintf("CREATE TABLE %s (%s int PRIMARY KEY, %s varchar(20) NOT NULL DEFAULT 'it''s')", name, s.quote(n.key), s.quote(n.column)),
					fmt.Sprintf("INSERT INTO %s VALUES (1, 'a'), (2, 'b')", name))
				table := look(t, db, sqltable.Spec{Table: spelled, Key: n.key, Columns: []sqltable.Column{{Name: n.column, TokenColumn: n.token}}}, true)
				if err := table.DropNotNull(t.Context()); err != nil {
					t.Fatal(err)
				}
				walk(t, table, sqltable.ToFill, 1, tokenize)
				walk(t, table, sqltable.ToCutOver, 1, clear)
				equal(t, "table", d.Query(t, fmt.Sprintf("SELECT %s, %s FROM %s ORDER BY 2", s.quote(n.column), s.quote(n.token), name)),
					[][]string{{"<null>", token("a")}, {"<null>", token("b")}})
				if _, err := table.Sample(t.Context(), sqltable.All, 5, 1); err != nil {
					t.Error(err)
				}
				walk(t, table, sqltable.ToRestore, 1, restore)
				if err := table.DropTokenColumns(t.Context()); err != nil {
					t.Fatal(err)
				}
				d.Exec(t, fmt.Sprintf("INSERT INTO %s (%s) VALUES (3)", name, s.quote(n.key)))
				equal(t, "table", d.Query(t, fmt.Sprintf("SELECT * FROM %s ORDER BY 1", name)), [][]string{{"1", "a"}, {"2", "b"}, {"3", "<null>"}})
			})
		}
	})
}

// s2 writes a name as Spec.Table takes it.
func s2(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func TestUnfitTables(t *testing.T) {
	tests := []struct {
		name   string
		pg, my []string // my nil: the same
		spec   sqltable.Spec
		want   error
		says   string
	}{
		{"fine", []string{"CREATE TABLE x (id int PRIMARY KEY, a varchar(9))"}, nil, spec("x", "a"), nil, ""},
		{"unique, not primary", []string{"CREATE TABLE x (id int NOT NULL UNIQUE, a varchar(9), b int PRIMARY KEY)"}, nil, spec("x", "a"), nil, ""},
		{"no table", nil, nil, spec("x", "a"), sqltable.ErrTable, "no such table"},
		{"other case", []string{`CREATE TABLE "X" (id int PRIMARY KEY, a text)`}, []string{"CREATE TABLE `X` (id int PRIMARY KEY, a text)"}, spec("x", "a"), sqltable.ErrTable, "no such table"},
		{"view", []string{"CREATE TABLE y (id int PRIMARY KEY, a varchar(9))", "CREATE VIEW x AS SELECT * FROM y"}, nil, spec("x", "a"), sqltable.ErrTable, "view"},
		{"materialized view, or no transactions", []string{"CREATE MATERIALIZED VIEW x AS SELECT 1 AS id, 'a' AS a"}, []string{"CREATE TABLE x (id int PRIMARY KEY, a text) ENGINE=Aria"}, spec("x", "a"), sqltable.ErrTable, ""},
		{"partition, or old versions", []string{"CREATE TABLE y (id int PRIMARY KEY, a text) PARTITION BY RANGE (id)", "CREATE TABLE x PARTITION OF y DEFAULT"},
			[]string{"CREATE TABLE x (id int PRIMARY KEY, a text) WITH SYSTEM VERSIONING"}, spec("x", "a"), sqltable.ErrTable, ""},
		{"partitioned table", []string{"CREATE TABLE x (id int PRIMARY KEY, a text) PARTITION BY RANGE (id)", "CREATE TABLE y PARTITION OF x DEFAULT"},
			[]string{"CREATE TABLE x (id int PRIMARY KEY, a text) PARTITION BY HASH (id) PARTITIONS 2"}, spec("x", "a"), nil, ""},
		{"no key column", []string{"CREATE TABLE x (i int PRIMARY KEY, a text)"}, nil, spec("x", "a"), sqltable.ErrKey, "no column id"},
		{"key that may be NULL", []string{"CREATE TABLE x (id int UNIQUE, a text)"}, nil, spec("x", "a"), sqltable.ErrKey, "NULL"},
		{"key without an index", []string{"CREATE TABLE x (id int NOT NULL, a text)"}, nil, spec("x", "a"), sqltable.ErrKey, "unique"},
		{"key of two columns", []string{"CREATE TABLE x (id int, n int, a text, PRIMARY KEY (id, n))"}, nil, spec("x", "a"), sqltable.ErrKey, "unique"},
		{"key that is unique in part", []string{"CREATE TABLE x (id int NOT NULL, a text)", "CREATE UNIQUE INDEX i ON x (id) WHERE id > 5"},
			[]string{"CREATE TABLE x (id varchar(40) NOT NULL, a text)", "CREATE UNIQUE INDEX i ON x (id(5))"}, spec("x", "a"), sqltable.ErrKey, "unique"},
		{"key of an expression, or not unique", []string{"CREATE TABLE x (id int NOT NULL, a text)", "CREATE UNIQUE INDEX i ON x ((id + 0))"},
			[]string{"CREATE TABLE x (id int NOT NULL, a text)", "CREATE INDEX i ON x (id)"}, spec("x", "a"), sqltable.ErrKey, "unique"},
		{"key in another order", []string{`CREATE TABLE x (id text NOT NULL, a text)`, `CREATE UNIQUE INDEX i ON x (id COLLATE "und-x-icu")`},
			[]string{"CREATE TABLE x (id int NOT NULL, a text)"}, spec("x", "a"), sqltable.ErrKey, "unique"},
		{"key of no good type", []string{"CREATE TABLE x (id date PRIMARY KEY, a text)"}, nil, spec("x", "a"), sqltable.ErrKey, "date"},
		{"no column", []string{"CREATE TABLE x (id int PRIMARY KEY, b text)"}, nil, spec("x", "a"), sqltable.ErrColumn, "no column a"},
		{"no columns", []string{"CREATE TABLE x (id int PRIMARY KEY, b text)"}, nil, spec("x"), sqltable.ErrColumn, "mapped"},
		{"column named twice", []string{"CREATE TABLE x (id int PRIMARY KEY, a text)"}, nil, spec("x", "a", "a"), sqltable.ErrColumn, "twice"},
		{"the key as a column", []string{"CREATE TABLE x (id int PRIMARY KEY, a text)"}, nil, spec("x", "id"), sqltable.ErrColumn, "twice"},
		{"column of no good type", []string{"CREATE TABLE x (id int PRIMARY KEY, a date)"}, nil, spec("x", "a"), sqltable.ErrColumn, "date"},
		{"bytes", []string{"CREATE TABLE x (id int PRIMARY KEY, a bytea)"}, []string{"CREATE TABLE x (id int PRIMARY KEY, a blob)"}, spec("x", "a"), sqltable.ErrColumn, ""},
		{"decimal", []string{"CREATE TABLE x (id int PRIMARY KEY, a numeric(20))"}, nil, spec("x", "a"), sqltable.ErrColumn, ""},
		{"generated column", []string{"CREATE TABLE x (id int PRIMARY KEY, b int, a int GENERATED ALWAYS AS (b + 1) STORED)"}, nil, spec("x", "a"), sqltable.ErrColumn, "generated"},
		{"column that the database numbers", []string{"CREATE TABLE x (id int PRIMARY KEY, a int GENERATED BY DEFAULT AS IDENTITY)"}, []string{"CREATE TABLE x (id int PRIMARY KEY, a int NOT NULL UNIQUE AUTO_INCREMENT)"}, spec("x", "a"), sqltable.ErrColumn, "numbered"},
		{"column of the primary key", []string{"CREATE TABLE x (id int NOT NULL UNIQUE, a varchar(9) PRIMARY KEY)"}, nil, spec("x", "a"), sqltable.ErrColumn, "primary key"},
		{"token column that is not text", []string{"CREATE TABLE x (id int PRIMARY KEY, a text, a_token int)"}, nil, spec("x", "a"), sqltable.ErrTokenColumn, "int"},
		{"token column that is short", []string{"CREATE TABLE x (id int PRIMARY KEY, a text, a_token varchar(64))"}, nil, spec("x", "a"), sqltable.ErrTokenColumn, "64"},
		{"token column just long enough", []string{"CREATE TABLE x (id int PRIMARY KEY, a text, a_token varchar(65))"}, nil, spec("x", "a"), nil, ""},
		{"token column that is not NULL", []string{"CREATE TABLE x (id int PRIMARY KEY, a text, a_token varchar(99) NOT NULL)"}, nil, spec("x", "a"), sqltable.ErrTokenColumn, "NULL"},
		{"token column with a default", []string{"CREATE TABLE x (id int PRIMARY KEY, a text, a_token varchar(99) DEFAULT 'x')"}, nil, spec("x", "a"), sqltable.ErrTokenColumn, "default"},
		{"generated token column", []string{"CREATE TABLE x (id int PRIMARY KEY, a varchar(99), a_token varchar(99) GENERATED ALWAYS AS (a) STORED)"}, nil, spec("x", "a"), sqltable.ErrTokenColumn, "generated"},
		{"token column with a long name", []string{"CREATE TABLE x (id int PRIMARY KEY, " + strings.Repeat("a", 60) + " text)"}, nil, spec("x", strings.Repeat("a", 60)), sqltable.ErrTokenColumn, "longer"},
		{"three parts", nil, nil, spec("a.b.c", "a"), sqltable.ErrTable, "schema.table"},
		{"empty part", nil, nil, spec("a.", "a"), sqltable.ErrTable, "empty"},
		{"open quote", nil, nil, spec(`"a`, "a"), sqltable.ErrTable, "quote"},
		{"text after a quote", nil, nil, spec(`"a"b`, "a"), sqltable.ErrTable, "quote"},
		{"inherited, or nothing", []string{"CREATE TABLE x (id int PRIMARY KEY, a text)", "CREATE TABLE y () INHERITS (x)"}, []string{}, spec("x", "a"), sqltable.ErrTable, ""},
		{"domain", []string{"CREATE DOMAIN phone AS varchar(20)", "CREATE DOMAIN mobile AS phone CHECK (value <> '')", "CREATE TABLE x (id int PRIMARY KEY, a mobile)"},
			[]string{"CREATE TABLE x (id int PRIMARY KEY, a tinytext)"}, spec("x", "a"), nil, ""},
		{"domain that is never NULL", []string{"CREATE DOMAIN phone AS varchar(20) NOT NULL", "CREATE TABLE x (id int PRIMARY KEY, a phone)"}, []string{}, spec("x", "a"), nil, ""},
	}
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		db := open(t, d.DSN, sqltable.Options{})
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				make, want := tt.pg, tt.want
				if s.my && tt.my != nil {
					if make = tt.my; len(make) == 0 {
						want = sqltable.ErrTable
					}
				}
				if strings.HasPrefix(tt.name, "domain that") && !s.my {
					want = sqltable.ErrColumn
				}
				if s.my {
					d.Exec(t, "DROP DATABASE "+d.Name, "CREATE DATABASE "+d.Name)
				} else {
					d.Exec(t, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
				}
				d.Exec(t, append(make, "SELECT 1")...)
				table, err := db.Table(t.Context(), tt.spec)
				if !errors.Is(err, want) || (err == nil) != (want == nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("%v, want %v that says %q", err, want, tt.says)
				}
				if err != nil {
					return
				}
				if err := table.AddTokenColumns(t.Context()); err != nil {
					t.Fatal(err)
				}
				d.Exec(t, "INSERT INTO x (id, a"+map[bool]string{true: ", b"}[strings.HasPrefix(tt.name, "unique,")]+") VALUES (1, 'v'"+map[bool]string{true: ", 1"}[strings.HasPrefix(tt.name, "unique,")]+")")
				if sum := walk(t, table, sqltable.ToFill, 9, tokenize); sum.Changed != 1 {
					t.Errorf("%+v", sum)
				}
			})
		}
	})
}
