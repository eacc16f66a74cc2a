package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// clock moves a minute each time it is read, so that Ready always tries to mend.
func clock() func() time.Time {
	var n atomic.Int64
	return func() time.Time { return start.Add(time.Duration(n.Add(1)) * time.Minute) }
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestLogThatIsNotInItsPlace(t *testing.T) {
	for _, test := range []struct {
		name    string
		spoil   func(t *testing.T, dir, file string)
		mend    func(t *testing.T, dir, file string)
		inPlace bool
	}{
		{"folder renamed and back",
			func(t *testing.T, dir, file string) { rename(t, dir, dir+".away") },
			func(t *testing.T, dir, file string) { rename(t, dir+".away", dir) }, false},
		{"folder replaced by an empty one",
			func(t *testing.T, dir, file string) {
				rename(t, dir, dir+".away")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir, file string) { remove(t, dir); rename(t, dir+".away", dir) }, false},
		{"file renamed and back",
			func(t *testing.T, dir, file string) { rename(t, file, file+".away") },
			func(t *testing.T, dir, file string) { rename(t, file+".away", file) }, false},
		{"file replaced by an empty one",
			func(t *testing.T, dir, file string) { rename(t, file, file+".away"); write(t, nil, file) },
			func(t *testing.T, dir, file string) { rename(t, file+".away", file) }, false},
		{"file replaced by a changed copy, then a true one",
			func(t *testing.T, dir, file string) {
				b := read(t, file)
				rename(t, file, file+".away")
				b[len(b)/2] ^= 1
				write(t, b, file)
			},
			func(t *testing.T, dir, file string) { remove(t, file); write(t, read(t, file+".away"), file) }, false},
		{"file replaced by a shorter copy, then one with a torn end",
			func(t *testing.T, dir, file string) {
				b := read(t, file)
				rename(t, file, file+".away")
				write(t, b[:len(b)-1], file)
			},
			func(t *testing.T, dir, file string) {
				remove(t, file)
				write(t, append(read(t, file+".away"), "{\"i\":"...), file)
			}, false},
		{"file replaced by a chain written anew, then a true copy",
			func(t *testing.T, dir, file string) {
				rename(t, file, file+".away")
				c := newChain(Head{0, genesis("cloakroom/audit/00ff")})
				var out []byte
				for i := range 3 {
					e := event(i, 1)
					e.Reason = "order 78"
					line := encodeLine(e, uint64(i), c.head.Hash)
					c.add(line)
					out = append(append(out, line...), '\n')
				}
				write(t, out, file)
			},
			func(t *testing.T, dir, file string) { remove(t, file); write(t, read(t, file+".away"), file) }, false},
		{"file removed, then brought back from a copy",
			func(t *testing.T, dir, file string) { write(t, read(t, file), dir+".copy"); remove(t, file) },
			func(t *testing.T, dir, file string) { rename(t, dir+".copy", file) }, false},
		{"file replaced by a pipe's name, a folder",
			func(t *testing.T, dir, file string) {
				rename(t, file, file+".away")
				if err := os.Mkdir(file, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir, file string) { remove(t, file); rename(t, file+".away", file) }, false},
		{"file cut, then brought back from a copy",
			func(t *testing.T, dir, file string) {
				write(t, read(t, file), dir+".copy")
				if err := os.Truncate(file, 10); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir, file string) { rename(t, dir+".copy", file) }, true},
	} {
		for _, by := range []string{"Append", "Ready"} {
			t.Run(test.name+", mended by "+by, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "audit")
				opt := testOptions()
				opt.Now = clock()
				l := mustOpen(t, dir, opt)
				for i := range 3 {
					mustAppend(t, l, event(i, 1))
				}
				file := l.path(newSegment(0))
				test.spoil(t, dir, file)
				for range 2 {
					if _, err := l.Append(context.Background(), event(9, 1)); !errors.Is(err, ErrUnavailable) {
						t.Fatalf("append: %v", err)
					}
					if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
						t.Fatalf("ready: %v", err)
					}
				}
				if l.Size() != 3 {
					t.Errorf("size %d", l.Size())
				}
				// A file that was cut is still ours: signing for what was in it is right, and is evidence.
				if err := l.checkpoint(); !errors.Is(err, ErrUnavailable) && !test.inPlace {
					t.Errorf("checkpoint: %v", err)
				}
				test.mend(t, dir, file)
				if by == "Ready" {
					if err := l.Ready(); err != nil {
						t.Fatalf("ready after mending: %v", err)
					}
				}
				if i := mustAppend(t, l, event(3, 1)); i != 3 {
					t.Errorf("index %d", i)
				}
				if err := l.Ready(); err != nil {
					t.Error(err)
				}
				if got := scanAll(t, l, 0); len(got) != 4 {
					t.Errorf("%d entries", len(got))
				}
				mustClose(t, l)
				if report, err := Verify(dir, l.VerifierKey()); err != nil || report.Checkpointed != 4 {
					t.Errorf("%+v, %v", report, err)
				}
			})
		}
	}
}

func TestReadyNoticesWithoutTrafficAndTriesOnceASecond(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	now := start
	opt := testOptions()
	opt.Now = func() time.Time { return now }
	l := mustOpen(t, dir, opt)
	mustAppend(t, l, event(0, 1))
	rename(t, dir, dir+".away")
	if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	rename(t, dir+".away", dir)
	now = now.Add(999 * time.Millisecond)
	if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("tried again within a second: %v", err)
	}
	now = now.Add(time.Millisecond)
	if err := l.Ready(); err != nil {
		t.Error(err)
	}
}

func TestReadyTellsOfACheckpointThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, testOptions())
	mustAppend(t, l, event(0, 1))
	blocker := filepath.Join(dir, checkpointName+".tmp")
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.checkpoint(); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	remove(t, blocker)
	if err := l.Ready(); err != nil || l.Checkpointed() != l.Head() {
		t.Errorf("%v, %v", err, l.Checkpointed())
	}
}

func TestRollingFails(t *testing.T) {
	for _, test := range []struct {
		name    string
		content []byte
	}{{"a folder in the way", nil}, {"a file in the way", []byte("x")}} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			opt := smallSegments()
			opt.Now = clock()
			l := mustOpen(t, dir, opt)
			mustAppend(t, l, event(0, 1))
			mustAppend(t, l, event(1, 1))
			next := l.path(newSegment(2))
			if test.content != nil {
				write(t, test.content, next)
			} else if err := os.Mkdir(next, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Append(context.Background(), event(2, 1)); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
			remove(t, next)
			if i := mustAppend(t, l, event(2, 1)); i != 2 {
				t.Error(i)
			}
			mustClose(t, l)
			if report, err := Verify(dir, l.VerifierKey()); err != nil || report.Checkpointed != 3 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}
