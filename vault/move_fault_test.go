package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestMoveMeetsRefusedKeys: keys that will not open end the job, are counted and named as the audit log names them, and
// nothing is lost by trying.
func TestMoveMeetsRefusedKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var refusing atomic.Int32
	from := &bentKMS{unwrap: func(key keys.KeyName, items []keys.UnwrapItem, out []keys.Outcome) error {
		for i := range items {
			if key == keys.DEKKey && len(items) > 1 && i < int(refusing.Load()) {
				out[i] = keys.Outcome{Err: keys.ErrUnwrap}
			}
		}
		return nil
	}}
	var logged bytes.Buffer
	opt := vaulttest.Options{
		Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from },
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	in := vaulttest.Open(t, dir, opt)
	tokens := somePeople(t, in, 24)
	refusing.Store(22)
	j := awaitJob(t, in, startJob(t, in, toVault()), ended)
	if j.State != vault.JobFailed || j.Err == nil || j.Err.Code != "key_unavailable" || !strings.Contains(j.Err.Detail, " 22 people") || !strings.Contains(j.Err.Detail, "first 20 of them") {
		t.Fatalf("the job ended %+v (%v)", j, j.Err)
	}
	named := 0
	for i := range tokens {
		sid := vault.HierarchyOf(in.Unlocked).SID(fmt.Sprintf("u%d", i))
		if strings.Contains(logged.String(), audit.Digest(vault.HierarchyOf(in.Unlocked).AuditDigest("subject", sid[:])).String()) {
			named++
		}
	}
	if named != 20 {
		t.Errorf("the log names %d people", named)
	}
	if withoutScheme(t, in, "local") || withoutScheme(t, in, "vault") {
		t.Error("some keys should have moved and some not")
	}
	if s, err := in.KeyStatus(bg, operator); err != nil || s.Move == nil || s.Move.From != "local" || s.Move.To != "transit" || s.Move.Job != j.ID {
		t.Errorf("the status says %+v (%v)", s.Move, err)
	}
	refusing.Store(0)
	everybody(t, in, tokens)
	put(t, in, "later", "phone", "13800138000")
	shut(t, in) // what came later is at the key service moved to

	for _, other := range []bool{false, true} { // neither is enough
		in, err := only(dir, other)
		if !errors.Is(err, vault.ErrOtherService) || !strings.Contains(err.Error(), "both") {
			t.Errorf("with one key service: %v", err)
		}
		if err == nil {
			shut(t, in)
		}
	}
	in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring})
	if jobs, _, err := in.Jobs(bg, operator, vault.Page{}); err != nil || len(jobs) != 1 || jobs[0].State != vault.JobFailed || in.KMS.Scheme() != "vault" {
		t.Errorf("after a start: %+v, %v; new keys are of %s", jobs, err, in.KMS.Scheme())
	}
	everybody(t, in, tokens)
	move(t, in, toKeyring()) // turned round
	if !withoutScheme(t, in, "vault") {
		t.Error("turned round, keys are left")
	}
	move(t, in, toVault())
	if !withoutScheme(t, in, "local") {
		t.Error("at last, keys are left")
	}
	everybody(t, in, tokens)
}

// TestMoveLooksAgainAtTheRefused: who was erased while a key service refused their key does not fail the move.
func TestMoveLooksAgainAtTheRefused(t *testing.T) {
	t.Parallel()
	from := new(bentKMS)
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
	tokens := somePeople(t, in, 4)
	from.unwrap = func(_ keys.KeyName, items []keys.UnwrapItem, out []keys.Outcome) error {
		if len(items) == 4 {
			erase(t, in, "u3")
			for i := range out {
				out[i] = keys.Outcome{Err: keys.ErrUnwrap}
			}
		}
		return nil
	}
	move(t, in, toVault())
	everybody(t, in, tokens[:3])
}

// TestMoveMeetsDamagedRows: a row that does not authenticate has no key to move. It is left and told, and stops nobody.
func TestMoveMeetsDamagedRows(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring})
	somePeople(t, in, 5)
	r := dump(t, in.Store, store.Subjects)[0]
	bad := append([]byte(nil), r.value...)
	bad[40] ^= 1
	write(t, in.Store, row{r.ks, r.key, bad})
	j := awaitJob(t, in, startJob(t, in, toVault()), ended)
	if j.State != vault.JobDone || j.Err == nil || j.Err.Code != "data_corrupt" || !strings.Contains(j.Err.Detail, "left as they are: 1;") || j.Done != 4 || j.Total != 5 {
		t.Fatalf("the job ended %+v (%v)", j, j.Err)
	}
	if s, err := in.KeyStatus(bg, operator); err != nil || s.Move != nil {
		t.Errorf("the status says %+v (%v)", s.Move, err)
	}
	if now := dump(t, in.Store, store.Subjects)[0]; !bytes.Equal(now.value, bad) {
		t.Error("the damaged row was written to")
	}
	write(t, in.Store, r) // from a backup
	move(t, in, toKeyring())
	move(t, in, toVault())
	if !withoutScheme(t, in, "local") {
		t.Error("the row that was brought back did not move")
	}
}

