package sqltable_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// fillTable makes people (id, phone) with n rows, ids from 1.
func fillTable(t *testing.T, s sort, d *sqltest.Database, n int) {
	t.Helper()
	d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, phone varchar(40))")
	if n > 0 {
		d.Exec(t, fmt.Sprintf("INSERT INTO people SELECT i, CONCAT('1380', i) FROM "+s.pick("generate_series(1, %d) i", "(SELECT seq AS i FROM seq_1_to_%d) g"), n))
	}
}

func TestBatchBoundaries(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 0)
		db := open(t, d.DSN, sqltable.Options{})
		const limit = 5
		for _, rows := range []int{0, 1, limit - 1, limit, limit + 1, 2 * limit, maxPick + 1} {
			d.Exec(t, "DROP TABLE people")
			fillTable(t, s, d, rows)
			size := limit
			if rows > maxPick {
				size = rows
			}
			table := look(t, db, spec("people", "phone"), true)
			var sizes []int
			var seen []string
			var at sqltable.Place
			for done := false; !done; {
				b, err := table.Batch(t.Context(), sqltable.ToFill, at, size, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
					for _, r := range rows {
						seen = append(seen, r.Key)
					}
					return tokenize(ctx, rows)
				})
				if err != nil {
					t.Fatal(err)
				}
				sizes = append(sizes, b.Rows)
				at, done = b.Next, b.Done
			}
			want := []int{}
			for left := rows; left >= size; left -= size {
				want = append(want, size)
			}
			want = append(want, rows%size)
			equal(t, fmt.Sprint(rows, " rows: sizes"), sizes, want)
			if len(seen) != rows || rows > 0 && (seen[0] != "1" || seen[rows-1] != fmt.Sprint(rows)) {
				t.Errorf("%d rows: saw %d, %v", rows, len(seen), seen)
			}
			// A walk that changes nothing comes to an end as well.
			idle := walk(t, table, sqltable.WithToken, size, func(context.Context, []sqltable.Row) ([]sqltable.Row, error) { return nil, nil })
			equal(t, "visited idly", []int{idle.Rows, idle.Changed}, []int{rows, 0})
			equal(t, "filled", d.Query(t, "SELECT count(phone_token) FROM people"), [][]string{{fmt.Sprint(rows)}})
		}
	})
}

// maxPick is how many keys one statement names.
const maxPick = 500

func TestWalkVisitsEveryRowOnce(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		const rows = 100_000
		fillTable(t, s, d, rows)
		db := open(t, d.DSN, sqltable.Options{})
		table := look(t, db, spec("people", "phone"), true)
		seen := map[string]int{}
		begin := time.Now()
		sum := walk(t, table, sqltable.ToFill, 1000, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			for _, r := range rows {
				seen[r.Key]++
			}
			return tokenize(ctx, rows)
		})
		t.Logf("filled in %v", time.Since(begin))
		if len(seen) != rows || sum.Rows != rows || sum.Changed != rows {
			t.Errorf("saw %d keys in %d rows, changed %d", len(seen), sum.Rows, sum.Changed)
		}
		n, err := table.Counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "counts", n, sqltable.Counts{Rows: rows, Filled: rows, Plain: rows})
		read := 0
		for page := (sqltable.Page{}); !page.Done; read += len(page.Rows) {
			if page, err = table.Read(t.Context(), sqltable.WithToken, page.Next, 999); err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Rows {
				if r.Cells[0].Token.Value != token("1380"+r.Key) || r.Cells[0].Plain.Value != "1380"+r.Key {
					t.Fatalf("row %s has another's contents", r.Key)
				}
			}
		}
		equal(t, "read", read, rows)
		sample(t, table, rows)
	})
}

