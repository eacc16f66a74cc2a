package vault_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// openLosing opens an installation whose second key service goes away during a move of several people to it: before
// anybody has moved, or once the first chunk has.
func openLosing(t *testing.T, dir string, moved bool, opt vaulttest.Options) (in *vaulttest.Installation, other *awayKMS) {
	t.Helper()
	other = new(awayKMS)
	var once sync.Once
	lose := func(_ keys.KeyName, items []keys.UnwrapItem, _ []keys.Outcome) error {
		if len(items) > 1 {
			once.Do(func() { other.away.Store(true) })
		}
		return nil
	}
	opt.Other = func(dir string) (keys.KMS, error) {
		to := new(bentKMS)
		if moved {
			to.unwrap = lose
		}
		kms, err := to.other(dir)
		other.KMS = kms
		return closing{other, to}, err
	}
	if !moved {
		opt.KMS = func(k keys.KMS) keys.KMS { return &bentKMS{KMS: k, unwrap: lose} }
	}
	return vaulttest.Open(t, dir, opt), other
}

func waits(j vault.Job) bool { return j.State == vault.JobRunning && j.Err != nil }

// refusingStore is a store whose next Update fails.
type refusingStore struct {
	store.Store
	refuse atomic.Bool
}

func (s *refusingStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.refuse.CompareAndSwap(true, false) {
		return store.ErrUnavailable
	}
	return s.Store.Update(ctx, fn)
}

// TestMoveTurnedRoundWhileItWaits: the way back does not need a key service that is lost and has nothing.
func TestMoveTurnedRoundWhileItWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, _ := openLosing(t, dir, false, vaulttest.Options{})
	tokens := somePeople(t, in, 5)
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, waits)
	_, err := in.StartJob(bg, operator, toVault())
	if wantCode(t, err, vault.ErrConflict); !strings.Contains(err.Error(), id) {
		t.Errorf("the same direction: %v", err)
	}
	back := move(t, in, toKeyring()) // HashiCorp Vault is still away
	old, err := in.Job(bg, operator, id)
	if err != nil || old.State != vault.JobFailed || old.Err == nil || old.Err.Code != "conflict" || old.Err.Detail != "turned round by "+back.ID || old.Finished.IsZero() {
		t.Errorf("the job that was turned round is %+v (%v), %v", old, old.Err, err)
	}
	awaitJob(t, in, id, func(vault.Job) bool { return vault.Working(in.Vault) == 0 }) // nor does the one still wait
	put(t, in, "new", "phone", "13800138000")
	everybody(t, in, tokens)
	if !withoutScheme(t, in, "vault") {
		t.Error("something is at the key service that was lost")
	}
	shut(t, in)
	if in, err = only(dir, false); err != nil {
		t.Fatal(err)
	}
	everybody(t, in, tokens)
	shut(t, in)
}

// TestMoveTurnedRoundInTheMiddle: who has moved goes back, once the key service that has them answers again.
func TestMoveTurnedRoundInTheMiddle(t *testing.T) {
	t.Parallel()
	in, other := openLosing(t, t.TempDir(), true, vaulttest.Options{})
	tokens := somePeople(t, in, 400)
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, waits)
	back := startJob(t, in, toKeyring())
	awaitJob(t, in, back, waits)
	if withoutScheme(t, in, "local") || withoutScheme(t, in, "vault") {
		t.Error("some keys should have moved and some not: the test shows nothing")
	}
	other.away.Store(false)
	if j := awaitJob(t, in, back, ended); j.State != vault.JobDone || j.Done != 400 || j.Total != 400 {
		t.Errorf("the way back ended %+v (%v)", j, j.Err)
	}
	if old, err := in.Job(bg, operator, id); err != nil || old.State != vault.JobFailed {
		t.Errorf("the way there is %+v, %v", old, err)
	}
	if !withoutScheme(t, in, "vault") {
		t.Error("keys are left")
	}
	everybody(t, in, tokens)
}

// slowToLeave is a key service that, asked for several keys at once, says so, and goes on for a while after it was told
// to stop.
type slowToLeave struct {
	keys.KMS
	asked chan struct{}
	leave func()
}

func (k *slowToLeave) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if len(items) > 1 && k.leave != nil {
		close(k.asked)
		<-ctx.Done()
		k.leave()
		k.leave = nil
	}
	return k.KMS.Unwrap(ctx, key, items)
}

// TestTurningRoundWaitsForTheWork: the way back is not stored as long as the work on the way there has not ended.
func TestTurningRoundWaitsForTheWork(t *testing.T) {
	t.Parallel()
	kms := &slowToLeave{asked: make(chan struct{})}
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { kms.KMS = k; return kms }})
	somePeople(t, in, 5)
	kms.leave = func() {
		for range 100 { // the store is free: who does not wait is there long before
			if n := len(dump(t, in.Store, store.Jobs)); n != 1 {
				t.Errorf("%d jobs", n)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	startJob(t, in, toVault())
	<-kms.asked
	move(t, in, toKeyring())
}

// TestTurningRoundAtOnce: of many who turn a move round at the same time one does, whatever the move itself does meanwhile.
func TestTurningRoundAtOnce(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring})
	tokens := somePeople(t, in, 300)
	there, back := toVault(), toKeyring()
	for range 10 {
		id := startJob(t, in, there)
		var all sync.WaitGroup
		var begun [4]string
		for i := range begun {
			all.Go(func() {
				j, err := in.StartJob(bg, operator, back)
				if begun[i] = j.ID; err != nil {
					wantCode(t, err, vault.ErrConflict)
				}
			})
		}
		all.Wait()
		last := strings.Join(begun[:], "")
		if len(last) != len(id) {
			t.Fatalf("begun: %q", begun)
		}
		awaitJob(t, in, id, ended)
		if j := awaitJob(t, in, last, ended); j.State != vault.JobDone {
			t.Fatalf("the way back ended %+v (%v)", j, j.Err)
		}
		if !withoutScheme(t, in, "vault") || in.KMS.Scheme() != "local" {
			t.Fatalf("keys are left, or new ones are of %s", in.KMS.Scheme())
		}
		put(t, in, "new", "phone", "13800138000")
	}
	everybody(t, in, tokens)
}

