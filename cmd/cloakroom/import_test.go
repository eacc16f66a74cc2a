package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

// tokensOf stands for what a server answers to a row.
func tokensOf(row wire.ImportRow, line int64) wire.ImportResult {
	out := wire.ImportResult{Line: line, Subject: row.Subject, Tokens: map[string]wire.Plain{}}
	for field := range row.Fields {
		out.Tokens[field] = wire.Plain("tok_" + field + "_" + row.Subject)
	}
	return out
}

// answering is a stream that answers each row as answer says.
func answering(answer func(row wire.ImportRow, line int64) (wire.ImportResult, bool)) importStream {
	return func(_ context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error) {
		for line := int64(1); ; line++ {
			row, err := next()
			if errors.Is(err, io.EOF) {
				return wire.ImportEnd{End: true, Lines: line - 1}, nil
			}
			if err != nil {
				return wire.ImportEnd{}, err
			}
			result, ok := answer(row, line)
			if !ok {
				continue
			}
			if err := each(result); err != nil {
				return wire.ImportEnd{}, err
			}
		}
	}
}

var testPlan = importPlan{Format: tablefile.CSV, Subject: "id", Fields: []fieldColumn{{"phone", "tel"}}, Keep: []string{"note"}}

// newRun makes a run that reads from in into a new folder.
func newRun(t *testing.T, in io.Reader, store importStream) *importRun {
	t.Helper()
	rows, err := newTableRows(&importInput{Reader: in, path: "-"}, testPlan)
	if err != nil {
		t.Fatal(err)
	}
	files, err := makeFiles(filepath.Join(t.TempDir(), "out.csv"), importProgress{Version: 1, Input: "-", Size: -1, Plan: testPlan}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.close() })
	return &importRun{rows: rows, files: files, store: store, fresh: true, bar: (&program{now: time.Now}).importBar(-1, 0),
		watch: newImportWatch(func(context.Context) error { return nil }, time.Now)}
}

// A server that does not answer any more ends the import, also when the connection does not tell.
func TestImportUnanswered(t *testing.T) {
	gone := fmt.Errorf("refused: %w", client.ErrUnreachable)
	cases := []struct {
		name  string
		alive error
		want  string
	}{
		{"it is gone", gone, client.ErrUnreachable.Error()},
		{"it is there", nil, "has not answered for 50ms"},
		{"something else is there", errors.New("a proxy"), "has not answered for 50ms"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			// The clock stands still until the first row is done and the second one waits.
			var moves atomic.Bool
			start := time.Now()
			var r *importRun
			r = newRun(t, strings.NewReader("id,tel,note\nu1,1,a\nu2,2,b\n"), func(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error) {
				row, err := next()
				first := r.watch.waits(t, nil)
				if err == nil {
					err = each(tokensOf(row, 1))
				}
				r.watch.waits(t, first)
				moves.Store(true)
				<-ctx.Done()
				return wire.ImportEnd{}, errors.Join(err, ctx.Err())
			})
			r.watch.now = func() time.Time {
				if moves.Load() {
					return time.Now()
				}
				return start
			}
			r.watch.alive = func(context.Context) error { return tc.alive }
			r.watch.ask, r.watch.giveUp = time.Millisecond, 50*time.Millisecond
			if tc.alive != nil && errors.Is(tc.alive, client.ErrUnreachable) {
				r.watch.giveUp = time.Hour
			}
			if err := r.run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if done := r.files.state.Totals.Rows; done != 1 {
				t.Errorf("%d rows are done", done)
			}
		})
	}
}

// waits waits until a row waits for its answer that is not the one since before.
func (w *importWatch) waits(t *testing.T, before *time.Time) *time.Time {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if since := w.waiting.Load(); since != nil && since != before {
			return since
		}
		if time.Now().After(end) {
			t.Error("no row waits for an answer")
			return nil
		}
	}
}

