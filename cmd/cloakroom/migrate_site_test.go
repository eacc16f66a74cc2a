package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// databases are started by the first test that needs one, and stopped behind the last test.
type databases struct{ postgres, mariadb *sqltest.Server }

var servers = databases{sqltest.Postgres(), sqltest.MariaDB()}

func (d databases) all() map[string]*sqltest.Server {
	return map[string]*sqltest.Server{"PostgreSQL": d.postgres, "MariaDB": d.mariadb}
}

func (d databases) stop() error { return errors.Join(d.postgres.Stop(), d.mariadb.Stop()) }

// site is a database of an application beside a server of Cloakroom, and a folder where commands run.
type site struct {
	*served
	server *sqltest.Server
	db     *sqltest.Database
	folder string
}

func newSite(t *testing.T, server *sqltest.Server) *site {
	t.Helper()
	return &site{served: serveFor(t), server: server, db: server.Database(t), folder: t.TempDir()}
}

// privatePhones begin so in the tests below.
const privatePhones = "1370"

// confidential is what must be in no output: a password, phones, names and tokens.
var confidential = regexp.MustCompile(`s3cret|1370[0-9]{6}|137 0|张|买买提|李四|王五|tok_[a-z]+_[0-9A-Za-z]{28}`)

// program is a command at the site. Its database comes from the environment.
func (s *site) program(args ...string) *exec.Cmd {
	cmd := exec.Command("cloakroom", append(args, "--data", filepath.Join(s.dir, "data"), "--addr", "http://"+s.addr)...)
	cmd.Env = append(quick(), dsnVariable+"="+s.db.DSN)
	cmd.Dir = s.folder
	return cmd
}

// run runs one to its end, wants its exit code, and looks that it tells no secret.
func (s *site) run(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	return s.finish(t, want, s.program(args...))
}

func (s *site) finish(t *testing.T, want int, cmd *exec.Cmd) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	tellsNothing(t, out.String(), errs.String())
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("%v: exit code %d, want %d\n%s%s", cmd.Args[1:], got, want, &out, &errs)
	}
	return out.String(), errs.String()
}

func tellsNothing(t *testing.T, outputs ...string) {
	t.Helper()
	for _, text := range outputs {
		if secret := confidential.FindString(text); secret != "" {
			t.Errorf("%q stands in what a command says:\n%s", secret, text)
		}
	}
}

// migrate runs migrate-table with --json.
func (s *site) migrate(t *testing.T, want int, args ...string) migrateSummary {
	t.Helper()
	out, _ := s.run(t, want, append([]string{"migrate-table", "--json"}, args...)...)
	var sum migrateSummary
	if err := json.Unmarshal([]byte(out), &sum); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return sum
}

func (s *site) restore(t *testing.T, want int, args ...string) restoreSummary {
	t.Helper()
	out, _ := s.run(t, want, append([]string{"restore-table", "--json"}, args...)...)
	var sum restoreSummary
	if err := json.Unmarshal([]byte(out), &sum); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return sum
}

// open returns the values behind tokens; one that does not open has its code in angle brackets.
func (s *site) open(t *testing.T, tokens []string) []string {
	t.Helper()
	all := make([]wire.Plain, len(tokens))
	for i, token := range tokens {
		all[i] = wire.Plain(token)
	}
	cl := s.client(t, "app")
	revealed, err := inBatches(t.Context(), all, func(ctx context.Context, part []wire.Plain) ([]wire.Revealed, error) {
		return cl.Detokenize(ctx, wire.Detokenize{Purpose: "service", Tokens: part})
	})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, len(revealed))
	for i, r := range revealed {
		if r.Error != nil {
			out[i] = "<" + string(r.Error.Code) + ">"
		} else {
			out[i] = string(*r.Value)
		}
	}
	return out
}

// dump is a table whole, in the order of its first column.
func (s *site) dump(t *testing.T, table string) string {
	t.Helper()
	var b strings.Builder
	for _, row := range s.db.Query(t, "SELECT * FROM "+table+" ORDER BY 1") {
		fmt.Fprintf(&b, "%q\n", row)
	}
	return b.String()
}

// schema is what the database says of a table's columns.
func (s *site) schema(t *testing.T, table string) string {
	t.Helper()
	return fmt.Sprint(s.db.Query(t, "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = '"+
		table+"' AND '"+s.db.Name+"' IN (table_catalog, table_schema) ORDER BY ordinal_position"))
}

// person is a row of the tests' table.
type person struct {
	id          int
	phone, name string // "<null>" for NULL
	note        string
}

func (p person) sql() string {
	quote := func(s string) string {
		if s == "<null>" {
			return "NULL"
		}
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return fmt.Sprintf("(%d,%s,%s,%s)", p.id, quote(p.phone), quote(p.name), quote(p.note))
}

// usersOf makes n rows, of which one in a hundred is bad, and some have an empty or no name. Spellings differ: what comes
// back has to be what was there, byte for byte.
func usersOf(n int) []person {
	var out []person
	for i := range n {
		p := person{id: 3*i + 1, phone: fmt.Sprintf("%s%07d", privatePhones, i), name: "张 三", note: fmt.Sprintf("note %d 'x'", i)}
		switch i % 10 {
		case 1:
			p.phone = p.phone[:3] + " " + p.phone[3:7] + " " + p.phone[7:] + " "
		case 2:
			p.name = "<null>"
		case 3:
			p.name = ""
		case 4:
			p.name = " 买买提•吐尔逊 "
		}
		if p.bad() {
			p.phone = p.phone[:10] + "O"
		}
		out = append(out, p)
	}
	return out
}

func (p person) bad() bool { return (p.id/3)%100 == 50 }

// fillUsers makes the table users with these rows.
func (s *site) fillUsers(t *testing.T, all []person) {
	t.Helper()
	s.db.Exec(t, "CREATE TABLE users (id integer PRIMARY KEY, phone varchar(40) NOT NULL, full_name varchar(80), note text)")
	for part := range slices.Chunk(all, 1000) {
		var rows []string
		for _, p := range part {
			rows = append(rows, p.sql())
		}
		s.db.Exec(t, "INSERT INTO users (id, phone, full_name, note) VALUES "+strings.Join(rows, ","))
	}
}

// usersArgs is the command line for it.
func usersArgs(more ...string) []string {
	return append([]string{"--table", "users", "--key", "id", "--map", "phone=phone,name=full_name", "--prefix", "users:"}, more...)
}

// errorLines are those of the file with bad rows.
func (s *site) errorLines(t *testing.T, name string) [][]string {
	t.Helper()
	path := filepath.Join(s.folder, name)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", name, info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tellsNothing(t, string(text))
	return readCSV(t, path)[1:]
}
