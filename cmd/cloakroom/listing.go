package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/client"
)

// listing is what a command that prints a list needs to know of it. L is the list as a server answers it: a page, or
// with --all every page put together.
type listing[L any] struct {
	key   string // the credential that may read it
	get   func(ctx context.Context, cl *client.Client, page client.Page) (L, error)
	join  func(all *L, part L) (next string) // appends a page and answers where the list goes on
	table func(L) (*table, error)
}

// command completes c, which has its name and help.
func (l listing[L]) command(p *program, c *cobra.Command) *cobra.Command {
	var page client.Page
	var all bool
	c.Args = noArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := p.connect(l.key)
		if err != nil {
			return err
		}
		var out L
		var next string
		err = pages(page, all, func(page client.Page) (string, error) {
			part, err := l.get(c.Context(), cl, page)
			next = l.join(&out, part)
			return next, err
		})
		if err != nil {
			return err
		}
		t, err := l.table(out)
		if err != nil {
			return err
		}
		if err := p.print(out, func() *table { return t }); err != nil {
			return err
		}
		p.more(next)
		return nil
	}
	pageFlags(c, &page, &all)
	p.connects(c)
	return c
}

func pageFlags(c *cobra.Command, page *client.Page, all *bool) {
	c.Flags().IntVar(&page.Limit, "limit", 0, "how many, 1 to 1000 (default 100)")
	c.Flags().StringVar(&page.Cursor, "cursor", "", "go on behind the list that ended with this cursor")
	c.Flags().BoolVar(all, "all", false, "all of them, however many")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if c.Flags().Changed("limit") && (page.Limit < 1 || page.Limit > client.MaxItems) {
			return usage(fmt.Sprintf("--limit is 1 to %d", client.MaxItems))
		}
		return nil
	}
}

// pages calls get once, or with all until there is no next page.
func pages(page client.Page, all bool, get func(client.Page) (next string, err error)) error {
	if all && page.Limit == 0 {
		page.Limit = client.MaxItems
	}
	for {
		next, err := get(page)
		if err != nil || next == "" || !all {
			return err
		}
		if next == page.Cursor {
			return errors.New("the server's list does not come to an end")
		}
		page.Cursor = next
	}
}

// more tells where a list goes on. JSON has it as a member.
func (p *program) more(cursor string) {
	if cursor != "" && !p.json {
		_, _ = fmt.Fprintf(p.err, "There are more: --cursor %s, or --all\n", printable(cursor))
	}
}