// A server that does not do what it promised must not put a token into another person's row.
func TestImportAgainstABrokenServer(t *testing.T) {
	const in = "id,tel,note\nu1,1,a\nu2,2,b\nu3,,c\n"
	fine := func(row wire.ImportRow, line int64) (wire.ImportResult, bool) { return tokensOf(row, line), true }
	broken := errors.New("broken")
	cases := []struct {
		name  string
		store importStream
		want  string
		done  int64
	}{
		{"fine", answering(fine), "", 3},
		{"an answer is missing", answering(func(row wire.ImportRow, line int64) (wire.ImportResult, bool) {
			return tokensOf(row, line), row.Subject != "u3"
		}), "without an answer", 2},
		{"answers in another order", answering(func(row wire.ImportRow, line int64) (wire.ImportResult, bool) {
			if row.Subject == "u2" {
				row.Subject = "u3"
			}
			return tokensOf(row, line), true
		}), "another subject", 1},
		{"an answer too many", func(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error) {
			end, err := answering(fine)(ctx, next, each)
			return end, errors.Join(err, each(wire.ImportResult{Line: 4}))
		}, "more rows than it was sent", 3},
		{"no token for a value", answering(func(row wire.ImportRow, line int64) (wire.ImportResult, bool) {
			return wire.ImportResult{Line: line, Subject: row.Subject}, true
		}), "no token for field phone", 0},
		{"a field whose name no policy could have", answering(func(_ wire.ImportRow, line int64) (wire.ImportResult, bool) {
			return wire.ImportResult{Line: line, Error: &wire.ItemError{Code: wire.UnknownField}}, true
		}), "the policy has not all of the fields phone;", 0},
		{"a field that the policy does not have", answering(func(_ wire.ImportRow, line int64) (wire.ImportResult, bool) {
			return wire.ImportResult{Line: line, Error: &wire.ItemError{Code: wire.UnknownField, Field: "phone"}}, true
		}), "the policy has no field phone", 0},
		{"an end that is an error", func(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error) {
			_, err := answering(fine)(ctx, next, each)
			return wire.ImportEnd{Error: &wire.ItemError{Code: wire.AuditUnavailable}}, err
		}, "audit_unavailable", 3},
		{"a cut", func(context.Context, func() (wire.ImportRow, error), func(wire.ImportResult) error) (wire.ImportEnd, error) {
			return wire.ImportEnd{}, broken
		}, "broken", 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRun(t, strings.NewReader(in), tc.store)
			err := r.run(t.Context())
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			// What was answered before the fault is done. The last one may be dropped with the end: it is sent again.
			if got := r.files.state.Totals.Rows; got != tc.done {
				t.Errorf("%d rows are done, want %d", got, tc.done)
			}
		})
	}
}

// An input that breaks off is an error, and not the end of the table.
func TestImportFromABrokenInput(t *testing.T) {
	gone := errors.New("the disk is gone")
	text := "id,tel,note\n" + strings.Repeat("x,1\n", 50_000)
	r := newRun(t, io.MultiReader(strings.NewReader(text), failing{gone}), answering(func(row wire.ImportRow, line int64) (wire.ImportResult, bool) {
		return tokensOf(row, line), true
	}))
	if err := r.run(t.Context()); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A disk that is full, or anything else that keeps an output from being written, ends the import.
func TestImportWithoutADisk(t *testing.T) {
	r := newRun(t, strings.NewReader("id,tel,note\nu1,1,a\n"), answering(func(row wire.ImportRow, line int64) (wire.ImportResult, bool) {
		return tokensOf(row, line), true
	}))
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.files.out.f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.files.finish(); err == nil {
		t.Error("an output that was not written is a success")
	}
	if _, err := os.Stat(r.files.path + progressSuffix); err != nil {
		t.Errorf("the progress file is gone: %v", err)
	}
}

// people is a table that makes itself: n rows of different people with one bad row in a hundred.
type people struct {
	n, next int
	rest    []byte
	at      func(row int)
}

func (p *people) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.next == p.n {
			return 0, io.EOF
		}
		if p.next == 0 {
			p.rest = []byte("id,tel,note\n")
		}
		if p.next%100 == 7 {
			p.rest = append(p.rest, "ragged\n"...)
		} else {
			p.rest = fmt.Appendf(p.rest, "u%d,138%08d,%s\n", p.next, p.next, "北京市海淀区中关村大街")
		}
		p.next++
		p.at(p.next)
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Beside the hashes of the ids, at up to 20 bytes each, memory does not grow with the table. The server's part is a
// fake: a real one takes minutes for as many rows under the race detector.
func TestImportMemory(t *testing.T) {
	const rows, bytesPerRow = 300_000, 20
	var held []uint64
	in := &people{n: rows, at: func(row int) {
		if row%100_000 == 50_000 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			held = append(held, m.HeapAlloc)
		}
	}}
	r := newRun(t, in, answering(func(row wire.ImportRow, line int64) (wire.ImportResult, bool) { return tokensOf(row, line), true }))
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.files.state.Totals; got.Rows != rows || got.Failed != rows/100 || got.Stored != rows-rows/100 {
		t.Errorf("%d rows, %d stored, %d failed", got.Rows, got.Stored, got.Failed)
	}
	t.Logf("in use after 50,000, 150,000 and 250,000 rows: %v", held)
	if first, last := held[0], held[len(held)-1]; last > first+200_000*bytesPerRow+6<<20 {
		t.Errorf("memory grew from %d to %d bytes", first, last)
	}
}

