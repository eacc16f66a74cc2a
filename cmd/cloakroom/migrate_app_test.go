package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// release is a version of the application, as docs/tables.md has them.
type release int

const (
	knowsNothing release = iota // of tokens
	untying                     // sets the token column to NULL wherever it writes or clears the plaintext
	readsBoth                   // and reads tokens where the plaintext is NULL
	writesTokens                // writes tokens and no plaintext
)

// application is two instances of one, each with rows of its own in the table users, that write and read all the while.
type application struct {
	db        *sqltest.Database
	cl        *client.Client
	sql       *sqltable.DB
	bare      *sqltable.Table // without token columns
	table     *sqltable.Table
	sources   [2]string
	instances [2]*instance
	writes    atomic.Int64
	limit     atomic.Int64 // of writes: who is faster than the command must not keep it busy for good
	stop      chan struct{}
	done      sync.WaitGroup
}

// instance remembers what it wrote last.
type instance struct {
	app    *application
	parity int // of its ids
	random *rand.Rand

	mu      sync.Mutex // held from one write to its end: what changes the release waits for it
	release release
	rows    map[int]person
	ids     []int
	next    int
	failed  error
}

func (s *site) runApplication(t *testing.T, rows []person, seed uint64) *application {
	t.Helper()
	db, err := sqltable.Open(t.Context(), s.db.DSN, sqltable.Options{Attempts: 100})
	if err != nil {
		t.Fatal(err)
	}
	a := &application{db: s.db, cl: s.client(t, "app"), sql: db}
	for i := range a.instances {
		a.instances[i] = &instance{app: a, parity: i, random: rand.New(rand.NewPCG(seed, uint64(i))), rows: map[int]person{}, next: i + 2}
	}
	for _, p := range rows {
		in := a.instances[p.id%2]
		in.rows[p.id] = p
		in.ids = append(in.ids, p.id)
		in.next = max(in.next, p.id+2)
	}
	a.look(t)
	a.bare = a.table
	a.goOn()
	t.Cleanup(func() {
		close(a.stop)
		a.done.Wait()
		_ = db.Close()
	})
	return a
}

// look looks the table over: an application is made for the columns that there are.
func (a *application) look(t *testing.T) {
	t.Helper()
	for _, in := range a.instances {
		in.mu.Lock()
		defer in.mu.Unlock()
	}
	var err error
	a.table, err = a.sql.Table(t.Context(), sqltable.Spec{Table: "users", Key: "id", Columns: []sqltable.Column{{Name: "phone"}, {Name: "full_name"}}})
	if err != nil {
		t.Fatal(err)
	}
	names, err := a.table.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, column := range []string{"phone", "full_name"} {
		a.sources[i] = columnSource(append(slices.Clip(names), column)...)
	}
}

// mayWrite lets both write so many times more.
func (a *application) mayWrite(n int64) { a.limit.Store(a.writes.Load() + n) }

// goOn lets both write until they are paused.
func (a *application) goOn() {
	a.stop = make(chan struct{})
	for _, in := range a.instances {
		a.done.Go(func() {
			for a.writes.Load() >= a.limit.Load() || in.step() {
				if a.writes.Load() >= a.limit.Load() {
					time.Sleep(5 * time.Millisecond)
				}
				select {
				case <-a.stop:
					return
				default:
				}
			}
		})
	}
}

func (a *application) pause(t *testing.T) {
	t.Helper()
	close(a.stop)
	a.done.Wait()
	a.stop = make(chan struct{})
	a.fine(t)
}

func (a *application) fine(t *testing.T) {
	t.Helper()
	for _, in := range a.instances {
		in.mu.Lock()
		err := in.failed
		in.mu.Unlock()
		if err != nil {
			t.Fatalf("the application, release %d: %v", in.release, err)
		}
	}
}

// release lets an instance run that is of another release: when it returns, the old one has ended.
func (a *application) release(t *testing.T, i int, r release) {
	t.Helper()
	a.fine(t)
	a.instances[i].mu.Lock()
	defer a.instances[i].mu.Unlock()
	a.instances[i].release = r
}

