package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

// Columns have sources that the server takes, and no two the same.
func TestColumnSource(t *testing.T) {
	long := strings.Repeat("列", 80)
	cases := []struct {
		names []string
		want  string // "": only that it fits
	}{
		{[]string{"shop", "public", "users", "phone"}, "table:shop.public.users.phone"},
		{[]string{"shop", "users", "phone"}, "table:shop.users.phone"},
		{[]string{"shop", "public", "用户", "手机 号"}, "table:shop.public.用户.手机 号"},
		{[]string{"a.b", "c"}, `table:"a.b".c`},
		{[]string{"a", "b.c"}, `table:a."b.c"`},
		{[]string{"a", `"b`, "c\n\x00"}, `table:a."\"b"."c\n\x00"`},
		{[]string{"a", "", "\xff"}, `table:a.""."\xff"`},
		{[]string{"shop", "public", "users", long}, ""},
		{[]string{"shop", "public", "users", "x" + long}, ""},
		{[]string{"shop", "public", "users", "x" + long + "y"}, ""},
		{[]string{"shop", "public", "users", "xy" + long}, ""},
	}
	var all []string
	for _, tc := range cases {
		got := columnSource(tc.names...)
		if tc.want != "" && got != tc.want {
			t.Errorf("%q: %s, want %s", tc.names, got, tc.want)
		}
		if len(got) > sourceBytes || !utf8.ValidString(got) || slices.Contains(all, got) {
			t.Errorf("%q: %q", tc.names, got)
		}
		all = append(all, got)
	}
}

// A field of a person has one value: what one table stored, another table or column does not write over unless it is told to.
func TestMigrateHeld(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, "CREATE TABLE buyers (id int PRIMARY KEY, phone varchar(40))", "CREATE TABLE sellers (id int PRIMARY KEY, phone varchar(40), mobile varchar(40))",
				"INSERT INTO buyers VALUES (1, '13700000001'), (2, '13700000002'), (3, '13700000003')",
				"INSERT INTO sellers VALUES (1, '13700000091', '13700000001'), (2, '13700000002', NULL), (3, '13700000093', '13700000083')")
			of := func(table, column string, more ...string) []string {
				return append([]string{"--table", table, "--key", "id", "--map", "phone=" + column}, more...)
			}
			s.migrate(t, exitDone, of("buyers", "phone")...)
			sellers := s.dump(t, "sellers")
			if sum := s.migrate(t, exitPartly, of("sellers", "phone")...); sum.Filled != 1 || sum.Bad != 2 || sum.Reasons[0].Rule != heldRule || sum.Reasons[0].Code != wire.Conflict {
				t.Errorf("another table: %+v", sum)
			}
			if line := strings.Join(s.errorLines(t, "sellers.errors.csv")[0], ","); !strings.HasPrefix(line, "1,phone,conflict,held,another table or column stored this field for that id") {
				t.Errorf("listed as %s", line)
			}
			if sum := s.migrate(t, exitPartly, of("sellers", "mobile")...); sum.Filled != 1 || sum.Bad != 1 || sum.Reasons[0].Rule != heldRule {
				t.Errorf("another column: %+v", sum)
			}
			if sum := s.migrate(t, exitPartly, of("sellers", "phone", "--cutover", "--leave-bad")...); sum.Cut != 1 || sum.Plain != 2 {
				t.Errorf("cut over: %+v", sum)
			}
			if now := fmt.Sprint(s.db.Query(t, "SELECT id, phone FROM sellers ORDER BY id")); now != "[[1 13700000091] [2 <null>] [3 13700000093]]" {
				t.Errorf("there is %s, and was %s", now, sellers)
			}
			s.migrate(t, exitDone, of("buyers", "phone", "--cutover")...)
			s.columnOpens(t, "buyers", "phone_token", "13700000001", "13700000002", "13700000003")

			// Told to, it stores all the same: the field has one value, and both tokens are one.
			if sum := s.migrate(t, exitDone, of("sellers", "phone", "--overwrite")...); sum.Filled != 2 {
				t.Errorf("overwritten: %+v", sum)
			}
			s.columnOpens(t, "sellers", "phone_token", "13700000091", "13700000002", "13700000093")
		})
	}
}

