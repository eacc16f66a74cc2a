package vault_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestManyWritersOneSubject: 64 writers, through two vaults over one store as two processes would be, each tokenize the
// same subject. None is told of another, and nobody's change is lost.
func TestManyWritersOneSubject(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	put(t, in, "u1", "name", "张三")
	fields := []string{"phone", "email", "address", "text"}
	values := []string{"13800138000", "zhang.san@example.com", "北京市海淀区中关村大街27号", long("text")}
	var all sync.WaitGroup
	var tokens [64]secret.Text
	for i := range tokens {
		all.Go(func() {
			it := vault.TokenizeItem{Subject: "u1", Field: fields[i%4], Value: secret.NewText(values[i%4]), SingleUse: i >= 32}
			out, err := vaults[i/4%2].Tokenize(bg, vaulttest.Call("app", ""), []vault.TokenizeItem{it})
			if err != nil || out[0].Err != nil {
				t.Errorf("writer %d: %v %v", i, err, out)
				return
			}
			tokens[i] = out[0].Token
		})
	}
	all.Wait()
	distinct := map[string]bool{}
	for i := range tokens {
		distinct[tokens[i].Reveal()] = true
		if got, err := reveal(t, in, tokens[i]); err != nil || got != values[i%4] {
			t.Errorf("the token of writer %d: %v", i, err)
		}
	}
	if rows := dump(t, in.Store, store.Tokens); len(distinct) != 4+32 || len(rows) != 1+4+32 {
		t.Errorf("%d tokens in %d rows; four lasting ones, the name's and 32 single ones were asked for", len(distinct), len(rows))
	}
	if fields, err := in.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"}); err != nil || len(fields) != 5 {
		t.Errorf("%d fields, %v", len(fields), err)
	}
}

// TestIndexSharedByWriters: subjects of one partition that share a value share an index row, which no writer may lose.
func TestIndexSharedByWriters(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	var all sync.WaitGroup
	for i := range 96 {
		all.Go(func() { put(t, vaults[i%2], fmt.Sprintf("u%d", i), "phone", "13800138000") })
	}
	all.Wait()
	bytes := 0
	rows := dump(t, in.Store, store.Index)
	for _, r := range rows {
		bytes += len(r.value) - (8 + 1 + 24 + 32 + 2 + 16)
	}
	if bytes != 96*16 || len(rows) > 64 {
		t.Errorf("%d index rows name %d subjects of 96", len(rows), bytes/16)
	}
	for i := range 96 {
		all.Go(func() {
			if _, err := vaults[i%2].Erase(bg, vaulttest.Call("officer", ""), fmt.Sprintf("u%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if rows := dump(t, in.Store, store.Index, store.Subjects); len(rows) != 0 || len(ledgerOf(t, in)) != 96 {
		t.Errorf("%d rows are left of 96 erased subjects, %d are in the ledger", len(rows), len(ledgerOf(t, in)))
	}
}

// TestPutAndEraseRace: whichever comes first, the outcome is one of the two orders, and what was erased stays so.
func TestPutAndEraseRace(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	app := vaulttest.Call("app", "service")
	for round := range 16 {
		id := fmt.Sprintf("u%d", round)
		first := put(t, in, id, "phone", "13800138000")["phone"]
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				_, err := vaults[i%2].Put(bg, app, vault.PutRequest{Subject: id, Fields: vaulttest.Fields("name", "张三")})
				if err != nil && !errors.Is(err, vault.ErrSubjectErased) {
					t.Errorf("put: %v", err)
				}
			})
			all.Go(func() {
				if got := code(t, vaults[i%2], first); got != "" && got != "subject_erased" {
					t.Errorf("a token answers %q", got)
				}
			})
		}
		erased := 0
		var mu sync.Mutex
		for i := range 2 {
			all.Go(func() {
				_, err := vaults[i].Erase(bg, app, id)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					erased++
				} else if !errors.Is(err, vault.ErrSubjectErased) {
					t.Errorf("erase: %v", err)
				}
			})
		}
		all.Wait()
		if erased != 1 || code(t, in, first) != "subject_erased" {
			t.Errorf("erased %d times, the token answers %q", erased, code(t, in, first))
		}
	}
	if rows := dump(t, in.Store, store.Subjects, store.Index); len(rows) != 0 {
		t.Errorf("%d rows are left of erased subjects", len(rows))
	}
}

// TestRecreateRace: of many who begin an erased subject anew one creates it, and all write to the same one.
func TestRecreateRace(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	put(t, in, "u1", "phone", "13800138000")
	erase(t, in, "u1")
	var all sync.WaitGroup
	var made [16]vault.PutResult
	for i := range made {
		all.Go(func() {
			var err error
			made[i], err = vaults[i%2].Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13900139000")})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	created := 0
	for i := range made {
		if made[i].Created {
			created++
		}
		if len(made[i].Tokens) != 1 || !made[i].Tokens[0].Token.Equal(made[0].Tokens[0].Token) {
			t.Error("two writers have two tokens")
		}
	}
	if created != 1 {
		t.Errorf("created %d times", created)
	}
}

// TestRecreateAfterAnotherLife: a subject that began and was erased again while a caller was about to begin it anew has
// used up another key version. The caller's must lie above it, or the ledger would erase it with the one before.
func TestRecreateAfterAnotherLife(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "u1", "phone", "13800138000")
	erase(t, in, "u1")
	again := func(v *vaulttest.Installation) {
		if _, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13900139000")}); err != nil {
			t.Error(err)
		}
	}
	before := &beforeUpdate{Store: in.Store}
	v := another(t, in, func(c *vault.Config) { c.Store = before })
	before.do = func() { again(in); erase(t, in, "u1") }
	again(v)
	if c, err := vault.VerifyCertificate(erase(t, v, "u1"), v.CertificateKey()); err != nil || c.KeyVersion != 3 {
		t.Errorf("the third life had key version %d (%v)", c.KeyVersion, err)
	}
}
