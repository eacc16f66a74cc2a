package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 123e6, time.UTC)

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func testOptions() Options {
	return Options{Signer: testKey(), Instance: "00ff", checkpointEvery: time.Hour}
}

func mustOpen(t testing.TB, dir string, opt Options) *Log {
	t.Helper()
	l, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, e *Event) uint64 {
	t.Helper()
	i, err := l.Append(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func event(i, items int) *Event {
	e := &Event{
		Time: start.Add(time.Duration(i) * time.Millisecond), RequestID: fmt.Sprintf("req-%d", i), Service: "dispatch", Credential: "a1B2c3",
		Action: "detokenize", Purpose: "service", Reason: "order 77", Policy: 3, Source: "127.0.0.1",
	}
	for n := range items {
		e.Items = append(e.Items, Item{Subject: Digest{1, byte(i)}, Token: Digest{2, byte(n)}, Field: "phone", View: "full", Outcome: "ok"})
	}
	return e
}

func scanAll(t testing.TB, l *Log, from uint64) []Record {
	t.Helper()
	var all []Record
	if err := l.Scan(context.Background(), from, func(r Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAppendReadsBackAfterReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	opt := testOptions()
	opt.segmentBytes = 600 // a few entries each
	var want []Record
	var head Head
	for round := range 3 {
		l := mustOpen(t, dir, opt)
		if round > 0 && l.Head() != head {
			t.Fatalf("head after reopening %v, want %v", l.Head(), head)
		}
		for i := range 5 {
			e := event(i, i)
			want = append(want, Record{mustAppend(t, l, e), *e})
		}
		head = l.Head()
		for from := range uint64(len(want)) + 1 {
			got := scanAll(t, l, from)
			if rest := want[from:]; len(got) != len(rest) || len(rest) > 0 && !reflect.DeepEqual(got, rest) {
				t.Fatalf("round %d: scan from %d: got %v, want %v", round, from, got, rest)
			}
		}
		mustClose(t, l)
	}
	for i, r := range want {
		if r.Index != uint64(i) {
			t.Fatalf("entry %d has index %d", i, r.Index)
		}
	}
	segments, err := listSegments(dir)
	if err != nil || len(segments) < 3 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700 | os.ModeDir, checkpointName: 0o600, segments[0].name: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestScanStops(t *testing.T) {
	l := mustOpen(t, t.TempDir(), testOptions())
	for i := range 3 {
		mustAppend(t, l, event(i, 1))
	}
	stop := errors.New("enough")
	calls := 0
	if err := l.Scan(context.Background(), 1, func(Record) error { calls++; return stop }); err != stop || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Scan(ctx, 0, func(Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled scan: %v", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	long := strings.Repeat("x", 257)
	for name, change := range map[string]func(*Event){
		"no action":        func(e *Event) { e.Action = "" },
		"long reason":      func(e *Event) { e.Reason = long },
		"long service":     func(e *Event) { e.Service = long[:129] },
		"reason not UTF-8": func(e *Event) { e.Reason = "\xff" },
		"too many items":   func(e *Event) { e.Items = make([]Item, MaxItems+1) },
		"no outcome":       func(e *Event) { e.Items[0].Outcome = "" },
		"long field":       func(e *Event) { e.Items[0].Field = long[:65] },
		"view not UTF-8":   func(e *Event) { e.Items[0].View = "\xc3" },
		"year 10000":       func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"year 1969":        func(e *Event) { e.Time = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		t.Run(name, func(t *testing.T) {
			l := mustOpen(t, t.TempDir(), testOptions())
			e := event(0, 1)
			change(e)
			_, err := l.Append(context.Background(), e)
			if !errors.Is(err, ErrInvalid) || l.Size() != 0 {
				t.Errorf("%v, size %d", err, l.Size())
			}
			if err != nil && strings.Contains(err.Error(), "xxx") {
				t.Error("the error shows the text")
			}
		})
	}
}

func TestAppendAtTheLimits(t *testing.T) {
	l := mustOpen(t, t.TempDir(), testOptions())
	ctl := strings.Repeat("\x01", 256)
	e := &Event{Action: ctl[:128], RequestID: ctl[:128], Service: ctl[:128], Credential: ctl[:128], Purpose: ctl[:128], Reason: ctl,
		Source: ctl[:128], Code: ctl[:128], Policy: 1<<64 - 1, Time: start}
	for range MaxItems {
		e.Items = append(e.Items, Item{Digest{1}, Digest{2}, ctl[:64], ctl[:64], ctl[:64]})
	}
	mustAppend(t, l, e)
	mustAppend(t, l, event(1, 1))
	if got := scanAll(t, l, 0); len(got) != 2 || !reflect.DeepEqual(got[0].Event, *e) {
		t.Error("the largest entry does not read back")
	}
}

func TestAppendTakesTheTimeWhenThereIsNone(t *testing.T) {
	opt := testOptions()
	opt.Now = func() time.Time { return start.In(time.FixedZone("CST", 8*3600)).Add(time.Microsecond) }
	l := mustOpen(t, t.TempDir(), opt)
	mustAppend(t, l, &Event{Action: "put"})
	if got := scanAll(t, l, 0)[0].Event.Time; !got.Equal(start) {
		t.Error(got)
	}
}

func TestContextCountsBeforeQueuingOnly(t *testing.T) {
	l := mustOpen(t, t.TempDir(), testOptions())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Append(ctx, event(0, 1)); !errors.Is(err, context.Canceled) || l.Size() != 0 {
		t.Errorf("%v, size %d", err, l.Size())
	}
}

func TestClosed(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, testOptions())
	mustAppend(t, l, event(0, 1))
	if _, err := Open(dir, testOptions()); !errors.Is(err, appendfile.ErrLocked) {
		t.Errorf("second opening: %v", err)
	}
	mustClose(t, l)
	mustClose(t, l)
	if _, err := l.Append(context.Background(), event(0, 1)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := l.Ready(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if report, err := Verify(dir, l.VerifierKey()); err != nil || report.Checkpointed != 1 || report.Entries != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestConcurrentAppendsShareSyncs(t *testing.T) {
	dir := t.TempDir()
	opt := testOptions()
	opt.segmentBytes = 64 << 10
	l := mustOpen(t, dir, opt)
	const writers, each = 64, 20
	got := make([][each]uint64, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := event(i, w%3)
				e.RequestID = fmt.Sprintf("%d/%d", w, i)
				got[w][i] = mustAppend(t, l, e)
			}
		})
	}
	wg.Wait()
	records := scanAll(t, l, 0)
	if len(records) != writers*each || l.Size() != writers*each {
		t.Fatalf("%d records, size %d", len(records), l.Size())
	}
	for w := range writers {
		for i := range each {
			if id := records[got[w][i]].Event.RequestID; id != fmt.Sprintf("%d/%d", w, i) {
				t.Fatalf("index %d is %s", got[w][i], id)
			}
			if i > 0 && got[w][i] <= got[w][i-1] {
				t.Fatal("a later call has an earlier index")
			}
		}
	}
	if syncs := l.writer.syncs.Load(); syncs >= writers*each/2 {
		t.Errorf("%d syncs for %d appends", syncs, writers*each)
	}
	mustClose(t, l)
	if _, err := Verify(dir, l.VerifierKey()); err != nil {
		t.Error(err)
	}
}

func TestCheckpointFollows(t *testing.T) {
	opt := testOptions()
	opt.checkpointEvery = time.Millisecond
	dir := t.TempDir()
	l := mustOpen(t, dir, opt)
	mustAppend(t, l, event(0, 1))
	for l.Checkpointed() != l.Head() {
		time.Sleep(time.Millisecond)
	}
	if report, err := Verify(dir, l.VerifierKey()); err != nil || report.Checkpointed != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestPublicKey(t *testing.T) {
	l := mustOpen(t, t.TempDir(), testOptions())
	path := filepath.Join(t.TempDir(), "audit.pub")
	for range 2 {
		if err := l.WritePublicKey(path); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != l.VerifierKey()+"\n" || !strings.HasPrefix(string(b), "cloakroom/audit/00ff+") {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOpenRefusesOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no key":          func(o *Options) { o.Signer = nil },
		"short key":       func(o *Options) { o.Signer = o.Signer[:32] },
		"space in origin": func(o *Options) { o.Origin = "a b" },
		"plus in origin":  func(o *Options) { o.Instance = "a+b" },
	} {
		t.Run(name, func(t *testing.T) {
			opt := testOptions()
			change(&opt)
			if l, err := Open(t.TempDir(), opt); err == nil {
				l.Close()
				t.Error("opened")
			}
		})
	}
}

func TestLoggerHearsOfATornEnd(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, testOptions())
	mustAppend(t, l, event(0, 1))
	mustClose(t, l)
	appendTo(t, filepath.Join(dir, newSegment(0).name), `{"i":1,"prev":"abc`)
	var log bytes.Buffer
	opt := testOptions()
	opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	l = mustOpen(t, dir, opt)
	if l.Recovered() != 18 || !strings.Contains(log.String(), "bytes=18") || l.Size() != 1 {
		t.Errorf("recovered %d, size %d, log %q", l.Recovered(), l.Size(), log.String())
	}
	if i := mustAppend(t, l, event(1, 1)); i != 1 {
		t.Error(i)
	}
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
