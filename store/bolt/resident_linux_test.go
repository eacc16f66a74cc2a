package bolt

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/cloakroom-io/cloakroom/store"
)

// TestResident reads and rewrites a file several times as large as the limit.
func TestResident(t *testing.T) {
	const limit, calls = 8 << 20, 3 << 10
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	fill(t, s, 0, calls)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var stat mappedStat
	if !stat.open() {
		t.Fatal("no statm")
	}
	defer stat.close()
	// mapped returns how much more is mapped after every row was read.
	mapped := func(limit int64, update bool) int64 {
		before := stat.bytes()
		s, err := Open(path, Options{ResidentLimit: limit})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		scan := func(tx store.ReadTx) error {
			for _, ks := range store.Keyspaces() {
				if err := tx.Scan(ks, nil, nil, func(_, _ []byte) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		}
		if update {
			err = s.Update(context.Background(), func(tx store.Tx) error { return scan(tx) })
		} else {
			err = s.View(context.Background(), scan)
		}
		if err != nil {
			t.Fatal(err)
		}
		return stat.bytes() - before
	}
	// The last look may be up to 256 reads of 64 KiB behind.
	const most, least = limit + limit/4 + lookEvery*readBytes, 32 << 20
	if got := mapped(-1, false); got < least {
		t.Errorf("without a limit %d bytes are mapped: the file is too small for this test", got)
	}
	for _, c := range []struct {
		name   string
		update bool
	}{{"view", false}, {"update", true}} {
		if got := mapped(limit, c.update); got > most {
			t.Errorf("%s: %d bytes are mapped, limit %d", c.name, got, limit)
		}
	}

	s = openLimited(t, path, limit)
	defer s.Close()
	before := stat.bytes()
	for n := range uint32(200) {
		if err := (entry{1, n}).write(s, 10); err != nil {
			t.Fatal(err)
		}
	}
	if got := stat.bytes() - before; got > most {
		t.Errorf("commits: %d bytes are mapped", got)
	}
}

func openLimited(t *testing.T, path string, limit int64) *Store {
	t.Helper()
	s, err := Open(path, Options{ResidentLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
