package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// importServer answers imports line by line: say gets each line's number and row, and what it writes is the answer. It
// returns whether to go on.
func importServer(say func(w io.Writer, n int64, row wire.ImportRow) bool, end func(w io.Writer, n int64)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("X-Request-Id", "r1")
		in := bufio.NewScanner(r.Body)
		n := int64(0)
		for in.Scan() {
			n++
			var row wire.ImportRow
			if err := json.Unmarshal(in.Bytes(), &row); err != nil {
				fmt.Fprintf(w, `{"line":%d,"error":{"code":"malformed_request"}}`+"\n", n)
				continue
			}
			if !say(w, n, row) {
				// As the server does: else the answer may be lost with the connection.
				_ = control.Flush()
				_, _ = io.Copy(io.Discard, r.Body)
				return
			}
			_ = control.Flush()
		}
		end(w, n)
	}
}

func stored(w io.Writer, n int64, row wire.ImportRow) bool {
	fmt.Fprintf(w, `{"line":%d,"subject":%q,"created":true,"tokens":{"phone":"tok_%d"}}`+"\n", n, row.Subject, n)
	return true
}

func wholeEnd(w io.Writer, n int64) {
	fmt.Fprintf(w, `{"end":true,"lines":%d,"ok":%d,"failed":0}`+"\n", n, n)
}

// rows gives n rows and then err.
func rows(n int, err error) func() (wire.ImportRow, error) {
	i := 0
	return func() (wire.ImportRow, error) {
		if i == n {
			return wire.ImportRow{}, err
		}
		i++
		return wire.ImportRow{Subject: fmt.Sprintf("u%d", i), Fields: wire.Fields{"phone": {Value: "13800138000"}}}, nil
	}
}

func TestImport(t *testing.T) {
	failing := errors.New("the disk is full")
	answered := make(chan struct{}, 1) // each was called
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, 503, wire.AuditUnavailable, "the audit log cannot be written")
	}
	for _, c := range []struct {
		name    string
		server  http.HandlerFunc
		rows    int
		next    error // after the rows
		each    int   // outcome at which each fails; 0: never
		want    error // by errors.Is
		text    string
		end     wire.ImportEnd
		atLeast bool // Lines of end is a lower bound
	}{
		{name: "whole", server: importServer(stored, wholeEnd), rows: 2500, next: io.EOF, end: wire.ImportEnd{End: true, Lines: 2500, OK: 2500}},
		{name: "no rows", server: importServer(stored, wholeEnd), next: io.EOF, end: wire.ImportEnd{End: true}},
		{
			name: "some refused", rows: 3, next: io.EOF, end: wire.ImportEnd{End: true, Lines: 3, OK: 2, Failed: 1},
			server: importServer(func(w io.Writer, n int64, row wire.ImportRow) bool {
				if n != 2 {
					return stored(w, n, row)
				}
				fmt.Fprintf(w, `{"line":2,"error":{"code":"invalid_value","field":"phone"}}`+"\n")
				return true
			}, func(w io.Writer, _ int64) { fmt.Fprintln(w, `{"end":true,"lines":3,"ok":2,"failed":1}`) }),
		},
		{
			name: "ended by the server", rows: 100_000, next: io.EOF, want: Code(wire.AuditUnavailable), text: "line 11", end: wire.ImportEnd{End: true, Lines: 10, OK: 10, Line: 11},
			server: importServer(func(w io.Writer, n int64, row wire.ImportRow) bool {
				if n <= 10 {
					return stored(w, n, row)
				}
				fmt.Fprintln(w, `{"line":11,"error":{"code":"audit_unavailable","detail":"free disk space"},"end":true,"lines":10,"ok":10,"failed":0}`)
				return false
			}, wholeEnd),
		},
		{name: "refused as a whole", server: refuse, rows: 10, next: io.EOF, want: Code(wire.AuditUnavailable), end: wire.ImportEnd{Line: 1}},
		{
			name: "cut", rows: 7, next: io.EOF, want: ErrCut, text: "7 lines were answered", end: wire.ImportEnd{Lines: 7, OK: 7, Line: 8},
			server: importServer(stored, func(io.Writer, int64) {}),
		},
		{
			name: "cut in a line", rows: 7, next: io.EOF, text: "not the documented JSON", end: wire.ImportEnd{Lines: 7, OK: 7, Line: 8},
			server: importServer(stored, func(w io.Writer, _ int64) { fmt.Fprint(w, `{"end":tr`) }),
		},
		{
			name: "connection lost", rows: 100_000, next: io.EOF, want: ErrCut, end: wire.ImportEnd{Lines: 1, OK: 1}, atLeast: true,
			server: importServer(func(w io.Writer, n int64, row wire.ImportRow) bool {
				if n == 500 {
					<-answered // a reset connection loses what is under way
					panic(http.ErrAbortHandler)
				}
				return stored(w, n, row)
			}, wholeEnd),
		},
		{
			name: "connection lost in a line", rows: 100_000, next: io.EOF, want: ErrCut, text: "1 lines were answered", end: wire.ImportEnd{Lines: 1, OK: 1, Line: 2},
			server: importServer(func(w io.Writer, n int64, row wire.ImportRow) bool {
				if n == 1 {
					return stored(w, n, row)
				}
				<-answered
				fmt.Fprint(w, `{"line":2,"subj`)
				_ = http.NewResponseController(w.(http.ResponseWriter)).Flush()
				panic(http.ErrAbortHandler)
			}, wholeEnd),
		},
		{
			name: "lines lost", rows: 3, next: io.EOF, want: ErrCut, text: "3 lines were answered and not 4", end: wire.ImportEnd{Lines: 3, OK: 3, Line: 4},
			server: importServer(stored, func(w io.Writer, _ int64) { fmt.Fprintln(w, `{"end":true,"lines":4,"ok":4,"failed":0}`) }),
		},
		{
			name: "ended before the rows", rows: 100_000, next: io.EOF, text: "before the rows did", end: wire.ImportEnd{End: true, Lines: 3, OK: 3, Line: 4},
			server: importServer(func(w io.Writer, n int64, row wire.ImportRow) bool {
				if n <= 3 {
					return stored(w, n, row)
				}
				wholeEnd(w, 3)
				return false
			}, wholeEnd),
		},
		{
			name: "ended before a few rows", rows: 4, next: io.EOF, text: "before the rows did", end: wire.ImportEnd{End: true, Lines: 3, OK: 3, Line: 4},
			server: importServer(func(w io.Writer, n int64, row wire.ImportRow) bool {
				if n <= 3 {
					return stored(w, n, row)
				}
				wholeEnd(w, 3)
				return false
			}, wholeEnd),
		},
		{name: "input fails", server: importServer(stored, wholeEnd), rows: 5, next: failing, want: failing, end: wire.ImportEnd{End: true, Lines: 5, OK: 5, Line: 6}},
		{name: "output fails", server: importServer(stored, wholeEnd), rows: 100_000, next: io.EOF, each: 3, want: failing, end: wire.ImportEnd{Lines: 3, OK: 3, Line: 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, _ := serve(t, Options{}, c.server)
			select {
			case <-answered:
			default:
			}
			seen := int64(0)
			end, err := cl.Import(t.Context(), rows(c.rows, c.next), func(r wire.ImportResult) error {
				if seen++; r.Line != seen {
					t.Errorf("line %d in place of %d", r.Line, seen)
				}
				select {
				case answered <- struct{}{}:
				default:
				}
				if r.Error == nil && (!r.Created || r.Subject != fmt.Sprintf("u%d", seen) || string(r.Tokens["phone"]) != fmt.Sprintf("tok_%d", seen)) {
					t.Errorf("line %d: %+v", seen, r)
				}
				if c.each > 0 && seen == int64(c.each) {
					return failing
				}
				return nil
			})
			if (err == nil) != (c.want == nil && c.text == "") || c.want != nil && !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "13800138000") || strings.Contains(err.Error(), "tok_") || strings.Contains(err.Error(), testKey)) {
				t.Errorf("the error shows too much: %v", err)
			}
			end.Error = nil
			if c.atLeast {
				if end.Lines < c.end.Lines || end.Lines >= 500 || end.Line != end.Lines+1 || end.OK != end.Lines || end.End {
					t.Errorf("the end is %+v", end)
				}
			} else if end != c.end {
				t.Errorf("the end is %+v, want %+v", end, c.end)
			}
		})
	}
}

