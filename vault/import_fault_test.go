package vault_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// counted counts the bytes that are drawn: work done twice draws twice.
type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) { c.n.Add(int64(len(p))); return c.Reader.Read(p) }

// TestImportOvertaken: another process writes to one of the people just before the commit. Both changes stand, and the
// others are not sealed again.
func TestImportOvertaken(t *testing.T) {
	t.Parallel()
	for name, overtake := range map[string]func(*vaulttest.Installation){
		"changed": func(in *vaulttest.Installation) { put(t, in, "u7", "email", "new@example.com") },
		"made":    func(in *vaulttest.Installation) { put(t, in, "u90", "email", "new@example.com") },
		"erased":  func(in *vaulttest.Installation) { erase(t, in, "u7") },
	} {
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
		var rows, old []vault.PutRequest
		for i := range 100 {
			rows = append(rows, importRow(fmt.Sprintf("u%d", i), "phone", fmt.Sprintf("139%08d", i), "text", "a text"))
			if i < 50 {
				old = append(old, importRow(fmt.Sprintf("u%d", i), "phone", "13800138000"))
			}
		}
		imported(t, in, old...)
		before := &beforeUpdate{Store: in.Store}
		random := &counted{Reader: rand.Reader}
		v := another(t, in, func(c *vault.Config) { c.Store, c.Random = before, random })
		var until int64
		before.do = func() { overtake(in); until = random.n.Load() }
		out := imported(t, v, rows...)
		if more := random.n.Load() - until; more > until/2 {
			t.Errorf("%s: %d bytes were drawn before the conflict and %d after", name, until, more)
		}
		for i := range out {
			id := rows[i].Subject
			if name == "erased" && id == "u7" {
				if !isCode(out[i].Err, "subject_erased") || seen(t, in, id) != "subject_erased" {
					t.Errorf("an erased subject came back: %v", out[i].Err)
				}
				continue
			}
			want := fmt.Sprintf("phone=139%08d text=a text ", i)
			if name == "changed" && id == "u7" || name == "made" && id == "u90" {
				want = "email=new@example.com " + want
			}
			if got := seen(t, in, id); out[i].Err != nil || got != want || out[i].Created != (i >= 50 && got == want && len(want) < 40) {
				t.Errorf("%s, %s: %v, created %v, has %s", name, id, out[i].Err, out[i].Created, got)
			}
		}
	}
}

// TestImportsAndPutsAtOnce: imports, puts and erasures through two vaults over one store meet at the same people, and each
// leaves the whole of what it wrote.
func TestImportsAndPutsAtOnce(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	vaults := []*vaulttest.Installation{in, another(t, in, nil)}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for round := range 6 {
				rows := make([]vault.PutRequest, 40)
				for i := range rows {
					same := fmt.Sprintf("%d-%d", w, round)
					rows[i] = importRow(fmt.Sprintf("u%d", (i*7+w*13)%50), "text", same, "address", "北京市海淀区"+same)
					rows[i].Recreate = true
				}
				for i, out := range imported(t, vaults[w%2], rows...) {
					if out.Err != nil {
						t.Errorf("row %d: %v", i, out.Err)
					}
				}
			}
		})
	}
	for w := range 2 {
		all.Go(func() {
			for round := range 40 {
				id := fmt.Sprintf("u%d", (round*3+w)%50)
				req := importRow(id, "name", "张三")
				req.Recreate = true
				if _, err := vaults[w].Put(bg, vaulttest.Call("app", ""), req); err != nil {
					t.Errorf("put: %v", err)
				}
				if _, err := vaults[w].Erase(bg, vaulttest.Call("officer", ""), fmt.Sprintf("u%d", round%5)); err != nil && !isCode(err, "subject_erased") && !isCode(err, "subject_not_found") {
					t.Errorf("erase: %v", err)
				}
			}
		})
	}
	all.Wait()
	for i := range 50 {
		fields, err := in.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: fmt.Sprintf("u%d", i)})
		if err != nil {
			if !isCode(err, "subject_erased") && !isCode(err, "subject_not_found") {
				t.Error(err)
			}
			continue
		}
		values := map[string]string{}
		for _, f := range fields {
			values[f.Field] = f.Value.Reveal()
		}
		if values["address"] != "" && values["address"] != "北京市海淀区"+values["text"] {
			t.Errorf("u%d has the address of one row and the text of another", i)
		}
	}
}

// TestImportWithoutKeys: while the key service is away an import fails as a whole, also where the keys of some rows are at
// hand: a good row must not be told as bad. Rows that need no key that is not at hand are stored.
func TestImportWithoutKeys(t *testing.T) {
	t.Parallel()
	var kms *awayKMS
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{KMS: func(k keys.KMS) keys.KMS { kms = &awayKMS{KMS: k}; return kms }})
	put(t, in, "old", "phone", "13800138000")
	kms.away.Store(true)
	fresh, bad, old := importRow("u1", "phone", "13900139000"), importRow("u2", "phone", "12"), importRow("old", "phone", "13900139001")
	for name, rows := range map[string][]vault.PutRequest{"none at hand": {fresh, bad}, "one at hand": {fresh, old}, "one at hand before": {old, bad, fresh}} {
		before, logged := dump(t, in.Store), in.Log.Size()
		_, err := in.Import(bg, vaulttest.Call("app", ""), rows)
		wantCode(t, err, vault.ErrKeyService)
		if !sameRows(before, dump(t, in.Store)) {
			t.Errorf("%s: the failed import changed the store", name)
		}
		if log := entries(t, in.Log, logged); len(log) != 1 || log[0].Code != "key_service_unavailable" {
			t.Errorf("%s: noted as %+v", name, log)
		}
	}
	out := imported(t, in, old, bad)
	if out[0].Err != nil || !isCode(out[1].Err, "invalid_value") || seen(t, in, "old") != "phone=13900139001 " {
		t.Errorf("%v, %v", out[0].Err, out[1].Err)
	}
	kms.away.Store(false)
	if out := imported(t, in, fresh, bad, old); out[0].Err != nil || seen(t, in, "u1") != "phone=13900139000 " {
		t.Errorf("%v", out[0].Err)
	}
}

