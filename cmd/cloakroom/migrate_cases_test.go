package main

import (
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

const createPeople = "CREATE TABLE people (id varchar(40) PRIMARY KEY, phone varchar(40), n bigint)"

// What cannot be done is refused before anything is changed, with what to do.
func TestMigrateRefused(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000000', 7)",
				"CREATE VIEW seen AS SELECT * FROM people",
				"CREATE TABLE pairs (a int NOT NULL, b int NOT NULL, phone varchar(40), PRIMARY KEY (a, b))",
				"CREATE TABLE taken (id int PRIMARY KEY, phone varchar(40), phone_token text)",
				"INSERT INTO taken VALUES (1, '13700000001', 'the name of the push service'), (2, '13700000002', NULL)",
				"CREATE TABLE short (id int PRIMARY KEY, phone varchar(40), phone_token varchar(10))")
			user, dsn := s.db.User(t)
			s.db.Exec(t, "GRANT SELECT, UPDATE ON people TO "+user)
			reader, readerDSN := s.db.User(t)
			s.db.Exec(t, "GRANT SELECT ON people TO "+reader)
			before := s.dump(t, "people") + s.schema(t, "people") + s.dump(t, "taken") + s.schema(t, "taken")
			cases := []struct {
				name string
				args string
				code int
				want string
			}{
				{"no such table", "--table persons --key id --map phone=phone", exitFailed, "the table cannot be used"},
				{"a view", "--table seen --key id --map phone=phone", exitFailed, "the table cannot be used"},
				{"no such key", "--table people --key uid --map phone=phone", exitFailed, "no column uid"},
				{"a key that is not unique", "--table people --key phone --map name=n", exitFailed, "the key column cannot be used"},
				{"half a key", "--table pairs --key a --map phone=phone", exitFailed, "the key column cannot be used"},
				{"no such column", "--table people --key id --map phone=mobile", exitFailed, "no column mobile"},
				{"a token column that is a mapped one", "--table people --key id --map phone=phone,text=n --token-column phone=n", exitFailed, "n is named twice"},
				{"a token column in use for something else", "--table taken --key id --map phone=phone", exitFailed, "holds something in row 1 that is no token of field phone; nothing was written over: name another with --token-column phone=COLUMN"},
				{"a token column that is too short", "--table short --key id --map phone=phone", exitFailed, "a token has up to 65"},
				{"no right to add columns", "--table people --key id --map phone=phone --dsn " + dsn, exitFailed, "lacks a grant"},
				{"no right to change rows", "--table people --key id --map phone=phone --dsn " + readerDSN, exitFailed, "lacks a grant"},
				{"no such field", "--table people --key id --map fax=phone", exitUsage, "the policy has no field fax"},
				{"a key without a database", "--table people --key id --map phone=phone --dsn " + strings.Replace(s.db.DSN, s.db.Name, "nowhere", 1), exitFailed, "database"},
				{"a wrong password", "--table people --key id --map phone=phone --dsn " + strings.Replace(s.db.DSN, "s3cret", "wrong-s3cret", 1), exitFailed, "database"},
				{"a purpose that is not allowed", "--table people --key id --map phone=phone --purpose ads --as officer", exitFailed, "forbidden"},
			}
			for _, tc := range cases {
				t.Run(tc.name, func(t *testing.T) {
					_, said := s.run(t, tc.code, append([]string{"migrate-table"}, strings.Fields(tc.args)...)...)
					if !strings.Contains(said, tc.want) {
						t.Errorf("it says %s", said)
					}
					if now := s.dump(t, "people") + s.schema(t, "people") + s.dump(t, "taken") + s.schema(t, "taken"); now != before {
						t.Errorf("something was changed: %s", firstDifference(now, before))
					}
				})
			}
		})
	}
}

