package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// An application goes through the releases of docs/tables.md, one instance after the other, and writes and reads all the
// while, as its table is filled, cut over and restored. No value is lost, none that was cleared comes back, and no instance
// reads anything but what was written last.
func TestMigrateLive(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			rows := 2000
			if name == "MariaDB" {
				rows = 700
			}
			migrateLive(t, server, slices.DeleteFunc(usersOf(rows), person.bad))
		})
	}
}

func migrateLive(t *testing.T, server *sqltest.Server, all []person) {
	s := newSite(t, server)
	s.fillUsers(t, all)
	// Defaults that would be taken for values.
	s.db.Exec(t, "ALTER TABLE users ALTER COLUMN phone SET DEFAULT ''", "ALTER TABLE users ALTER COLUMN full_name SET DEFAULT 'unknown'")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	app := s.runApplication(t, all, seed)
	migrate := func(args ...string) {
		t.Helper()
		before := app.writes.Load()
		app.mayWrite(1000)
		s.migrate(t, exitDone, usersArgs(append(args, "--batch", "50")...)...)
		t.Logf("migrate-table %v: %d writes meanwhile", args, app.writes.Load()-before)
	}
	restore := func(args ...string) {
		t.Helper()
		app.mayWrite(1000)
		s.restore(t, exitDone, usersArgs(append(args, "--batch", "50")...)...)
	}

	migrate("--dry-run")
	migrate("--add-columns")
	app.look(t)
	app.release(t, 0, untying)
	app.release(t, 1, untying)
	migrate()
	migrate()
	app.release(t, 0, readsBoth)
	migrate()
	app.release(t, 1, readsBoth)
	migrate("--cutover")
	app.release(t, 0, writesTokens)
	migrate("--cutover")
	// The same rows as written by an instance of the release before, once more.
	app.exchange()
	migrate("--cutover")
	app.release(t, 0, writesTokens)
	app.release(t, 1, writesTokens)
	migrate("--cutover")
	app.pause(t)
	s.hasLastWrites(t, app.rows())
	if plain := s.db.Query(t, "SELECT count(*) FROM users WHERE phone <> '' OR full_name <> ''"); plain[0][0] != "0" {
		t.Errorf("%s rows hold plaintext after the last cut-over, with nobody left who writes it", plain[0][0])
	}
	app.goOn()

	// And back, in the other order.
	app.release(t, 0, readsBoth)
	app.release(t, 1, readsBoth)
	restore()
	restore()
	app.release(t, 0, untying)
	app.release(t, 1, untying)
	restore("--clear-tokens")
	app.release(t, 0, knowsNothing)
	app.release(t, 1, knowsNothing)
	restore("--drop-tokens")
	app.pause(t)
	rows := app.rows()
	for _, row := range s.db.Query(t, "SELECT id, phone, full_name FROM users") {
		id, err := strconv.Atoi(row[0])
		if p, ok := rows[id]; err != nil || !ok || row[1] != p.phone || row[2] != p.name {
			t.Fatalf("restored, row %q is not what the application wrote: %v", row, p)
		}
		delete(rows, id)
	}
	if len(rows) > 0 {
		t.Errorf("rows are missing: %v", slices.Collect(maps.Keys(rows)))
	}
	if app.writes.Load() == 0 {
		t.Error("the application wrote nothing")
	}
}

// hasLastWrites looks that Cloakroom has, for each row, what the application wrote last, and the table nothing.
func (s *site) hasLastWrites(t *testing.T, rows map[int]person) {
	t.Helper()
	rowsNow := s.db.Query(t, "SELECT id, phone, full_name, phone_token, full_name_token FROM users ORDER BY id")
	if len(rowsNow) != len(rows) {
		t.Fatalf("%d rows, and the application has %d", len(rowsNow), len(rows))
	}
	var tokens, want []string
	for _, row := range rowsNow {
		id, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		p, ok := rows[id]
		if !ok {
			t.Fatalf("row %d was deleted, and is there", id)
		}
		for at, value := range []string{p.phone, p.name} {
			plain, token := row[1+at], row[3+at]
			switch {
			case value == "" || value == "<null>":
				if plain != value || token != "<null>" {
					t.Errorf("row %d holds %q with the token %q for %q", id, plain, token, value)
				}
			case plain != "<null>":
				t.Errorf("row %d still holds plaintext", id)
			default:
				tokens, want = append(tokens, token), append(want, value)
			}
		}
	}
	if got := s.open(t, tokens); !slices.Equal(got, want) {
		t.Errorf("a value was lost: %s", firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
}