// TestImportRequest: what the server gets.
func TestImportRequest(t *testing.T) {
	var got string
	cl, _ := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.RequestURI + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("Authorization") + " " + r.Header.Get("X-Request-Id") + "\n" + string(body)
		_ = stored(w, 1, wire.ImportRow{Subject: "u1"})
		_ = stored(w, 2, wire.ImportRow{Subject: "u2"})
		wholeEnd(w, 2)
	})
	each := func(wire.ImportResult) error { return nil }
	if _, err := cl.Import(t.Context(), rows(2, io.EOF), each, Recreate(), SameSource(), RequestID("r7")); err != nil {
		t.Fatal(err)
	}
	want := "POST /v1/import?recreate=true&replace=same-source application/x-ndjson Bearer " + testKey + " r7\n" +
		`{"subject":"u1","fields":{"phone":"13800138000"}}` + "\n" + `{"subject":"u2","fields":{"phone":"13800138000"}}` + "\n"
	if got != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

func TestImportOfInvalidUTF8(t *testing.T) {
	cl, _ := serve(t, Options{}, importServer(stored, wholeEnd))
	given := false
	end, err := cl.Import(t.Context(), func() (wire.ImportRow, error) {
		if given {
			return wire.ImportRow{Subject: "u2", Fields: wire.Fields{"name": {Value: "\xff"}}}, nil
		}
		given = true
		return wire.ImportRow{Subject: "u1"}, nil
	}, func(wire.ImportResult) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "row 2") || end.OK != 1 {
		t.Errorf("%+v, %v", end, err)
	}
}

// TestImportDoesNotRunAhead: while the server takes nothing, no more rows are asked for than fit on the way, and ctx ends
// it.
func TestImportDoesNotRunAhead(t *testing.T) {
	release := make(chan struct{})
	cl, _ := serve(t, Options{}, func(_ http.ResponseWriter, r *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	value := wire.Plain(strings.Repeat("a", 10_000))
	failed := make(chan error, 1)
	go func() {
		_, err := cl.Import(ctx, func() (wire.ImportRow, error) {
			asked.Add(1)
			return wire.ImportRow{Subject: "u1", Fields: wire.Fields{"text": {Value: value}}}, nil
		}, func(wire.ImportResult) error { return nil })
		failed <- err
	}()
	var before int64
	for still := 0; still < 5; time.Sleep(50 * time.Millisecond) {
		if now := asked.Load(); now == before && now > 0 {
			still++
		} else {
			before, still = now, 0
		}
		if before > 10_000 {
			t.Fatal("100 MB of rows were asked for that nobody takes")
		}
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