// exchange gives each instance the rows of the other.
func (a *application) exchange() {
	for _, in := range a.instances {
		in.mu.Lock()
		defer in.mu.Unlock()
	}
	a.instances[0].release, a.instances[1].release = a.instances[1].release, a.instances[0].release
}

// rows are what both wrote last, while they are paused.
func (a *application) rows() map[int]person {
	out := map[int]person{}
	for _, in := range a.instances {
		for id, p := range in.rows {
			out[id] = p
		}
	}
	return out
}

// step writes and reads, and reports whether to go on.
func (in *instance) step() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.failed != nil {
		return false
	}
	if in.release == writesTokens {
		in.failed = in.writeTokens()
	} else {
		in.failed = in.writePlain(10)
	}
	if in.failed == nil {
		in.failed = in.read(in.ids[in.random.IntN(len(in.ids))])
	}
	return in.failed == nil
}

func (in *instance) phone() string {
	return fmt.Sprintf("%s%07d", privatePhones, in.random.IntN(10_000_000))
}

// fresh is an id that no row has: before, between or behind the others.
func (in *instance) fresh() int {
	for range 3 {
		if id := 2*in.random.IntN(in.next/2) + in.parity; id > 0 && in.rows[id].id == 0 {
			return id
		}
	}
	in.next += 2
	return in.next - 2
}

func (in *instance) took(p person) {
	if in.rows[p.id].id == 0 {
		in.ids = append(in.ids, p.id)
	}
	in.rows[p.id] = p
}

func (in *instance) forget(at int) {
	delete(in.rows, in.ids[at])
	in.ids = slices.Delete(in.ids, at, at+1)
}

// writePlain runs n statements, each a transaction of its own.
func (in *instance) writePlain(n int) error {
	var script []string
	untie := func(column string) string {
		if in.release == knowsNothing {
			return ""
		}
		return ", " + column + "_token = NULL"
	}
	for range n {
		at := in.random.IntN(len(in.ids))
		p := in.rows[in.ids[at]]
		switch what := in.random.IntN(20); {
		case what < 10:
			p.phone = in.phone()
			script = append(script, fmt.Sprintf("UPDATE users SET phone = '%s'%s WHERE id = %d", p.phone, untie("phone"), p.id))
		case what < 12:
			p.phone, p.name = in.phone(), "王五"
			script = append(script, fmt.Sprintf("UPDATE users SET phone = '%s', full_name = '王五'%s%s WHERE id = %d", p.phone, untie("phone"), untie("full_name"), p.id))
		case what < 13:
			p.phone = ""
			script = append(script, fmt.Sprintf("UPDATE users SET phone = ''%s WHERE id = %d", untie("phone"), p.id))
		case what < 14:
			p.name = "<null>"
			script = append(script, fmt.Sprintf("UPDATE users SET full_name = NULL%s WHERE id = %d", untie("full_name"), p.id))
		case what < 17:
			p = person{id: in.fresh(), phone: in.phone(), name: "李四", note: "new"}
			script = append(script, "INSERT INTO users (id, phone, full_name, note) VALUES "+p.sql())
		default:
			script = append(script, fmt.Sprintf("DELETE FROM users WHERE id = %d", p.id))
			in.forget(at)
			continue
		}
		in.took(p)
	}
	if err := in.app.db.Try(script...); err != nil {
		return err
	}
	in.app.writes.Add(int64(n))
	return nil
}