// Keys become subject ids behind a prefix; what tells who somebody is stays out of files and messages; another prefix is
// noticed before everybody is stored twice.
func TestMigratePrefix(t *testing.T) {
	s := newSite(t, servers.postgres)
	s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000000', 1), ('13700000009', '13700000009', 2), ('a b', '13700000001', 3), ('u4', 'x', 4), ('u5', NULL, 5)")
	args := []string{"--table", "people", "--key", "id", "--map", "phone=phone"}
	sum := s.migrate(t, exitPartly, args...)
	if sum.Filled != 1 || sum.Bad != 3 {
		t.Errorf("%+v", sum)
	}
	var got []string
	for _, line := range s.errorLines(t, "people.errors.csv") {
		got = append(got, strings.Join(line[:4], ","))
	}
	if text := strings.Join(got, " "); text != ",subject,identifying_subject_id, ,subject,invalid_subject_id, u4,phone,invalid_value,letters" {
		t.Errorf("bad rows: %s", text)
	}
	_, said := s.run(t, exitFailed, append([]string{"migrate-table", "--prefix", "people:"}, args...)...)
	if !strings.Contains(said, "row u1 holds a token of another person, or of this one under another id; nothing was written over. --prefix, --key") {
		t.Errorf("it says %s", said)
	}
	if list, err := s.client(t, "operator").ListSubjects(t.Context(), client.Page{}); err != nil || len(list.Subjects) != 1 || list.Subjects[0].Subject != "u1" {
		t.Errorf("%+v, %v", list, err)
	}

	// Tokens that were exchanged are not written over either.
	s.db.Exec(t, "CREATE TABLE swapped (id varchar(40) PRIMARY KEY, phone varchar(40))", "INSERT INTO swapped VALUES ('u1', '13700000000'), ('u2', '13700000002')")
	swapped := []string{"--table", "swapped", "--key", "id", "--map", "phone=phone", "--prefix", "people:"}
	s.db.Exec(t, "INSERT INTO swapped VALUES ('+8613700000007', '13700000007'), ('13700000008', '13700000008')")
	if sum := s.migrate(t, exitPartly, swapped...); sum.Filled != 2 || sum.Bad != 2 {
		t.Errorf("%+v", sum)
	}
	s.db.Exec(t, "DELETE FROM swapped WHERE id LIKE '%137%'")
	if err := s.db.Try("UPDATE swapped a SET phone_token = b.phone_token FROM swapped b WHERE a.id <> b.id"); err != nil {
		t.Fatal(err)
	}
	before := s.dump(t, "swapped")
	if _, said = s.run(t, exitFailed, append([]string{"migrate-table", "--cutover"}, swapped...)...); !strings.Contains(said, "holds a token of another person") {
		t.Errorf("it says %s", said)
	}
	if s.dump(t, "swapped") != before {
		t.Error("something was changed")
	}
}

// What the application does between filling and cutting over is kept: a value that it changed, emptied, or made one that
// is refused, and a token that was revoked.
func TestMigrateBetween(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000001', 1), ('u2', '13700000002', 2), ('u3', '13700000003', 3), ('u4', '13700000004', 4), ('u5', '13700000005', 5), ('u6', '13700000006', 6)")
			args := []string{"--table", "people", "--key", "id", "--map", "phone=phone,text=n"}
			if sum := s.migrate(t, exitDone, args...); sum.Filled != 6 || sum.Verified != 6 {
				t.Errorf("%+v", sum)
			}
			tokens := map[string]string{}
			for _, row := range s.db.Query(t, "SELECT id, phone_token FROM people") {
				tokens[row[0]] = row[1]
			}
			s.db.Exec(t, "UPDATE people SET phone = '137 0000 1111' WHERE id = 'u1'", "UPDATE people SET phone = '' WHERE id = 'u2'", "UPDATE people SET phone = 'nobody' WHERE id = 'u3'",
				"UPDATE people SET phone = '', n = NULL WHERE id = 'u6'", "DELETE FROM people WHERE id = 'u4'")
			if _, err := s.client(t, "app").Revoke(t.Context(), []wire.Plain{wire.Plain(tokens["u5"])}); err != nil {
				t.Fatal(err)
			}
			// The comparison meets all of these, and is content with those that can be put right.
			if sum := s.migrate(t, exitPartly, args...); sum.Bad != 1 || sum.Verified == 0 {
				t.Errorf("%+v", sum)
			}
			// What is empty beside a token may be meant either way, until it is said.
			before := s.dump(t, "people")
			if sum := s.migrate(t, exitFailed, append(args, "--cutover")...); sum.Bad != 3 || sum.Cut != 0 {
				t.Errorf("%+v", sum)
			}
			if s.dump(t, "people") != before {
				t.Error("a cut-over that was refused changed something")
			}
			if sum := s.migrate(t, exitPartly, append(args, "--refresh")...); sum.Bad != 1 || sum.Refreshed != 3 {
				t.Errorf("%+v", sum)
			}
			sum := s.migrate(t, exitPartly, append(args, "--cutover", "--leave-bad")...)
			if sum.Bad != 1 || sum.Cut != 3 || sum.Plain != 1 {
				t.Errorf("%+v", sum)
			}
			var opened, want []string
			for _, row := range s.db.Query(t, "SELECT id, phone, n, phone_token FROM people ORDER BY id") {
				switch row[0] {
				case "u1":
					opened, want = append(opened, row[3]), append(want, "137 0000 1111")
				case "u2":
					if row[1] != "" || row[3] != "<null>" || row[2] != "<null>" {
						t.Errorf("emptied: %q", row)
					}
				case "u3":
					if row[1] != "nobody" || row[2] != "3" || row[3] != tokens["u3"] {
						t.Errorf("refused: %q", row)
					}
				case "u5":
					opened, want = append(opened, row[3], tokens["u5"]), append(want, "13700000005", "<token_revoked>")
				case "u6":
					if row[1] != "" || row[3] != "<null>" {
						t.Errorf("emptied, with nothing else: %q", row)
					}
				}
			}
			if got := s.open(t, opened); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("tokens open to %q, want %q", got, want)
			}
			r := s.restore(t, exitDone, args...)
			if r.Restored != 4 { // u6 too: that n was emptied by NULL cannot be known
				t.Errorf("%+v", r)
			}
			if got := s.db.Query(t, "SELECT n FROM people WHERE id = 'u5'"); got[0][0] != "5" {
				t.Errorf("a number came back as %q", got)
			}
		})
	}
}
