package sqltable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// After the cut-over an application inserts rows with tokens alone. A default would then stand beside the token as if it
// were a newer value.
func TestDefaultsAreDropped(t *testing.T) {
	tests := []struct{ name, pg, my string }{ // my "": the same
		{"empty", "text NOT NULL DEFAULT ''", "varchar(20) NOT NULL DEFAULT ''"},
		{"a word", "varchar(20) DEFAULT 'unknown'", ""},
		{"a word that is not NULL", "varchar(20) NOT NULL DEFAULT 'unknown'", ""},
		{"the word NULL", "varchar(20) NOT NULL DEFAULT 'NULL'", ""},
		{"the word NULL, where NULL may be", "varchar(20) DEFAULT 'NULL'", ""},
		{"text", "text DEFAULT 'x'", ""},
		{"number", "int NOT NULL DEFAULT 0", ""},
		{"negative number", "bigint NOT NULL DEFAULT -5", ""},
		{"unsigned number", "smallint DEFAULT 7", "smallint unsigned zerofill NOT NULL DEFAULT 7"},
		{"function", "varchar(99) NOT NULL DEFAULT md5('x')", ""},
		{"expression", "varchar(20) DEFAULT ('a' || ' (b')", "varchar(20) NOT NULL DEFAULT (concat('a', ' (b', char(65)))"},
		{"sequence", "serial", "bigint NOT NULL DEFAULT nextval(numbers)"},
		{"quotes and what looks like SQL", `varchar(40) NOT NULL DEFAULT 'it''s \ NOT NULL DEFAULT (' CHECK (a <> 'DEFAULT ''x''')`,
			`varchar(40) NOT NULL DEFAULT 'it''s \\ NOT NULL DEFAULT (' COMMENT 'a ''DEFAULT'' NOT NULL\n(' CHECK (a <> 'DEFAULT ''x''')`},
		{"character set", `varchar(20) COLLATE "C" NOT NULL DEFAULT '张'`, "varchar(20) CHARACTER SET gbk COLLATE gbk_bin NOT NULL DEFAULT '张'"},
		{"domain", "word", "varchar(20) NOT NULL DEFAULT 'x' INVISIBLE"},
		{"domain with another default", "word NOT NULL DEFAULT 'other'", "char(20) DEFAULT 'x'"},
		{"default NULL", "varchar(20) DEFAULT NULL", ""},
		{"no default", "varchar(20) NOT NULL", ""},
	}
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		d.Exec(t, "CREATE SEQUENCE numbers", s.pick("CREATE DOMAIN word AS varchar(20) DEFAULT 'x'", "SELECT 1"))
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				kind, table := tt.pg, fmt.Sprintf("people%d", i)
				if s.my && tt.my != "" {
					kind = tt.my
				}
				d.Exec(t, "CREATE TABLE "+table+" (id int PRIMARY KEY, a "+kind+")", "INSERT INTO "+table+" (id, a) VALUES (1, '7')")
				people := look(t, open(t, d.DSN, sqltable.Options{}), spec(table, "a"), true)
				plan := people.Plan().DropNotNull
				if bare := tt.name == "default NULL"; bare != (len(plan) == 0) {
					t.Errorf("plan: %q", plan)
				}
				walk(t, people, sqltable.ToFill, 9, tokenize)
				if err := people.DropNotNull(t.Context()); err != nil {
					t.Fatalf("%v: %q", err, plan)
				}
				if left := look(t, open(t, d.DSN, sqltable.Options{}), spec(table, "a"), false).Plan().DropNotNull; len(left) > 0 {
					t.Errorf("still to do: %q", left)
				}
				walk(t, people, sqltable.ToCutOver, 9, clear)
				d.Exec(t, "INSERT INTO "+table+" (id, a_token) VALUES (2, 'theirs')")
				equal(t, "table", d.Query(t, "SELECT id, a, a_token FROM "+table+" ORDER BY id"), [][]string{{"1", "<null>", d.Query(t, "SELECT a_token FROM "+table+" WHERE id = 1")[0][0]}, {"2", "<null>", "theirs"}})
				if n, err := people.Counts(t.Context()); err != nil || n.Plain != 0 {
					t.Errorf("%+v, %v", n, err)
				}
				if strings.HasPrefix(tt.name, "quotes") {
					if err := d.Try("INSERT INTO " + table + " (id, a) VALUES (3, 'DEFAULT ''x''')"); err == nil {
						t.Error("the check constraint is gone")
					}
				}
				if s.my && strings.HasPrefix(tt.name, "quotes") {
					equal(t, "comment", d.Query(t, "SELECT column_comment FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '"+table+"' AND column_name = 'a'"),
						[][]string{{"a 'DEFAULT' NOT NULL\n("}})
				}
			})
		}
	})
}

