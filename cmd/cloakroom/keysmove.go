package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (p *program) keysMove() *cobra.Command {
	var from, to string
	c := &cobra.Command{
		Use:   "move --from local --to transit",
		Short: "Move all keys between the keyring and HashiCorp Vault, while the server serves",
		Long: `Move all keys from the keyring to HashiCorp Vault, or back (--from transit --to local). Each person's key is unwrapped by
the one and wrapped by the other; values are not touched. The server goes on serving. It must have been started with
both key services:

  cloakroom serve --kms local --vault-addr URL ...

The work belongs to the server: it goes on when this command is interrupted, and after a restart. Where no server runs,
this command opens the data folder itself, and needs the settings of both key services.

Copies of the data from before the move still open with the old key service, as long as that exists.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !isKeyService(from) || !isKeyService(to) || from == to {
				return usage("say from where to where: --from local --to transit, or --from transit --to local")
			}
			s, err := p.keyServiceSettings(c)
			if err != nil {
				return err
			}
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			defer cl.Close()
			at := serverJobs{cl}
			err = cl.Health(c.Context())
			if errors.Is(err, client.ErrUnreachable) && c.Context().Err() == nil && here(cl.Addr()) {
				return p.moveHere(c.Context(), s, from, to)
			}
			if err != nil {
				return err
			}
			return p.move(c.Context(), at, from, to, seeAgain)
		},
	}
	c.Flags().StringVar(&from, "from", "", "the key `service` in use: local or transit")
	c.Flags().StringVar(&to, "to", "", "the `other`")
	p.connects(c)
	keyServiceFlags(c)
	return c
}

func isKeyService(name string) bool { return name == settings.Local || name == settings.Transit }

// here reports whether a server's URL is on this machine: only then is the data folder here the one that it serves.
func here(addr string) bool {
	u, err := url.Parse(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// jobs is who works: a server, or the vault of this process.
type jobs interface {
	start(ctx context.Context, job wire.NewJob) (id string, err error)
	look(ctx context.Context, id string) (wire.Job, error)
	// moving is the move that has begun and not ended, or nil.
	moving(ctx context.Context) (*wire.KeyMove, error)
}

// move starts the job, or takes up the one that is at it already, and follows it.
func (p *program) move(ctx context.Context, at jobs, from, to string, after func(string) string) error {
	id, err := underWay(ctx, at, from, to)
	if err != nil {
		return err
	}
	if id == "" {
		id, err = at.start(ctx, wire.NewJob{Kind: vault.MoveKeys, Options: map[string]string{"from": from, "to": to}})
		if err != nil {
			return withBoth(err)
		}
	} else if !p.json {
		_, _ = fmt.Fprintf(p.err, "This move is under way: %s\n", id)
	}
	return p.watch(ctx, id, at.look, after)
}

// underWay finds the job of a move like this that runs; "" = none does.
func underWay(ctx context.Context, at jobs, from, to string) (string, error) {
	m, err := at.moving(ctx)
	if err != nil || m == nil || m.From != from || m.To != to {
		return "", err
	}
	j, err := at.look(ctx, m.Job)
	if err != nil || j.State != vault.JobRunning {
		return "", err
	}
	return m.Job, nil
}

// withBoth adds how a server is given both key services to the refusal of one that was not.
func withBoth(err error) error {
	if strings.Contains(err.Error(), "not started with") {
		return fmt.Errorf("%w; that is: cloakroom serve --kms local --vault-addr URL, and how to log in there", err)
	}
	return err
}

// serverJobs are those of a running server.
type serverJobs struct{ cl *client.Client }

func (s serverJobs) start(ctx context.Context, job wire.NewJob) (string, error) {
	started, err := s.cl.StartJob(ctx, job)
	return started.ID, err
}

func (s serverJobs) look(ctx context.Context, id string) (wire.Job, error) { return s.cl.Job(ctx, id) }

func (s serverJobs) moving(ctx context.Context) (*wire.KeyMove, error) {
	status, err := s.cl.KeyStatus(ctx)
	return status.Move, err
}

// moveHere does the work in this process, as the server would.
func (p *program) moveHere(ctx context.Context, s settings.Settings, from, to string) (err error) {
	paths, err := installation.PathsOf(s.Data)
	if err != nil {
		return err
	}
	if _, err := installation.UsesOf(ctx, paths); err != nil {
		return fmt.Errorf("no server answers at %s, and the data folder cannot be opened here: %w", p.conn.address(p.lookup), err)
	}
	if !s.Vault.Given() {
		return fmt.Errorf("no server answers at %s; to move the keys without one, give the settings for HashiCorp Vault too (--vault-addr and how to log in)", p.conn.address(p.lookup))
	}
	if err := harden(); err != nil {
		return fmt.Errorf("protecting the process: %w", err)
	}
	s.KMS = settings.Local // with Vault's settings beside it: both
	inst, err := p.open(ctx, s, true, newLogger(p.err, s))
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
	if err != nil {
		return wire.Job{}, err
	}
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
	return out, nil
}

func (o ownJobs) moving(ctx context.Context) (*wire.KeyMove, error) {
	status, err := o.v.KeyStatus(ctx, o.call)
	if err != nil || status.Move == nil {
		return nil, err
	}
	return &wire.KeyMove{Job: status.Move.Job, From: status.Move.From, To: status.Move.To}, nil
}
