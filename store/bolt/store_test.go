package bolt

import (
	"path/filepath"
	"testing"

	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) store.Store { return open(t, filepath.Join(dir, "store.db")) })
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
