package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (p *program) jobCommand() *cobra.Command {
	return group("job", "Start, watch and list work that goes on at the server", p.jobStart(), p.jobWatch(), p.jobList())
}

func (p *program) jobStart() *cobra.Command {
	var options []string
	c := &cobra.Command{
		Use:     "start KIND",
		Short:   "Start a job and print its id",
		Example: "  cloakroom job start move-keys --option from=local --option to=transit",
		Args:    exactly("KIND"),
		RunE: func(c *cobra.Command, args []string) error {
			job := wire.NewJob{Kind: args[0]}
			for _, o := range options {
				name, value, ok := strings.Cut(o, "=")
				if _, twice := job.Options[name]; !ok || name == "" || twice {
					return usage("--option is name=value, each name once")
				}
				if job.Options == nil {
					job.Options = map[string]string{}
				}
				job.Options[name] = value
			}
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			started, err := cl.StartJob(c.Context(), job)
			if err != nil {
				return err
			}
			return p.print(started, func() *table {
				t := newTable("JOB", "KIND", "STATE")
				t.add(started.ID, started.Kind, started.State)
				return t
			})
		},
	}
	c.Flags().StringArrayVar(&options, "option", nil, "`name=value`, as the kind wants them; may be given several times")
	p.connects(c)
	return c
}

func (p *program) jobWatch() *cobra.Command {
	c := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a job until it ends; exit 1 when it failed",
		Args:  exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			return p.watch(c.Context(), args[0], func(ctx context.Context, id string) (wire.Job, error) { return cl.Job(ctx, id) }, seeAgain)
		},
	}
	p.connects(c)
	return c
}

func (p *program) jobList() *cobra.Command {
	return listing[wire.JobList]{
		key: operatorKey,
		get: func(ctx context.Context, cl *client.Client, page client.Page) (wire.JobList, error) {
			return cl.Jobs(ctx, page)
		},
		join: func(all *wire.JobList, part wire.JobList) string {
			all.Jobs, all.NextCursor = append(all.Jobs, part.Jobs...), part.NextCursor
			return part.NextCursor
		},
		table: jobTable,
	}.command(p, &cobra.Command{Use: "list", Short: "List jobs, newest first"})
}

func jobTable(all wire.JobList) (*table, error) {
	t := newTable("JOB", "KIND", "STATE", "DONE", "BEGAN", "ENDED", "BY", "PROBLEM")
	for _, j := range all.Jobs {
		ended := ""
		if j.FinishedAt != nil {
			ended = clock(*j.FinishedAt)
		}
		t.add(j.ID, j.Kind, j.State, howFar(j), clock(j.CreatedAt), ended, j.Service, oneLine(describe(j.Error)))
	}
	return t, nil
}

func howFar(j wire.Job) string {
	return strconv.FormatUint(j.Done, 10) + " of " + strconv.FormatUint(j.Total, 10)
}

// lookEvery is how often a job is asked how it goes.
const lookEvery = 300 * time.Millisecond

// seeAgain says how to follow a job that goes on at the server.
func seeAgain(id string) string {
	return "the job goes on at the server; look again with: cloakroom job watch " + id
}

// leftError: a command ended before its job, which goes on.
type leftError struct{ text string }

func (e leftError) Error() string { return e.text }

// watch follows a job to its end and prints it. A bar shows how far it is; what it waits for is said when it begins to
// wait. after is what to tell whoever interrupts.
func (p *program) watch(ctx context.Context, id string, look func(context.Context, string) (wire.Job, error), after func(id string) string) error {
	bar := p.progress(1, "   people")
	defer func() { _ = bar.Finish() }()
	waiting := false
	for {
		j, err := look(ctx, id)
		switch {
		case ctx.Err() != nil:
			return leftError{"interrupted; " + after(id)}
		case err != nil:
			return err
		case j.State != vault.JobRunning:
			_ = bar.Finish()
			return p.ended(j)
		}
		p.showProgress(bar, j, !waiting)
		waiting = j.Error != nil
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return leftError{"interrupted; " + after(id)}
		case <-timer.C:
		}
	}
}

func (p *program) showProgress(bar *progressbar.ProgressBar, j wire.Job, tell bool) {
	bar.ChangeMax64(int64(max(j.Total, 1)))
	_ = bar.Set64(int64(j.Done))
	if j.Error != nil && tell {
		_ = bar.Clear()
		_, _ = fmt.Fprintln(p.err, oneLine(describe(j.Error)))
	}
}

// ended prints a job that came to its end; one that failed is an error too.
func (p *program) ended(j wire.Job) error {
	if err := p.print(j, func() *table {
		t := newTable("JOB", j.ID)
		t.add("kind", j.Kind)
		t.add("state", j.State)
		t.add("done", howFar(j))
		t.add("began", clock(j.CreatedAt))
		if j.FinishedAt != nil {
			t.add("ended", clock(*j.FinishedAt))
		}
		return t
	}); err != nil {
		return err
	}
	if j.State == vault.JobDone {
		return nil
	}
	if j.Error != nil {
		return itemError{*j.Error}
	}
	return errors.New("the job did not come to its end: its state is " + printable(j.State))
}
