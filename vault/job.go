package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Job is work that goes on after the call that began it, over a stop of the server too.
type Job struct {
	ID, Kind string
	State    string // one of JobStates
	Options  map[string]string
	Done     uint64  // of Total, in the unit of the kind
	Total    uint64  // 0: not known yet
	Rate     float64 // of Done, per second; 0 unless it runs here
	ETA      time.Duration
	Err      *Error // running: what it waits for; failed: why; else nil
	Service  string // who began it
	Created  time.Time
	Updated  time.Time // when its row was written last
	Finished time.Time // zero while it runs
}

// The states of a job.
const (
	JobRunning = "running"
	JobDone    = "done"
	JobFailed  = "failed"
)

// JobStates lists the states there are.
func JobStates() []string { return []string{JobRunning, JobDone, JobFailed} }

// JobRequest asks for a job.
type JobRequest struct {
	Kind    string
	Options map[string]string
}

// jobKind is one sort of work.
type jobKind struct {
	name string
	// prepare holds the options to what stands, and returns what the transaction that begins the job writes beside its
	// row. It may ask the key services.
	prepare func(ctx context.Context, id jobID, options map[string]string) (begin func(store.Tx) error, err error)
	// run works until the end and stores it. An *Error fails the job, any other error leaves it to the next start.
	run func(ctx context.Context, w *work) error
}

func (v *Vault) jobKinds() []jobKind {
	return []jobKind{{MoveKeys, v.prepareMove, v.runMove}}
}

func (v *Vault) jobKind(name string) (jobKind, bool) {
	for _, k := range v.jobKinds() {
		if k.name == name {
			return k, true
		}
	}
	return jobKind{}, false
}

// Limits of a job's options.
const (
	maxJobOptions = 16
	maxJobOption  = 256 // bytes of a name or a value
)

func (r *JobRequest) check() *Error {
	if len(r.Options) > maxJobOptions {
		return ErrMalformed.saying("a job has at most 16 options")
	}
	for name, value := range r.Options {
		if len(name) > maxJobOption || len(value) > maxJobOption || !printable(name) || !printable(value) {
			return ErrMalformed.saying("an option of a job is up to 256 bytes of text without control characters")
		}
	}
	return nil
}

// StartJob begins a job and answers it as it begins. Of one kind one job runs at a time.
func (v *Vault) StartJob(ctx context.Context, call Call, req JobRequest) (out Job, err error) {
	if err := req.check(); err != nil {
		return Job{}, err
	}
	err = attempt(ctx, func() (err error) {
		out, err = v.tryStartJob(ctx, call, req)
		return err
	})
	return out, err
}

func (v *Vault) tryStartJob(ctx context.Context, call Call, req JobRequest) (Job, error) {
	rec := v.record(call, policy.Jobs)
	var r *replay
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if _, refusal, err = v.admitIn(tx, rec, call, policy.Jobs); err != nil || refusal != nil {
			return err
		}
		if r, err = v.replayOf(tx, call); err != nil || r != nil && r.seen {
			return err
		}
		return alone(tx, req.Kind)
	})
	if err != nil {
		return Job{}, rec.fail(ctx, err)
	}
	if refusal != nil {
		return Job{}, rec.refuse(ctx, refusal)
	}
	if r != nil && r.seen {
		if len(r.pointers) != len(jobID{}) {
			return Job{}, ErrCorrupt
		}
		return v.readJob(ctx, rec, jobID(r.pointers))
	}
	kind, ok := v.jobKind(req.Kind)
	if !ok {
		return Job{}, rec.fail(ctx, v.unknownKind())
	}
	id, err := newJobID(v.random, v.now())
	if err != nil {
		return Job{}, err
	}
	begin, err := kind.prepare(ctx, id, req.Options)
	if err != nil {
		return Job{}, rec.fail(ctx, err)
	}
	now := millis(v.now())
	row := jobRow{ID: id.String(), Kind: kind.name, State: JobRunning, Options: req.Options, Service: call.Principal.Service, Created: now, Updated: now}
	rec.item(nil, row.Kind, "", "start "+row.ID, nil)
	if _, err := rec.commit(ctx); err != nil {
		return Job{}, err
	}
	if err := v.storeJob(ctx, r, id, row, begin); err != nil {
		return Job{}, err
	}
	v.startWork(kind, id, row)
	return row.job(), nil
}