// columnOpens looks what a column's tokens open to, in the order of the ids.
func (s *site) columnOpens(t *testing.T, table, column string, want ...string) {
	t.Helper()
	var tokens []string
	for _, row := range s.db.Query(t, "SELECT "+column+" FROM "+table+" ORDER BY id") {
		tokens = append(tokens, row[0])
	}
	if got := s.open(t, tokens); !slices.Equal(got, want) {
		t.Errorf("the tokens of %s open to %q, want %q", table, got, want)
	}
}

// meantime does something before its text is read.
type meantime struct {
	io.Reader
	do func()
}

func (m *meantime) Read(p []byte) (int, error) {
	if m.do != nil {
		m.do()
		m.do = nil
	}
	return m.Reader.Read(p)
}

// What the application stored in Cloakroom alone, after the tables were compared, is not lost: the row keeps its older plaintext,
// and the end says so.
func TestMigrateHeldAtCutOver(t *testing.T) {
	s := newSite(t, servers.postgres)
	s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1), ('u2', '13700000002', 2)")
	args := []string{"--table", "people", "--key", "id", "--map", "phone=phone"}
	s.migrate(t, exitDone, args...)
	app := s.client(t, "app")
	newer := func() {
		if _, err := app.PutSubject(t.Context(), "u1", wire.PutSubject{Fields: wire.Fields{"phone": {Value: "13700000011"}}}); err != nil {
			t.Error(err)
		}
	}
	typed := io.MultiReader(strings.NewReader("yes\n"), &meantime{strings.NewReader("people\n"), newer})
	code, out, said := s.typingFrom(t, typed, append([]string{"migrate-table", "--cutover"}, args...)...)
	if code != exitPartly || !strings.Contains(said, "1 rows turned out bad only when they were stored again. They keep their plaintext") {
		t.Errorf("exit code %d\n%s%s", code, out, said)
	}
	if now := fmt.Sprint(s.db.Query(t, "SELECT id, phone FROM people ORDER BY id")); now != "[[u1 13700000001] [u2 <null>]]" {
		t.Errorf("there is %s", now)
	}
	s.columnOpens(t, "people", "phone_token", "13700000011", "13700000002")

	// Found before the cut-over, it is refused.
	if sum := s.migrate(t, exitFailed, append(args, "--cutover")...); sum.Bad != 1 || sum.Reasons[0].Rule != heldRule {
		t.Errorf("%+v", sum)
	}
	s.migrate(t, exitDone, append(args, "--cutover", "--overwrite")...)
	s.columnOpens(t, "people", "phone_token", "13700000001", "13700000002")
	_, said = s.run(t, exitDone, append([]string{"migrate-table"}, args...)...)
	if strings.Contains(said, "still there") || !strings.Contains(said, "No row holds plaintext.") {
		t.Errorf("it says %s", said)
	}
}

// Tokens that the server never issued stop a run before anything is changed, until new ones are asked for.
func TestMigrateReissue(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1), ('u2', '13700000002', 2), ('u3', '13700000003', 3)")
			s.migrate(t, exitDone, "--table", "people", "--key", "id", "--map", "phone=phone")
			s.db.Exec(t, "UPDATE people SET phone = NULL WHERE id = 'u3'")
			other := &site{served: serveFor(t), server: server, db: s.db, folder: t.TempDir()}
			before := s.dump(t, "people") + s.schema(t, "people")
			args := []string{"--table", "people", "--key", "id", "--map", "phone=phone,text=n"}
			for _, more := range []string{"--dry-run", "--batch=10", "--cutover", "--refresh"} {
				_, said := other.run(t, exitFailed, append([]string{"migrate-table", more}, args...)...)
				if !strings.Contains(said, "the server never issued 3 of 3 tokens") || !strings.Contains(said, "--reissue") {
					t.Errorf("%s: it says %s", more, said)
				}
				if now := s.dump(t, "people") + s.schema(t, "people"); now != before {
					t.Fatalf("%s: something was changed: %s", more, now)
				}
			}
			if list, err := other.client(t, "operator").ListSubjects(t.Context(), client.Page{}); err != nil || len(list.Subjects) != 0 {
				t.Errorf("%+v, %v", list, err)
			}
			other.migrate(t, exitDone, append(args, "--reissue", "--refresh")...)
			other.columnOpens(t, "people", "phone_token", "13700000001", "13700000002", "<token_unknown>")
			other.columnOpens(t, "people", "n_token", "1", "2", "3")
		})
	}
}

