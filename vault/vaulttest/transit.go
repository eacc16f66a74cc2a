package vaulttest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/local"
	"github.com/cloakroom-io/cloakroom/keys/transit"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// Variable is the environment variable that says which key service installations of tests have where the test does not:
// local, as when it is empty, or transit, a real HashiCorp Vault.
const Variable = "CLOAKROOM_TEST_KMS"

// Second opens the key service that installations of tests do not have: the keyring where they have Vault, else another
// keyring that passes for Vault.
func Second(dir string) (keys.KMS, error) {
	if os.Getenv(Variable) == "transit" {
		return local.Open(filepath.Join(dir, "keyring"), local.Options{Create: true, Logger: slog.New(slog.DiscardHandler)})
	}
	return OtherKeyring(dir)
}

// ToSecond names the options of a move of all keys to Second: local or transit.
func ToSecond() (from, to string) {
	if os.Getenv(Variable) == "transit" {
		return "transit", "local"
	}
	return "local", "transit"
}

// shared is the one Vault of a test process. Installations have keys of their own there, by their ids.
var shared struct {
	once sync.Once
	at   *transittest.Server
	stop func() error
	err  error
}

func openTransit(inst keys.InstanceID, log *slog.Logger) (keys.KMS, error) {
	shared.once.Do(func() {
		shared.at, shared.stop, shared.err = transittest.New(transittest.Options{})
	})
	if shared.err != nil {
		return nil, shared.err
	}
	return transit.Open(context.Background(), transit.Config{
		Address: shared.at.URL, Instance: inst, Logger: log,
		Login: transit.Login{Method: transit.MethodToken, Token: secret.NewText(shared.at.Root)},
	})
}

// Suite is a package's tests, after which the Vault that they shared ends. A TestMain runs it.
type Suite struct{ *testing.M }

// Run runs the tests.
func (s Suite) Run() (code int) {
	defer func() {
		if shared.stop == nil {
			return
		}
		if err := shared.stop(); err != nil && code == 0 {
			code = 1
		}
	}()
	return s.M.Run()
}
