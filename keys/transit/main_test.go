package transit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waiting for a condition; no test passes or fails by speed.
const patience = time.Minute

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newInstance(t testing.TB) keys.InstanceID {
	t.Helper()
	var inst keys.InstanceID
	_, err := rand.Read(inst[:])
	must(t, err)
	return inst
}

// journal is a log that tests read while others write.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// withToken is a configuration for a server and a token.
func withToken(url, token string, inst keys.InstanceID) Config {
	return Config{
		Address: url, Instance: inst, Timeout: 20 * time.Second, Logger: quiet(),
		Login: Login{Method: MethodToken, Token: secret.NewText(token)},
	}
}

func open(t testing.TB, c Config) *Transit {
	t.Helper()
	k, err := Open(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { must(t, k.Close()) })
	return k
}

// stand is a server with both keys of an installation, and roles for it.
type stand struct {
	*transittest.Server
	inst            keys.InstanceID
	service, closer string // policies
}

func newStand(t testing.TB, opt transittest.Options) *stand {
	t.Helper()
	s := &stand{Server: transittest.Start(t, opt), inst: newInstance(t)}
	s.addKeys(t, s.inst)
	return s
}

// addKeys makes the keys and policies of an installation, as the root of the server.
func (s *stand) addKeys(t testing.TB, inst keys.InstanceID) {
	t.Helper()
	c := withToken(s.URL, s.Root, inst)
	c.TLS = TLS{CACert: s.CA, ClientCert: s.ClientCert, ClientKey: s.ClientKey}
	root, err := Open(t.Context(), c)
	must(t, err, root.Create(t.Context(), keys.RootKey), root.Create(t.Context(), keys.DEKKey), root.ApplyPolicies(t.Context()), root.Close())
	s.service, s.closer = PolicyNames(inst)
}

// appRole is a configuration of a role with the service's policy, its secret id in a file.
func (s *stand) appRole(t testing.TB, url, name string, options map[string]any) Config {
	t.Helper()
	all := map[string]any{"token_policies": s.service, "token_no_default_policy": true}
	for k, v := range options {
		all[k] = v
	}
	role, id := s.AppRole(t, name, all)
	file := filepath.Join(t.TempDir(), "secret-id")
	must(t, os.WriteFile(file, []byte(id+"\n"), 0o600))
	return Config{
		Address: url, Instance: s.inst, Timeout: 20 * time.Second, Logger: quiet(),
		TLS:   TLS{CACert: s.CA, ClientCert: s.ClientCert, ClientKey: s.ClientKey},
		Login: Login{Method: MethodAppRole, RoleID: role, SecretIDFile: file},
	}
}

func newKey(t testing.TB) secret.Bytes {
	t.Helper()
	b := make([]byte, 32)
	_, err := rand.Read(b)
	must(t, err)
	return secret.NewBytes(b)
}

// wrapped is a key, its context, and what Vault made of it.
type wrapped struct {
	plain secret.Bytes
	keys.UnwrapItem
}

// wrapSome wraps n random keys under contexts of their own.
func wrapSome(t testing.TB, k *Transit, key keys.KeyName, n int) []wrapped {
	t.Helper()
	in, out := make([]keys.WrapItem, n), make([]wrapped, n)
	for i := range in {
		in[i] = keys.WrapItem{Context: fmt.Appendf(nil, "cloakroom/dek/1 context %020d", i), Plaintext: newKey(t)}
		out[i] = wrapped{plain: in[i].Plaintext, UnwrapItem: keys.UnwrapItem{Context: in[i].Context}}
	}
	got, err := k.Wrap(t.Context(), key, 0, in)
	must(t, err)
	for i, o := range got {
		must(t, o.Err)
		out[i].Wrapped = o.Wrapped
	}
	return out
}

func unwrapItems(items []wrapped) []keys.UnwrapItem {
	out := make([]keys.UnwrapItem, len(items))
	for i, it := range items {
		out[i] = it.UnwrapItem
	}
	return out
}

// sing unwraps one item: the error of the call or of the item.
func sing(t testing.TB, k keys.KMS, key keys.KeyName, it wrapped) error {
	t.Helper()
	out, err := k.Unwrap(t.Context(), key, []keys.UnwrapItem{it.UnwrapItem})
	if err != nil {
		return err
	}
	if out[0].Err == nil && !out[0].Plaintext.Equal(it.plain) {
		t.Fatal("another key came back")
	}
	return out[0].Err
}

// eventually asks until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func wantError(t testing.TB, err error, wants ...error) {
	t.Helper()
	for _, want := range wants {
		if !errors.Is(err, want) {
			t.Fatalf("error %v, want %v", err, want)
		}
	}
}

func wantText(t testing.TB, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Fatalf("%q does not say %q", got, want)
		}
	}
}
