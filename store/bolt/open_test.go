package bolt

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	if s.Path() != path {
		t.Errorf("path %q", s.Path())
	}
	_, err := Open(path, Options{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another server") {
		t.Errorf("second open: %v", err)
	}
	if err := put(s, "a"); err != nil {
		t.Errorf("the first after the second: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer s.Close()
	if !has(t, s, "a") {
		t.Error("row is gone")
	}
}

func TestFileIsForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for _, before := range []os.FileMode{0, 0o644, 0o660} {
		if before != 0 {
			if err := os.Chmod(path, before); err != nil {
				t.Fatal(err)
			}
		}
		if err := open(t, path).Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mode %o became %o", before, got)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "good.db")
	s := open(t, path)
	if err := (entry{1, 1}).write(s, 10_000); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	for _, c := range []struct {
		name    string
		content []byte
	}{
		{"one byte", []byte{0}},
		{"text", bytes.Repeat([]byte("this is no database\n"), 1000)},
		{"zeros", make([]byte, 1<<20)},
		{"cut short", good[:64<<10]},
		{"cut after the first meta page", good[:newPage]},
		{"no meta page", changed(func(b []byte) []byte { clear(b[:2*newPage]); return b })},
		{"page size 0", changed(func(b []byte) []byte {
			for _, page := range [][]byte{b, b[newPage:]} {
				binary.NativeEndian.PutUint32(page[24:], 0)
				sign(page)
			}
			return b
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "bad.db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, Options{})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), path) {
				t.Error(err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, c.content) {
				t.Errorf("file was changed, %v", err)
			}
		})
	}
	if s, err := Open(filepath.Join(dir, "none", "store.db"), Options{}); err == nil {
		s.Close()
		t.Error("made a folder")
	}
}

// sign puts the right checksum on a meta page.
func sign(page []byte) {
	h := fnv.New64a()
	h.Write(page[metaStart : metaEnd-8])
	binary.NativeEndian.PutUint64(page[metaEnd-8:], h.Sum64())
}

func TestOpenSurvivesOneTornMetaPage(t *testing.T) {
	for torn := range 2 {
		path := filepath.Join(t.TempDir(), "store.db")
		s := open(t, path)
		for _, key := range []string{"a", "b", "c"} {
			if err := put(s, key); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 100), int64(torn*newPage)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
		if !has(t, s, "a") || !has(t, s, "b") {
			t.Error("rows are gone")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseKeepsTheFreelist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	for round := range 3 {
		for n := range uint32(20) {
			if err := (entry{uint32(round), n}).write(s, 500); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := newestMeta(s.file, s.page); err != nil || m.freelist != noFreelist {
			t.Errorf("running: freelist %d, %v", m.freelist, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := newestMeta(f, newPage); err != nil || m.freelist == noFreelist {
			t.Errorf("closed: freelist %d, %v", m.freelist, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
		if err := consistent(s); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzMeta(f *testing.F) {
	page := make([]byte, 2*newPage)
	f.Add(page, uint16(newPage))
	for i, txid := range []uint64{6, 7} {
		p := page[i*newPage:]
		binary.NativeEndian.PutUint32(p[16:], metaMagic)
		binary.NativeEndian.PutUint32(p[20:], metaVersion)
		binary.NativeEndian.PutUint32(p[24:], newPage)
		binary.NativeEndian.PutUint64(p[64:], txid)
		sign(p)
	}
	f.Add(bytes.Clone(page), uint16(newPage))
	clear(page[newPage:])
	f.Add(bytes.Clone(page), uint16(newPage))
	f.Add(page[:50], uint16(newPage))
	f.Fuzz(func(t *testing.T, file []byte, pageSize uint16) {
		m, err := newestMeta(bytes.NewReader(file), int(pageSize))
		if err != nil && m != (meta{}) {
			t.Errorf("%+v with %v", m, err)
		}
		if err == nil && m.pageSize < minPage {
			t.Errorf("page size %d", m.pageSize)
		}
	})
}
