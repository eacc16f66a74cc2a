package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// typing runs a command in this process, with a terminal at which text is typed.
func (s *site) typing(t *testing.T, text string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return s.typingFrom(t, strings.NewReader(text), args...)
}

func (s *site) typingFrom(t *testing.T, typed io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	environment := map[string]string{dsnVariable: s.db.DSN}
	p := &program{
		in: typed, out: &out, err: &errs, now: time.Now, inTerminal: true,
		lookup: func(name string) (string, bool) { v, ok := environment[name]; return v, ok },
	}
	code = p.run(t.Context(), append(args, "--errors", filepath.Join(s.folder, "bad.csv"), "--force", "--data", filepath.Join(s.dir, "data"), "--addr", "http://"+s.addr))
	tellsNothing(t, out.String(), errs.String())
	return code, out.String(), errs.String()
}

// On a terminal each step is asked for: filling, and by the table's name what destroys.
func TestMigrateAsks(t *testing.T) {
	s := newSite(t, servers.postgres)
	s.db.Exec(t, `CREATE TABLE "the users" (id int PRIMARY KEY, phone varchar(40))`, `INSERT INTO "the users" VALUES (1, '13700000000')`)
	args := []string{"migrate-table", "--table", "the users", "--key", "id", "--map", "phone=phone"}
	state := func() string { return fmt.Sprint(s.db.Query(t, `SELECT * FROM "the users"`)) }
	cases := []struct {
		typed string
		args  []string
		code  int
		says  string
		state string // how many columns, and whether there is plaintext
	}{
		{"no\n", nil, exitUsage, "not confirmed; nothing was changed", "[[1 13700000000]]"},
		{"", nil, exitUsage, "not confirmed; nothing was changed", "[[1 13700000000]]"},
		{"yes\nyes\n", []string{"--overwrite"}, exitUsage, "Type overwrite: cloakroom: not confirmed; nothing was changed", "[[1 13700000000]]"},
		{"yes\n", nil, exitDone, "The plaintext is still there.", "[[1 13700000000 tok"},
		{"yes\nusers\n", []string{"--cutover"}, exitUsage, "not confirmed; the tokens are there, and no plaintext was cleared", "[[1 13700000000 tok"},
		{"yes\nthe users\n", []string{"--cutover"}, exitDone, `VACUUM (FULL, ANALYZE) "public"."the users"`, "[[1 <null> tok"},
	}
	for _, tc := range cases {
		code, out, errs := s.typing(t, tc.typed, append(args, tc.args...)...)
		if code != tc.code || !strings.Contains(errs, tc.says) || !strings.Contains(errs, `Plan for "public"."the users" (PostgreSQL`) {
			t.Errorf("%q: exit code %d\n%s%s", tc.typed, code, out, errs)
		}
		if now := state(); !strings.HasPrefix(now, tc.state) {
			t.Errorf("%q: the table is %s", tc.typed, now)
		}
	}
	back := []string{"restore-table", "--table", "the users", "--key", "id", "--map", "phone=phone"}
	if code, _, errs := s.typing(t, "no\n", back...); code != exitUsage || !strings.HasPrefix(state(), "[[1 <null> tok") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	if code, _, errs := s.typing(t, "yes\nno\n", append(back, "--drop-tokens")...); code != exitUsage || !strings.HasPrefix(state(), "[[1 13700000000 tok") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	if code, _, errs := s.typing(t, "", append(back, "--drop-tokens", "--yes")...); code != exitDone || state() != "[[1 13700000000]]" {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

// While the server is away no row is locked, and when it comes back the work goes on.
func TestMigrateServerAway(t *testing.T) {
	for name, server := range servers.all() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server)
			all := usersOf(2000)
			s.fillUsers(t, all)
			release := s.holdRow(t, all[1000].id)
			defer release()
			cmd := s.program(append([]string{"migrate-table"}, usersArgs("--batch", "10", "--cutover", "--leave-bad")...)...)
			said := &lines{}
			cmd.Stdout, cmd.Stderr = said, said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s.waitFilled(t)
			s.kill()
			release()
			said.wait(t, "no row is locked meanwhile")
			limit := "SET lock_timeout = '1ms'"
			if server == servers.mariadb {
				limit = "SET SESSION innodb_lock_wait_timeout = 1"
			}
			s.db.Exec(t, limit, "UPDATE users SET note = 'while it waits'")
			s.start(t)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != exitPartly {
				t.Fatalf("exit code %d\n%s", code, said.text())
			}
			tellsNothing(t, said.text())
			s.tokensOpen(t, all, true)
		})
	}
}

// A server that does not answer for good ends the run with what to do, and the rows as they were.
func TestMigrateServerGone(t *testing.T) {
	s := newSite(t, servers.postgres)
	s.db.Exec(t, createPeople, "INSERT INTO people VALUES ('u1', '13700000000', 7)")
	s.kill()
	_, said := s.run(t, exitFailed, "migrate-table", "--table", "people", "--key", "id", "--map", "phone=phone")
	if !strings.Contains(said, "is the server running?") {
		t.Errorf("it says %s", said)
	}
	if got := fmt.Sprint(s.db.Query(t, "SELECT * FROM people")); got != "[[u1 13700000000 7]]" {
		t.Errorf("the table is %s", got)
	}
}

// lines is what a command says, to be looked at while it runs.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) wait(t *testing.T, part string) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !strings.Contains(l.text(), part); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not say %q but\n%s", part, l.text())
		}
	}
}
