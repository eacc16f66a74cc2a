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

The work belongs to the server: it goes on when this command is interrupted, and after a restart. Asking for the other
direction while it runs, or waits, turns it round.

Where no server runs, this command opens the data folder itself, and needs the settings of both key services. It also
does then what no server does: it moves keys away from a HashiCorp Vault where they are not safe any more, which it
warns of, and it ends a move to a key service that is lost before anybody's key has got there.

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
	list(ctx context.Context, page client.Page) (wire.JobList, error)
	keys(ctx context.Context) (wire.KeyStatus, error)
}

// move starts the job, or takes up the one that is at it already, and follows it. One in the other direction is turned
// round by the start.
func (p *program) move(ctx context.Context, at jobs, from, to string, after func(string) string) error {
	id, err := underWay(ctx, at, from, to)
	if err != nil {
		return err
	}
	if id == "" {
		id, err = at.start(ctx, wire.NewJob{Kind: vault.MoveKeys, Options: map[string]string{"from": from, "to": to}})
		if err != nil {
			return notStarted(ctx, at, to, err)
		}
	} else if !p.json {
		_, _ = fmt.Fprintf(p.err, "This move is under way: %s\n", id)
	}
	return p.watch(ctx, id, at.look, after)
}

// underWay finds the job of a move like this that runs; "" = none does. The state of the keys would tell it too, but not
// while a key service is away, which is when a move has to be turned round.
func underWay(ctx context.Context, at jobs, from, to string) (id string, err error) {
	err = pages(client.Page{}, true, func(page client.Page) (string, error) {
		part, err := at.list(ctx, page)
		for _, j := range part.Jobs {
			if j.Kind == vault.MoveKeys && j.State == vault.JobRunning && j.Options["from"] == from && j.Options["to"] == to {
				id = j.ID
			}
		}
		return part.NextCursor, err
	})
	return id, err
}

// notStarted adds to the refusal of who was not started with both key services that nothing is left to do, or how it is
// given both.
func notStarted(ctx context.Context, at jobs, to string, err error) error {
	if !strings.Contains(err.Error(), "not started with") {
		return err
	}
	if s, failed := at.keys(ctx); failed == nil && s.Move == nil && s.KMS == nameOf(to) {
		return fmt.Errorf("all keys are at %s already", keysAt(to))
	}
	return fmt.Errorf("%w; that is: cloakroom serve --kms local --vault-addr URL, and how to log in there", err)
}

// nameOf is what a key service calls itself, by the name that settings have for it.
func nameOf(service string) string {
	if service == settings.Transit {
		return installation.VaultTransit
	}
	return installation.LocalFile
}

// keysAt names a key service to people.
func keysAt(service string) string {
	if service == settings.Transit {
		return "HashiCorp Vault"
	}
	return "the keyring"
}

// serverJobs are those of a running server.
type serverJobs struct{ cl *client.Client }

func (s serverJobs) start(ctx context.Context, job wire.NewJob) (string, error) {
	started, err := s.cl.StartJob(ctx, job)
	return started.ID, err
}

func (s serverJobs) look(ctx context.Context, id string) (wire.Job, error) { return s.cl.Job(ctx, id) }

func (s serverJobs) list(ctx context.Context, page client.Page) (wire.JobList, error) {
	return s.cl.Jobs(ctx, page)
}

func (s serverJobs) keys(ctx context.Context) (wire.KeyStatus, error) { return s.cl.KeyStatus(ctx) }
