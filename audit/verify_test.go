package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// closedLog returns the folder of a log of three segments with two entries each, all checkpointed, and its key.
func closedLog(t testing.TB) (dir, key string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, smallSegments())
	for i := range 6 {
		mustAppend(t, l, event(i, i%2))
	}
	mustClose(t, l)
	if segments, err := listSegments(dir); err != nil || len(segments) != 3 || segments[2].first != 4 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	if report, err := Verify(dir, l.VerifierKey()); err != nil || report != (Report{6, l.Head(), 6, 0}) {
		t.Fatalf("%+v, %v", report, err)
	}
	return dir, l.VerifierKey()
}

func smallSegments() Options {
	opt := testOptions()
	opt.segmentBytes = 400
	return opt
}

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, b []byte, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// poke changes one byte in place, which is much faster than writing the file anew.
func poke(t testing.TB, b byte, at int, path ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(path...), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b}, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsEveryChangedByte(t *testing.T) {
	dir, key := closedLog(t)
	segments, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		good := read(t, dir, s.name)
		for i := range good {
			index := s.first + uint64(bytes.Count(good[:i], []byte("\n")))
			for _, flip := range []byte{0x01, 0x80, good[i] ^ '\n'} {
				if flip == 0 {
					continue
				}
				poke(t, good[i]^flip, i, dir, s.name)
				report, err := Verify(dir, key)
				var damage *CorruptError
				if !errors.As(err, &damage) || damage.File != s.name || damage.Index != index || report.Entries != index {
					t.Fatalf("%s byte %d (entry %d) flipped by %#x: %+v, %v", s.name, i, index, flip, report, err)
				}
			}
			poke(t, good[i], i, dir, s.name)
		}
	}
	good := read(t, dir, checkpointName)
	for i := range good {
		for bit := range 8 {
			poke(t, good[i]^1<<bit, i, dir, checkpointName)
			_, err := Verify(dir, key)
			var damage *CorruptError
			if !errors.As(err, &damage) || damage.File != checkpointName {
				t.Fatalf("checkpoint byte %d bit %d: %v", i, bit, err)
			}
		}
		poke(t, good[i], i, dir, checkpointName)
	}
}