// A table whose application left tokens beside other values is put right by storing all again, and nothing is cleared.
func TestMigrateRefresh(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1), ('u2', '13700000002', 2), ('u3', '13700000003', 3), ('u4', '13700000004', 4)")
			args := []string{"--table", "people", "--key", "id", "--map", "phone=phone"}
			s.migrate(t, exitDone, args...)
			tokens := s.db.Query(t, "SELECT phone_token FROM people ORDER BY id")
			s.db.Exec(t, "UPDATE people SET phone = '13700000011' WHERE id = 'u1'", "UPDATE people SET phone = '' WHERE id = 'u2'", "UPDATE people SET phone = NULL WHERE id = 'u3'")
			s.columnOpens(t, "people", "phone_token", "13700000001", "13700000002", "13700000003", "13700000004")
			sum := s.migrate(t, exitDone, append(args, "--refresh", "--batch", "1")...)
			if sum.Refreshed < 2 || sum.Bad != 0 || sum.Plain != 2 {
				t.Errorf("%+v", sum)
			}
			if !slices.ContainsFunc(sum.Plan.Notes, func(n string) bool { return strings.HasPrefix(n, "1 rows have a token beside NULL.") }) {
				t.Errorf("it notes %q", sum.Plan.Notes)
			}
			now := s.db.Query(t, "SELECT phone, phone_token FROM people ORDER BY id")
			want := [][]string{{"13700000011", tokens[0][0]}, {"", "<null>"}, {"<null>", tokens[2][0]}, {"13700000004", tokens[3][0]}}
			if !slices.EqualFunc(now, want, slices.Equal) {
				t.Errorf("there is %q, want %q", now, want)
			}
			s.db.Exec(t, "UPDATE people SET phone_token = NULL WHERE phone IS NULL", "DELETE FROM people WHERE id = 'u2' OR id = 'u3'")
			s.columnOpens(t, "people", "phone_token", "13700000011", "13700000004")
		})
	}
}

// The token columns can be added and nothing else be done.
func TestMigrateAddColumns(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1)")
			args := []string{"migrate-table", "--table", "people", "--key", "id", "--map", "phone=phone", "--add-columns"}
			if s.run(t, exitDone, append(args, "--dry-run")...); strings.Contains(s.schema(t, "people"), "phone_token") {
				t.Error("a dry run added a column")
			}
			for range 2 {
				if _, said := s.run(t, exitDone, args...); !strings.Contains(said, "The token columns are there.") || strings.Contains(said, "fill them, ") {
					t.Errorf("it says %s", said)
				}
			}
			if got := fmt.Sprint(s.db.Query(t, "SELECT * FROM people")); got != "[[u1 13700000001 1 <null>]]" {
				t.Errorf("there is %s", got)
			}
			if list, err := s.client(t, "operator").ListSubjects(t.Context(), client.Page{}); err != nil || len(list.Subjects) != 0 {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// A run that would fail on its way for want of a grant is refused before anything is done, and so is its dry run.
func TestMigrateGrants(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, phone varchar(40) NOT NULL, phone_token varchar(255))", "INSERT INTO people (id, phone) VALUES (1, '13700000001')")
			user, dsn := s.db.User(t)
			s.db.Exec(t, "GRANT SELECT, UPDATE ON people TO "+user)
			before := s.dump(t, "people")
			args := []string{"migrate-table", "--table", "people", "--key", "id", "--map", "phone=phone", "--dsn", dsn}
			for _, more := range [][]string{{"--cutover"}, {"--cutover", "--dry-run"}, {"--cutover", "--dry-run", "--json"}} {
				out, said := s.run(t, exitFailed, append(args, more...)...)
				if !strings.Contains(said, "lacks a grant, nothing was changed: ALTER on the table") {
					t.Errorf("%v: it says %s", more, said)
				}
				if len(more) == 3 && !strings.Contains(out, `"missing":[{"grant":"ALTER`) {
					t.Errorf("it prints %s", out)
				}
			}
			if s.dump(t, "people") != before {
				t.Error("something was changed")
			}
			s.run(t, exitDone, append(args, "--dry-run")...)
			s.run(t, exitDone, args...)
		})
	}
}

