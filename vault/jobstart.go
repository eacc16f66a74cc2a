package vault

import (
	"context"
	"strings"

	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

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

// StartJob begins a job and answers it as it begins. Of one kind one job runs at a time; one that undoes it may take its
// place.
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
	kind, known := v.jobKind(req.Kind)
	var r *replay
	var old *jobRow
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if _, refusal, err = v.admitIn(tx, rec, call, policy.Jobs); err != nil || refusal != nil {
			return err
		}
		if r, err = v.replayOf(tx, call); err != nil || r != nil && r.seen || !known {
			return err
		}
		old, err = inTheWay(tx, kind, req.Options)
		return err
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
	if !known {
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
	rec.item(nil, row.Kind, "", "start "+row.ID+" "+kind.about(row.Options), nil)
	if old != nil {
		rec.item(nil, old.Kind, "", "end "+old.ID, ErrConflict)
	}
	if _, err := rec.commit(ctx); err != nil {
		return Job{}, err
	}
	if err := v.launch(ctx, kind, r, id, row, begin, old); err != nil {
		return Job{}, err
	}
	return row.job(), nil
}

// inTheWay returns the running job whose place a new one takes, nil when none of its kind runs, and refuses a second one
// beside it.
func inTheWay(tx store.ReadTx, kind jobKind, options map[string]string) (old *jobRow, err error) {
	running, err := runningJobs(tx)
	if err != nil {
		return nil, err
	}
	for i := range running {
		if running[i].Kind != kind.name {
			continue
		}
		if !kind.replaces(options, running[i].Options) {
			return nil, ErrConflict.saying("a job of this kind is running: " + running[i].ID)
		}
		old = &running[i]
	}
	return old, nil
}

// launch stores a job and begins its work. The work of one whose place it takes has ended before, and goes on when the
// new one cannot be stored.
func (v *Vault) launch(ctx context.Context, kind jobKind, r *replay, id jobID, row jobRow, begin func(store.Tx) error, old *jobRow) error {
	// One at a time, so that the work of a job that is in the store has begun, and can be stopped.
	select {
	case v.jobs.starting <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-v.jobs.starting }()
	var stopped *work
	if old != nil {
		stopped = v.haltWork(old.ID)
	}
	if err := v.storeJob(ctx, kind, r, id, row, begin, old); err != nil {
		if stopped != nil {
			v.startWork(stopped.kind, stopped.id, stopped.row)
		}
		return err
	}
	v.startWork(kind, id, row)
	return nil
}

// storeJob writes the row of a job that begins, and the end of the one whose place it takes.
func (v *Vault) storeJob(ctx context.Context, kind jobKind, r *replay, id jobID, row jobRow, begin func(store.Tx) error, old *jobRow) error {
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
		now, err := inTheWay(tx, kind, row.Options)
		if err != nil {
			return err
		}
		if (now == nil) != (old == nil) || now != nil && now.ID != old.ID {
			return store.ErrConflict
		}
		if now != nil {
			now.end(JobFailed, v.now(), ErrConflict.saying("turned round by "+row.ID))
			if err := now.put(tx); err != nil {
				return err
			}
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