// mistrustful is a key service that answers and opens no data key.
type mistrustful struct {
	keys.KMS
	on atomic.Bool
}

func (k *mistrustful) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if !k.on.Load() {
		return k.KMS.Unwrap(ctx, key, items)
	}
	out := make([]keys.Outcome, len(items))
	for i := range out {
		out[i].Err = keys.ErrUnwrap
	}
	return out, nil
}

// TestImportWithRefusedKey: a key that the key service refuses to open is that person's matter, also where nobody else is
// in the import: no later try would get past it.
func TestImportWithRefusedKey(t *testing.T) {
	t.Parallel()
	var kms *mistrustful
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{KMS: func(k keys.KMS) keys.KMS { kms = &mistrustful{KMS: k}; return kms }})
	put(t, in, "old", "phone", "13800138000")
	cold := another(t, in, nil)
	kms.on.Store(true)
	if out := imported(t, cold, importRow("old", "phone", "13900139001"), importRow("old", "name", "张三")); !isCode(out[0].Err, "key_unavailable") || !isCode(out[1].Err, "key_unavailable") {
		t.Errorf("%v, %v", out[0].Err, out[1].Err)
	}
	if out := imported(t, cold, importRow("old", "name", "张三"), importRow("u1", "name", "李四")); !isCode(out[0].Err, "key_unavailable") || out[1].Err != nil {
		t.Errorf("%v, %v", out[0].Err, out[1].Err)
	}
}

// TestImportDamaged: a person whose rows are damaged spoils their own rows only.
func TestImportDamaged(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "u1", "phone", "13800138000")
	put(t, in, "u2", "phone", "13800138000")
	sid := vault.HierarchyOf(in.Unlocked).SID("u1")
	write(t, in.Store, row{store.Subjects, keys.SubjectBodyRow(sid), []byte("damaged")})
	out := imported(t, in, importRow("u1", "name", "张三"), importRow("u2", "name", "李四"), importRow("u1", "name", "12\x00"), importRow("u3", "name", "王五"))
	for i, want := range []string{"data_corrupt", "", "data_corrupt", ""} {
		if got := out[i].Err; (got == nil) != (want == "") || got != nil && got.Code != want {
			t.Errorf("row %d: %v, want %q", i, got, want)
		}
	}
	if seen(t, in, "u2") != "name=李四 phone=13800138000 " || seen(t, in, "u3") != "name=王五 " {
		t.Error("the neighbours were not stored")
	}
}

// TestImportReplacesNothingWithoutLedger: a replaced value has to be buried, or nothing is stored.
func TestImportReplacesNothingWithoutLedger(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "old", "phone", "13800138000")
	full := &fullLedger{ErasureLedger: in.Ledger}
	v := another(t, in, func(c *vault.Config) { c.Ledger = full })
	rows := []vault.PutRequest{importRow("new", "phone", "13900139000"), importRow("old", "phone", "13900139000")}
	before := dump(t, in.Store)
	full.unready.Store(true)
	_, err := v.Import(bg, vaulttest.Call("app", ""), rows)
	wantCode(t, err, vault.ErrStoreUnavailable)
	if !sameRows(before, dump(t, in.Store)) {
		t.Error("the failed import changed the store")
	}
	full.unready.Store(false)
	buried := len(ledgerOf(t, in))
	imported(t, v, rows...)
	if got := len(ledgerOf(t, in)); got != buried+1 {
		t.Errorf("%d values are buried after one was replaced", got-buried)
	}
}

// TestImportIsSealedWhileAnotherCommits: while one import waits for the audit log's disk, another one on the same person is
// made ready, and builds on the first in the end.
func TestImportIsSealedWhileAnotherCommits(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	reached, letGo := make(chan struct{}), make(chan struct{})
	log := &slowLog{AuditLog: in.Log, meanwhile: func() { close(reached); <-letGo }}
	random := &counted{Reader: rand.Reader}
	v := another(t, in, func(c *vault.Config) { c.Audit, c.Random = log, random })
	var all sync.WaitGroup
	all.Go(func() { imported(t, v, importRow("u1", "phone", "13800138000")) })
	<-reached
	drawn, logged := random.n.Load(), in.Log.Size()
	second := make(chan struct{})
	all.Go(func() {
		defer close(second)
		imported(t, v, importRow("u1", "name", "张三"), importRow("u2", "name", "李四"))
	})
	for deadline := time.Now().Add(10 * time.Second); random.n.Load() < drawn+200; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the second import is not made ready while the first one waits")
			break
		}
	}
	select {
	case <-second:
		t.Error("the second import committed before the first")
	default:
	}
	close(letGo)
	all.Wait()
	if n := in.Log.Size() - logged; n != 2 {
		t.Errorf("%d entries of two imports", n)
	}
	if got := seen(t, in, "u1"); got != "name=张三 phone=13800138000 " {
		t.Errorf("u1 has %s", got)
	}
}
