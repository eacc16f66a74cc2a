package vault_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestJobsList pages through jobs, newest first.
func TestJobsList(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring})
	var ids []string
	for i := range 5 {
		req := toVault()
		if i%2 == 1 {
			req = toKeyring()
		}
		ids = append([]string{move(t, in, req).ID}, ids...)
		time.Sleep(2 * time.Millisecond) // ids of one millisecond have no order
	}
	var got []string
	page := vault.Page{Limit: 2}
	for {
		jobs, next, err := in.Jobs(bg, operator, page)
		if err != nil || len(jobs) > 2 {
			t.Fatal(jobs, err)
		}
		for _, j := range jobs {
			if j.State != vault.JobDone || j.Kind != vault.MoveKeys || j.Service != "operator" || j.Created.IsZero() || j.Finished.Before(j.Created) {
				t.Errorf("%+v", j)
			}
			got = append(got, j.ID)
		}
		if page.Cursor = next; next == "" {
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("listed %v, begun, the newest first, %v", got, ids)
	}
	for _, cursor := range []string{"x", "job_", "era_00000000000000000000000000", ids[0][:29] + "w", strings.ToUpper(ids[0])} {
		_, _, err := in.Jobs(bg, operator, vault.Page{Cursor: cursor})
		wantCode(t, err, vault.ErrMalformed)
		_, err = in.Job(bg, operator, cursor)
		wantCode(t, err, vault.ErrNotFound)
	}
}

// TestJobOnce: a repeated request is told its job, and of many that ask at once one begins it.
func TestJobOnce(t *testing.T) {
	t.Parallel()
	away := &awayKMS{}
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: func(dir string) (keys.KMS, error) {
		k, err := vaulttest.OtherKeyring(dir)
		away.KMS = k
		return closing{away, k}, err
	}})
	somePeople(t, in, 3)
	call := idempotent(operator, "once", "move")
	var all sync.WaitGroup
	var got [8]vault.Job
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = in.StartJob(bg, call, toVault()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, j := range got {
		if j.ID == "" || j.ID != got[0].ID {
			t.Errorf("one request began %q and %q", j.ID, got[0].ID)
		}
	}
	awaitJob(t, in, got[0].ID, ended)
	away.away.Store(true) // the one that begins does not end before the others are refused
	var begun atomic.Int32
	for range got {
		all.Go(func() {
			if _, err := in.StartJob(bg, operator, toKeyring()); err == nil {
				begun.Add(1)
			} else {
				wantCode(t, err, vault.ErrConflict)
			}
		})
	}
	all.Wait()
	if rows := dump(t, in.Store, store.Jobs); begun.Load() != 1 || len(rows) != 2 {
		t.Errorf("%d of eight began, there are %d jobs", begun.Load(), len(rows))
	}
	away.away.Store(false)
}

// TestCloseEndsAWaitingJob: a vault that closes does not wait for a key service, and the next one goes on.
func TestCloseEndsAWaitingJob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := &awayKMS{}
	in := vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
	tokens := somePeople(t, in, 3)
	from.away.Store(true)
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, func(j vault.Job) bool { return j.Err != nil })
	shut(t, in)
	in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring})
	if j := awaitJob(t, in, id, ended); j.State != vault.JobDone {
		t.Errorf("the job ended %+v (%v)", j, j.Err)
	}
	everybody(t, in, tokens)
}

// TestJobProgress reads rate and time left of a job that has done a part, on a clock of its own.
func TestJobProgress(t *testing.T) {
	t.Parallel()
	clock := newClock()
	away := &awayKMS{}
	var once sync.Once
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Now: clock.now, Other: func(dir string) (keys.KMS, error) {
		k := new(bentKMS)
		kms, err := k.other(dir)
		k.unwrap = func(_ keys.KeyName, items []keys.UnwrapItem, _ []keys.Outcome) error {
			if len(items) > 1 {
				once.Do(func() { away.away.Store(true); clock.move(10 * time.Second) })
			}
			return nil
		}
		away.KMS = kms
		return closing{away, k}, err
	}})
	somePeople(t, in, 400)
	id := startJob(t, in, toVault())
	j := awaitJob(t, in, id, func(j vault.Job) bool { return j.Err != nil })
	if j.Done != 250 || j.Total != 400 || j.Rate != 25 || j.ETA != 6*time.Second {
		t.Errorf("after 10 s and a chunk: %+v", j)
	}
	// What a crash would leave: the chunk's transaction wrote the row too.
	row := string(dump(t, in.Store, store.Jobs)[0].value)
	if !strings.Contains(row, `"done":250,`) || !strings.Contains(row, `"state":"running"`) {
		t.Errorf("the row is %s", row)
	}
	away.away.Store(false)
	if j := awaitJob(t, in, id, ended); j.Rate != 0 || j.ETA != 0 || j.Done != 400 {
		t.Errorf("at the end: %+v", j)
	}
}
