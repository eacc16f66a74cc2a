package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

func (p *program) detokenizeCommand() *cobra.Command {
	var body wire.Detokenize
	c := &cobra.Command{
		Use:     "detokenize --purpose PURPOSE",
		Short:   "Print the values behind tokens",
		Long:    "Print the values behind tokens. Tokens come on standard input, one a line; outcomes in the same order.",
		Example: "  cloakroom detokenize --purpose service --reason 'order 77' < tokens.txt",
		Args:    onlyInput,
		RunE: func(c *cobra.Command, _ []string) error {
			if body.Purpose == "" {
				return usage("say why with --purpose; the purposes stand in the policy (cloakroom policy show)")
			}
			tokens, err := p.tokens()
			if err != nil {
				return err
			}
			cl, err := p.connect(appKey)
			if err != nil {
				return err
			}
			out, failed := inBatches(c.Context(), tokens, func(ctx context.Context, part []wire.Plain) ([]wire.Revealed, error) {
				body.Tokens = part
				return cl.Detokenize(ctx, body)
			})
			bad := 0
			t := newTable("TOKEN", "FIELD", "VALUE", "VIEW", "ERROR")
			for _, r := range out {
				var value string
				if r.Value != nil {
					value = string(*r.Value)
				}
				if r.Error != nil {
					bad++
				}
				t.add(string(r.Token), r.Field, value, r.View, describe(r.Error))
			}
			return p.outcomes(wire.Detokenized{Items: out}, t, bad, len(out), len(tokens), failed)
		},
	}
	f := c.Flags()
	f.StringVar(&body.Purpose, "purpose", "", "why the data are read")
	f.StringVar(&body.Reason, "reason", "", "the occasion, for the audit log: up to 256 bytes, never a value")
	f.StringVar(&body.View, "view", "", "masked or full; the most that is allowed by default")
	p.connects(c)
	return c
}

func (p *program) inspectCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect",
		Short: "Print field, audience, expiry and state of tokens; no value",
		Long:  "Print field, audience, expiry and state of tokens; no value. Tokens come on standard input, one a line.",
		Args:  onlyInput,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.tokenStates(c.Context(), func(ctx context.Context, cl *client.Client, part []wire.Plain) ([]wire.TokenState, error) {
				return cl.Inspect(ctx, part)
			})
		},
	}
	p.connects(c)
	return c
}

func (p *program) revokeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke",
		Short: "End tokens for good; the data stay",
		Long:  "End tokens for good; the data stay, and asking again mints new tokens. Tokens come on standard input, one a line.",
		Args:  onlyInput,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.tokenStates(c.Context(), func(ctx context.Context, cl *client.Client, part []wire.Plain) ([]wire.TokenState, error) {
				return cl.Revoke(ctx, part, client.IdempotencyKey(rand.Text()))
			})
		},
	}
	p.connects(c)
	return c
}

func (p *program) tokenStates(ctx context.Context, ask func(context.Context, *client.Client, []wire.Plain) ([]wire.TokenState, error)) error {
	tokens, err := p.tokens()
	if err != nil {
		return err
	}
	cl, err := p.connect(appKey)
	if err != nil {
		return err
	}
	out, failed := inBatches(ctx, tokens, func(ctx context.Context, part []wire.Plain) ([]wire.TokenState, error) {
		return ask(ctx, cl, part)
	})
	bad := 0
	t := newTable("TOKEN", "FIELD", "STATE", "AUDIENCE", "EXPIRES", "ERROR")
	for _, s := range out {
		var expires string
		if s.ExpiresAt != nil {
			expires = clock(*s.ExpiresAt)
		}
		if s.Error != nil {
			bad++
		}
		t.add(string(s.Token), s.Field, s.State, s.Audience, expires, describe(s.Error))
	}
	return p.outcomes(wire.TokenStates{Items: out}, t, bad, len(out), len(tokens), failed)
}

// outcomes prints what a batch gave and turns it into an exit code. failed is what stopped it before its end.
func (p *program) outcomes(answer any, t *table, bad, got, asked int, failed error) error {
	if failed != nil && got == 0 {
		return failed
	}
	if err := p.print(answer, func() *table { return t }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("stopped after %d of %d: %w", got, asked, failed)
	}
	return items(bad, got)
}

// inBatches calls do with as many inputs as the server takes at once. After an error it returns the outcomes so far.
func inBatches[In, Out any](ctx context.Context, in []In, do func(context.Context, []In) ([]Out, error)) ([]Out, error) {
	out := make([]Out, 0, len(in))
	for len(in) > 0 {
		n := min(len(in), client.MaxItems)
		part, err := do(ctx, in[:n])
		if err != nil {
			return out, err
		}
		if len(part) != n {
			return out, errors.New("the server answered another number of items than it was asked")
		}
		out = append(out, part...)
		in = in[n:]
	}
	return out, nil
}
