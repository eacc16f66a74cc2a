package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// A migration whose command, server and database are killed again and again ends in the same table as one that nothing
// disturbs.
func TestMigrateKilled(t *testing.T) {
	for name, server := range servers.all() {
		rows, kills := 20_000, 9
		if name == "MariaDB" {
			rows, kills = 4000, 6
		}
		t.Run(name, func(t *testing.T) { migrateKilled(t, server, rows, kills) })
	}
}

func migrateKilled(t *testing.T, server *sqltest.Server, n, kills int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newSite(t, server)
	all := usersOf(n)
	s.fillUsers(t, all)
	before := s.dump(t, asBefore)
	k := killing{s, rand.New(rand.NewPCG(seed, 3)), usersArgs("--batch", strconv.Itoa(n/60)), kills}
	good := n - n/100
	// Filled, and cut over.
	k.run(t, "migrate-table", exitPartly, func(done int) float64 { return float64(done) / float64(2*good) }, "--cutover", "--leave-bad")
	s.tokensOpen(t, all, true)
	k.kills /= 2
	k.run(t, "restore-table", exitDone, func(done int) float64 { return float64(2*good-done) / float64(good) })
	if got := s.dump(t, asBefore); got != before {
		t.Errorf("restored, the table is another one: %s", firstDifference(got, before))
	}
}

// asBefore are the columns that the table users had first.
const asBefore = "(SELECT id, phone, full_name, note FROM users) as_before"

// killing runs a command again and again, and kills it, its server and its database in turn.
type killing struct {
	*site
	random *rand.Rand
	args   []string
	kills  int
}

// run spreads the kills over the work, of which a part is done: 0 to 1, as progress makes it from progress of the site.
// The last run is not disturbed.
func (k killing) run(t *testing.T, command string, want int, part func(done int) float64, more ...string) {
	t.Helper()
	for killed := 0; ; killed++ {
		cmd := k.program(slices.Concat([]string{command}, k.args, more)...)
		said := &lines{}
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(gone)
		}()
		if killed >= k.kills {
			<-gone
			tellsNothing(t, said.text())
			if code := cmd.ProcessState.ExitCode(); code != want {
				t.Fatalf("undisturbed it ends with %d\n%s", code, said.text())
			}
			return
		}
		for end := time.Now().Add(5 * time.Minute); part(k.progress(t)) < float64(killed)/float64(k.kills) && !isClosed(gone); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it does not go on\n%s", said.text())
			}
		}
		time.Sleep(time.Duration(k.random.IntN(300)) * time.Millisecond)
		switch killed % 3 {
		case 0:
			_ = cmd.Process.Kill()
			<-gone
		case 1:
			// It waits for the server, goes on by itself, and is killed a little later.
			k.kill()
			time.Sleep(time.Duration(k.random.IntN(300)) * time.Millisecond)
			k.start(t)
			time.Sleep(time.Duration(k.random.IntN(500)) * time.Millisecond)
			_ = cmd.Process.Kill()
			<-gone
		case 2:
			k.server.Kill(t)
			<-gone
			k.server.Restart(t)
		}
		tellsNothing(t, said.text())
		t.Logf("killed %d: exit code %d, %.0f %% done", killed, cmd.ProcessState.ExitCode(), 100*part(k.progress(t)))
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Ctrl-C prints a command, and that goes on: without the password that was given.
func TestMigrateInterrupted(t *testing.T) {
	s := newSite(t, servers.postgres)
	s.fillUsers(t, usersOf(3000))
	release := s.holdRow(t, 3001)
	defer release()
	args := usersArgs("--batch", "5", "--dsn", s.db.DSN)
	cmd := s.program(append([]string{"migrate-table"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.waitFilled(t)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	tellsNothing(t, out.String(), errs.String())
	_, again, found := strings.Cut(strings.TrimSpace(errs.String()), "what is done stays done; go on with: ")
	if cmd.ProcessState.ExitCode() != exitFailed || !found || !strings.Contains(again, "--batch 5") || !strings.Contains(errs.String(), "shows in ps") {
		t.Fatalf("exit code %d\n%s", cmd.ProcessState.ExitCode(), &errs)
	}
	release()
	before := s.db.Query(t, "SELECT count(phone_token) FROM users")[0][0]
	next := exec.Command("sh", "-c", strings.Replace(again, "--batch 5", "--batch 500", 1))
	next.Env = append(quick(), "PGPASSWORD="+sqltest.Password)
	next.Dir = s.folder
	s.finish(t, exitPartly, next)
	if after := s.db.Query(t, "SELECT count(phone_token) FROM users")[0][0]; after == before || after != "2970" {
		t.Errorf("%s rows were filled, and then %s", before, after)
	}
}

// holdRow locks a row of the table users until release is called, so that a command is under way when it comes there.
// The token columns are added first, which needs the table for itself.
func (s *site) holdRow(t *testing.T, id int) (release func()) {
	t.Helper()
	s.migrate(t, exitDone, usersArgs("--add-columns")...)
	db, err := sqltable.Open(t.Context(), s.db.DSN, sqltable.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := db.Table(t.Context(), sqltable.Spec{Table: "users", Key: "id", Columns: []sqltable.Column{{Name: "phone"}}})
	if err != nil {
		t.Fatal(err)
	}
	held, enough, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := table.BatchOf(context.Background(), []string{strconv.Itoa(id)}, func(context.Context, []sqltable.Row) ([]sqltable.Row, error) {
			close(held)
			<-enough
			return nil, nil
		})
		ended <- err
	}()
	select {
	case <-held:
	case err := <-ended:
		t.Fatalf("row %d was not held: %v", id, err)
	}
	return sync.OnceFunc(func() {
		close(enough)
		if err := errors.Join(<-ended, db.Close()); err != nil {
			t.Error(err)
		}
	})
}

// progress is how many rows are filled and how many are cut over, together.
func (s *site) progress(t *testing.T) (done int) {
	t.Helper()
	if !strings.Contains(s.schema(t, "users"), "phone_token") {
		return 0
	}
	for _, cell := range s.db.Query(t, "SELECT count(phone_token), count(*) - count(phone) FROM users")[0] {
		rows, err := strconv.Atoi(cell)
		if err != nil {
			t.Fatal(err)
		}
		done += rows
	}
	return done
}

// waitFilled waits until a row is filled.
func (s *site) waitFilled(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); s.progress(t) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no row is filled")
		}
	}
}
