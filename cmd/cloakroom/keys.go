package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

func (p *program) keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Print the state of the key hierarchy",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			s, err := cl.KeyStatus(c.Context())
			if err != nil {
				return err
			}
			return p.print(s, func() *table { return keyTable(s) })
		},
	}
	p.connects(c)
	return group("keys", "State of the keys, and moving them to another key service", c, p.keysMove())
}

func keyTable(s wire.KeyStatus) *table {
	t := newTable("KEYS", "")
	t.add("instance", s.Instance)
	t.add("key service", s.KMS)
	if s.Move != nil {
		t.add("move", fmt.Sprintf("from %s to %s under way, or to be started again: %s", s.Move.From, s.Move.To, s.Move.Job))
	}
	t.add("epoch", strconv.FormatUint(s.Epoch, 10))
	t.add("root key version", fmt.Sprintf("%d in use, %d newest", s.RootVersion, s.RootLatest))
	t.add("data key version", fmt.Sprintf("%d newest", s.DEKLatest))
	t.add("buckets", fmt.Sprintf("%d, %d of them hold something erased", s.Buckets, s.DirtyBuckets))
	t.add("index partitions", fmt.Sprintf("%d, %d of them hold something erased", s.Partitions, s.DirtyPartitions))
	last := "never"
	if s.LastClose != nil {
		last = clock(*s.LastClose)
	}
	t.add("last close", last)
	t.add("keys in memory", strconv.Itoa(s.CachedKeys))
	return t
}
