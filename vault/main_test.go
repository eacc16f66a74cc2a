package vault_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(vaulttest.Suite{M: m}) }
