package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
)

// moveHere does the work in this process, as the server would, and what no server does: it leaves keys that are not safe,
// and gives up a move whose target is lost.
func (p *program) moveHere(ctx context.Context, s settings.Settings, from, to string) (err error) {
	paths, err := installation.PathsOf(s.Data)
	if err != nil {
		return err
	}
	uses, err := installation.UsesOf(ctx, paths)
	if err != nil {
		return fmt.Errorf("no server answers at %s, and the data folder cannot be opened here: %w", p.conn.address(p.lookup), err)
	}
	// Back to the keyring, from a Vault that is lost, the keyring is enough.
	if !s.Vault.Given() && (uses != installation.LocalFile || to != settings.Local) {
		return fmt.Errorf("no server answers at %s; to move the keys without one, give the settings for HashiCorp Vault too (--vault-addr and how to log in)", p.conn.address(p.lookup))
	}
	if err := harden(); err != nil {
		return fmt.Errorf("protecting the process: %w", err)
	}
	// With Vault's settings beside it this means both. Without it no keyring is made where none is wanted.
	if s.KMS = ""; to == settings.Local {
		s.KMS = settings.Local
	}
	o, err := p.options(s, newLogger(p.err, s))
	if err != nil {
		return err
	}
	defer o.Passphrase.Wipe()
	o.Operator, o.Leaving = true, from == settings.Transit
	inst, err := installation.Open(ctx, o)
	if err != nil && uses == nameOf(to) && ctx.Err() == nil {
		return p.giveUp(ctx, o, from, to, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inst.Close()) }()
	key, err := p.conn.key(p.lookup, operatorKey)
	if err != nil {
		return err
	}
	who, err := inst.Vault.Authenticate(ctx, secret.NewText(string(key)))
	if err != nil {
		return err
	}
	at := ownJobs{inst.Vault, vault.Call{Principal: who, RequestID: "keys-move"}}
	return p.move(ctx, at, from, to, func(string) string {
		return "what has moved stays moved; to go on, run this again, or start the server with the settings of both key services"
	})
}

// giveUp ends a move that has lost one of its key services, where the other, which the keys are to be at, has all of them.
// why is what stood in the way of a start with both.
func (p *program) giveUp(ctx context.Context, o installation.Options, from, to string, why error) error {
	err := installation.AbandonMove(ctx, o)
	switch {
	case errors.Is(err, vault.ErrMoved), errors.Is(why, vault.ErrOtherService) && err != nil && !errors.Is(err, vault.ErrNoMove):
		return fmt.Errorf("%w; %w", why, err)
	case err != nil:
		return why
	}
	type givenUp struct {
		EndedWithout string `json:"ended_without"`
		KeysAt       string `json:"keys_at"`
	}
	return p.print(givenUp{from, to}, func() *table {
		t := newTable("MOVE", "ended without "+keysAt(from))
		t.add("keys", "all at "+keysAt(to)+"; "+keysAt(from)+" is no longer needed")
		return t
	})
}

// ownJobs are those of a vault in this process.
type ownJobs struct {
	v    *vault.Vault
	call vault.Call
}

func (o ownJobs) start(ctx context.Context, job wire.NewJob) (string, error) {
	j, err := o.v.StartJob(ctx, o.call, vault.JobRequest{Kind: job.Kind, Options: job.Options})
	return j.ID, err
}

func (o ownJobs) look(ctx context.Context, id string) (wire.Job, error) {
	j, err := o.v.Job(ctx, o.call, id)
	return onWire(j), err
}

func (o ownJobs) list(ctx context.Context, page client.Page) (wire.JobList, error) {
	found, next, err := o.v.Jobs(ctx, o.call, vault.Page{Limit: page.Limit, Cursor: page.Cursor})
	out := wire.JobList{NextCursor: next}
	for _, j := range found {
		out.Jobs = append(out.Jobs, onWire(j))
	}
	return out, err
}

func (o ownJobs) keys(ctx context.Context) (wire.KeyStatus, error) {
	s, err := o.v.KeyStatus(ctx, o.call)
	out := wire.KeyStatus{KMS: s.KMS}
	if s.Move != nil {
		out.Move = &wire.KeyMove{Job: s.Move.Job, From: s.Move.From, To: s.Move.To}
	}
	return out, err
}

// onWire is a job as a server would answer it.
func onWire(j vault.Job) wire.Job {
	out := wire.Job{
		ID: j.ID, Kind: j.Kind, State: j.State, Options: j.Options, Done: j.Done, Total: j.Total, Rate: j.Rate,
		Service: j.Service, CreatedAt: j.Created, UpdatedAt: j.Updated,
	}
	if j.ETA > 0 {
		left := j.ETA.Seconds()
		out.ETA = &left
	}
	if j.Err != nil {
		out.Error = &wire.ItemError{Code: wire.Code(j.Err.Code), Detail: j.Err.Detail}
	}
	if !j.Finished.IsZero() {
		out.FinishedAt = &j.Finished
	}
	return out
}
