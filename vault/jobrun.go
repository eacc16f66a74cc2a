package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// jobs are those that run in this process, by id.
type jobs struct {
	starting chan struct{} // holds one while a job begins

	mu      sync.Mutex
	running map[string]*work
}

func newJobs() *jobs {
	return &jobs{starting: make(chan struct{}, 1), running: map[string]*work{}}
}

// startWork works on a job until its end or the vault's; the next start then goes on with it.
func (v *Vault) startWork(kind jobKind, id jobID, row jobRow) {
	ctx, stop := context.WithCancel(v.background.ctx)
	w := &work{v: v, kind: kind, id: id, stop: stop, ended: make(chan struct{}), row: row, base: row.Done, began: v.now()}
	v.jobs.mu.Lock()
	v.jobs.running[row.ID] = w
	v.jobs.mu.Unlock()
	v.background.start(func(context.Context) {
		defer stop()
		w.run(ctx)
		v.jobs.mu.Lock()
		delete(v.jobs.running, row.ID)
		v.jobs.mu.Unlock()
		close(w.ended)
	})
}

// haltWork stops the work on a job and waits for its end. It returns the work when it can be taken up again: nil when
// there was none, or the job came to its end before.
func (v *Vault) haltWork(id string) *work {
	v.jobs.mu.Lock()
	w := v.jobs.running[id]
	v.jobs.mu.Unlock()
	if w == nil {
		return nil
	}
	w.stop()
	select {
	case <-w.ended:
	case <-v.background.ctx.Done(): // it may never have begun
		return nil
	}
	if w.row.State != JobRunning {
		return nil
	}
	return w
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
	v     *Vault
	kind  jobKind
	id    jobID
	stop  context.CancelFunc
	ended chan struct{} // closed when nothing works on it any more

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
	if err := row.put(tx); err != nil {
		return nil, err
	}
	return func() {
		w.mu.Lock()
		w.row.Updated = row.Updated
		w.mu.Unlock()
	}, nil
}

// errEnded: another has ended the job that this is the work on.
var errEnded = errors.New("the job was ended by another")

// end writes the row as the work's last, and errEnded where there is no work left to end. settled is to be called once
// the transaction has committed.
func (w *work) end(tx store.Tx, state string, problem *Error) (settled func(), err error) {
	if err := w.stillRuns(tx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	row := w.row
	w.mu.Unlock()
	row.end(state, w.v.now(), problem)
	if err := row.put(tx); err != nil {
		return nil, err
	}
	return func() {
		w.mu.Lock()
		w.row = row
		w.mu.Unlock()
	}, nil
}

func (w *work) stillRuns(tx store.ReadTx) error {
	row, err := readJob(tx, w.id)
	if err == nil && row.State != JobRunning {
		return errEnded
	}
	return err
}

// announce writes the entry of the job's end in the audit log, in the name of who began it.
func (w *work) announce(ctx context.Context, problem *Error) error {
	rec := w.v.record(Call{Principal: Principal{Service: w.row.Service}}, policy.Jobs)
	rec.item(nil, w.kind.name, "", "end "+w.id.String(), problem)
	_, err := rec.commit(ctx)
	return err
}

// run works and, where the work fails for good, says so in the row.
func (w *work) run(ctx context.Context) {
	err := w.kind.run(ctx, w)
	if err == nil {
		w.v.log.Info("a job is done", "job", w.id.String(), "kind", w.kind.name)
		return
	}
	if ctx.Err() != nil {
		return
	}
	var failure *Error
	if !errors.As(err, &failure) {
		failure = ErrInternal.because(err)
	}
	err = w.persist(ctx, func() error { return w.v.store.View(ctx, w.stillRuns) })
	if err == nil {
		w.v.log.Error("a job failed", "job", w.id.String(), "kind", w.kind.name, "err", failure, "cause", failure.Unwrap())
		err = w.fail(ctx, failure)
	}
	switch {
	case err == nil, ctx.Err() != nil:
	case errors.Is(err, errEnded):
		w.v.log.Info("the work on a job stops, for another has ended it", "job", w.id.String(), "kind", w.kind.name)
	default:
		w.v.log.Error("that a job failed cannot be stored; the next start tries it again", "job", w.id.String(), "err", err)
	}
}

func (w *work) fail(ctx context.Context, failure *Error) error {
	if err := w.persist(ctx, func() error { return w.announce(ctx, failure) }); err != nil {
		return err
	}
	return w.persist(ctx, func() error {
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
	case errors.Is(err, ErrAuditUnavailable):
		return ErrAuditUnavailable.saying("waiting for the audit log")
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrUnavailable):
		return ErrStoreUnavailable.saying("waiting for the store")
	}
	return nil
}

// bounded cuts a text of another part to what a person wants to read and a row can hold.
func bounded(text string) string {
	const limit = 600
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= limit {
		return text
	}
	end := limit
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + " …"
}
