package archtest

import (
	"slices"
	"strings"
	"testing"
)

// Each made-up graph has one import; "" says that it is fine, else the words of the rule it breaks.
func TestRules(t *testing.T) {
	const m = module + "/"
	tests := []struct {
		from, to string
		says     string
	}{
		{"cmd/cloakroom", m + "vault", ""},
		{"cmd/cloakroom", m + "store/bolt", ""},
		{"cmd/cloakroom", m + "keys/local", ""},
		{"cmd/cloakroom", m + "cmd/cloakroom/sample", ""},
		{"cmd/cloakroom", "github.com/spf13/cobra", ""},
		{"cmd/cloakroom", "go.etcd.io/bbolt", "store/bolt only"},
		{"cmd/cloakroom", "github.com/gin-gonic/gin", "api only"},

		{"api", m + "vault", ""},
		{"api", m + "api/wire", ""},
		{"api", m + "internal/secret", ""},
		{"api", "github.com/gin-gonic/gin", ""},
		{"api/openapi", "github.com/gin-gonic/gin/binding", ""},
		{"api", m + "store", "api imports vault"},
		{"api", m + "policy", "api imports vault"},
		{"api", m + "vault/ledger", "api imports vault"},
		{"api", m + "client", "api imports vault"},
		{"api", m + "cmd/cloakroom", "nobody imports cmd"},
		{"api/wire", m + "internal/secret", ""},
		{"api/wire", m + "vault", "api/wire imports no"},
		{"api/wire", m + "api", "api/wire imports no"},
		{"apiary", m + "vault", "no rule knows"},

		{"client", m + "api/wire", ""},
		{"client", m + "api", "client imports api/wire only"},
		{"client", m + "vault", "client imports api/wire only"},
		{"client", m + "internal/secret", "client imports api/wire only"},
		{"client", m + "policy", "client imports api/wire only"},
		{"client", m + "cmd/cloakroom", "nobody imports cmd"},
		{"client", "github.com/gin-gonic/gin", "api only"},

		{"vault", m + "tokenizer", ""},
		{"vault", m + "keys", ""},
		{"vault", m + "policy", ""},
		{"vault", m + "audit", ""},
		{"vault", m + "store", ""},
		{"vault", m + "vault/ledger", ""},
		{"vault", m + "internal/secret", ""},
		{"vault", "crypto/ed25519", ""},
		{"vault", "golang.org/x/sync/singleflight", ""},
		{"vault", "github.com/go-json-experiment/json/jsontext", ""},
		{"vault", m + "store/bolt", "vault imports"},
		{"vault", m + "keys/local", "vault imports"},
		{"vault", m + "keys/transit", "vault imports"},
		{"vault", m + "api", "vault imports"},
		{"vault", m + "api/wire", "vault imports"},
		{"vault", m + "client", "vault imports"},
		{"vault", m + "cmd/cloakroom", "nobody imports cmd"},
		{"vault", "github.com/spf13/cobra", "no third party"},
		{"vault", "github.com/nyaruka/phonenumbers", "no third party"},
		{"vault", "golang.org/xtra", "no third party"},
		{"vault", "github.com/hashicorp/vault/api", "keys/transit only"},
		{"vault/ledger", m + "store", ""},
		{"vault/vaulttest", m + "store/bolt", ""},
		{"vault/vaulttest", m + "keys/local", ""},
		{"vault/vaulttest", m + "api", "nothing above"},
		{"vault", m + "vault/vaulttest", "only tests"},
		{"cmd/cloakroom/x", m + "store", ""},
		{"store/bolt", m + "store/storetest", "only tests"},
		{"vault/ledger", m + "store/bolt", "vault imports"},

		{"tokenizer", m + "internal/secret", ""},
		{"tokenizer", "github.com/nyaruka/phonenumbers", ""},
		{"tokenizer", m + "policy", "leaves import none"},
		{"keys", m + "store", "leaves import none"},
		{"policy", m + "tokenizer", "leaves import none"},
		{"audit", m + "keys", "leaves import none"},
		{"store", m + "audit", "leaves import none"},
		{"store", m + "vault", "leaves import none"},
		{"keys", m + "api/wire", "leaves import none"},
		{"audit", m + "cmd/cloakroom", "nobody imports cmd"},
		{"audit", m + "audit/tile", ""},
		{"policy", module, "leaves import none"},

		{"store/bolt", m + "store", ""},
		{"store/bolt", m + "internal/secret", ""},
		{"store/bolt", "go.etcd.io/bbolt", ""},
		{"store/storetest", m + "store", ""},
		{"keys/transit", "github.com/hashicorp/vault/api", ""},
		{"store/postgres", "github.com/jackc/pgx/v5/pgxpool", ""},
		{"store/bolt", m + "keys", "a driver imports its parent"},
		{"store/bolt", m + "store/postgres", "a driver imports its parent"},
		{"store/bolt", m + "vault", "a driver imports its parent"},
		{"keys/local", m + "keys/transit", "a driver imports its parent"},
		{"keys/local", m + "store", "a driver imports its parent"},
		{"keys/local", "github.com/hashicorp/vault/api", "keys/transit only"},
		{"store/postgres", "go.etcd.io/bbolt", "store/bolt only"},
		{"store/bolt", "github.com/jackc/pgx/v5", "imported under store/postgres, cmd/cloakroom/internal/sqltable only"},
		{"store", "go.etcd.io/bbolt", "store/bolt only"},
		{"store/boltx", "go.etcd.io/bbolt", "store/bolt only"},

		{"internal/secret", "log/slog", ""},
		{"internal/archtest", m + "internal/secret", ""},
		{"internal/secret", m + "keys", "internal packages import no"},
		{"internal/secret", m + "vault", "internal packages import no"},
		{"internal/secret", "github.com/gin-gonic/gin", "api only"},

		{"extra", m + "vault", "no rule knows"},
		{"", m + "vault", "no rule knows"},
	}
	for _, tt := range tests {
		t.Run(tt.from+" imports "+strings.TrimPrefix(tt.to, m), func(t *testing.T) {
			faults := check(graph{tt.from: {"fmt", tt.to}})
			switch {
			case tt.says == "" && len(faults) > 0:
				t.Errorf("refused: %v", faults)
			case tt.says != "" && len(faults) != 1:
				t.Errorf("want one fault, got %v", faults)
			case tt.says != "" && !(strings.Contains(faults[0], tt.says) && strings.HasPrefix(faults[0], tt.from+" imports ")):
				t.Errorf("want a fault that says %q, got %q", tt.says, faults[0])
			}
		})
	}
}

func TestEveryFaultIsListed(t *testing.T) {
	g := graph{
		"vault": {"fmt", module + "/api", module + "/store"},
		"keys":  {module + "/store", module + "/policy"},
	}
	want := []string{"keys imports policy", "keys imports store", "vault imports api"}
	got := check(g)
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("faults %q, want %q", got, want)
	}
}
