package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

func (p *program) tokenizeCommand() *cobra.Command {
	var one wire.TokenizeItem
	var field string
	var batch bool
	c := &cobra.Command{
		Use:   "tokenize --subject ID --field NAME[=@FILE]",
		Short: "Set a field and print its token, or many with --items",
		Long: `Set a field of a subject and print its token. The value comes from a prompt, standard input or a file.

With --items standard input holds one JSON object a line:
  {"subject":"u1","field":"phone","value":"138 0013 8000"}
with the members of POST /v1/tokenize (audience, ttl, single_use, format, source, authorization) where wanted. The
outcomes come back in the same order.`,
		Example: `  cloakroom tokenize --subject u1 --field phone
  cloakroom tokenize --items --json < customers.ndjson`,
		Args: onlyInput,
		RunE: func(c *cobra.Command, _ []string) error {
			if batch {
				if field != "" || one != (wire.TokenizeItem{}) {
					return usage("--items reads everything from standard input; it takes no other flag of an item")
				}
				return p.tokenizeItems(c.Context())
			}
			if one.Subject == "" || field == "" {
				return usage("tokenize needs --subject ID and --field NAME, or --items")
			}
			sources, err := parseFields([]string{field})
			if err != nil {
				return err
			}
			values, err := p.fieldValues(sources)
			if err != nil {
				return err
			}
			one.Field, one.Value = values[0].field, values[0].value
			return p.tokenizeOne(c.Context(), one)
		},
	}
	f := c.Flags()
	f.StringVar(&one.Subject, "subject", "", "the subject's `id`")
	f.StringVar(&field, "field", "", "`NAME` asks for the value or reads it from standard input, NAME=@FILE reads a file")
	f.StringVar(&one.Audience, "audience", "", "the `service` for which alone the token opens")
	f.StringVar(&one.TTL, "ttl", "", "how long the token opens, such as 24h")
	f.BoolVar(&one.SingleUse, "single-use", false, "the token opens once")
	f.StringVar(&one.Format, "format", "", "shape of the token (default opaque)")
	f.StringVar(&one.Source, "source", "", "where the value came from, when not from the person")
	f.StringVar(&one.Authorization, "authorization", "", "on what authority it came from there")
	f.BoolVar(&batch, "items", false, "read items from standard input, one JSON object a line")
	p.connects(c)
	return c
}

func (p *program) tokenizeOne(ctx context.Context, item wire.TokenizeItem) error {
	cl, err := p.connect(appKey)
	if err != nil {
		return err
	}
	out, err := tokenizeAll(ctx, cl, []wire.TokenizeItem{item})
	if err != nil {
		return err
	}
	if p.json {
		if err := p.printJSON(wire.Tokenized{Items: out}); err != nil {
			return err
		}
	}
	if e := out[0].Error; e != nil {
		return itemError{*e}
	}
	if p.json {
		return nil
	}
	if _, err := fmt.Fprintln(p.out, printable(string(out[0].Token))); err != nil {
		return err
	}
	for _, w := range out[0].Warnings {
		_, _ = fmt.Fprintf(p.err, "cloakroom: accepted with a doubt: field %s, rule %s\n", printable(w.Field), printable(w.Rule))
	}
	return nil
}

func (p *program) tokenizeItems(ctx context.Context) error {
	all, err := readItems(p.in)
	if err != nil {
		return err
	}
	cl, err := p.connect(appKey)
	if err != nil {
		return err
	}
	out, failed := tokenizeAll(ctx, cl, all)
	bad := 0
	t := newTable("ITEM", "TOKEN", "ERROR", "WARNING")
	for i, r := range out {
		if r.Error != nil {
			bad++
		}
		t.add(strconv.Itoa(i+1), string(r.Token), describe(r.Error), warnings(r.Warnings, ""))
	}
	return p.outcomes(wire.Tokenized{Items: out}, t, bad, len(out), len(all), failed)
}

// readItems reads one JSON object a line; unknown members are refused as the server would. Errors name the line only.
func readItems(r io.Reader) ([]wire.TokenizeItem, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxInput)
	var out []wire.TokenizeItem
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var item wire.TokenizeItem
		if err := json.Unmarshal(lines.Bytes(), &item, json.RejectUnknownMembers(true)); err != nil {
			return nil, usage(fmt.Sprintf("standard input, line %d: not an item; expected {\"subject\":...,\"field\":...,\"value\":...}", n))
		}
		out = append(out, item)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	if len(out) == 0 {
		return nil, usage("no item on standard input; give one JSON object a line")
	}
	return out, nil
}

// tokenizeAll sends batches that the server takes. After an error it returns the outcomes so far.
func tokenizeAll(ctx context.Context, cl *client.Client, all []wire.TokenizeItem) ([]wire.TokenizeResult, error) {
	out := make([]wire.TokenizeResult, 0, len(all))
	for len(all) > 0 {
		n, size := 0, 0
		for n < len(all) && n < client.MaxItems {
			// 512 bytes stand for the other members and the escapes of an ordinary value.
			size += 2*len(all[n].Value) + 512
			if n > 0 && size > maxInput {
				break
			}
			n++
		}
		part, err := cl.Tokenize(ctx, all[:n], client.IdempotencyKey(rand.Text()))
		if err != nil {
			return out, err
		}
		if len(part) != n {
			return out, errors.New("the server answered another number of items than it was asked")
		}
		out = append(out, part...)
		all = all[n:]
	}
	return out, nil
}

// describe is an item's error in words, "" for none.
func describe(e *wire.ItemError) string {
	if e == nil {
		return ""
	}
	s := string(e.Code)
	if e.Field != "" && e.Rule != "" {
		s += " (field " + e.Field + ", rule " + e.Rule + ")"
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}
