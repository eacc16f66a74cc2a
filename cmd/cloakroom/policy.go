package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the policy in force",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			policy, err := cl.Policy(c.Context())
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(policy)
			}
			// The text alone goes to standard output, so that it can be saved and edited.
			_, err = fmt.Fprintln(p.out, strings.TrimRight(policy.Policy, "\n"))
			return err
		},
	}
	p.connects(c)
	return group("policy", "The policy: who may see what, and why", c)
}
