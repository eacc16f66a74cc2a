package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/sample"
)

func (p *program) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "See what Cloakroom does: 1,000 invented customers, nothing to install",
		Long: `Start a server in a temporary folder, hand it 1,000 invented customers, and show who then sees what, what erasing one
of them means, and how to check it. It uses no network beyond this machine and leaves nothing behind.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := harden(); err != nil {
				return fmt.Errorf("protecting the process: %w", err)
			}
			return p.demo(c.Context(), keep)
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep the folder, to look around or to serve it")
	return c
}

// demonstration is what the steps of the demo share, and with --json what is printed in the end.
type demonstration struct {
	p         *program
	step      int
	paths     installation.Paths
	customers []sample.Customer
	tokens    []map[string]string // by customer, by field

	app, officer, operator, support *client.Client

	stop func() error // the server

	certificate []byte
	result      demoResult
}

// demoResult is printed with --json. Times are milliseconds.
type demoResult struct {
	Folder            string  `json:"folder,omitzero"` // with --keep
	Customers         int     `json:"customers"`
	Tokens            int     `json:"tokens"`
	Warnings          int     `json:"warnings"`
	StartMS           float64 `json:"start_ms"`
	TokenizeMS        float64 `json:"tokenize_ms"`
	DetokenizeMS      float64 `json:"detokenize_100_ms"`
	EraseMS           float64 `json:"erase_ms"`
	Refused           string  `json:"refused"`         // code for a view beyond the role
	RefusedPurpose    string  `json:"refused_purpose"` // code for a purpose beyond the role
	ErasedToken       string  `json:"erased_token"`    // code for an old token
	ErasedSubject     string  `json:"erased_subject"`  // code for reading the person
	Erasure           string  `json:"erasure"`
	AuditEntries      uint64  `json:"audit_entries"`
	FilesSearched     int     `json:"files_searched"`
	BytesSearched     int64   `json:"bytes_searched"`
	PlaintextsFound   int     `json:"plaintexts_found"`
	TotalMilliseconds float64 `json:"total_ms"`
}

func (p *program) demo(ctx context.Context, keep bool) (err error) {
	began := time.Now()
	customers, err := sample.Customers()
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "cloakroom-demo-")
	if err != nil {
		return err
	}
	if !keep {
		defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	}
	d := &demonstration{p: p, customers: customers}
	defer func() {
		if d.stop != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	for _, step := range []func(context.Context, string) error{
		d.start, d.tokenize, d.othersSee, d.authorised, d.refused, d.erase, d.verify, d.search,
	} {
		if err := step(ctx, filepath.Join(root, "data")); err != nil {
			return fmt.Errorf("demo, step %d: %w", d.step, err)
		}
	}
	d.result.TotalMilliseconds = ms(began)
	if keep {
		d.result.Folder = d.paths.Data
	}
	if p.json {
		return p.printJSON(d.result)
	}
	d.say("")
	d.say("Done in %.1f s: start %.0f ms, %d customers %.0f ms, 100 values %.0f ms,\nerasure %.0f ms.",
		d.result.TotalMilliseconds/1000, d.result.StartMS, len(customers), d.result.TokenizeMS, d.result.DetokenizeMS, d.result.EraseMS)
	if keep {
		d.say("The folder stays. Serve it with:\n  cloakroom serve --data %s", shell.Quote(d.paths.Data))
	} else {
		d.say("Next: cloakroom serve")
	}
	return nil
}

// say prints a line of the story; with --json there is none.
func (d *demonstration) say(format string, args ...any) {
	if !d.p.json {
		_, _ = fmt.Fprintf(d.p.out, format+"\n", args...)
	}
}

// title begins a step.
func (d *demonstration) title(text string) {
	d.step++
	if d.step > 1 {
		d.say("")
	}
	d.say("%d. %s", d.step, text)
}

func (d *demonstration) show(t *table) error {
	if d.p.json {
		return nil
	}
	for i, r := range t.rows {
		t.rows[i] = append([]string{"  " + r[0]}, r[1:]...)
	}
	return t.write(d.p.out)
}

func ms(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// start begins an installation and serves it on a free port, as cloakroom serve would.
func (d *demonstration) start(ctx context.Context, dir string) error {
	d.title("A server starts in an empty folder.")
	began := time.Now()
	quietLog := slog.New(slog.DiscardHandler)
	inst, err := installation.Open(ctx, installation.Options{Data: dir, Now: d.p.now, Logger: quietLog})
	if err != nil {
		return err
	}
	d.paths = inst.Paths
	l, err := listen(ctx, "127.0.0.1:0", false)
	if err != nil {
		return errors.Join(err, inst.Close())
	}
	// The end of the demo stops the server in order, also when it is interrupted.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		handler := api.New(api.Config{Vault: inst.Vault, Logger: quietLog})
		ended <- serveUntil(serving, inst.Failed(), l, api.NewServer(handler, quietLog), nil)
	}()
	d.stop = func() error {
		end()
		d.stop = nil
		for _, c := range []*client.Client{d.app, d.officer, d.operator, d.support} {
			if c != nil {
				c.Close()
			}
		}
		return errors.Join(<-ended, inst.Close())
	}
	url := "http://" + l.Addr().String()
	for name, into := range map[string]**client.Client{appKey: &d.app, officerKey: &d.officer, operatorKey: &d.operator} {
		key, err := readKey(d.paths.Credential(name))
		if err != nil {
			return err
		}
		if *into, err = client.New(client.Options{Addr: url, Key: key}); err != nil {
			return err
		}
	}
	if err := d.app.Health(ctx); err != nil {
		return err
	}
	made, err := d.operator.AddService(ctx, "desk", "support")
	if err != nil {
		return err
	}
	if d.support, err = client.New(client.Options{Addr: url, Key: made.Key}); err != nil {
		return err
	}
	d.result.StartMS = ms(began)
	d.say("   It made a store, keys, a policy, an audit log and three credentials. It talks\n   HTTP at %s, to this machine only.", url)
	return nil
}
