package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// A table becomes tokens and comes back, step by step, on both databases.
func TestMigrateTable(t *testing.T) {
	for name, server := range servers.all() {
		rows := 20_000
		if name == "MariaDB" {
			rows = 4000
		}
		t.Run(name, func(t *testing.T) { migrateThereAndBack(t, server, rows) })
	}
}

func migrateThereAndBack(t *testing.T, server *sqltest.Server, n int) {
	s := newSite(t, server)
	all := usersOf(n)
	s.fillUsers(t, all)
	before, schema := s.dump(t, asBefore), s.schema(t, "users")
	bad := int64(n / 100)

	// The dry run changes neither rows nor columns.
	sum := s.migrate(t, exitPartly, usersArgs("--dry-run")...)
	if d := sum.Plan.Dry; d.Rows != int64(n) || d.Failed != bad || d.Policy != "server" || d.Reasons[0].Rule != "letters" {
		t.Errorf("the dry run says %+v", *d)
	}
	if f := sum.Plan.Dry.Fields[1]; f.Empty != int64(n/5) || f.Distinct != 2 {
		t.Errorf("of the names it says %+v", *f)
	}
	if s.dump(t, "users") != before || s.schema(t, "users") != schema {
		t.Fatal("the dry run changed the table")
	}
	if left := listFolder(t, s.folder); len(left) > 0 {
		t.Errorf("it left %v", left)
	}

	// Filled, and nothing taken away.
	sum = s.migrate(t, exitPartly, usersArgs()...)
	t.Logf("filled in %.1f s", sum.Seconds)
	if !sum.Done || sum.Rows != int64(n) || sum.Filled != int64(n)-bad || sum.Bad != bad || sum.Verified == 0 || sum.Cut != 0 || sum.Plain != int64(n) {
		t.Errorf("filled: %+v", sum)
	}
	if s.dump(t, asBefore) != before {
		t.Fatal("filling changed what was there")
	}
	s.tokensOpen(t, all, false)
	lines := s.errorLines(t, "users.errors.csv")
	if int64(len(lines)) != bad || strings.Join(lines[0][:4], " ") != "151 phone invalid_value letters" {
		t.Errorf("%d bad rows, the first is %q", len(lines), lines[0])
	}

	// Again: nothing is left to do, and the file is not written over.
	tokens := s.dump(t, "users")
	if sum = s.migrate(t, exitPartly, usersArgs("--batch", "777")...); sum.Filled != 0 || sum.Bad != bad || sum.Errors != "./users.2.errors.csv" {
		t.Errorf("filled again: %+v", sum)
	}
	if s.dump(t, "users") != tokens {
		t.Error("filling again changed something")
	}

	// Cut over: not while rows are bad, unless asked to leave them.
	if sum = s.migrate(t, exitFailed, usersArgs("--cutover")...); sum.Done || sum.Cut != 0 {
		t.Errorf("with bad rows: %+v", sum)
	}
	if s.dump(t, "users") != tokens {
		t.Error("a cut-over that was refused changed something")
	}
	sum = s.migrate(t, exitPartly, usersArgs("--cutover", "--leave-bad", "--force")...)
	t.Logf("cut over in %.1f s", sum.Seconds)
	if !sum.Done || sum.Cut != int64(n)-bad || sum.Plain != bad || sum.Bad != bad || sum.Errors != "./users.errors.csv" {
		t.Errorf("cut over: %+v", sum)
	}
	whole := s.dump(t, "users")
	// Not in any column, the tests' own included. Those of bad rows end in a letter.
	if left := regexp.MustCompile(`1370[0-9]{7}|137 0[0-9]{3} [0-9]{4}`).FindAllString(whole, 3); left != nil {
		t.Fatalf("phones are still there: %q", left)
	}
	s.tokensOpen(t, all, true)
	if sum = s.migrate(t, exitPartly, usersArgs("--cutover", "--leave-bad", "--force")...); sum.Cut != 0 {
		t.Errorf("cut over again: %+v", sum)
	}
	if s.dump(t, "users") != whole {
		t.Error("cutting over again changed something")
	}

	if r := s.restore(t, exitDone, usersArgs("--dry-run")...); r.Sampled != 1000 || r.Opened != 1000 || r.Restored != 0 || r.Needed != -1 {
		t.Errorf("tried: %+v", r)
	}
	if s.dump(t, "users") != whole {
		t.Error("a dry run of the way back changed something")
	}

	// Back. One person was erased, another one's phone; one row has newer plaintext.
	s.erase(t, "users:1", "")
	s.erase(t, "users:4", "phone")
	s.db.Exec(t, "UPDATE users SET phone = '13700000001x' WHERE id = 7")
	r := s.restore(t, exitPartly, usersArgs("--batch", "999")...)
	if !r.Done || r.Bad != 2 || r.Needed != 2 || r.Dropped || len(r.Reasons) != 2 {
		t.Errorf("restored: %+v", r)
	}
	want := strings.Replace(before, `["1" "13700000000" "张 三"`, `["1" "<null>" "<null>"`, 1)
	want = strings.Replace(want, `["4" "137 0000 0001 "`, `["4" "<null>"`, 1)
	want = strings.Replace(want, `["7" "13700000002"`, `["7" "13700000001x"`, 1)
	if got := s.dump(t, asBefore); got != want {
		t.Errorf("restored, the table is another one:\n%s", firstDifference(got, want))
	}
	// A token that may be opened one day keeps the column.
	s.db.Exec(t, "UPDATE users SET phone_token = 'other', phone = NULL WHERE id = 10")
	if r = s.restore(t, exitFailed, usersArgs("--drop-tokens")...); r.Dropped || !slices.ContainsFunc(r.Reasons, func(r importReason) bool { return r.Code == "token_malformed" }) {
		t.Errorf("with a token that is needed: %+v", r)
	}
	s.db.Exec(t, "UPDATE users SET phone_token = NULL WHERE id = 10")
	if r = s.restore(t, exitPartly, usersArgs("--drop-tokens", "--force")...); !r.Dropped || r.Bad != 2 {
		t.Errorf("dropped: %+v", r)
	}
	if got := s.schema(t, "users"); got != nullable(schema, "phone") {
		t.Errorf("dropped, the columns are %s and were %s", got, schema)
	}
}