// TestMoveWaits: a key service that goes away in the middle is waited for, and the job says so.
func TestMoveWaits(t *testing.T) {
	t.Parallel()
	away := &awayKMS{}
	from := &awayKMS{}
	var once sync.Once
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{
		KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from },
		Other: func(dir string) (keys.KMS, error) {
			k := new(bentKMS)
			kms, err := k.other(dir)
			k.unwrap = func(key keys.KeyName, items []keys.UnwrapItem, _ []keys.Outcome) error {
				if len(items) > 1 {
					once.Do(func() { away.away.Store(true) }) // the first chunk has come back: now the root's turn
				}
				return nil
			}
			away.KMS = kms
			return closing{away, k}, err
		},
	})
	tokens := somePeople(t, in, 20)
	id := startJob(t, in, toVault())
	j := awaitJob(t, in, id, func(j vault.Job) bool { return j.Err != nil || ended(j) })
	if j.State != vault.JobRunning || j.Err.Code != "key_service_unavailable" || !strings.Contains(j.Err.Detail, "HashiCorp Vault: ") {
		t.Fatalf("the job says %+v (%v)", j, j.Err)
	}
	_, err := in.StartJob(bg, operator, toVault())
	if wantCode(t, err, vault.ErrConflict); !strings.Contains(err.Error(), id) {
		t.Errorf("a second one beside it: %v", err)
	}
	for _, p := range in.Ready(bg) {
		if p.Name == "kms" && p.Err == nil {
			t.Error("ready, though half of the keys cannot be had")
		}
	}
	away.away.Store(false)
	if j := awaitJob(t, in, id, ended); j.State != vault.JobDone || j.Err != nil {
		t.Errorf("the job ended %+v (%v)", j, j.Err)
	}
	everybody(t, in, tokens)
}

// TestMoveMeetsChanges: what happens to people while their keys are on the way to the other key service stays so.
func TestMoveMeetsChanges(t *testing.T) {
	t.Parallel()
	var in *vaulttest.Installation
	var once sync.Once
	var changed secret.Text
	from := new(bentKMS)
	in = vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
	tokens := somePeople(t, in, 4)
	app := vaulttest.Call("app", "service")
	from.unwrap = func(_ keys.KeyName, items []keys.UnwrapItem, _ []keys.Outcome) error {
		if len(items) == 4 {
			once.Do(func() {
				changed = put(t, in, "u0", "name", "张三")["name"]
				erase(t, in, "u1")
				erase(t, in, "u2")
				_, err := in.Put(bg, app, vault.PutRequest{Subject: "u2", Recreate: true, Fields: vaulttest.Fields("phone", "13900139000")})
				if err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	}
	move(t, in, toVault())
	in = another(t, in, nil) // with cold caches
	for i, want := range []string{"", "subject_erased", "subject_erased", ""} {
		if got := code(t, in, tokens[i]); got != want {
			t.Errorf("u%d answers %q, want %q", i, got, want)
		}
	}
	if got, err := reveal(t, in, changed); err != nil || got != "张三" {
		t.Errorf("what was changed meanwhile answers %q, %v", got, err)
	}
	if got, err := in.Get(bg, app, vault.GetRequest{Subject: "u2"}); err != nil || got[0].Value.Reveal() != "13900139000" {
		t.Errorf("who was stored again meanwhile answers %v", err)
	}
	if _, err := in.Get(bg, app, vault.GetRequest{Subject: "u1"}); !errors.Is(err, vault.ErrSubjectErased) {
		t.Errorf("who was erased meanwhile answers %v", err)
	}
	if rows := dump(t, in.Store, store.Subjects); len(rows) != 3*2 || !withoutScheme(t, in, "local") {
		t.Errorf("%d rows of three people", len(rows))
	}
}

// TestMoveTrustsNoWrap: a key service that gives back other keys than it was given, or none, gets none.
func TestMoveTrustsNoWrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, says string
		spoil      func(*keys.Outcome)
	}{
		{"another key", "gave back another key", func(o *keys.Outcome) { o.Plaintext.Reveal()[31] ^= 0x80 }},
		{"refused", "refuses to open what it has just wrapped", func(o *keys.Outcome) { *o = keys.Outcome{Err: keys.ErrUnwrap} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := &bentKMS{unwrap: func(key keys.KeyName, items []keys.UnwrapItem, out []keys.Outcome) error {
				if len(items) == 4 {
					c.spoil(&out[2])
				}
				return nil
			}}
			in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: to.other})
			tokens := somePeople(t, in, 4)
			before := dump(t, in.Store, store.Subjects)
			j := awaitJob(t, in, startJob(t, in, toVault()), ended)
			if j.State != vault.JobFailed || j.Err.Code != "key_unavailable" || !strings.Contains(j.Err.Detail, c.says) || strings.Contains(j.Err.Detail, "root") {
				t.Fatalf("the job ended %+v (%v)", j, j.Err)
			}
			if !sameRows(before, dump(t, in.Store, store.Subjects)) {
				t.Error("keys that were not seen to open took the place of those that do")
			}
			everybody(t, in, tokens)
		})
	}
}