// TestMoveTurnedRoundByAnotherProcess: the work of one that did not notice writes nothing more.
func TestMoveTurnedRoundByAnotherProcess(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} { // with people's keys in the air, and with the root
		from := new(bentKMS)
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
		tokens := somePeople(t, in, 5)
		second, _ := in.KMS.Of("vault")
		other := another(t, in, func(c *vault.Config) { c.KMS = keys.NewServices(from.KMS, second) })
		var once sync.Once
		from.unwrap = func(key keys.KeyName, items []keys.UnwrapItem, _ []keys.Outcome) error {
			if last && key == keys.RootKey || !last && len(items) == 5 {
				once.Do(func() { move(t, other, toKeyring()) })
			}
			return nil
		}
		id := startJob(t, in, toVault())
		awaitJob(t, in, id, func(j vault.Job) bool { return j.State == vault.JobFailed && vault.Working(in.Vault) == 0 })
		if j, err := in.Job(bg, operator, id); err != nil || j.Err == nil || !strings.HasPrefix(j.Err.Detail, "turned round by ") {
			t.Errorf("the job that was turned round is %+v (%v), %v", j, j.Err, err)
		}
		if got := endsOf(t, in, id); got != "conflict " {
			t.Errorf("the log says that it ended %q", got)
		}
		if !withoutScheme(t, in, "vault") {
			t.Error("it went on")
		}
		everybody(t, other, tokens)
	}
}

// TestMoveThatCannotBeTurnedRound: when the way back cannot be stored, or is none, the way there goes on.
func TestMoveThatCannotBeTurnedRound(t *testing.T) {
	t.Parallel()
	st := new(refusingStore)
	in, other := openLosing(t, t.TempDir(), false, vaulttest.Options{Store: func(s store.Store) store.Store { st.Store = s; return st }})
	tokens := somePeople(t, in, 5)
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, waits)
	st.refuse.Store(true)
	_, err := in.StartJob(bg, operator, toKeyring())
	wantCode(t, err, vault.ErrStoreUnavailable)
	other.away.Store(false)
	if j := awaitJob(t, in, id, ended); j.State != vault.JobDone || !withoutScheme(t, in, "local") {
		t.Errorf("the way there ended %+v (%v)", j, j.Err)
	}
	everybody(t, in, tokens)
}

// TestJobsInTheAuditLog: how each job begins and ends is in the log, in the name of who began it, whoever ended it.
func TestJobsInTheAuditLog(t *testing.T) {
	t.Parallel()
	in, _ := openLosing(t, t.TempDir(), false, vaulttest.Options{})
	somePeople(t, in, 5)
	from := in.Log.Size()
	there := startJob(t, in, toVault())
	awaitJob(t, in, there, waits)
	back := move(t, in, toKeyring()).ID
	var got []string
	for _, e := range entries(t, in.Log, from) {
		if e.Service != "operator" || e.Action != "jobs" {
			t.Errorf("entry %+v", e)
		}
		for _, it := range e.Items {
			got = append(got, it.Field+": "+it.View+": "+it.Outcome)
		}
	}
	want := []string{
		"move-keys: start " + there + " local to transit: ok",
		"move-keys: start " + back + " transit to local: ok",
		"move-keys: end " + there + ": conflict",
		"move-keys: end " + back + ": ok",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// noEndLog is an audit log that can refuse what is not of a call: the ends of jobs.
type noEndLog struct {
	vault.AuditLog
	refuse atomic.Bool
}

func (l *noEndLog) Append(ctx context.Context, e *audit.Event) (uint64, error) {
	if e.RequestID == "" && l.refuse.Load() {
		return 0, audit.ErrUnavailable
	}
	return l.AuditLog.Append(ctx, e)
}

// TestJobEndsWithItsEntry: a job does not end before the log has that, done or failed.
func TestJobEndsWithItsEntry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state   string
		refuses bool
	}{{vault.JobDone, false}, {vault.JobFailed, true}} {
		t.Run(c.state, func(t *testing.T) {
			t.Parallel()
			log := new(noEndLog)
			from := &bentKMS{unwrap: func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
				if c.refuses && key == keys.DEKKey && log.refuse.Load() {
					out[0] = keys.Outcome{Err: keys.ErrUnwrap}
				}
				return nil
			}}
			in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{
				Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from },
				Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log },
			})
			somePeople(t, in, 5)
			log.refuse.Store(true)
			id := startJob(t, in, toVault())
			if j := awaitJob(t, in, id, func(j vault.Job) bool { return j.Err != nil || ended(j) }); j.State != vault.JobRunning || j.Err.Code != "audit_unavailable" {
				t.Errorf("the job is %+v (%v)", j, j.Err)
			}
			size := in.Log.Size()
			log.refuse.Store(false)
			if j := awaitJob(t, in, id, ended); j.State != c.state {
				t.Errorf("the job ended %+v (%v)", j, j.Err)
			}
			ends := 0
			for _, e := range entries(t, in.Log, size) {
				if e.RequestID == "" {
					ends++
				}
			}
			if ends != 1 {
				t.Errorf("%d entries of its end", ends)
			}
		})
	}
}