// Each Want picks the rows that its comment says, before and after the token columns are there.
func TestWants(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, a varchar(20), b int)",
			"INSERT INTO people VALUES (1, NULL, NULL), (2, '', NULL), (3, ' ', NULL), (4, 'a', NULL), (5, NULL, 0), (6, 'a', 1), (7, '', 2), (8, NULL, NULL), (9, '', NULL)")
		db := open(t, d.DSN, sqltable.Options{})
		table := look(t, db, spec("people", "a", "b"), false)
		check := func(want map[sqltable.Want][]string, counts sqltable.Counts) {
			t.Helper()
			for w, keys := range want {
				page, err := table.Read(t.Context(), w, sqltable.Place{}, 100)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, r := range page.Rows {
					got = append(got, r.Key)
				}
				equal(t, fmt.Sprint("want ", w), got, keys)
			}
			n, err := table.Counts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n != counts {
				t.Errorf("counts %+v, want %+v", n, counts)
			}
		}
		all := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
		values := []string{"3", "4", "5", "6", "7"}
		check(map[sqltable.Want][]string{sqltable.All: all, sqltable.ToFill: values, sqltable.ToCutOver: values, sqltable.ToRestore: nil, sqltable.WithToken: nil},
			sqltable.Counts{Rows: 9, ToFill: 5, Plain: 5, NoValues: 4})
		if err := table.AddTokenColumns(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Exec(t, "UPDATE people SET a_token = 'x' WHERE id IN (4, 6, 8, 9)", "UPDATE people SET b_token = 'x' WHERE id = 5")
		check(map[sqltable.Want][]string{sqltable.All: all, sqltable.ToFill: {"3", "6", "7"}, sqltable.ToCutOver: values, sqltable.ToRestore: {"8"},
			sqltable.WithToken: {"4", "5", "6", "8", "9"}},
			sqltable.Counts{Rows: 9, ToFill: 3, Filled: 4, Plain: 5, Cleared: 1, NoValues: 2})
		if _, err := table.Read(t.Context(), 99, sqltable.Place{}, 1); err == nil {
			t.Error("a Want that is none")
		}
	})
}

// sample holds a sample to being spread, repeatable, and another one for another seed.
func sample(t *testing.T, table *sqltable.Table, rows int) {
	t.Helper()
	draw := func(seed int64) []int {
		got, err := table.Sample(t.Context(), sqltable.WithToken, 100, seed)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int
		for _, r := range got {
			var id int
			_, _ = fmt.Sscan(r.Key, &id)
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return slices.Compact(ids)
	}
	a, b, c := draw(1), draw(1), draw(-2)
	if !slices.Equal(a, b) || slices.Equal(a, c) || len(a) != 100 {
		t.Errorf("samples of the same seed %v and %v, of another %v", a, b, c)
	}
	quarters := map[int]bool{}
	for _, id := range a {
		quarters[(id-1)*4/rows] = true
	}
	if len(quarters) != 4 {
		t.Errorf("the sample %v is not spread over the table", a)
	}
}

// A row is worked on as it is when it is locked, whatever it was when its key was picked; rows that come later are
// found by the next walk, and nothing that others write is lost.
func TestOthersWriteMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 300)
		db := open(t, d.DSN, sqltable.Options{})
		table := look(t, db, spec("people", "phone"), true)
		stop, stopped := make(chan struct{}), make(chan error, 1)
		app := s.session(t, d)
		last := map[int]string{} // what the application wrote last; "" for a row that it deleted
		go func() {
			var err error
			for i := 0; err == nil; i++ {
				select {
				case <-stop:
					stopped <- err
					return
				default:
				}
				id, phone := 1+i*7%300, fmt.Sprintf("new%d", i)
				switch i % 5 {
				case 0:
					err = app.exec(fmt.Sprintf("DELETE FROM people WHERE id = %d", id))
					last[id] = ""
				case 1:
					id = 1000 + i
					err = app.exec(fmt.Sprintf("INSERT INTO people (id, phone) VALUES (%d, '%s')", id, phone))
					last[id] = phone
				default:
					if was, ok := last[id]; !ok || was != "" {
						err = app.exec(fmt.Sprintf("UPDATE people SET phone = '%s', phone_token = NULL WHERE id = %d", phone, id))
						last[id] = phone
					}
				}
			}
			stopped <- err
		}()
		for range 5 {
			walk(t, table, sqltable.ToFill, 20, tokenize)
		}
		close(stop)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		walk(t, table, sqltable.ToFill, 20, tokenize)
		rows := d.Query(t, "SELECT id, phone, phone_token FROM people")
		there := map[int]bool{}
		for _, r := range rows {
			var id int
			_, _ = fmt.Sscan(r[0], &id)
			there[id] = true
			want, written := last[id]
			if !written {
				want = fmt.Sprintf("1380%d", id)
			}
			if r[1] != want || r[2] != token(want) {
				t.Errorf("row %d holds %s and %s, the application wrote %q", id, r[1], r[2], want)
			}
		}
		for id, phone := range last {
			if there[id] != (phone != "") {
				t.Errorf("row %d, last written %q: there %v", id, phone, there[id])
			}
		}
	})
}