// Two runs that looked at the table at the same time do not trip over each other's columns.
func TestSomebodyElseAltersToo(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, a varchar(20) NOT NULL DEFAULT 'x', b varchar(20))")
		db := open(t, d.DSN, sqltable.Options{})
		whole := spec("people", "a", "b")
		steps := []struct {
			name string
			do   func(*sqltable.Table) error
		}{
			{"add", func(x *sqltable.Table) error { return x.AddTokenColumns(t.Context()) }},
			{"let be NULL", func(x *sqltable.Table) error { return x.DropNotNull(t.Context()) }},
			{"drop", func(x *sqltable.Table) error { return x.DropTokenColumns(t.Context()) }},
		}
		for _, step := range steps {
			one, part, two := look(t, db, whole, false), look(t, db, spec("people", "a"), false), look(t, db, whole, false)
			for i, table := range []*sqltable.Table{part, one, two} {
				if err := step.do(table); err != nil {
					t.Errorf("%s, run %d: %v", step.name, i, err)
				}
			}
			if step.name == "add" {
				d.Exec(t, "INSERT INTO people (id, b) VALUES (1, 'b')")
				equal(t, "filled", walk(t, two, sqltable.ToFill, 9, tokenize).Changed, 1)
				walk(t, two, sqltable.WithToken, 9, func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
					for i := range rows[0].Cells {
						rows[0].Cells[i].Token = sqltable.Text{}
					}
					return rows, nil
				})
			}
		}
		equal(t, "table", d.Query(t, "SELECT * FROM people"), [][]string{{"1", "x", "b"}})
		late := look(t, db, whole, false)
		d.Exec(t, "ALTER TABLE people ADD a_token int")
		if err := late.AddTokenColumns(t.Context()); !errors.Is(err, sqltable.ErrTokenColumn) {
			t.Errorf("a column of that name that holds something else: %v", err)
		}
	})
}

// A row that loses its plaintext after it was looked whether one is needed still keeps its token.
func TestDropLooksUnderItsLock(t *testing.T) {
	d := postgres.Database(t)
	s := sort{"PostgreSQL", postgres, false}
	fillTable(t, s, d, 2)
	db := open(t, d.DSN, sqltable.Options{AlterWait: time.Minute})
	table := look(t, db, spec("people", "phone"), true)
	walk(t, table, sqltable.ToFill, 9, tokenize)
	app := s.session(t, d)
	app.Exec("BEGIN", "UPDATE people SET phone = NULL WHERE id = 2")
	committed := make(chan error, 1)
	go func() { committed <- errors.Join(s.waited(d), app.exec("COMMIT")) }()
	if err := table.DropTokenColumns(t.Context()); !errors.Is(err, sqltable.ErrNeeded) {
		t.Errorf("dropped: %v", err)
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	equal(t, "table", d.Query(t, "SELECT * FROM people ORDER BY id"), [][]string{{"1", "13801", token("13801")}, {"2", "<null>", token("13802")}})
}

// What a role's timeouts say about an application's statements does not hold for a walk over the whole table.
func TestTimeoutsOfTheRole(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		d := postgres.Database(t)
		s := sort{"PostgreSQL", postgres, false}
		fillTable(t, s, d, 2)
		d.Exec(t, "ALTER DATABASE "+d.Name+" SET statement_timeout = '1h'", "CREATE SCHEMA mine")
		// This one is found before the function that every statement about values uses.
		s.session(t, d).Exec(`CREATE FUNCTION mine.octet_length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
			IF current_setting('statement_timeout') <> '0' THEN RAISE EXCEPTION 'a statement that is timed'; END IF;
			RETURN pg_catalog.octet_length($1); END $$`, "ALTER DATABASE "+d.Name+" SET search_path = mine, pg_catalog, public")
		if err := d.Try("SELECT octet_length('a')"); err == nil {
			t.Fatal("the function does not watch")
		}
		table := look(t, open(t, d.DSN, sqltable.Options{}), spec("people", "phone"), true)
		if n, err := table.Counts(t.Context()); err != nil || n.ToFill != 2 {
			t.Errorf("%+v, %v", n, err)
		}
		if p, err := table.Read(t.Context(), sqltable.ToFill, sqltable.Place{}, 9); err != nil || len(p.Rows) != 2 {
			t.Errorf("%+v, %v", p, err)
		}
		if rows, err := table.Sample(t.Context(), sqltable.ToFill, 9, 1); err != nil || len(rows) != 2 {
			t.Errorf("%+v, %v", rows, err)
		}
		equal(t, "filled", walk(t, table, sqltable.ToFill, 9, tokenize).Changed, 2)
		equal(t, "afterwards", d.Query(t, "SHOW statement_timeout"), [][]string{{"1h"}})
	})
	t.Run("MariaDB", func(t *testing.T) {
		d := mariadb.Database(t)
		s := sort{"MariaDB", mariadb, true}
		fillTable(t, s, d, 2)
		user, dsn := d.User(t)
		d.Exec(t, "GRANT ALL ON "+d.Name+".* TO "+user+" WITH MAX_STATEMENT_TIME 3600", "CREATE TABLE seen (bound double)")
		s.session(t, d).Exec("CREATE TRIGGER watch BEFORE UPDATE ON people FOR EACH ROW INSERT INTO seen VALUES (@@SESSION.max_statement_time)")
		walk(t, look(t, open(t, dsn, sqltable.Options{}), spec("people", "phone"), true), sqltable.ToFill, 9, tokenize)
		equal(t, "bounds", d.Query(t, "SELECT DISTINCT bound FROM seen"), [][]string{{"0"}})
	})
}

