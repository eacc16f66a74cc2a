package installation

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
	"github.com/cloakroom-io/cloakroom/vault"
)

// A child process that begins with Vault finds its address and token here.
const (
	childVault = "INSTALLATION_TEST_VAULT"
	childToken = "INSTALLATION_TEST_TOKEN"
)

func childOptions(dir string) Options {
	o := options(dir)
	if addr := os.Getenv(childVault); addr != "" {
		o.KMS, o.Transit = kmsTransit, config(addr, os.Getenv(childToken))
	}
	return o
}

func config(addr, token string) *transit.Config {
	return &transit.Config{
		Address: addr, Mount: "transit", Login: transit.Login{Method: transit.MethodToken, Token: secret.NewText(token)},
	}
}

func withVault(dir string, s *transittest.Server) Options {
	o := options(dir)
	o.KMS, o.Transit = kmsTransit, config(s.URL, s.Root)
	return o
}

func match(part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}

// keysAt lists what Transit holds.
func keysAt(t *testing.T, s *transittest.Server) []string {
	t.Helper()
	status, answer, err := s.Try("LIST", "/v1/transit/keys", s.Root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status == 404 {
		return nil
	}
	var out []string
	for _, name := range answer["data"].(map[string]any)["keys"].([]any) {
		out = append(out, name.(string))
	}
	return out
}

// TestKilledFirstStartAtVault ends first starts at many moments. The next one works, and uses the keys that the killed
// one may have made: there never are more than two.
func TestKilledFirstStartAtVault(t *testing.T) {
	s := transittest.Start(t, transittest.Options{})
	for i := range 16 {
		before := len(keysAt(t, s))
		dir := filepath.Join(t.TempDir(), "data")
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+dir, childVault+"="+s.URL, childToken+"="+s.Root)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 8 * time.Millisecond)
		_ = child.Process.Kill()
		_ = child.Wait()
		inst, err := Open(t.Context(), withVault(dir, s))
		if err != nil {
			t.Fatal(err)
		}
		put(t, inst, "u1")
		if err := inst.Close(); err != nil {
			t.Fatal(err)
		}
		if after := len(keysAt(t, s)); after != before+2 {
			t.Errorf("%d keys were made", after-before)
		}
		if exists(inst.NewInstance) || exists(inst.Keyring) {
			t.Error("the id's file is left, or a keyring was made")
		}
	}
}

// TestFirstStartThatFails goes on with the same keys, wherever the last one failed.
func TestFirstStartThatFails(t *testing.T) {
	s := transittest.Start(t, transittest.Options{})
	proxy := transittest.NewProxy(t, s.URL)
	dir := filepath.Join(t.TempDir(), "data")
	o := withVault(dir, s)
	o.Transit.Address = proxy.URL
	paths, err := PathsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	for _, part := range []string{"-root", "-dek", "capabilities-self", "/encrypt/", "/decrypt/"} {
		proxy.Set(transittest.Fault{Status: 503, Match: match(part)})
		inst, err := Open(t.Context(), o)
		if err == nil {
			_ = inst.Close()
			t.Fatalf("%s: it starts", part)
		}
		if !errors.Is(err, keys.ErrKMSUnavailable) {
			t.Errorf("%s: %v", part, err)
		}
		text, err := os.ReadFile(paths.NewInstance)
		if err != nil || id != "" && string(text) != id {
			t.Fatalf("%s: another id, or none: %v", part, err)
		}
		id = string(text)
	}
	proxy.Set(transittest.Fault{})
	inst, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := inst.Close(); err != nil {
			t.Error(err)
		}
	}()
	if inst.unlocked.Instance.String()+"\n" != id || !inst.New {
		t.Error("another installation than the one that was begun")
	}
	if got := keysAt(t, s); len(got) != 2 {
		t.Errorf("keys at Vault: %v", got)
	}
	if found, err := InstanceOf(paths); err != nil || found != inst.unlocked.Instance {
		t.Errorf("the ledger tells %v, %v", found, err)
	}
	if _, err := UsesOf(t.Context(), paths); err == nil {
		t.Error("a store in use was opened")
	}
}