// nullable is a schema as it was, but for NOT NULL of a column.
func nullable(schema, column string) string {
	at := strings.Index(schema, "["+column+" ")
	return schema[:at] + strings.Replace(schema[at:], "NO]", "YES]", 1)
}

// tokensOpen looks that every value that is not bad has a token of its own that opens to it, and that bad rows have none.
func (s *site) tokensOpen(t *testing.T, all []person, cut bool) {
	t.Helper()
	var tokens, want []string
	rows := s.db.Query(t, "SELECT id, phone, full_name, phone_token, full_name_token FROM users ORDER BY id")
	if len(rows) != len(all) {
		t.Fatalf("%d rows, want %d", len(rows), len(all))
	}
	seen := map[string]bool{}
	for i, p := range all {
		row := rows[i]
		for at, value := range []string{p.phone, p.name} {
			plain, token := row[1+at], row[3+at]
			none := p.bad() || value == "" || value == "<null>"
			if none != (token == "<null>") || seen[token] {
				t.Fatalf("row %d has the token %q", p.id, token)
			}
			if gone := cut && !none; plain != value && !gone || gone && plain != "<null>" {
				t.Fatalf("row %d holds %q for %q", p.id, plain, value)
			}
			if !none {
				tokens, want, seen[token] = append(tokens, token), append(want, value), true
			}
		}
	}
	if got := s.open(t, tokens); !slices.Equal(got, want) {
		t.Errorf("tokens open to other values: %s", firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("got %s\nwant %s", a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

func listFolder(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// erase erases a person, or one field of it.
func (s *site) erase(t *testing.T, subject, field string) {
	t.Helper()
	var err error
	if cl := s.client(t, "officer"); field == "" {
		_, err = cl.EraseSubject(t.Context(), subject, "test")
	} else {
		_, err = cl.EraseField(t.Context(), subject, field, "test")
	}
	if err != nil {
		t.Fatal(err)
	}
}