// The last character of the signature has two bits that decode to nothing.
func TestVerifyWantsTheOneFormOfTheSignature(t *testing.T) {
	dir, key := closedLog(t)
	good := read(t, dir, checkpointName)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := bytes.LastIndexByte(good, '=') - 1
	for i := range alphabet {
		if alphabet[i] == good[at] {
			continue
		}
		poke(t, alphabet[i], at, dir, checkpointName)
		if _, err := Verify(dir, key); err == nil {
			t.Errorf("%q in the place of %q", alphabet[i], good[at])
		}
	}
	for name, bad := range map[string]string{
		"doubled line":   string(good) + string(good[bytes.Index(good, []byte("—")):]),
		"one more line":  string(good) + "— other AAAAAAAA\n",
		"extension line": strings.Replace(string(good), "\n\n", "\nmore\n\n", 1),
	} {
		write(t, []byte(bad), dir, checkpointName)
		if _, err := Verify(dir, key); err == nil {
			t.Error(name)
		}
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	first, middle, last := newSegment(0).name, newSegment(2).name, newSegment(4).name
	split := func(t *testing.T, dir, name string) [][]byte {
		return bytes.SplitAfter(read(t, dir, name), []byte("\n"))
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		file   string
		index  uint64
	}{
		{"first line removed", func(t *testing.T, dir string) {
			write(t, split(t, dir, first)[1], dir, first)
		}, first, 0},
		{"last line of a middle file removed", func(t *testing.T, dir string) {
			write(t, split(t, dir, middle)[0], dir, middle)
		}, middle, 3},
		{"last line of all removed", func(t *testing.T, dir string) {
			write(t, split(t, dir, last)[0], dir, last)
		}, last, 5},
		{"lines swapped", func(t *testing.T, dir string) {
			l := split(t, dir, middle)
			write(t, append(bytes.Clone(l[1]), l[0]...), dir, middle)
		}, middle, 2},
		{"line doubled", func(t *testing.T, dir string) {
			l := split(t, dir, middle)
			write(t, bytes.Join([][]byte{l[0], l[0], l[1]}, nil), dir, middle)
		}, middle, 3},
		{"cut within a line", func(t *testing.T, dir string) {
			b := read(t, dir, last)
			write(t, b[:len(b)-5], dir, last)
		}, last, 5},
		{"last file emptied", func(t *testing.T, dir string) { write(t, nil, dir, last) }, middle, 4},
		{"files swapped", func(t *testing.T, dir string) {
			a, b := read(t, dir, first), read(t, dir, middle)
			write(t, b, dir, first)
			write(t, a, dir, middle)
		}, first, 0},
		{"first file removed", func(t *testing.T, dir string) { remove(t, dir, first) }, first, 0},
		{"middle file removed", func(t *testing.T, dir string) { remove(t, dir, middle) }, first, 2},
		{"last file removed", func(t *testing.T, dir string) { remove(t, dir, last) }, middle, 4},
		{"all files removed", func(t *testing.T, dir string) {
			remove(t, dir, first)
			remove(t, dir, middle)
			remove(t, dir, last)
		}, first, 0},
		{"file added", func(t *testing.T, dir string) { write(t, nil, dir, newSegment(5).name) }, newSegment(6).name, 6},
		{"file with a wrong name", func(t *testing.T, dir string) { write(t, nil, dir, "entries-7.jsonl") }, "entries-7.jsonl", 0},
		{"checkpoint removed", func(t *testing.T, dir string) { remove(t, dir, checkpointName) }, checkpointName, 0},
		{"checkpoint too large", func(t *testing.T, dir string) {
			write(t, make([]byte, 1<<20), dir, checkpointName)
		}, checkpointName, 0},
		{"last entries changed, and a torn end", func(t *testing.T, dir string) {
			l := split(t, dir, last)
			b := bytes.Replace(l[1], []byte("dispatch"), []byte("dispotch"), 1)
			write(t, append(append(bytes.Clone(l[0]), b...), "{"...), dir, last)
		}, last, 5},
		{"chain written anew from entry 4 on", func(t *testing.T, dir string) {
			c := newChain(Head{0, genesis("cloakroom/audit/00ff")})
			for i := range 4 {
				c.add(encodeLine(event(i, i%2), uint64(i), c.head.Hash))
			}
			var out []byte
			for i := range 2 {
				line := encodeLine(event(99, 1), uint64(4+i), c.head.Hash)
				c.add(line)
				out = append(append(out, line...), '\n')
			}
			write(t, out, dir, last)
		}, last, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, key := closedLog(t)
			test.damage(t, dir)
			_, err := Verify(dir, key)
			var damage *CorruptError
			if !errors.As(err, &damage) || damage.File != test.file || damage.Index != test.index {
				t.Errorf("got %v, want entry %d of %s", err, test.index, test.file)
			}
			before := snapshot(t, dir)
			// Open looks at the end alone, so it may miss what lies before; but it must never write.
			if l, err := Open(dir, smallSegments()); err == nil {
				_ = l.Close()
				if test.index > 3 && test.file != newSegment(6).name {
					t.Error("Open takes damage at the end")
				}
			} else if after := snapshot(t, dir); !equal(before, after) {
				t.Error("Open refused, but changed files")
			}
		})
	}
}

func remove(t testing.TB, path ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		all[f.Name()] = string(read(t, dir, f.Name()))
	}
	return all
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, content := range a {
		if other, ok := b[name]; !ok || other != content {
			return false
		}
	}
	return true
}

func TestVerifyKnowsWhatIsNotCheckpointed(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, testOptions())
	mustAppend(t, l, event(0, 1))
	if err := l.checkpoint(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, event(1, 1))
	mustAppend(t, l, event(2, 1))
	if report, err := Verify(dir, l.VerifierKey()); err != nil || report != (Report{3, l.Head(), 1, 0}) {
		t.Errorf("%+v, %v", report, err)
	}
	appendTo(t, filepath.Join(dir, newSegment(0).name), `{"i":3`)
	if report, err := Verify(dir, l.VerifierKey()); err != nil || report != (Report{3, l.Head(), 1, 6}) {
		t.Errorf("torn: %+v, %v", report, err)
	}
}