func TestIDsThatAreNone(t *testing.T) {
	cases := []struct{ name, text string }{
		{"empty", ""}, {"letters", "zz"}, {"short", strings.Repeat("0", 30)}, {"long", strings.Repeat("0", 34)},
		{"two lines", strings.Repeat("0", 32) + "\n\n"}, {"much", strings.Repeat("0", 1<<20)},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			mkdir(t, dir)
			write(t, filepath.Join(dir, newInstance), tc.text)
			_, err := Open(t.Context(), options(dir))
			if err == nil || !strings.Contains(err.Error(), "does not hold the id") {
				t.Errorf("got %v", err)
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "data")
	mkdir(t, dir)
	id := strings.Repeat("ab", 16)
	write(t, filepath.Join(dir, newInstance), id+"\n")
	open(t, dir, func(inst *Installation) {
		if got := inst.unlocked.Instance; hex.EncodeToString(got[:]) != id {
			t.Errorf("id %s", got)
		}
	})
	if exists(filepath.Join(dir, newInstance)) {
		t.Error("the file is left")
	}
}

// TestWhichKeyServicesOpen holds every combination of store, option and settings to what it should be.
func TestWhichKeyServicesOpen(t *testing.T) {
	s := transittest.Start(t, transittest.Options{})
	root := t.TempDir()
	made := map[string]func(string) Options{kmsLocal: options, kmsTransit: func(dir string) Options { return withVault(dir, s) }}
	for name, with := range made {
		inst, err := Open(t.Context(), with(filepath.Join(root, name)))
		if err != nil {
			t.Fatal(err)
		}
		if err := inst.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		store, kms string
		vault      bool   // settings for it
		want       string // the primary one first
		refusal    error
	}{
		{kmsLocal, "", false, "[local]", nil},
		{kmsLocal, kmsLocal, false, "[local]", nil},
		{kmsLocal, "", true, "[local vault]", nil},
		{kmsLocal, kmsLocal, true, "[local vault]", nil},
		{kmsLocal, kmsTransit, true, "", errContrary},
		{kmsTransit, "", false, "", vault.ErrOtherService},
		{kmsTransit, kmsLocal, false, "", vault.ErrOtherService},
		{kmsTransit, "", true, "[vault]", nil},
		{kmsTransit, kmsTransit, true, "[vault]", nil},
		{kmsTransit, kmsLocal, true, "[vault local]", nil}, // makes a keyring
		// Now it lies there, and is opened for nobody who does not ask for it.
		{kmsTransit, "", true, "[vault]", nil},
		{kmsTransit, kmsTransit, true, "[vault]", nil},
		{kmsTransit, kmsLocal, true, "[vault local]", nil},
		{kmsTransit, kmsLocal, false, "", vault.ErrOtherService},
	}
	for _, tc := range cases {
		t.Run(fmt.Sprintf("%s store, kms %q, vault %v", tc.store, tc.kms, tc.vault), func(t *testing.T) {
			o := options(filepath.Join(root, tc.store))
			o.KMS = tc.kms
			if tc.vault {
				o.Transit = config(s.URL, s.Root)
			}
			inst, err := Open(t.Context(), o)
			if tc.refusal != nil {
				if !errors.Is(err, tc.refusal) {
					t.Fatalf("got %v, want %v", err, tc.refusal)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(inst.services.Schemes()); got != tc.want {
				t.Errorf("key services %s, want %s", got, tc.want)
			}
			pool := 0
			if tc.store == kmsTransit {
				pool = readyKeys
			}
			if inst.pool() != pool {
				t.Errorf("%d keys made ahead", inst.pool())
			}
			if err := inst.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWarningsOfTheLogin are for a server, not for the operator who sets it up.
func TestWarningsOfTheLogin(t *testing.T) {
	s := transittest.Start(t, transittest.Options{})
	dir := filepath.Join(t.TempDir(), "data")
	for _, operator := range []bool{true, false} {
		var log strings.Builder
		o := withVault(dir, s)
		o.Operator, o.Logger = operator, slog.New(slog.NewTextHandler(&log, nil))
		inst, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := inst.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "root at Vault") == operator {
			t.Errorf("operator %v: %s", operator, log.String())
		}
		if strings.Contains(log.String(), s.Root) {
			t.Error("the token is in the log")
		}
	}
}

// TestKeysAppearAtVault prepares a move: keys and policies for an installation that uses the keyring.
func TestKeysAppearAtVault(t *testing.T) {
	s := transittest.Start(t, transittest.Options{})
	dir := filepath.Join(t.TempDir(), "data")
	open(t, dir, nil)
	o := options(dir)
	o.Transit = config(s.URL, s.Root)
	inst, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := inst.Close(); err != nil {
			t.Error(err)
		}
	}()
	if got := keysAt(t, s); len(got) != 0 {
		t.Errorf("a start made %v", got)
	}
	for _, first := range []bool{true, false} {
		inst.madeVaultKeys = false
		access, err := inst.PrepareVault(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		if access.Made != first || access.Applied != first || len(access.Policies) != 2 || access.Policies[0].Name != access.Service {
			t.Errorf("%+v", access)
		}
	}
	if got := keysAt(t, s); len(got) != 2 {
		t.Errorf("keys %v", got)
	}
	k := inst.KeyService(t.Context())
	if k.InUse != LocalFile || k.Keyring != inst.Keyring || k.Vault == nil || k.Vault.Keys[1].Latest != 1 {
		t.Errorf("%+v", k)
	}
}
