package vault

import (
	"context"
	"errors"
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
	Err      *Error // running: what it waits for; failed: why; done: what it had to leave; nil: nothing
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
	// replaces tells whether a job takes the place of one that runs, by the options of both.
	replaces func(options, running map[string]string) bool
	// about is what the audit log says of the options, in a few ASCII words.
	about func(options map[string]string) string
	// run works until the end and stores it. An error fails the job, unless ctx has ended: then the next start goes on.
	run func(ctx context.Context, w *work) error
}

func (v *Vault) jobKinds() []jobKind {
	return []jobKind{{MoveKeys, v.prepareMove, turnsRound, aboutMove, v.runMove}}
}

func (v *Vault) jobKind(name string) (jobKind, bool) {
	for _, k := range v.jobKinds() {
		if k.name == name {
			return k, true
		}
	}
	return jobKind{}, false
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
		row, err := readJob(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return errNoJob
		}
		out = row.job()
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