// writeTokens does one of these things with tokens.
func (in *instance) writeTokens() error {
	in.app.writes.Add(1)
	at := in.random.IntN(len(in.ids))
	p := in.rows[in.ids[at]]
	switch what := in.random.IntN(20); {
	case what < 11:
		p.phone = in.phone()
		in.took(p)
		return in.store(p, true, 0)
	case what < 13:
		p.phone, p.name = in.phone(), "王五"
		in.took(p)
		return in.store(p, true, 0, 1)
	case what < 14:
		p.name = "<null>"
		in.took(p)
		return in.clear(p.id, 1)
	case what < 17:
		// Without the columns of plaintext, which such a release does not know.
		p = person{id: in.fresh(), phone: in.phone(), name: "李四", note: "new"}
		if err := in.app.db.Try(fmt.Sprintf("INSERT INTO users (id, note) VALUES (%d, 'new')", p.id)); err != nil {
			return err
		}
		in.took(p)
		return in.store(p, false, 0, 1)
	}
	in.forget(at)
	return in.app.db.Try(fmt.Sprintf("DELETE FROM users WHERE id = %d", p.id))
}

// locked does something with a row that is locked.
func (in *instance) locked(id int, do func(ctx context.Context, row *sqltable.Row) error) error {
	found, table := false, in.app.table
	if in.release == knowsNothing {
		table = in.app.bare
	}
	_, err := table.BatchOf(context.Background(), []string{strconv.Itoa(id)}, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
		found = len(rows) == 1
		if !found {
			return nil, nil
		}
		return rows, do(ctx, &rows[0])
	})
	if err == nil && !found {
		return fmt.Errorf("row %d is gone", id)
	}
	return err
}

var fieldsOfUsers = [2]string{"phone", "name"}

// store stores values of a locked row in Cloakroom, and puts their tokens into the row.
func (in *instance) store(p person, clear bool, at ...int) error {
	return in.locked(p.id, func(ctx context.Context, row *sqltable.Row) error {
		fields := wire.Fields{}
		for _, i := range at {
			fields[fieldsOfUsers[i]] = wire.FieldValue{Value: wire.Plain([2]string{p.phone, p.name}[i]), Source: in.app.sources[i]}
		}
		out, err := in.app.cl.PutSubject(ctx, "users:"+strconv.Itoa(p.id), wire.PutSubject{Fields: fields})
		if err != nil {
			return err
		}
		for _, i := range at {
			row.Cells[i].Token = text(string(out.Tokens[fieldsOfUsers[i]]))
			if clear {
				row.Cells[i].Plain = sqltable.Text{}
			}
		}
		return nil
	})
}

// clear takes a value out of a row and out of Cloakroom.
func (in *instance) clear(id, at int) error {
	return in.locked(id, func(ctx context.Context, row *sqltable.Row) error {
		_, err := in.app.cl.EraseField(ctx, "users:"+strconv.Itoa(id), fieldsOfUsers[at], "cleared")
		if err != nil && !errors.Is(err, client.Code(wire.FieldErased)) && !errors.Is(err, client.Code(wire.SubjectNotFound)) && !errors.Is(err, client.Code(wire.NotFound)) {
			return err
		}
		row.Cells[at] = sqltable.Cell{}
		return nil
	})
}

// read looks that a row reads as it was written last, as this release reads it.
func (in *instance) read(id int) error {
	var row sqltable.Row
	if err := in.locked(id, func(_ context.Context, r *sqltable.Row) error {
		row = sqltable.Row{Cells: slices.Clone(r.Cells)}
		return nil
	}); err != nil {
		return err
	}
	for i, want := range []string{in.rows[id].phone, in.rows[id].name} {
		c, got := row.Cells[i], "<null>"
		switch {
		case c.Plain.Valid:
			got = c.Plain.Value
		case c.Token.Valid && in.release >= readsBoth:
			opened, err := in.app.cl.Detokenize(context.Background(), wire.Detokenize{Purpose: "service", Tokens: []wire.Plain{wire.Plain(c.Token.Value)}})
			if err != nil {
				return err
			}
			if opened[0].Error != nil {
				return fmt.Errorf("row %d: its token does not open: %s", id, opened[0].Error.Code)
			}
			got = string(*opened[0].Value)
		}
		if got != want {
			return fmt.Errorf("row %d reads %q and was written as %q", id, got, want)
		}
	}
	return nil
}
