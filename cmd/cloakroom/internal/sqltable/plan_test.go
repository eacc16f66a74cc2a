package sqltable_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

func TestPlan(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		app := s.session(t, d)
		d.Exec(t, "CREATE TABLE users (id int PRIMARY KEY, phone varchar(20) NOT NULL UNIQUE, name varchar(20) "+s.pick("", "COMMENT 'it is NOT NULL, ''really''' ")+
			"DEFAULT 'nobody', mail varchar(20) NOT NULL DEFAULT 'x NOT NULL' "+s.pick("", "COMMENT 'a NOT NULL'")+" CHECK (mail <> 'bad'), plain int, "+
			s.pick("upper text GENERATED ALWAYS AS (upper(name)) STORED", "up varchar(20) GENERATED ALWAYS AS (upper(name)) STORED, at timestamp DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP")+")",
			"CREATE INDEX by_name ON users (name)", "CREATE VIEW shown AS SELECT id, name FROM users",
			"CREATE TABLE calls (phone varchar(20), CONSTRAINT to_users FOREIGN KEY (phone) REFERENCES users (phone))", "INSERT INTO users (id, phone, plain) VALUES (1, '2', 3)")
		if s.my {
			app.Exec("CREATE TRIGGER watch BEFORE UPDATE ON users FOR EACH ROW SET NEW.plain = 1")
		} else {
			app.Exec("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", "CREATE TRIGGER watch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()",
				"CREATE PUBLICATION out FOR TABLE users")
		}
		db := open(t, d.DSN, sqltable.Options{})
		if !strings.HasPrefix(db.Name(), s.name+" 1") {
			t.Errorf("name %q", db.Name())
		}
		table := look(t, db, spec("users", "phone", "name", "mail"), false)
		p := table.Plan()
		notes := strings.Join(p.Notes, "\n")
		want := []string{"trigger watch runs", "column phone: it will see NULL", "by_name uses column name", "foreign key to_users of table", "refers to column phone",
			"uses column mail", "shown shows column name", "is generated from column name"}
		if s.my {
			want = append(want, "column at is set to the current time")
		} else {
			want = append(want, "publication out sends")
		}
		for _, w := range want {
			if !strings.Contains(notes, w) {
				t.Errorf("no note says %q:\n%s", w, notes)
			}
		}
		if strings.Contains(notes, "plain") || len(slices.Compact(slices.Sorted(slices.Values(p.Notes)))) != len(p.Notes) {
			t.Errorf("notes that are none, or twice:\n%s", notes)
		}
		if len(p.Missing) > 0 || len(p.Clean) != 1 || len(p.Fill) != 1 || len(p.CutOver) != 1 || len(p.Restore) != 1 || p.Table != s.pick(`"public"."users"`, "`"+d.Name+"`.`users`") {
			t.Errorf("%+v", p)
		}
		if err := errors.Join(table.AddTokenColumns(t.Context()), table.DropNotNull(t.Context())); err != nil {
			t.Fatal(err)
		}
		table = look(t, db, spec("users", "phone", "name", "mail"), false)
		q := table.Plan()
		if len(q.AddTokens) != 0 || len(q.DropNotNull) != 0 || !slices.Equal(p.DropTokens, q.DropTokens) {
			t.Errorf("after running the plan: %+v", q)
		}
		equal(t, "nullable", d.Query(t, "SELECT column_name FROM information_schema.columns WHERE table_name = 'users' AND table_schema = "+s.pick("'public'", "DATABASE()")+" AND is_nullable = 'NO' AND column_name <> 'at'"), [][]string{{"id"}})
		d.Exec(t, "INSERT INTO users (id, phone) VALUES (2, NULL)")
		equal(t, "defaults", d.Query(t, "SELECT name, mail FROM users WHERE id = 2"), [][]string{{"<null>", "<null>"}})
		if s.my {
			equal(t, "comments", d.Query(t, "SELECT column_comment FROM information_schema.columns WHERE table_name = 'users' AND table_schema = DATABASE() AND column_comment <> '' ORDER BY column_name"),
				[][]string{{"a NOT NULL"}, {"it is NOT NULL, 'really'"}})
		}
		if err := d.Try("INSERT INTO users (id, mail) VALUES (3, 'bad')"); err == nil {
			t.Error("the check constraint is gone")
		}
		d.Exec(t, p.Clean...)
		d.Exec(t, p.DropTokens...)
	})
}

