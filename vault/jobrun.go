package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// jobs are those that run in this process, by id.
type jobs struct {
	mu      sync.Mutex
	running map[string]*work
}

func newJobs() *jobs { return &jobs{running: map[string]*work{}} }

// startWork works on a job until its end or the vault's; the next start then goes on with it.
func (v *Vault) startWork(kind jobKind, id jobID, row jobRow) {
	w := &work{v: v, id: id, row: row, base: row.Done, began: v.now()}
	v.jobs.mu.Lock()
	v.jobs.running[row.ID] = w
	v.jobs.mu.Unlock()
	v.background.start(func(ctx context.Context) {
		w.run(ctx, kind)
		v.jobs.mu.Lock()
		delete(v.jobs.running, row.ID)
		v.jobs.mu.Unlock()
	})
}

// resume takes up the jobs that were running when the last process ended.
func (v *Vault) resume(ctx context.Context) error {
	var rows []jobRow
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		rows, err = runningJobs(tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		id, _ := parseJobID(row.ID) // parseJob compared it
		kind, ok := v.jobKind(row.Kind)
		if !ok {
			v.log.Warn("a job of a kind that this version does not know was left running", "job", row.ID, "kind", row.Kind)
			continue
		}
		v.log.Info("going on with a job", "job", row.ID, "kind", row.Kind)
		v.startWork(kind, id, row)
	}
	return nil
}

// asItIs replaces what a job's row says by what its work knows.
func (j *jobs) asItIs(job Job) Job {
	j.mu.Lock()
	w := j.running[job.ID]
	j.mu.Unlock()
	if w == nil || job.State != JobRunning {
		return job
	}
	return w.job()
}

// work is a job under way in this process.
type work struct {
	v  *Vault
	id jobID

	mu    sync.Mutex
	row   jobRow
	base  uint64    // Done when this process took it up
	began time.Time // and when
}

// job tells how far the work is.
func (w *work) job() Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.row.job()
	if took := w.v.now().Sub(w.began).Seconds(); took > 0 && w.row.State == JobRunning && w.row.Done > w.base {
		out.Rate = float64(w.row.Done-w.base) / took
		if left := w.row.Total - w.row.Done; left > 0 {
			out.ETA = time.Duration(float64(left) / out.Rate * float64(time.Second))
		}
	}
	return out
}

// progress notes how much is done of how much.
func (w *work) progress(done, total uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.row.Done, w.row.Total = done, max(done, total)
}

// trouble notes what the work waits for, nil when it goes on.
func (w *work) trouble(problem *Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.row.Problem = nil; problem != nil {
		w.row.Problem = &jobProblem{problem.Code, problem.Detail}
	}
}

// storeEvery is how much progress a crash may hide.
const storeEvery = time.Second

// keep writes the row in a transaction of the work, with what will be done once that has committed, when it was not
// written for a while. written is to be called then.
func (w *work) keep(tx store.Tx, done, total uint64) (written func(), err error) {
	w.mu.Lock()
	row := w.row
	w.mu.Unlock()
	now := w.v.now()
	if now.Sub(fromMillis(row.Updated)) < storeEvery {
		return func() {}, nil
	}
	row.Updated, row.Done, row.Total = millis(now), done, max(done, total)
	if err := w.put(tx, &row); err != nil {
		return nil, err
	}
	return func() {
		w.mu.Lock()
		w.row.Updated = row.Updated
		w.mu.Unlock()
	}, nil
}

// end writes the row as the work's last. settled is to be called once the transaction has committed.
func (w *work) end(tx store.Tx, state string, problem *Error) (settled func(), err error) {
	w.mu.Lock()
	row := w.row
	w.mu.Unlock()
	now := millis(w.v.now())
	row.State, row.Updated, row.Finished, row.Problem = state, now, now, nil
	if problem != nil {
		row.Problem = &jobProblem{problem.Code, problem.Detail}
	}
	if state == JobDone {
		row.Done = row.Total // people were erased meanwhile
	}
	if err := w.put(tx, &row); err != nil {
		return nil, err
	}
	return func() {
		w.mu.Lock()
		w.row = row
		w.mu.Unlock()
	}, nil
}

func (w *work) put(tx store.Tx, row *jobRow) error {
	text, err := row.marshal()
	if err != nil {
		return err
	}
	return tx.Put(store.Jobs, jobKey(w.id), text)
}

// run works and, where the work fails for good, says so in the row.
func (w *work) run(ctx context.Context, kind jobKind) {
	err := kind.run(ctx, w)
	var failure *Error
	switch {
	case err == nil:
		w.v.log.Info("a job is done", "job", w.row.ID, "kind", kind.name)
		return
	case ctx.Err() != nil:
		return
	case !errors.As(err, &failure):
		failure = ErrInternal.because(err)
	}
	w.v.log.Error("a job failed", "job", w.row.ID, "kind", kind.name, "err", failure, "cause", failure.Unwrap())
	err = w.persist(ctx, func() error {
		settled := func() {}
		err := w.v.store.Update(ctx, func(tx store.Tx) (err error) {
			settled, err = w.end(tx, JobFailed, failure)
			return err
		})
		if err == nil {
			settled()
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		w.v.log.Error("that a job failed cannot be stored; the next start tries it again", "job", w.row.ID, "err", err)
	}
}

// How long the work waits before it asks a part again that did not answer.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// persist does a step, again and again while a key service or the store is away, and shows what it waits for.
func (w *work) persist(ctx context.Context, step func() error) error {
	pause := firstPause
	for {
		err := step()
		if err == nil {
			w.trouble(nil)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		problem := waitsFor(err)
		if problem == nil {
			return err
		}
		if pause == firstPause {
			w.v.log.Warn("a job waits", "job", w.id.String(), "code", problem.Code, "cause", err)
		}
		w.trouble(problem)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// awayError is a key service that did not do its part. It may have been deleted, or sealed, or be out of reach: a job
// that has begun waits for it in any case.
type awayError struct {
	service string
	err     error
}

func (e awayError) Error() string { return fmt.Sprintf("%s: %v", e.service, e.err) }
func (e awayError) Unwrap() error { return e.err }

// waitsFor tells failures that pass by themselves; nil for one that does not.
func waitsFor(err error) *Error {
	var away awayError
	switch {
	case errors.As(err, &away):
		return ErrKeyService.saying("waiting for " + away.service + ": " + bounded(away.err.Error()))
	case errors.Is(err, keys.ErrKMSUnavailable):
		return ErrKeyService.saying("waiting for the key service: " + bounded(err.Error()))
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrUnavailable):
		return ErrStoreUnavailable.saying("waiting for the store")
	}
	return nil
}

// bounded cuts a text of another part to what a person wants to read.
func bounded(text string) string {
	const limit = 600
	if len(text) > limit {
		return text[:limit] + " …"
	}
	return text
}
