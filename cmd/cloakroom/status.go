package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

func (p *program) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell whether the server and its parts work; exit 1 when not",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			type status struct {
				Addr  string                `json:"addr"`
				Ready bool                  `json:"ready"`
				Parts map[string]wire.Check `json:"checks"`
				Keys  *wire.KeyStatus       `json:"keys,omitzero"`
				// NoKeys is why there are none: status also works for those who have no operator's key.
				NoKeys string `json:"no_keys,omitzero"`
			}
			p.conn.once = true
			anyone, err := p.dial("")
			if err != nil {
				return err
			}
			if err := anyone.Health(c.Context()); err != nil {
				return err
			}
			ready, err := anyone.Ready(c.Context())
			if err != nil {
				return err
			}
			out := status{Addr: anyone.Addr(), Ready: ready.Ready, Parts: ready.Checks}
			cl, err := p.connect(operatorKey)
			if err == nil {
				var keys wire.KeyStatus
				if keys, err = cl.KeyStatus(c.Context()); err == nil {
					out.Keys = &keys
				}
			}
			if err != nil {
				_, out.NoKeys = p.explain(err)
			}
			if err := p.print(out, func() *table {
				t := newTable("SERVER", out.Addr)
				t.add("ready", yes(out.Ready))
				for _, name := range slices.Sorted(maps.Keys(out.Parts)) {
					part := out.Parts[name]
					t.add(name, check(part))
				}
				if out.Keys == nil {
					t.add("keys", "not shown: "+out.NoKeys)
					return t
				}
				t.rows = append(t.rows, keyTable(*out.Keys).rows[1:]...)
				return t
			}); err != nil {
				return err
			}
			if !out.Ready {
				return quiet{}
			}
			return nil
		},
	}
	p.connects(c)
	return c
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

func check(c wire.Check) string {
	switch {
	case c.OK:
		return "ok"
	case c.Detail != "":
		return "FAILS: " + c.Detail
	default:
		return "FAILS"
	}
}