func TestGrants(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, phone varchar(20) NOT NULL)", "INSERT INTO people VALUES (1, '1')")
		user, dsn := d.User(t)
		own := s.pick("ALTER TABLE people OWNER TO "+user, "GRANT ALTER, INSERT, CREATE, DROP ON people TO "+user)
		denied := sqltable.ErrGrant
		if s.my {
			denied = sqltable.ErrColumn // MariaDB does not say that there is such a column
		}
		steps := []struct {
			grant   string
			look    error
			missing string // grants: what they are for
			fill    error
		}{
			{s.pick("GRANT USAGE ON SCHEMA public TO "+user, "GRANT SELECT (id) ON people TO "+user), denied, "", nil},
			{"GRANT SELECT ON people TO " + user, nil, "ALTER [add_tokens drop_not_null drop_tokens], UPDATE phone [cut_over restore], UPDATE phone_token [fill cut_over drop_tokens]", sqltable.ErrGrant},
			{"GRANT UPDATE (phone) ON people TO " + user, nil, "ALTER [add_tokens drop_not_null drop_tokens], UPDATE phone_token [fill cut_over drop_tokens]", sqltable.ErrGrant},
			{"GRANT UPDATE ON people TO " + user, nil, "ALTER [add_tokens drop_not_null drop_tokens]", sqltable.ErrGrant},
			{own, nil, "", nil},
		}
		for _, step := range steps {
			if s.my && strings.HasPrefix(step.grant, "GRANT UPDATE (") {
				continue // MariaDB's client says it in the same words, one step later
			}
			if step.grant != own || s.my {
				d.Exec(t, strings.Replace(step.grant, "ON people", "ON "+s.pick("people", d.Name+".people"), 1))
			} else {
				d.Exec(t, step.grant)
			}
			db := open(t, dsn, sqltable.Options{})
			table, err := db.Table(t.Context(), spec("people", "phone"))
			if step.look != nil {
				if !errors.Is(err, step.look) {
					t.Errorf("%s: %v, want %v", step.grant, err, step.look)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", step.grant, err)
			}
			p := table.Plan()
			var missing []string
			for _, l := range p.Missing {
				short, _, _ := strings.Cut(strings.Replace(l.Grant, "UPDATE on column", "UPDATE", 1), " on the table")
				missing = append(missing, fmt.Sprint(short, " ", l.Steps))
			}
			equal(t, step.grant+": missing", strings.Join(missing, ", "), step.missing)
			// What is refused before it begins is what would fail.
			if lacks := p.Lacks(sqltable.StepAddTokens); (len(lacks) > 0) != (step.fill != nil) {
				t.Errorf("%s: to add the token columns %q, and it ends with %v", step.grant, lacks, step.fill)
			}
			if step.fill != nil && !strings.HasPrefix(p.Lacks(sqltable.StepAddTokens)[0], "ALTER on the table (in PostgreSQL: to be its owner), to add the token columns, to let") {
				t.Errorf("%s: %q", step.grant, p.Lacks())
			}
			if _, err := table.Counts(t.Context()); err != nil {
				t.Errorf("%s: counts: %v", step.grant, err)
			}
			if err := table.AddTokenColumns(t.Context()); !errors.Is(err, step.fill) {
				t.Errorf("%s: %v", step.grant, err)
			}
			if step.fill == nil {
				if err := table.DropNotNull(t.Context()); err != nil {
					t.Error(err)
				}
				if sum := walk(t, table, sqltable.ToFill, 9, tokenize); sum.Changed != 1 {
					t.Errorf("%+v", sum)
				}
			} else if strings.HasPrefix(step.grant, "GRANT SELECT") && !s.my {
				if _, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize); !errors.Is(err, sqltable.ErrGrant) {
					t.Errorf("a batch without UPDATE: %v", err)
				}
			}
		}
		if !s.my {
			d.Exec(t, "ALTER TABLE people OWNER TO cloakroom", "GRANT ALL ON people TO "+user, "ALTER TABLE people ENABLE ROW LEVEL SECURITY")
			db := open(t, dsn, sqltable.Options{})
			if _, err := db.Table(t.Context(), spec("people", "phone")); !errors.Is(err, sqltable.ErrTable) || !strings.Contains(err.Error(), "row level security") {
				t.Errorf("rows that are hidden: %v", err)
			}
		}
	})
}