// Where the empty string stands beside a token that is alive, restoring leaves both and says so, and the tokens are kept.
func TestRestoreEmptied(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1), ('u2', '13700000002', 2), ('u3', '13700000003', 3)")
			args := []string{"--table", "people", "--key", "id", "--map", "phone=phone"}
			s.migrate(t, exitDone, append(args, "--cutover")...)
			s.db.Exec(t, "UPDATE people SET phone = '' WHERE id <> 'u2'")
			s.erase(t, "u3", "")
			if r := s.restore(t, exitPartly, args...); r.Restored != 1 || r.Bad != 1 || r.Reasons[0].Rule != emptyRule {
				t.Errorf("%+v", r)
			}
			if r := s.restore(t, exitFailed, append(args, "--clear-tokens", "--drop-tokens")...); r.Dropped {
				t.Errorf("%+v", r)
			}
			if got := s.db.Query(t, "SELECT phone, phone_token FROM people WHERE id = 'u1'")[0]; got[0] != "" || got[1] == "<null>" {
				t.Errorf("there is %q", got)
			}
			s.db.Exec(t, "UPDATE people SET phone = NULL WHERE id = 'u1'")
			if r := s.restore(t, exitDone, append(args, "--drop-tokens")...); !r.Dropped {
				t.Errorf("%+v", r)
			}
			if got := fmt.Sprint(s.db.Query(t, "SELECT id, phone FROM people ORDER BY id")); got != "[[u1 13700000001] [u2 13700000002] [u3 ]]" {
				t.Errorf("there is %s", got)
			}
		})
	}
}

// With a prefix, restoring looks whether the tokens are those of the rows' people, and takes tokens out only where asked.
func TestRestorePrefix(t *testing.T) {
	s := newSite(t, servers.postgres)
	s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1), ('u2', '13700000002', 2)")
	args := []string{"--table", "people", "--key", "id", "--map", "phone=phone"}
	s.migrate(t, exitDone, append(args, "--cutover", "--prefix", "people:")...)
	before := s.dump(t, "people")
	for _, prefix := range []string{"", "users:"} {
		if _, said := s.run(t, exitFailed, append([]string{"restore-table", "--prefix", prefix}, args...)...); !strings.Contains(said, "holds a token of another person") {
			t.Errorf("%q: it says %s", prefix, said)
		}
	}
	if s.dump(t, "people") != before {
		t.Error("something was changed")
	}
	if r := s.restore(t, exitDone, append(args, "--prefix", "people:")...); r.Restored != 2 || r.Cleared != 0 {
		t.Errorf("%+v", r)
	}
	if r := s.restore(t, exitDone, append(args, "--clear-tokens")...); r.Cleared != 2 || r.Dropped {
		t.Errorf("%+v", r)
	}
	if got := fmt.Sprint(s.db.Query(t, "SELECT * FROM people ORDER BY id")); got != "[[u1 13700000001 1 <null>] [u2 13700000002 2 <null>]]" {
		t.Errorf("there is %s", got)
	}
}
