package sqltest

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// Database is a fresh database of a Server, dropped at the end of the test.
type Database struct {
	DSN  string // as the command line takes it, with the password
	Name string

	server *Server
}

// Database makes one, and starts the server where nothing has yet. It fails the test where no server is installed.
func (s *Server) Database(t testing.TB) *Database {
	t.Helper()
	return s.database(t, s.dialect.createDatabase)
}

// Encoded makes one whose texts are, or in MariaDB are unless a table says otherwise, in a character set of the server's.
func (s *Server) Encoded(t testing.TB, charset string) *Database {
	t.Helper()
	return s.database(t, "CREATE DATABASE %s "+s.dialect.encoded+" "+charset)
}

func (s *Server) database(t testing.TB, create string) *Database {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", s.count.Add(1))
	s.admin(t, create, name)
	t.Cleanup(func() {
		if s.running() {
			s.admin(t, s.dialect.dropDatabase, name)
		}
	})
	return &Database{DSN: s.dsn(admin, name), Name: name, server: s}
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil
}

func (s *Server) dsn(user, database string) string {
	u := url.URL{
		Scheme: s.dialect.scheme, User: url.UserPassword(user, Password), Host: s.address(),
		Path: "/" + database, RawQuery: s.dialect.query,
	}
	return u.String()
}

// admin runs a statement about what has this name.
func (s *Server) admin(t testing.TB, statement, name string) {
	t.Helper()
	if _, err := s.say(s.dialect.anywhere, strings.Replace(statement, "%s", name, 1)+";"); err != nil {
		t.Fatal(err)
	}
}

// say hands statements, each with its semicolon, to the client, and returns what it wrote.
func (s *Server) say(database, statements string) ([]byte, error) {
	cmd := s.product.client(s, database)
	var out, fault bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(statements), &out, &fault
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", statements, err, fault.String())
	}
	return out.Bytes(), nil
}

// User makes a user without grants, whose password is Password, and returns its name, and the address of this database
// for it. It outlives the test: the server is there for the tests alone.
func (d *Database) User(t testing.TB) (name, dsn string) {
	t.Helper()
	name = fmt.Sprintf("user_%d", d.server.count.Add(1))
	d.server.admin(t, d.server.dialect.createUser, name)
	return name, d.server.dsn(name, d.Name)
}

// Exec runs statements as the administrator, in one session. MariaDB's client does not take DELIMITER from here: a
// trigger is one statement without BEGIN.
func (d *Database) Exec(t testing.TB, statements ...string) {
	t.Helper()
	if err := d.Try(statements...); err != nil {
		t.Fatal(err)
	}
}

// Try is Exec for other goroutines than the test's, and for statements that may fail.
func (d *Database) Try(statements ...string) error {
	_, err := d.server.say(d.Name, strings.Join(statements, ";\n")+";\n")
	return err
}

// Query returns all rows as text, NULL as "<null>".
func (d *Database) Query(t testing.TB, query string) [][]string {
	t.Helper()
	rows, err := d.Ask(query)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Ask is Query for other goroutines than the test's.
func (d *Database) Ask(query string) ([][]string, error) {
	out, err := d.server.say(d.Name, query+";")
	if err != nil {
		return nil, err
	}
	return d.server.product.rows(out)
}