// A foreign key that follows a value's changes would clear the values of other rows.
func TestForeignKeysThatFollow(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		tests := []struct {
			rule    string
			refused bool
		}{
			{"", false}, {"ON DELETE CASCADE", false}, {"ON UPDATE RESTRICT", false}, {"ON UPDATE NO ACTION", false},
			{"ON UPDATE CASCADE", true}, {"ON UPDATE SET NULL", true},
		}
		if !s.my {
			tests = append(tests, struct {
				rule    string
				refused bool
			}{"ON UPDATE SET DEFAULT", true}) // InnoDB does not have it
		}
		for i, tt := range tests {
			for _, child := range []string{"calls", "people"} {
				t.Run(tt.rule+" from "+child, func(t *testing.T) {
					people := fmt.Sprintf("people_%s_%d", child, i)
					own := ""
					if child == "people" {
						own = ", FOREIGN KEY (boss) REFERENCES " + people + " (phone) " + tt.rule
					}
					d.Exec(t, "CREATE TABLE "+people+" (id int PRIMARY KEY, phone varchar(20) UNIQUE, name varchar(20) UNIQUE, boss varchar(20)"+own+")",
						"INSERT INTO "+people+" VALUES (1, '1', 'n', NULL)")
					if child == "people" {
						d.Exec(t, "INSERT INTO "+people+" VALUES (2, '2', 'm', '1')")
					} else {
						d.Exec(t, fmt.Sprintf("CREATE TABLE calls%d (n int PRIMARY KEY, phone varchar(20), FOREIGN KEY (phone) REFERENCES %s (phone) %s)", i, people, tt.rule),
							fmt.Sprintf("INSERT INTO calls%d VALUES (1, '1')", i), "INSERT INTO "+people+" VALUES (2, '2', 'm', NULL)")
					}
					db := open(t, d.DSN, sqltable.Options{})
					if _, err := db.Table(t.Context(), spec(people, "name")); err != nil {
						t.Errorf("a column that nothing refers to: %v", err)
					}
					table, err := db.Table(t.Context(), spec(people, "phone"))
					if tt.refused {
						if !errors.Is(err, sqltable.ErrColumn) || !strings.Contains(err.Error(), tt.rule) {
							t.Errorf("%v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					// What the note says is so.
					if notes := strings.Join(table.Plan().Notes, "\n"); !strings.Contains(notes, "refers to column phone: rows that it refers to cannot be cut over") {
						t.Errorf("notes: %s", notes)
					}
					if err := table.AddTokenColumns(t.Context()); err != nil {
						t.Fatal(err)
					}
					walk(t, table, sqltable.ToFill, 9, tokenize)
					sum := walk(t, table, sqltable.ToCutOver, 9, clear)
					if sum.Changed != 1 || len(sum.Refused) != 1 || sum.Refused[0] != (sqltable.Refusal{Key: "1", Err: sqltable.ErrConstraint}) {
						t.Errorf("%+v", sum)
					}
					equal(t, "phones", d.Query(t, "SELECT phone FROM "+people+" ORDER BY id"), [][]string{{"1"}, {"<null>"}})
				})
			}
		}
	})
}

// MariaDB shows nobody the foreign keys of tables on which he has no grant: the plan says so, where there could be one.
func TestForeignKeysThatAreNotSeen(t *testing.T) {
	d := mariadb.Database(t)
	d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, n int, phone varchar(20), name varchar(20), UNIQUE (n, phone))",
		"CREATE TABLE calls (n int, phone varchar(20), FOREIGN KEY (n, phone) REFERENCES people (n, phone) ON UPDATE CASCADE)")
	user, dsn := d.User(t)
	d.Exec(t, "GRANT ALL ON "+d.Name+".people TO "+user)
	table := look(t, open(t, dsn, sqltable.Options{}), spec("people", "phone", "name"), false)
	notes := strings.Join(table.Plan().Notes, "\n")
	if !strings.Contains(notes, "column phone is in an index: foreign keys of tables that this user may not see") || strings.Contains(notes, "column name is in an index") {
		t.Errorf("notes: %s", notes)
	}
	d.Exec(t, "GRANT REFERENCES ON *.* TO "+user)
	if _, err := open(t, dsn, sqltable.Options{}).Table(t.Context(), spec("people", "phone")); !errors.Is(err, sqltable.ErrColumn) {
		t.Errorf("with a grant on everything: %v", err)
	}
}
