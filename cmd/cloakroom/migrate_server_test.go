package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
)

// A server that is away is waited for, without locks, and not forever; other failures are not repeated.
func TestTableServerPatience(t *testing.T) {
	away := fmt.Errorf("refused: %w", client.ErrUnreachable)
	busy := &client.Error{Problem: wire.Problem{Status: 503, Code: wire.AuditUnavailable}}
	stopping := &client.Error{Problem: wire.Problem{Code: wire.ServerStopping}}
	forbidden := &client.Error{Problem: wire.Problem{Status: 403, Code: wire.Forbidden}}
	cases := []struct {
		name   string
		fails  []error
		dead   int // how often the server is found dead
		tries  int
		failed error
	}{
		{"at once", nil, 0, 1, nil},
		{"away for a while", []error{away, away}, 2, 3, nil},
		{"busy", []error{busy, stopping, client.ErrCut, errSlow, errKeyAway}, 0, 6, nil},
		{"forbidden", []error{forbidden}, 0, 1, forbidden},
		{"the table's own", []error{errBadRows}, 0, 1, errBadRows},
		{"away for good", []error{away}, 1 << 20, 1, away},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var slept time.Duration
			said, tries, dead := 0, 0, tc.dead
			s := &tableServer{
				atMost: time.Minute, say: func(string) { said++ },
				sleep: func(_ context.Context, d time.Duration) error {
					slept += d
					return nil
				},
				alive: func(context.Context) error {
					if dead--; dead >= 0 {
						return away
					}
					return nil
				},
			}
			err := s.patiently(t.Context(), func(context.Context) error {
				tries++
				if tries <= len(tc.fails) {
					return tc.fails[tries-1]
				}
				return nil
			})
			if !errors.Is(err, tc.failed) || (err == nil) != (tc.failed == nil) {
				t.Errorf("got %v, want %v", err, tc.failed)
			}
			if tries != tc.tries || slept > time.Minute+longestPause || said > 1 {
				t.Errorf("%d tries, %v of waiting, %d remarks", tries, slept, said)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &tableServer{atMost: time.Hour, say: func(string) { cancel() }, sleep: pauseFor, alive: func(context.Context) error { return away }}
	if err := s.patiently(ctx, func(context.Context) error { return away }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, it ends with %v", err)
	}
}

// A server that hangs makes a batch let its locks go in time, however many calls it has, and not again and again.
func TestTableServerHangs(t *testing.T) {
	calls, tries, alive := 0, 0, 0
	s := &tableServer{
		hold: 200 * time.Millisecond, atMost: 500 * time.Millisecond, say: func(string) {},
		sleep: func(context.Context, time.Duration) error { return nil },
		alive: func(context.Context) error { alive++; return nil },
		open: func(ctx context.Context, tokens []wire.Plain) ([]wire.Revealed, error) {
			if calls++; calls%3 == 0 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			out := make([]wire.Revealed, len(tokens))
			for i, token := range tokens {
				out[i] = wire.Revealed{Token: token, Value: new(wire.Plain), View: "full"}
			}
			return out, nil
		},
	}
	j := &tableJob{server: s}
	var ended time.Time // of the batch's time, as its work sees it
	work := func(ctx context.Context, _ []sqltable.Row, _ *outcome) ([]sqltable.Row, error) {
		ended, _ = ctx.Deadline()
		_, err := s.openAll(ctx, make([]wire.Plain, 5*client.MaxItems), nil)
		return nil, err
	}
	_, err := j.one(t.Context(), work, func(ctx context.Context, work sqltable.Work) (sqltable.Batch, error) {
		tries++
		began := time.Now()
		_, err := work(ctx, nil)
		if ended.Before(began) || ended.After(time.Now().Add(s.hold)) {
			t.Errorf("the work had until %v, begun %v", ended, began)
		}
		return sqltable.Batch{}, err
	})
	if !errors.Is(err, errSlow) || !strings.Contains(err.Error(), "gave up after") || tries != 2 || alive != 1 {
		t.Errorf("%v, after %d tries and %d looks", err, tries, alive)
	}
	// What fails by itself is not told as slow, and an interruption is one.
	if err := s.locked(t.Context(), func(context.Context) error { return errBadRows }); !errors.Is(err, errBadRows) {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.locked(gone, func(ctx context.Context) error { return ctx.Err() }); !errors.Is(err, context.Canceled) || errors.Is(err, errSlow) {
		t.Error(err)
	}
}

// A server that does not do what it promised must not put a token into another person's row, nor clear a value.
func TestTableServerBroken(t *testing.T) {
	rows := []wire.ImportRow{{Subject: "u1", Fields: wire.Fields{"phone": {Value: "1"}}}, {Subject: "u2", Fields: wire.Fields{"phone": {Value: "2"}}}}
	puts := []struct {
		name  string
		alter func([]wire.ImportResult) []wire.ImportResult
		want  string
	}{
		{"fine", func(r []wire.ImportResult) []wire.ImportResult { return r }, ""},
		{"an answer is missing", func(r []wire.ImportResult) []wire.ImportResult { return r[:1] }, "without an answer"},
		{"an answer too many", func(r []wire.ImportResult) []wire.ImportResult { return append(r, r[0]) }, "without an answer"},
		{"another order", func(r []wire.ImportResult) []wire.ImportResult { return []wire.ImportResult{r[1], r[0]} }, "another subject"},
		{"no token", func(r []wire.ImportResult) []wire.ImportResult { r[1].Tokens = nil; return r }, "no token for field phone"},
		{"no such field", func(r []wire.ImportResult) []wire.ImportResult {
			r[0].Error = &wire.ItemError{Code: wire.UnknownField, Field: "phone"}
			return r
		}, "the policy has no field phone"},
	}
	for _, tc := range puts {
		t.Run("put: "+tc.name, func(t *testing.T) {
			s := &tableServer{put: func(context.Context, []wire.ImportRow) ([]wire.ImportResult, error) {
				return tc.alter([]wire.ImportResult{tokensOf(rows[0], 1), tokensOf(rows[1], 2)}), nil
			}}
			if _, err := s.putRows(t.Context(), rows); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	value := wire.Plain("1")
	fine := func(token wire.Plain) wire.Revealed { return wire.Revealed{Token: token, Value: &value, View: "full"} }
	opens := []struct {
		name  string
		alter func([]wire.Revealed) []wire.Revealed
		want  string
		fault wire.Code
	}{
		{"fine", func(r []wire.Revealed) []wire.Revealed { return r }, "", ""},
		{"an answer is missing", func(r []wire.Revealed) []wire.Revealed { return r[:1] }, "another number of items", ""},
		{"another order", func(r []wire.Revealed) []wire.Revealed { return []wire.Revealed{r[1], r[0]} }, "another token", ""},
		{"masked", func(r []wire.Revealed) []wire.Revealed { r[0].View = "masked"; return r }, "", wire.Forbidden},
		{"no value", func(r []wire.Revealed) []wire.Revealed { r[0].Value = nil; return r }, "", wire.Forbidden},
		{"erased", func(r []wire.Revealed) []wire.Revealed {
			r[0] = wire.Revealed{Token: r[0].Token, Error: &wire.ItemError{Code: wire.SubjectErased}}
			return r
		}, "", wire.SubjectErased},
	}
	for _, tc := range opens {
		t.Run("open: "+tc.name, func(t *testing.T) {
			s := &tableServer{open: func(_ context.Context, tokens []wire.Plain) ([]wire.Revealed, error) {
				return tc.alter([]wire.Revealed{fine(tokens[0]), fine(tokens[1])}), nil
			}}
			got, err := s.openAll(t.Context(), []wire.Plain{"t1", "t2"}, nil)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if err == nil && (got[0].fault == nil) != (tc.fault == "") || err == nil && tc.fault != "" && got[0].fault.Code != tc.fault {
				t.Errorf("the first has the fault %v", got[0].fault)
			}
		})
	}
}

// Calls hold at most a thousand tokens, and values of a bounded size.
func TestTableServerSplits(t *testing.T) {
	var calls []int
	s := &tableServer{open: func(_ context.Context, tokens []wire.Plain) ([]wire.Revealed, error) {
		calls = append(calls, len(tokens))
		out := make([]wire.Revealed, len(tokens))
		for i, token := range tokens {
			out[i] = wire.Revealed{Token: token, Value: new(wire.Plain), View: "full"}
		}
		return out, nil
	}}
	tokens := make([]wire.Plain, 2001)
	sizes := make([]int, len(tokens))
	sizes[0], sizes[1], sizes[5] = openBytes+1, openBytes/2, openBytes/2+1
	if got, err := s.openAll(t.Context(), tokens, sizes); err != nil || len(got) != len(tokens) {
		t.Errorf("%d, %v", len(got), err)
	}
	if text := fmt.Sprint(calls); text != "[1 4 1000 996]" {
		t.Errorf("calls of %s", text)
	}
	calls = nil
	if _, err := s.openAll(t.Context(), tokens, nil); err != nil || fmt.Sprint(calls) != "[1000 1000 1]" {
		t.Errorf("%v, calls of %v", err, calls)
	}
}

// The address of a database comes from a flag, a file or the environment, and its password goes nowhere.
func TestFindDatabase(t *testing.T) {
	dir := t.TempDir()
	file, open := filepath.Join(dir, "dsn"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{file: 0o600, open: 0o644} {
		if err := os.WriteFile(path, []byte("mysql://u:s3cret@h/d\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name, given, env string
		want             database
		warns            bool
		fails            string
	}{
		{"nothing", "", "", database{}, false, "CLOAKROOM_DSN=postgres://"},
		{"environment", "", "postgres://u:s3cret@h/d", database{dsn: "postgres://u:s3cret@h/d"}, false, ""},
		{"a flag", "postgres://u@h/d", "", database{"postgres://u@h/d", "postgres://u@h/d", false}, false, ""},
		{"a flag with a password", "mysql://u:s3cret@h/d", "x", database{"mysql://u:s3cret@h/d", "mysql://u@h/d", true}, true, ""},
		{"a password elsewhere", "postgres://u@h/d?password=s3cret&sslmode=require", "", database{"postgres://u@h/d?password=s3cret&sslmode=require", "postgres://u@h/d?sslmode=require", true}, true, ""},
		{"a file", "@" + file, "", database{"mysql://u:s3cret@h/d", "@" + file, false}, false, ""},
		{"a file that others read", "@" + open, "", database{}, false, "chmod 600"},
		{"no file", "@" + filepath.Join(dir, "none"), "", database{}, false, "no such file"},
		{"words", "host=h password=s3cret", "", database{}, false, "no address such as"},
		{"a password that is not escaped", "postgres://u:s3cret/x@h/d", "", database{}, false, "no address such as"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var errs bytes.Buffer
			p := &program{err: &errs, lookup: func(string) (string, bool) { return tc.env, tc.env != "" }}
			got, err := p.findDatabase(tc.given)
			if tc.fails == "" && (err != nil || got != tc.want) {
				t.Errorf("%v", err)
			}
			if tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("got %v, want %q", err, tc.fails)
			}
			if tc.warns != strings.Contains(errs.String(), "shows in ps") || strings.Contains(errs.String(), "s3cret") {
				t.Errorf("it says %q", &errs)
			}
		})
	}
}

// Bad rows are counted once, and their file is never written over unless asked.
func TestBadRows(t *testing.T) {
	t.Chdir(t.TempDir())
	fault := rowFault{field: "phone", code: wire.InvalidValue, rule: "letters"}
	for _, want := range []string{"./a_b.errors.csv", "./a_b.2.errors.csv", "./a_b.3.errors.csv"} {
		b, err := findBadFile("", "a/b", false)
		if err != nil {
			t.Fatal(err)
		}
		if b.written() != "" || taken(want) {
			t.Error("a file is there before there is a bad row")
		}
		for _, key := range []string{"1", "1", "13800138000", "-x", "a b"} {
			if err := b.add(key, fault); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.close(); err != nil {
			t.Fatal(err)
		}
		if b.written() != want || b.totals.Failed != 4 || !b.has("1") || b.has("2") {
			t.Errorf("%s, %d rows", b.written(), b.totals.Failed)
		}
		text, err := os.ReadFile(want)
		if err != nil {
			t.Fatal(err)
		}
		if want := "key,field,code,rule,meaning\n1,phone,invalid_value,letters,\n,phone,invalid_value,letters,\n'-x,phone,invalid_value,letters,\n,phone,invalid_value,letters,\n"; string(text) != want {
			t.Errorf("got %s", text)
		}
	}
	if _, err := findBadFile("a_b.errors.csv", "t", false); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("got %v", err)
	}
	b, err := findBadFile("a_b.errors.csv", "t", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.add("2", fault), b.close()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile("a_b.errors.csv"); err != nil || !strings.Contains(string(text), "\n2,phone") {
		t.Errorf("%s, %v", text, err)
	}
}