// Between the picking of keys and the locks, others may take rows away or do the work.
func TestRowsThatAreNotWantedAnyMore(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 4)
		db := open(t, d.DSN, sqltable.Options{LockWait: time.Minute})
		table := look(t, db, spec("people", "phone"), true)
		app := s.session(t, d)
		app.Exec("BEGIN", "DELETE FROM people WHERE id = 1", "UPDATE people SET phone_token = 'theirs' WHERE id = 2",
			"UPDATE people SET phone = '' WHERE id = 3", "UPDATE people SET phone = 'newer' WHERE id = 4")
		type result struct {
			b    sqltable.Batch
			err  error
			seen []string
		}
		done := make(chan result, 1)
		go func() {
			var r result
			r.b, r.err = table.Batch(context.Background(), sqltable.ToFill, sqltable.Place{}, 4, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
				for _, row := range rows {
					r.seen = append(r.seen, row.Key+"="+row.Cells[0].Plain.Value)
				}
				return tokenize(ctx, rows)
			})
			done <- r
		}()
		if err := s.waited(d); err != nil {
			t.Fatal(err)
		}
		app.Exec("COMMIT")
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		equal(t, "given to work", r.seen, []string{"4=newer"})
		equal(t, "table", d.Query(t, "SELECT id, phone, phone_token FROM people ORDER BY id"),
			[][]string{{"2", "13802", "theirs"}, {"3", "", "<null>"}, {"4", "newer", token("newer")}})
		if r.b.Done {
			t.Error("a full batch says that it was the last")
		}
		b, err := table.Batch(t.Context(), sqltable.ToFill, r.b.Next, 4, tokenize)
		if err != nil || !b.Done || b.Rows != 0 {
			t.Errorf("the next batch: %+v, %v", b, err)
		}
	})
}

// A row that gets a key far ahead while the batch waits for it does not take the walk along.
func TestKeyThatChanges(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 6)
		db := open(t, d.DSN, sqltable.Options{LockWait: time.Minute})
		table := look(t, db, spec("people", "phone"), true)
		app := s.session(t, d)
		app.Exec("BEGIN", "UPDATE people SET id = 100 WHERE id = 2")
		committed := make(chan error, 1)
		go func() { committed <- errors.Join(s.waited(d), app.exec("COMMIT")) }()
		b, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 2, tokenize)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		for !b.Done {
			if b, err = table.Batch(t.Context(), sqltable.ToFill, b.Next, 2, tokenize); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "tokens", d.Query(t, "SELECT id FROM people WHERE phone_token IS NOT NULL ORDER BY id"), [][]string{{"1"}, {"3"}, {"4"}, {"5"}, {"6"}, {"100"}})
	})
}

func TestWorkThatFails(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		fillTable(t, s, d, 3)
		db := open(t, d.DSN, hasty())
		bare := look(t, db, spec("people", "phone"), false)
		if _, err := bare.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize); !errors.Is(err, sqltable.ErrTokenColumn) {
			t.Errorf("tokens without a column: %v", err)
		}
		table := look(t, db, spec("people", "phone"), true)
		fault := errors.New("the vault is sealed")
		misuse := errors.New("any")
		tests := []struct {
			name string
			work sqltable.Work
			want error
		}{
			{"its own error", func(context.Context, []sqltable.Row) ([]sqltable.Row, error) { return nil, fault }, fault},
			{"a row that it was not given", func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
				rows[0].Key = "7"
				return rows, nil
			}, misuse},
			{"a row twice", func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
				return append(rows, rows[0]), nil
			}, misuse},
			{"a cell too few", func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
				rows[0].Cells = nil
				return rows, nil
			}, misuse},
		}
		for _, tt := range tests {
			b, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tt.work)
			if err == nil || tt.want != misuse && !errors.Is(err, tt.want) || b.Rows != 0 {
				t.Errorf("%s: %+v, %v", tt.name, b, err)
			}
			// The locks are gone when Batch returns.
			app := s.session(t, d)
			app.Exec(s.pick("SET lock_timeout = 1", "SET innodb_lock_wait_timeout = 1"), "UPDATE people SET phone = CONCAT(phone, '')")
		}
		equal(t, "tokens", d.Query(t, "SELECT count(phone_token) FROM people"), [][]string{{"0"}})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := table.Batch(ctx, sqltable.ToFill, sqltable.Place{}, 9, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			cancel()
			return tokenize(ctx, rows)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		for _, limit := range []int{0, -1, 10_001} {
			if _, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, limit, tokenize); err == nil {
				t.Errorf("a batch of %d rows", limit)
			}
		}
		// A row that work leaves out, or leaves as it is, is not written.
		b, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			rows[1].Cells[0].Token = some("tok_x")
			return rows[:2], nil
		})
		if err != nil || b.Rows != 3 || b.Changed != 1 {
			t.Errorf("%+v, %v", b, err)
		}
	})
}
