package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/store"
)

// childVar makes the test binary play one role in a process of its own: "role=path".
const childVar = "CLOAKROOM_BOLT_CHILD"

// errRefused: this machine does not let a test fill a disk this way.
var errRefused = errors.New("refused")

const refusedCode = 3

func TestMain(m *testing.M) {
	role, path, ok := strings.Cut(os.Getenv(childVar), "=")
	if !ok {
		os.Exit(m.Run())
	}
	err := fmt.Errorf("no role %q", role)
	switch role {
	case "load":
		err = load(path)
	case "tmpfs", "fsize":
		err = fillDisk(role, path)
	}
	if errors.Is(err, errRefused) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(refusedCode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// entry writes and checks the three rows of the n-th call of a worker, in three keyspaces.
type entry struct{ worker, n uint32 }

func (e entry) key() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, e.worker), e.n)
}

var entrySpaces = []store.Keyspace{store.Subjects, store.Tokens, store.Index}

func (e entry) value(i, size int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("%d.%d.%d;", e.worker, e.n, i), size))
}

func (e entry) write(s *Store, size int) error {
	return s.Update(context.Background(), func(tx store.Tx) error {
		for i, ks := range entrySpaces {
			if err := tx.Create(ks, e.key(), e.value(i, size)); err != nil {
				return err
			}
		}
		return nil
	})
}

// present reports whether the rows are there: all, none, or an error.
func (e entry) present(s *Store, size int) (bool, error) {
	found := 0
	err := s.View(context.Background(), func(tx store.ReadTx) error {
		for i, ks := range entrySpaces {
			v, err := tx.Get(ks, e.key())
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if string(v) != string(e.value(i, size)) {
				return fmt.Errorf("entry %v: row %d holds something else", e, i)
			}
			found++
		}
		return nil
	})
	if err == nil && found != 0 && found != len(entrySpaces) {
		err = fmt.Errorf("entry %v: %d rows of %d", e, found, len(entrySpaces))
	}
	return found > 0, err
}