func TestVerifyWantsTheRightKey(t *testing.T) {
	dir, _ := closedLog(t)
	other, err := newSigner("cloakroom/audit/00ff", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := newSigner("cloakroom/audit/00fe", testKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"another key": other.vky, "another log": renamed.vky, "no key": "", "nonsense": "a+b+c"} {
		if _, err := Verify(dir, key); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	opt := smallSegments()
	opt.Instance = "00fe"
	if _, err := Open(dir, opt); err == nil {
		t.Error("Open took the log of another instance")
	}
	opt = smallSegments()
	opt.Signer = ed25519.NewKeyFromSeed(make([]byte, 32))
	if _, err := Open(dir, opt); err == nil {
		t.Error("Open took another key")
	}
}

func TestOpenCutsOnlyATornEnd(t *testing.T) {
	zeros := string(make([]byte, 5000))
	for _, test := range []struct {
		name    string
		tail    string
		cut     bool
		entries uint64
	}{
		{"nothing", "", true, 3},
		{"part of a line", `{"i":3,"prev":"`, true, 3},
		{"a hole", zeros, true, 3},
		{"a hole with lines behind it", zeros + "\n{}\n", true, 3},
		{"a line of something else", "{}\n", false, 3},
		{"an empty line", "\n", false, 3},
		{"a larger hole than any line", string(make([]byte, maxLine+5)), true, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			l := mustOpen(t, dir, testOptions())
			for i := range 3 {
				mustAppend(t, l, event(i, 1))
			}
			want := scanAll(t, l, 0)
			mustClose(t, l)
			appendTo(t, filepath.Join(dir, newSegment(0).name), test.tail)
			l, err := Open(dir, testOptions())
			if !test.cut {
				var damage *CorruptError
				if !errors.As(err, &damage) || damage.Index != 3 {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if l.Size() != 3 || l.Recovered() != int64(len(test.tail)) {
				t.Errorf("size %d, recovered %d", l.Size(), l.Recovered())
			}
			mustAppend(t, l, event(3, 1))
			if got := scanAll(t, l, 0); len(got) != 4 || got[2].Event.RequestID != want[2].Event.RequestID {
				t.Errorf("%d entries", len(got))
			}
		})
	}
}

func TestOpenContinuesAfterACrashWhileRolling(t *testing.T) {
	dir, key := closedLog(t)
	write(t, nil, dir, newSegment(6).name)
	l := mustOpen(t, dir, smallSegments())
	if i := mustAppend(t, l, event(6, 1)); i != 6 {
		t.Error(i)
	}
	mustClose(t, l)
	if report, err := Verify(dir, key); err != nil || report.Entries != 7 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestOpenReadsFromTheCheckpointOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, smallSegments())
	for i := range 3 {
		mustAppend(t, l, event(i, 1))
	}
	if err := l.checkpoint(); err != nil {
		t.Fatal(err)
	}
	signed := read(t, dir, checkpointName)
	for i := 3; i < 9; i++ {
		mustAppend(t, l, event(i, 1))
	}
	mustClose(t, l)
	write(t, signed, dir, checkpointName)
	name := newSegment(4).name
	good := read(t, dir, name)
	write(t, bytes.Replace(good, []byte("dispatch"), []byte("dispotch"), 1), dir, name)
	var damage *CorruptError
	if _, err := Open(dir, smallSegments()); !errors.As(err, &damage) {
		t.Errorf("a change between checkpoint and last segment: %v", err)
	}
	write(t, good, dir, name)
	l = mustOpen(t, dir, smallSegments())
	if got := scanAll(t, l, 0); len(got) != 9 || l.Checkpointed() != l.Head() {
		t.Errorf("%d entries, checkpoint %v", len(got), l.Checkpointed())
	}
}

func TestScanReportsDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, smallSegments())
	for i := range 6 {
		mustAppend(t, l, event(i, 1))
	}
	name := newSegment(0).name
	write(t, bytes.Replace(read(t, dir, name), []byte("dispatch"), []byte("dispotch"), 1), dir, name)
	var damage *CorruptError
	err := l.Scan(context.Background(), 0, func(Record) error { return nil })
	if !errors.As(err, &damage) || damage.File != name {
		t.Errorf("%v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	l := mustOpen(b, dir, testOptions())
	const entries = 20000
	requests := make([]*request, entries)
	for i := range requests {
		e := event(i, 1)
		requests[i] = &request{body: appendRest(nil, e, e.Time)}
	}
	l.commit(requests)
	mustClose(b, l)
	for b.Loop() {
		if report, err := Verify(dir, l.VerifierKey()); err != nil || report.Entries != entries {
			b.Fatal(report, err)
		}
	}
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