// alone refuses a second job of a kind beside one that runs.
func alone(tx store.ReadTx, kind string) error {
	running, err := runningJobs(tx)
	if err != nil {
		return err
	}
	for _, other := range running {
		if other.Kind == kind {
			return ErrConflict.saying("a job of this kind is running: " + other.ID)
		}
	}
	return nil
}

// storeJob writes the row of a job that begins.
func (v *Vault) storeJob(ctx context.Context, r *replay, id jobID, row jobRow, begin func(store.Tx) error) error {
	text, err := row.marshal()
	if err != nil {
		return err
	}
	var memory []byte
	if r != nil {
		if memory, err = v.sealReplay(r, id[:]); err != nil {
			return err
		}
	}
	return v.store.Update(ctx, func(tx store.Tx) error {
		if memory != nil { // first: a repeated request is told its job, not that there is one
			if err := v.remember(tx, r, memory); err != nil {
				return err
			}
		}
		if err := alone(tx, row.Kind); err != nil {
			return err
		}
		if err := begin(tx); err != nil {
			return err
		}
		return tx.Create(store.Jobs, jobKey(id), text)
	})
}

func (v *Vault) unknownKind() *Error {
	var names []string
	for _, k := range v.jobKinds() {
		names = append(names, k.name)
	}
	return ErrMalformed.saying("there is no such kind of job; there is " + strings.Join(names, ", "))
}

// Job tells how a job is.
func (v *Vault) Job(ctx context.Context, call Call, id string) (Job, error) {
	rec := v.record(call, policy.Jobs)
	if _, err := v.admit(ctx, rec, call, policy.Jobs); err != nil {
		return Job{}, err
	}
	parsed, ok := parseJobID(id)
	if !ok {
		return Job{}, rec.refuse(ctx, errNoJob)
	}
	return v.readJob(ctx, rec, parsed)
}

var errNoJob = ErrNotFound.saying("there is no job with that id")

// readJob is the end of a call that answers one job.
func (v *Vault) readJob(ctx context.Context, rec *record, id jobID) (out Job, err error) {
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		row, err := tx.Get(store.Jobs, jobKey(id))
		if errors.Is(err, store.ErrNotFound) {
			return errNoJob
		}
		if err != nil {
			return err
		}
		r, err := parseJob(id, row)
		out = r.job()
		return err
	})
	if err != nil {
		return Job{}, storeError(rec.fail(ctx, err))
	}
	if _, err := rec.commit(ctx); err != nil {
		return Job{}, err
	}
	return v.jobs.asItIs(out), nil
}

// Jobs lists jobs, newest first.
func (v *Vault) Jobs(ctx context.Context, call Call, page Page) (out []Job, next string, err error) {
	rec := v.record(call, policy.Jobs)
	if _, err := v.admit(ctx, rec, call, policy.Jobs); err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	var before jobID
	if page.Cursor != "" {
		var ok bool
		if before, ok = parseJobID(page.Cursor); !ok {
			return nil, "", errCursor
		}
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, "", err
	}
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		out, next = nil, ""
		// Rows come oldest first, and there are few: the last ones are kept.
		last := make([]jobRow, 0, limit+1)
		err := scanJobs(tx, before, func(id jobID, row []byte) error {
			r, err := parseJob(id, row)
			if err != nil {
				return err
			}
			if len(last) == limit+1 {
				copy(last, last[1:])
				last = last[:limit]
			}
			last = append(last, r)
			return nil
		})
		if err != nil {
			return err
		}
		for i := len(last) - 1; i >= 0 && len(out) < limit; i-- {
			out = append(out, v.jobs.asItIs(last[i].job()))
		}
		if len(last) > limit {
			next = out[limit-1].ID
		}
		return nil
	})
	return out, next, storeError(err)
}