// TestMoveStopsAtARefusedRoot: a root that its key service no longer opens stays where it is, when all others have moved.
func TestMoveStopsAtARefusedRoot(t *testing.T) {
	t.Parallel()
	var refuses atomic.Bool
	from := &bentKMS{unwrap: func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
		if key == keys.RootKey && refuses.Load() {
			out[0] = keys.Outcome{Err: keys.ErrUnwrap}
		}
		return nil
	}}
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
	somePeople(t, in, 3)
	refuses.Store(true)
	before := dump(t, in.Store, store.Keys)
	j := awaitJob(t, in, startJob(t, in, toVault()), ended)
	if j.State != vault.JobFailed || j.Err.Code != "key_unavailable" || !strings.Contains(j.Err.Detail, "root key; everything else has moved") || j.Done != 3 {
		t.Fatalf("the job ended %+v (%v)", j, j.Err)
	}
	if !sameRows(before, dump(t, in.Store, store.Keys)) {
		t.Error("the root row is not what it was")
	}
}

// TestMoveEndsWithARootThatOpens: a key service that gives back another root at the end does not get it.
func TestMoveEndsWithARootThatOpens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lies atomic.Bool
	var roots atomic.Int32
	to := &bentKMS{unwrap: func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
		if key == keys.RootKey && roots.Add(1) == 3 && lies.Load() { // after the proof and the wrap: what the store holds
			out[0].Plaintext.Reveal()[5] ^= 1
		}
		return nil
	}}
	in := vaulttest.Open(t, dir, vaulttest.Options{Other: to.other})
	tokens := somePeople(t, in, 3)
	lies.Store(true)
	before := dump(t, in.Store, store.Keys)
	j := awaitJob(t, in, startJob(t, in, toVault()), ended)
	if j.State != vault.JobFailed || j.Err.Code != "key_unavailable" || !strings.Contains(j.Err.Detail, "another key") {
		t.Fatalf("the job ended %+v (%v)", j, j.Err)
	}
	if !sameRows(before, dump(t, in.Store, store.Keys)) {
		t.Error("the root row is not what it was")
	}
	shut(t, in)
	in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring})
	everybody(t, in, tokens)
	move(t, in, toVault())
}

// TestKeyFromBeforeTheMove: a data key that was wrapped before a move began, by a writer that took its time, does not come
// into the store behind it.
func TestKeyFromBeforeTheMove(t *testing.T) {
	t.Parallel()
	store := func(in *vaulttest.Installation) error {
		_, err := in.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "slow", Fields: vaulttest.Fields("phone", "13800138000")})
		return err
	}
	check := func(t *testing.T, in *vaulttest.Installation) {
		t.Helper()
		if !withoutScheme(t, in, "local") {
			t.Error("a key of the key service moved from came into the store after the move")
		}
		if _, err := in.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "slow"}); err != nil {
			t.Error(err)
		}
	}
	t.Run("waiting for the key service", func(t *testing.T) {
		t.Parallel()
		kms := &hangingKMS{asked: make(chan struct{}), letGo: make(chan struct{})}
		var hang atomic.Bool
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS {
			kms.KMS = k
			return &sometimes{k, kms, &hang}
		}})
		hang.Store(true)
		wrote := make(chan error, 1)
		go func() { wrote <- store(in) }()
		<-kms.asked
		move(t, in, toVault())
		close(kms.letGo)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		check(t, in)
	})
	t.Run("waiting for the log", func(t *testing.T) {
		t.Parallel()
		log := &slowLog{}
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log }})
		log.meanwhile = func() { move(t, in, toVault()) }
		if err := store(in); err != nil {
			t.Fatal(err)
		}
		check(t, in)
	})
}

// sometimes is one key service, or the same behind a wrapper for its next wrap.
type sometimes struct {
	keys.KMS
	then *hangingKMS
	when *atomic.Bool
}

func (k *sometimes) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if key == keys.DEKKey && k.when.CompareAndSwap(true, false) {
		return k.then.Wrap(ctx, key, version, items)
	}
	return k.KMS.Wrap(ctx, key, version, items)
}