func TestListed(t *testing.T) {
	cases := []struct {
		name  string
		given []string
		want  []string
		fails bool
	}{
		{"none", nil, []string{}, false},
		{"some", []string{"a,b", "c"}, []string{"a", "b", "c"}, false},
		{"a comma in a name", []string{`phone="a,b"`}, nil, true},
		{"a quoted word", []string{`"phone=a,b",name=c`}, []string{"phone=a,b", "name=c"}, false},
		{"spaces around words", []string{" a , b", "c ", ` "d,e"`}, []string{"a", "b", "c", "d,e"}, false},
		{"a space for a word", []string{"a, ,b"}, nil, true},
		{"an empty word", []string{"a,,b"}, nil, true},
		{"nothing", []string{""}, nil, true},
		{"two lines", []string{"a\nb"}, nil, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := listed("map", tc.given)
			if (err != nil) != tc.fails || !tc.fails && !slices.Equal(got, tc.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got, err := fieldColumns("map", []string{"phone = tel, name=a b"}); err != nil || !slices.Equal(got, []fieldColumn{{"phone", "tel"}, {"name", "a b"}}) {
		t.Errorf("spaces around names: %q, %v", got, err)
	}
	if got, err := fieldColumns("map", []string{" =tel"}); err == nil {
		t.Errorf("a field without a name: %q", got)
	}
	for _, word := range []string{"phone=手机", "phone=a,b", `phone=a"b`} {
		if got, err := listed("map", []string{listWord(word)}); err != nil || len(got) != 1 || got[0] != word {
			t.Errorf("%s comes back as %q, %v", word, got, err)
		}
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{"a/b.csv": "a/b.csv", "a b": "'a b'", "a\x1b[2J": `'a\x1b[2J'`} {
		if got := shellWord(word); got != want {
			t.Errorf("%q becomes %s", word, got)
		}
	}
}

func TestImportBar(t *testing.T) {
	now := time.Unix(0, 0)
	var out strings.Builder
	p := &program{err: &out, errTerminal: true, now: func() time.Time { return now }}
	state := func(rows, failed, offset int64) importProgress {
		return importProgress{Totals: importTotals{Rows: rows, Failed: failed}, Next: tablefile.Position{Offset: offset}}
	}
	b := p.importBar(1000, 200)
	b.show(state(100, 2, 200))
	now = now.Add(10 * time.Second)
	if got := b.words(state(600, 3, 400)); got != "600 rows, 50/s, 30s left, 3 bad" {
		t.Errorf("got %q", got)
	}
	b.show(state(600, 3, 400))
	if !strings.Contains(out.String(), "3 bad") {
		t.Errorf("it shows %q", out.String())
	}
	if got := p.importBar(-1, 0).words(state(600, 3, 400)); got != "600 rows, 600000/s, 3 bad" {
		t.Errorf("of an unknown length: %q", got)
	}
	out.Reset()
	p.errTerminal = false
	b = p.importBar(1000, 0)
	b.show(state(600, 3, 400))
	b.end()
	if out.Len() > 0 {
		t.Errorf("without a terminal it shows %q", out.String())
	}
}

// A server that dies before it has answered anything, while no row can be sent because too many wait already.
func TestImportFromAServerThatDies(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		// Until nothing more comes.
		for buf := make([]byte, 64<<10); err == nil; {
			_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			_, err = c.Read(buf)
		}
		_, _ = l.Close(), c.Close()
	}()
	cl, err := client.New(client.Options{Addr: l.Addr().String(), Key: "ck_x"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(t, &people{n: 3 * pendingRows, at: func(int) {}}, func(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error) {
		return cl.Import(ctx, next, each)
	})
	r.watch.alive = func(ctx context.Context) error { return cl.Health(ctx) }
	r.watch.ask = 300 * time.Millisecond
	if err := r.run(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}
