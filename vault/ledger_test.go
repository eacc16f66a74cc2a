package vault_test

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// buried is what a tombstone of the ledger says.
type buried struct {
	what byte
	sid  string
	n    uint64 // the data key's version (subject), or the record's (field)
}

// ledgerOf reads and verifies the ledger file.
func ledgerOf(t testing.TB, v *vaulttest.Installation) []buried {
	t.Helper()
	var out []buried
	public := v.Unlocked.Signer("ledger").Public().(ed25519.PublicKey)
	report, err := ledger.Scan(filepath.Join(v.Dir, "ledger"), public, func(e ledger.Entry) error {
		versions := e.Tombstone[20+int(binary.BigEndian.Uint16(e.Tombstone[18:])):]
		b := buried{e.Tombstone[1], string(e.Tombstone[2:18]), uint64(binary.BigEndian.Uint32(versions))}
		if b.what == 2 {
			b.n = binary.BigEndian.Uint64(versions[4:])
		}
		out = append(out, b)
		return nil
	})
	if err != nil || report.Torn != 0 {
		t.Fatalf("ledger: %v, %d bytes torn", err, report.Torn)
	}
	return out
}

func outbox(t testing.TB, st store.Store) []row {
	t.Helper()
	var out []row
	for _, r := range dump(t, st, store.Meta) {
		if strings.HasPrefix(string(r.key), "ledger/out/") {
			out = append(out, r)
		}
	}
	return out
}

func TestStartRefusesAnotherLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger")
	v := vaulttest.Open(t, dir, vaulttest.Options{})
	put(t, v, "u1", "phone", "13800138000")
	put(t, v, "u2", "phone", "13800138000")
	erase(t, v, "u1")
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	erase(t, v, "u2")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		file []byte
		want error
	}{
		{"older copy", older, vault.ErrOldLedger},
		{"removed", nil, fs.ErrNotExist},
		{"cut to its header", older[:24], vault.ErrOldLedger},
		{"empty", []byte{}, fs.ErrNotExist},
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if c.file != nil {
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := vaulttest.Start(dir, vaulttest.Options{})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "ledger") {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.want == vault.ErrOldLedger && !strings.Contains(err.Error(), "put the newest copy of the ledger file back") {
			t.Errorf("%s: %v does not say what to do", c.name, err)
		}
		if c.file == nil {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(path, newest, 0o600); err != nil {
		t.Fatal(err)
	}
	v = vaulttest.Open(t, dir, vaulttest.Options{})
	if len(ledgerOf(t, v)) != 2 {
		t.Error("the newest ledger has not both erasures")
	}
}

// TestLedgerCatchesUp: an erasure that committed and did not reach the ledger gets there with the next start, the
// repeated call, or the next erasure; and is not called done before.
func TestLedgerCatchesUp(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	officer := vaulttest.Call("officer", "")
	n := 0
	for _, c := range []struct {
		name  string
		retry func(v *vaulttest.Installation, subject string) error
	}{
		{"next start", func(*vaulttest.Installation, string) error {
			_ = another(t, in, nil)
			return nil
		}},
		{"repeated with its idempotency key", func(v *vaulttest.Installation, subject string) error {
			_, err := v.Erase(bg, idempotent(officer, subject, subject), subject)
			return err
		}},
		{"repeated", func(v *vaulttest.Installation, subject string) error {
			_, err := v.Erase(bg, officer, subject)
			wantCode(t, err, vault.ErrSubjectErased)
			return nil
		}},
		{"another erasure", func(v *vaulttest.Installation, subject string) error {
			put(t, v, subject+"b", "phone", "13800138000")
			n++
			_, err := v.Erase(bg, officer, subject+"b")
			return err
		}},
	} {
		full := &fullLedger{ErasureLedger: in.Ledger}
		v := another(t, in, func(c *vault.Config) { c.Ledger = full })
		subject := "u-" + strings.ReplaceAll(c.name, " ", "-")
		token := put(t, v, subject, "phone", "13800138000")["phone"]
		full.fail.Store(2)
		_, err := v.Erase(bg, idempotent(officer, subject, subject), subject)
		wantCode(t, err, vault.ErrStoreUnavailable)
		n++
		if !strings.Contains(err.Error(), "the erasure is done") || len(outbox(t, in.Store)) != 1 {
			t.Errorf("%s: %v, %d rows in the outbox", c.name, err, len(outbox(t, in.Store)))
		}
		_, err = v.Erase(bg, idempotent(officer, subject, subject), subject)
		wantCode(t, err, vault.ErrStoreUnavailable)
		if got := code(t, v, token); got != "subject_erased" {
			t.Errorf("%s: the token answers %q", c.name, got)
		}
		if err := c.retry(v, subject); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := len(ledgerOf(t, in)); got != n || len(outbox(t, in.Store)) != 0 {
			t.Errorf("%s: %d entries in the ledger, want %d; %d in the outbox", c.name, got, n, len(outbox(t, in.Store)))
		}
	}
}

// TestLedgerUnwritable: what would destroy something is refused beforehand, the rest goes on.
func TestLedgerUnwritable(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	app := vaulttest.Call("app", "")
	full := &fullLedger{ErasureLedger: in.Ledger}
	v := another(t, in, func(c *vault.Config) { c.Ledger = full })
	token := put(t, v, "u1", "phone", "13800138000")["phone"]
	full.unready.Store(true)
	before := dump(t, in.Store)
	logged := in.Log.Size()
	for name, call := range map[string]func() error{
		"erase":       func() error { _, err := v.Erase(bg, app, "u1"); return err },
		"erase field": func() error { _, err := v.EraseField(bg, app, "u1", "phone"); return err },
		"put over": func() error {
			_, err := v.Put(bg, app, vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("phone", "13900139000")})
			return err
		},
		"patch away": func() error {
			_, err := v.Patch(bg, app, vault.PutRequest{Subject: "u1", Fields: []vault.FieldInput{{Field: "phone", Remove: true}}})
			return err
		},
		"tokenize over": func() error {
			_, err := v.Tokenize(bg, app, []vault.TokenizeItem{{Subject: "u1", Field: "phone", Value: secret.NewText("13900139000")}})
			return err
		},
	} {
		err := call()
		wantCode(t, err, vault.ErrStoreUnavailable)
		if !strings.Contains(err.Error(), "nothing was erased") {
			t.Errorf("%s: %v does not say that nothing happened", name, err)
		}
	}
	if !sameRows(before, dump(t, in.Store)) || in.Log.Size() != logged {
		t.Error("a refused erasure changed the store, or is told in the log as done")
	}
	if got := code(t, v, token); got != "" {
		t.Errorf("after refused erasures the token answers %q", got)
	}
	put(t, v, "u2", "phone", "13800138000")
	full.unready.Store(false)
	erase(t, v, "u1")
	if got := code(t, v, token); got != "subject_erased" {
		t.Errorf("once the ledger can be written the token answers %q", got)
	}
}
