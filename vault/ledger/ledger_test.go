package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func testPublic() ed25519.PublicKey { return testKey().Public().(ed25519.PublicKey) }

// testOptions has a clock that moves a minute each time, so that Ready always tries to mend.
func testOptions() Options {
	var n atomic.Int64
	return Options{Instance: [16]byte{1, 2}, Now: func() time.Time { return time.Unix(60*n.Add(1), 0) }}
}

func mustOpen(t testing.TB, path string) *Ledger {
	t.Helper()
	l, err := Open(path, testKey(), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustClose(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, l *Ledger, entries ...Entry) {
	t.Helper()
	if err := l.Append(context.Background(), entries); err != nil {
		t.Fatal(err)
	}
}

// after makes n entries that follow head.
func after(head Head, n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		e := Entry{Seq: head.Seq + 1, Prev: head.Hash}
		e.Tombstone = fmt.Appendf(nil, "tombstone %d", e.Seq)
		entries[i], head = e, e.Head()
	}
	return entries
}

func path(t testing.TB) string { return filepath.Join(t.TempDir(), "erasures") }

func scanAll(t testing.TB, path string) []Entry {
	t.Helper()
	var all []Entry
	if _, err := Scan(path, testPublic(), func(e Entry) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEntryBytes(t *testing.T) {
	e := Entry{Seq: 258, Prev: [32]byte{0xaa, 31: 0xbb}, Tombstone: []byte("gone")}
	b, err := e.Marshal()
	want := "0000000000000102" + "aa" + "000000000000000000000000000000000000000000000000000000000000" + "bb" + "0004" + "676f6e65"
	if err != nil || hex.EncodeToString(b) != want {
		t.Fatalf("%x, %v", b, err)
	}
	back, err := Unmarshal(b)
	if err != nil || !reflect.DeepEqual(back, e) || back.Hash() != e.Hash() {
		t.Errorf("%+v, %v", back, err)
	}
	b[len(b)-1] = 'x'
	if string(back.Tombstone) != "gone" {
		t.Error("the entry shares the bytes it was read from")
	}
}

func TestEntryLimits(t *testing.T) {
	good := Entry{Seq: 2, Prev: [32]byte{1}, Tombstone: make([]byte, MaxTombstone)}
	if _, err := good.Marshal(); err != nil {
		t.Error(err)
	}
	for name, e := range map[string]Entry{
		"seq 0":               {Seq: 0, Tombstone: []byte("x")},
		"first with a before": {Seq: 1, Prev: [32]byte{1}, Tombstone: []byte("x")},
		"no tombstone":        {Seq: 2},
		"tombstone too large": {Seq: 2, Tombstone: make([]byte, MaxTombstone+1)},
		"tombstone wraps u16": {Seq: 2, Tombstone: make([]byte, 1<<16+1)},
	} {
		if _, err := e.Marshal(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Unmarshal(e.appendTo(nil)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s, read: %v", name, err)
		}
		l := mustOpen(t, path(t))
		if err := l.Append(context.Background(), []Entry{e}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s, appended: %v", name, err)
		}
	}
	b := good.appendTo(nil)
	for name, bad := range map[string][]byte{"empty": nil, "short": b[:len(b)-1], "long": append(b, 0), "no length": b[:41]} {
		if _, err := Unmarshal(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(after(Head{}, 1)[0].appendTo(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Unmarshal(b)
		if err != nil {
			return
		}
		if again, err := e.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

func TestAppendAndReopen(t *testing.T) {
	p := path(t)
	l := mustOpen(t, p)
	if l.Head() != (Head{}) || l.Ready() != nil {
		t.Error(l.Head(), l.Ready())
	}
	entries := after(Head{}, 200)
	for i := 0; i < len(entries); i += 20 {
		mustAppend(t, l, entries[i:i+20]...)
		if l.Head() != entries[i+19].Head() {
			t.Fatal(l.Head())
		}
		if i%60 == 0 {
			mustClose(t, l)
			l = mustOpen(t, p)
		}
	}
	mustAppend(t, l)
	if got := scanAll(t, p); !reflect.DeepEqual(got, entries) {
		t.Errorf("%d entries", len(got))
	}
	report, err := Scan(p, testPublic(), nil)
	if err != nil || report != (Report{[16]byte{1, 2}, entries[199].Head(), 0}) {
		t.Errorf("%+v, %v", report, err)
	}
	if info, err := os.Stat(p); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	stop := errors.New("enough")
	if _, err := Scan(p, testPublic(), func(Entry) error { return stop }); err != stop {
		t.Error(err)
	}
	// Every entry again, each alone and all of them: nothing is added.
	for _, e := range entries {
		mustAppend(t, l, e)
	}
	mustAppend(t, l, append(entries[150:200:200], after(l.Head(), 1)...)...)
	if got := scanAll(t, p); len(got) != 201 {
		t.Errorf("%d entries", len(got))
	}
}

func TestAppendRefuses(t *testing.T) {
	p := path(t)
	l := mustOpen(t, p)
	entries := after(Head{}, 150)
	mustAppend(t, l, entries[:140]...)
	changed := func(i int) Entry { e := entries[i]; e.Tombstone = []byte("another"); return e }
	branch := after(changed(139).Head(), 1)[0]
	for _, test := range []struct {
		name    string
		entries []Entry
		want    error
	}{
		{"gap before", entries[141:], ErrGap},
		{"gap within", []Entry{entries[140], entries[142]}, ErrGap},
		{"backwards", []Entry{entries[141], entries[140]}, ErrGap},
		{"the same twice", []Entry{entries[140], entries[140]}, ErrGap},
		{"first differs", []Entry{changed(0)}, ErrDiverged},
		{"old one differs", []Entry{changed(70)}, ErrDiverged},
		{"newest differs", []Entry{changed(139)}, ErrDiverged},
		{"follows another", []Entry{branch}, ErrDiverged},
		{"old one differs, new one fits", []Entry{changed(139), entries[140]}, ErrDiverged},
		{"chain breaks within", []Entry{entries[140], after(changed(140).Head(), 1)[0]}, ErrDiverged},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := l.Append(context.Background(), test.entries); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if l.Head() != entries[139].Head() {
				t.Error("the head moved")
			}
		})
	}
	mustAppend(t, l, entries...)
	if got := scanAll(t, p); !reflect.DeepEqual(got, entries) {
		t.Errorf("%d entries", len(got))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Append(ctx, after(l.Head(), 1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	mustClose(t, l)
	if err := l.Append(context.Background(), entries); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := l.Ready(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// One group as the writer sees it: a call that is refused takes nothing of its neighbours with it.
func TestGroupWithARefusedCall(t *testing.T) {
	p := path(t)
	l := mustOpen(t, p)
	entries := after(Head{}, 5)
	makeRequest := func(es ...Entry) *request {
		r := &request{}
		for _, e := range es {
			hash := e.Hash()
			r.entries = append(r.entries, signed{e, hash, ed25519.Sign(l.signer, hash[:])})
		}
		return r
	}
	other := entries[2]
	other.Tombstone = []byte("another")
	late, early, overlap, gap, differs := makeRequest(entries[2], entries[3]), makeRequest(entries[0], entries[1]), makeRequest(entries[1:3]...), makeRequest(after(Head{Seq: 7}, 1)...), makeRequest(entries[1], other)
	broken := makeRequest(entries[4], after(Head{Seq: 5}, 1)[0])
	l.commit([]*request{broken, gap, late, overlap, {}, differs, early})
	for name, c := range map[string]struct{ got, want error }{
		"late": {late.err, nil}, "early": {early.err, nil}, "overlap": {overlap.err, nil}, "gap": {gap.err, ErrGap}, "broken": {broken.err, ErrDiverged}, "differs": {differs.err, ErrDiverged},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if got := scanAll(t, p); !reflect.DeepEqual(got, entries[:4]) {
		t.Errorf("%d entries", len(got))
	}
}

func TestConcurrentAppends(t *testing.T) {
	p := path(t)
	l := mustOpen(t, p)
	entries := after(Head{}, 400)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > len(entries) {
					return
				}
				// As the vault does: everything that may not be in the ledger yet, up to the own entry.
				err := l.Append(context.Background(), entries[max(0, i-40):i])
				if err != nil || l.Head().Seq < uint64(i) {
					t.Errorf("entry %d: %v, head %d", i, err, l.Head().Seq)
				}
			}
		})
	}
	wg.Wait()
	if got := scanAll(t, p); !reflect.DeepEqual(got, entries) {
		t.Errorf("%d entries", len(got))
	}
}

func TestOpenRefuses(t *testing.T) {
	p := path(t)
	missing := testOptions()
	missing.MustExist = true
	if _, err := Open(p, testKey(), missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing ledger was made")
	}
	l := mustOpen(t, p)
	mustAppend(t, l, after(Head{}, 2)...)
	if _, err := Open(p, testKey(), testOptions()); !errors.Is(err, appendfile.ErrLocked) {
		t.Errorf("second opening: %v", err)
	}
	mustClose(t, l)
	foreign := testOptions()
	foreign.Instance = [16]byte{9}
	if _, err := Open(p, testKey(), foreign); !errors.Is(err, ErrForeign) {
		t.Errorf("another instance: %v", err)
	}
	if _, err := Open(p, testKey(), Options{}); err == nil {
		t.Error("no instance")
	}
	if _, err := Open(p, testKey()[:32], testOptions()); err == nil {
		t.Error("half a key")
	}
	var damage *CorruptError
	if _, err := Open(p, ed25519.NewKeyFromSeed(make([]byte, 32)), testOptions()); !errors.As(err, &damage) || damage.Seq != 1 {
		t.Errorf("another key: %v", err)
	}
	if _, err := Scan(p, testPublic()[:31], nil); err == nil {
		t.Error("scan with half a key")
	}
	mustClose(t, mustOpen(t, p))
	empty := path(t)
	write(t, empty, nil)
	if _, err := Open(empty, testKey(), missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty: %v", err)
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