// No error holds a password, in whatever way an address is wrong.
func TestPasswordStaysSecret(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		scheme := s.pick("postgres", "mysql")
		u, err := url.Parse(d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		const secret = "hunter2secret"
		with := func(change func(u *url.URL)) string {
			v := *u
			v.User = url.UserPassword(u.User.Username(), secret)
			change(&v)
			return v.String()
		}
		tests := []struct {
			name, dsn string
			want      error
		}{
			{"wrong password", with(func(*url.URL) {}), sqltable.ErrUnreachable},
			{"no such user", with(func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }), sqltable.ErrUnreachable},
			{"nobody listens", with(func(u *url.URL) { u.Host = "127.0.0.1:1" }), sqltable.ErrUnreachable},
			{"no such host", with(func(u *url.URL) { u.Host = "host.invalid:5432" }), sqltable.ErrUnreachable},
			{"a port that is none", with(func(u *url.URL) { u.Host = "127.0.0.1:99999" }), nil},
			{"unknown parameter", with(func(u *url.URL) { u.RawQuery = "sslmode=nonsense&tls=nonsense" }), sqltable.ErrDSN},
			{"no such file", with(func(u *url.URL) { u.RawQuery = s.pick("sslmode=verify-full&sslrootcert=/none", "tls-ca=/none") }), sqltable.ErrDSN},
			{"a slash in it", scheme + "://u:" + secret + "/x@127.0.0.1/db", sqltable.ErrDSN},
			{"a hash in it", scheme + "://u:" + secret + "#x@127.0.0.1/db", sqltable.ErrDSN},
			{"a question mark in it", scheme + "://u:" + secret + "?x@127.0.0.1/db", sqltable.ErrDSN},
			{"an at sign in it", scheme + "://u:x@" + secret + "@127.0.0.1/db", sqltable.ErrDSN},
			{"a percent sign in it", scheme + "://u:" + secret + "%zz@127.0.0.1/db", sqltable.ErrDSN},
			{"a blank in it", scheme + "://u:" + secret + " x@127.0.0.1/db", nil},
			{"a bracket in it", scheme + "://u:" + secret + "[@127.0.0.1/db", nil},
			{"a control character in it", scheme + "://u:" + secret + "\n@127.0.0.1/db", sqltable.ErrDSN},
			{"another scheme", "oracle://u:" + secret + "@127.0.0.1/db", sqltable.ErrDSN},
			{"the driver's own form", "u:" + secret + "@tcp(127.0.0.1)/db", sqltable.ErrDSN},
			{"key and value", "host=127.0.0.1 user=u password=" + secret, sqltable.ErrDSN},
			{"one that could be a port, with a slash", scheme + "://u:31772/x@127.0.0.1", sqltable.ErrDSN},
			{"one that could be a port, with a question mark", scheme + "://u:31772?x@127.0.0.1/db", sqltable.ErrDSN},
			{"as a parameter, beside one that is wrong", scheme + "://127.0.0.1:1/db?user=u&sslpassword=" + secret + "&password=" + secret + "&sslmode=nonsense", sqltable.ErrDSN},
			{"as a parameter", scheme + "://127.0.0.1:1/db?user=u&password=" + secret, nil},
		}
		for _, tt := range tests {
			_, err := sqltable.Open(t.Context(), tt.dsn, sqltable.Options{})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(e.Error(), "hunter2") || strings.Contains(e.Error(), "31772") {
					t.Errorf("%s: the error holds the password", tt.name)
				}
			}
			if clean, had := sqltable.WithoutPassword(tt.dsn); strings.Contains(clean, "hunter2") || strings.Contains(clean, "31772") || !had {
				t.Errorf("%s: without its password: %q, %v", tt.name, clean, had)
			}
		}
		clean, had := sqltable.WithoutPassword(d.DSN)
		if !had || strings.Contains(clean, "s3cret") || !strings.Contains(clean, u.Host) {
			t.Errorf("without its password: %q, %v", clean, had)
		}
		if again, had := sqltable.WithoutPassword(clean); again != clean || had {
			t.Errorf("once more: %q, %v", again, had)
		}
		// Left out of the address, it comes from the environment.
		t.Setenv(s.pick("PGPASSWORD", "MYSQL_PWD"), sqltest.Password)
		open(t, clean, sqltable.Options{})
	})
}
