package sqltable_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

var postgres, mariadb = sqltest.Postgres(), sqltest.MariaDB()

func TestMain(m *testing.M) {
	code := m.Run()
	if err := errors.Join(postgres.Stop(), mariadb.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// sort is a database with what its SQL has of its own.
type sort struct {
	name   string
	server *sqltest.Server
	my     bool
}

// each runs a test on a fresh database of both.
func each(t *testing.T, f func(t *testing.T, s sort, d *sqltest.Database)) {
	t.Helper()
	for _, s := range []sort{{"PostgreSQL", postgres, false}, {"MariaDB", mariadb, true}} {
		t.Run(s.name, func(t *testing.T) { f(t, s, s.server.Database(t)) })
	}
}

// pick returns the one of the two that is for this database.
func (s sort) pick(pg, my string) string {
	if s.my {
		return my
	}
	return pg
}

// quote quotes a name.
func (s sort) quote(name string) string {
	if s.my {
		return "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func text(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// hasty waits for no lock longer than it takes to see that it is held.
func hasty() sqltable.Options {
	return sqltable.Options{LockWait: 100 * time.Millisecond, AlterWait: 100 * time.Millisecond, Attempts: 2, Jitter: func() float64 { return 0 }}
}

func open(t *testing.T, dsn string, opt sqltable.Options) *sqltable.DB {
	t.Helper()
	db, err := sqltable.Open(t.Context(), dsn, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func spec(table string, columns ...string) sqltable.Spec {
	s := sqltable.Spec{Table: table, Key: "id"}
	for _, c := range columns {
		s.Columns = append(s.Columns, sqltable.Column{Name: c})
	}
	return s
}

// look looks a table over, with its token columns where fill is true.
func look(t *testing.T, db *sqltable.DB, s sqltable.Spec, fill bool) *sqltable.Table {
	t.Helper()
	table, err := db.Table(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if fill {
		if err := table.AddTokenColumns(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func some(s string) sqltable.Text { return sqltable.Text{Value: s, Valid: true} }

// token of a value, in ASCII.
func token(value string) string { return fmt.Sprintf("tok_%x", value) }

// tokenize is work that gives each value its token.
func tokenize(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
	for _, r := range rows {
		for i := range r.Cells {
			if c := &r.Cells[i]; c.Plain.Valid && c.Plain.Value != "" {
				c.Token = some(token(c.Plain.Value))
			}
		}
	}
	return rows, nil
}

// clear is work that sets plaintext that has a token to NULL.
func clear(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
	for _, r := range rows {
		for i := range r.Cells {
			if r.Cells[i].Token.Valid {
				r.Cells[i].Plain = sqltable.Text{}
			}
		}
	}
	return rows, nil
}

// restore is work that undoes both.
func restore(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
	for _, r := range rows {
		for i := range r.Cells {
			if c := &r.Cells[i]; c.Token.Valid && !c.Plain.Valid {
				value, err := hex.DecodeString(strings.TrimPrefix(c.Token.Value, "tok_"))
				if err != nil {
					return nil, err
				}
				c.Plain = some(string(value))
			}
		}
	}
	return rows, nil
}

// walk runs batches to the end and adds them up.
func walk(t *testing.T, table *sqltable.Table, want sqltable.Want, limit int, work sqltable.Work) sqltable.Batch {
	t.Helper()
	var sum sqltable.Batch
	for !sum.Done {
		b, err := table.Batch(t.Context(), want, sum.Next, limit, work)
		if err != nil {
			t.Fatal(err)
		}
		sum.Rows, sum.Changed, sum.Next, sum.Done = sum.Rows+b.Rows, sum.Changed+b.Changed, b.Next, b.Done
		sum.Refused = append(sum.Refused, b.Refused...)
	}
	return sum
}

// session is a session of the application's.
type session struct {
	t    *testing.T
	exec func(statement string) error
}

func (s session) Exec(statements ...string) {
	s.t.Helper()
	for _, statement := range statements {
		if err := s.exec(statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (s sort) session(t *testing.T, d *sqltest.Database) session {
	t.Helper()
	ctx := context.Background()
	if s.my {
		u, err := url.Parse(d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		config := mysql.NewConfig()
		config.User, config.Passwd, config.Net, config.Addr, config.DBName = u.User.Username(), sqltest.Password, "tcp", u.Host, d.Name
		connector, err := mysql.NewConnector(config)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		t.Cleanup(func() { _ = db.Close() })
		c, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return session{t, func(statement string) error {
			_, err := c.ExecContext(ctx, statement)
			return err
		}}
	}
	c, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(ctx) })
	return session{t, func(statement string) error {
		_, err := c.Exec(ctx, statement)
		return err
	}}
}

// kill ends the package's session that is in a transaction.
func (s sort) kill(t *testing.T, d *sqltest.Database) {
	t.Helper()
	if !s.my {
		equal(t, "killed", d.Query(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cloakroom' AND datname = current_database() AND state = 'idle in transaction'"), [][]string{{"t"}})
		return
	}
	ids := d.Query(t, "SELECT p.ID FROM information_schema.PROCESSLIST p JOIN information_schema.INNODB_TRX x ON x.trx_mysql_thread_id = p.ID WHERE p.DB = DATABASE()")
	if len(ids) != 1 {
		t.Fatalf("sessions in a transaction: %v", ids)
	}
	d.Exec(t, "KILL "+ids[0][0])
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+q", got), fmt.Sprintf("%+q", want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// waited returns when a session waits for another's lock. It is for any goroutine.
func (s sort) waited(d *sqltest.Database) error {
	waiting := s.pick("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
		"SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'")
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		rows, err := d.Ask(waiting)
		switch {
		case err != nil:
			return err
		case rows[0][0] != "0":
			return nil
		case time.Now().After(end):
			return errors.New("waited a minute for a session to wait for a lock")
		}
	}
}
