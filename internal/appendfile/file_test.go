package appendfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T) *File {
	t.Helper()
	f, err := Open(filepath.Join(t.TempDir(), "log"), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func put(f *File, parts ...string) error {
	if err := f.Begin(); err != nil {
		return err
	}
	for _, p := range parts {
		if err := f.Stage([]byte(p)); err != nil {
			return err
		}
	}
	return f.Commit()
}

func mustPut(t *testing.T, f *File, parts ...string) {
	t.Helper()
	if err := put(f, parts...); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileGrows(t *testing.T) {
	f := open(t)
	mustPut(t, f, "a", "bc")
	mustPut(t, f)
	mustPut(t, f, "d")
	if got := content(t, f.Path()); got != "abcd" || f.Size() != 4 {
		t.Errorf("%q, size %d", got, f.Size())
	}
	if info, err := os.Stat(f.Path()); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, 1); err != nil || string(b) != "bc" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOpenAndCut(t *testing.T) {
	f := open(t)
	mustPut(t, f, "abcd")
	if _, err := Open(f.Path(), false); !errors.Is(err, ErrLocked) {
		t.Errorf("second opening: %v", err)
	}
	path := f.Path()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Begin(); err == nil {
		t.Error("Begin after Close")
	}
	f, err := Open(path, false)
	if err != nil || f.Size() != 4 {
		t.Fatal(f, err)
	}
	defer f.Close()
	if err := f.Cut(5); err == nil {
		t.Error("cut to more than there is")
	}
	if err := f.Cut(3); err != nil {
		t.Error(err)
	}
	mustPut(t, f, "x")
	if got := content(t, path); got != "abcx" {
		t.Error(got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Open(dir, true); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := Open(os.DevNull, true); err == nil {
		t.Error("a device was opened")
	}
}

// After a failed fsync the bytes may or may not be on disk, so what counts later must have been written again.
func TestFailedSyncIsWrittenAnew(t *testing.T) {
	f := open(t)
	mustPut(t, f, "ab")
	broken := errors.New("broken disk")
	syncs := 0
	f.sync = func(*os.File) error { syncs++; return broken }
	for range 2 {
		if err := put(f, "cd"); err != broken {
			t.Fatal(err)
		}
		if got := content(t, f.Path()); got != "ab" || f.Size() != 2 {
			t.Errorf("%q, size %d", got, f.Size())
		}
	}
	if err := f.Stage([]byte("x")); err != broken {
		t.Errorf("stage on a failed file: %v", err)
	}
	if err := f.Commit(); err != broken {
		t.Errorf("commit on a failed file: %v", err)
	}
	f.sync = (*os.File).Sync
	mustPut(t, f, "ef")
	if got := content(t, f.Path()); got != "abef" {
		t.Error(got)
	}
}

func TestAbandonedStageDoesNotCount(t *testing.T) {
	f := open(t)
	mustPut(t, f, "ab")
	if err := f.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := f.Stage([]byte("cd")); err != nil {
		t.Fatal(err)
	}
	f.Abandon(errors.New("second thoughts"))
	mustPut(t, f, "e")
	if got := content(t, f.Path()); got != "abe" {
		t.Error(got)
	}
}

func TestMending(t *testing.T) {
	mustDo := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name     string
		spoil    func(path string) error
		mended   bool // by the next Begin
		replaced bool // as the check sees it
	}{
		{"moved away", func(p string) error { return os.Rename(p, p+".away") }, false, false},
		{"removed", os.Remove, false, false},
		{"shorter", func(p string) error { return os.Truncate(p, 1) }, false, false},
		{"longer", func(p string) error { return os.Truncate(p, 9) }, true, false},
		{"replaced by the same", func(p string) error {
			return errors.Join(os.Rename(p, p+".away"), os.WriteFile(p, []byte("abc"), 0o600))
		}, true, true},
		{"replaced by the same and more", func(p string) error {
			return errors.Join(os.Rename(p, p+".away"), os.WriteFile(p, []byte("abcdef"), 0o600))
		}, true, true},
		{"replaced by something else", func(p string) error {
			return errors.Join(os.Rename(p, p+".away"), os.WriteFile(p, []byte("xyz"), 0o600))
		}, false, true},
		{"replaced by less", func(p string) error {
			return errors.Join(os.Rename(p, p+".away"), os.WriteFile(p, []byte("ab"), 0o600))
		}, false, true},
		{"replaced by a folder", func(p string) error {
			return errors.Join(os.Rename(p, p+".away"), os.Mkdir(p, 0o700))
		}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := open(t)
			saw := false
			f.SetCheck(func(r io.ReaderAt, size int64, replaced bool) error {
				saw = saw || replaced
				b := make([]byte, size)
				if _, err := r.ReadAt(b, 0); err != nil {
					return err
				}
				if string(b) != "abc" {
					return errors.New("another content")
				}
				return nil
			})
			mustPut(t, f, "abc")
			mustDo(t, test.spoil(f.Path()))
			err := put(f, "d")
			if (err == nil) != test.mended || f.Size() != 3 && !test.mended {
				t.Fatalf("%v, size %d", err, f.Size())
			}
			if err == nil {
				if got := content(t, f.Path()); got != "abcd" {
					t.Error(got)
				}
				if saw != test.replaced {
					t.Errorf("the check saw replaced = %v", saw)
				}
				return
			}
			mustDo(t, os.RemoveAll(f.Path()))
			mustDo(t, os.WriteFile(f.Path(), []byte("abc"), 0o600))
			mustPut(t, f, "e")
			if got := content(t, f.Path()); got != "abce" || f.Mark().Present() != nil {
				t.Error(got)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	f := open(t)
	var h Health
	broken := errors.New("broken")
	now := time.Unix(1000, 0)
	mends := 0
	mend := func() error { mends++; return broken }
	if h.Set(f.Mark(), nil) || h.Ready(now, mend) != nil {
		t.Error("not ready at first")
	}
	if !h.Set(f.Mark(), broken) || h.Set(f.Mark(), broken) {
		t.Error("turned once")
	}
	for _, step := range []struct {
		after time.Duration
		mends int
	}{{0, 1}, {time.Second - 1, 1}, {1, 2}, {-time.Hour, 3}} {
		now = now.Add(step.after)
		if err := h.Ready(now, mend); err != broken || mends != step.mends {
			t.Errorf("%v after %v: %d times", err, step.after, mends)
		}
	}
	if !h.Set(f.Mark(), nil) || h.Mark() != f.Mark() {
		t.Error("did not turn back")
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for _, text := range []string{"first", "second"} {
		if err := Replace(path, []byte(text), 0o600); err != nil || content(t, path) != text {
			t.Error(err)
		}
	}
	if err := Replace(filepath.Join(path, "y"), nil, 0o600); err == nil {
		t.Error("replaced below a file")
	}
}

func TestGroupAnswersEverybodyOnceInOrder(t *testing.T) {
	type request struct{ from, n, place int }
	var order []*request
	g := NewGroup(func(requests []*request) {
		for _, r := range requests {
			r.place = len(order)
			order = append(order, r)
		}
	})
	var wg sync.WaitGroup
	for from := range 32 {
		wg.Go(func() {
			last := -1
			for n := range 50 {
				r := &request{from: from, n: n, place: -1}
				if err := g.Do(context.Background(), r); err != nil || r.place <= last {
					t.Errorf("%v, place %d after %d", err, r.place, last)
				}
				last = r.place
			}
		})
	}
	wg.Wait()
	g.Close()
	if len(order) != 32*50 {
		t.Errorf("%d requests", len(order))
	}
	if err := g.Do(context.Background(), &request{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Do(ctx, &request{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestGroupTakesAllThatWait(t *testing.T) {
	entered, leave := make(chan int), make(chan struct{})
	g := NewGroup(func(requests []int) { entered <- len(requests); <-leave })
	var wg sync.WaitGroup
	call := func() { wg.Go(func() { _ = g.Do(context.Background(), 1) }) }
	call()
	if n := <-entered; n != 1 {
		t.Errorf("first group of %d", n)
	}
	for range 10 {
		call()
	}
	// Queued, all of them, while the first group is under way.
	for queued := 0; queued < 10; {
		g.mu.Lock()
		queued = len(g.waiting)
		g.mu.Unlock()
	}
	// One whose caller gives up after queuing is dealt with all the same.
	leave <- struct{}{}
	if n := <-entered; n != 10 {
		t.Errorf("second group of %d", n)
	}
	close(leave)
	wg.Wait()
	g.Close()
}

func TestStageGoesToItsPlace(t *testing.T) {
	f := open(t)
	big := bytes.Repeat([]byte("x"), 1<<20)
	mustPut(t, f, string(big), "y")
	if f.Size() != 1<<20+1 || content(t, f.Path())[1<<20:] != "y" {
		t.Error(f.Size())
	}
}
