package vault_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

func toVault() vault.JobRequest {
	return vault.JobRequest{Kind: vault.MoveKeys, Options: map[string]string{"from": "local", "to": "transit"}}
}

func toKeyring() vault.JobRequest {
	return vault.JobRequest{Kind: vault.MoveKeys, Options: map[string]string{"from": "transit", "to": "local"}}
}

var operator = vaulttest.Call("operator", "")

// startJob begins a job that has to begin.
func startJob(t testing.TB, v *vaulttest.Installation, req vault.JobRequest) string {
	t.Helper()
	j, err := v.StartJob(bg, operator, req)
	if err != nil {
		t.Fatalf("%v: %v (%v)", req.Options, err, errors.Unwrap(err))
	}
	return j.ID
}

// awaitJob waits until a job says what is asked for.
func awaitJob(t testing.TB, v *vaulttest.Installation, id string, enough func(vault.Job) bool) vault.Job {
	t.Helper()
	var j vault.Job
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var err error
		if j, err = v.Job(bg, operator, id); err != nil {
			t.Fatal(err)
		}
		if enough(j) {
			return j
		}
	}
	t.Fatalf("the job is still %+v (%v)", j, j.Err)
	return j
}

func ended(j vault.Job) bool { return j.State != vault.JobRunning }

// move moves all keys and waits for the end, which has to be good.
func move(t testing.TB, v *vaulttest.Installation, req vault.JobRequest) vault.Job {
	t.Helper()
	j := awaitJob(t, v, startJob(t, v, req), ended)
	if j.State != vault.JobDone || j.Err != nil || j.Done != j.Total || j.Finished.IsZero() {
		t.Fatalf("the job ended %+v (%v)", j, j.Err)
	}
	return j
}

// withoutScheme tells whether no key of the store is wrapped by the key service of a scheme: nobody's, nor the root.
func withoutScheme(t testing.TB, in *vaulttest.Installation, scheme string) bool {
	t.Helper()
	clean := true
	for _, r := range dump(t, in.Store, store.Subjects) {
		if len(r.key) != 17 || r.key[16] != 'k' {
			continue
		}
		row, err := vault.HierarchyOf(in.Unlocked).OpenKeyRow(keys.SID(r.key[:16]), r.value)
		if err != nil {
			t.Fatal(err)
		}
		clean = clean && row.Wrapped.Scheme() != scheme
	}
	for _, r := range dump(t, in.Store, store.Keys, store.Meta) {
		if name := string(r.key); name == "root" || strings.HasPrefix(name, "dek/") {
			clean = clean && !strings.Contains(string(r.value), scheme+":v")
		}
	}
	return clean
}

func shut(t testing.TB, in *vaulttest.Installation) {
	t.Helper()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}

// only starts an installation with one key service, the other keyring when other is set.
func only(dir string, other bool) (*vaulttest.Installation, error) {
	opt := vaulttest.Options{}
	if other {
		opt.First = vaulttest.OtherKeyring
	}
	return vaulttest.Start(dir, opt)
}

func somePeople(t testing.TB, in *vaulttest.Installation, n int) []secret.Text {
	t.Helper()
	items := make([]vault.TokenizeItem, n)
	for i := range items {
		items[i] = vault.TokenizeItem{Subject: fmt.Sprintf("u%d", i), Field: "phone", Value: secret.NewText(phoneOf(i))}
	}
	out, err := in.Tokenize(bg, vaulttest.Call("app", ""), items)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]secret.Text, n)
	for i := range out {
		tokens[i] = out[i].Token
	}
	return tokens
}

func everybody(t testing.TB, in *vaulttest.Installation, tokens []secret.Text) {
	t.Helper()
	out, err := in.Detokenize(bg, vaulttest.Call("app", "service"), vault.DetokenizeRequest{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if out[i].Err != nil || out[i].Value.Reveal() != phoneOf(i) {
			t.Errorf("%d answers %v", i, out[i].Err)
		}
	}
}

// TestMoveForgetsOldWraps: what was read while it moved is not kept under its old wrap.
func TestMoveForgetsOldWraps(t *testing.T) {
	t.Parallel()
	from := new(bentKMS)
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
	tokens := somePeople(t, in, 4)
	var once sync.Once
	from.unwrap = func(_ keys.KeyName, items []keys.UnwrapItem, _ []keys.Outcome) error {
		if len(items) == 4 {
			once.Do(func() {
				for i := range 2 {
					if got, err := reveal(t, in, tokens[i]); err != nil || got != phoneOf(i) {
						t.Errorf("%d answers %v", i, err)
					}
				}
				if s, err := in.KeyStatus(bg, operator); err != nil || s.CachedKeys != 2 {
					t.Errorf("%d keys are kept, %v: the test shows nothing", s.CachedKeys, err)
				}
			})
		}
		return nil
	}
	move(t, in, toVault())
	if s, err := in.KeyStatus(bg, operator); err != nil || s.CachedKeys != 0 {
		t.Errorf("%d keys are kept under wraps that are gone (%v)", s.CachedKeys, err)
	}
	everybody(t, in, tokens)
}
