package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
)

func (p *program) serviceCommand() *cobra.Command {
	return group("service", "Add, list and disable callers", p.serviceAdd(), p.serviceAddKey(), p.serviceList(), p.serviceDisable())
}

func (p *program) serviceAdd() *cobra.Command {
	var role string
	var save bool
	c := &cobra.Command{
		Use:     "add NAME --role ROLE",
		Short:   "Add a caller and print its key, this once",
		Example: "  cloakroom service add desk --role support --save    # then: --as desk",
		Args:    exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if role == "" {
				return usage("say what it may do with --role; the roles stand in the policy (cloakroom policy show)")
			}
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			return p.handOver(args[0], save, func() (wire.ServiceKey, error) { return cl.AddService(c.Context(), args[0], role) })
		},
	}
	c.Flags().StringVar(&role, "role", "", "a role of the policy: app, support, officer, operator, ...")
	saveFlag(c, &save)
	p.connects(c)
	return c
}

func (p *program) serviceAddKey() *cobra.Command {
	var save bool
	c := &cobra.Command{
		Use:   "add-key NAME",
		Short: "Make another key for a caller and print it, this once",
		Long: `Make another key for a caller and print it, this once. To replace a key: add one, bring it to the caller, then
disable the old one (cloakroom service disable NAME --key ID).`,
		Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			return p.handOver(args[0], save, func() (wire.ServiceKey, error) { return cl.AddKey(c.Context(), args[0]) })
		},
	}
	saveFlag(c, &save)
	p.connects(c)
	return c
}

func saveFlag(c *cobra.Command, save *bool) {
	c.Flags().BoolVar(save, "save", false, "write the key to DATA/NAME.key (0600) instead of printing it")
}

// handOver makes a key and prints or saves it. The file is made first: a key that cannot be kept should not be made.
func (p *program) handOver(name string, save bool, make func() (wire.ServiceKey, error)) error {
	if !save {
		key, err := make()
		if err != nil {
			return err
		}
		return p.print(key, func() *table {
			t := newTable("NAME", "ROLE", "ID", "KEY (shown this once)")
			t.add(key.Name, key.Role, key.ID, string(key.Key))
			return t
		})
	}
	if !settings.KeyName(name) {
		return usage("--save needs a name that can be a file's: letters, digits, . _ -")
	}
	path := filepath.Join(p.conn.folder(p.lookup), name+".key")
	file, err := makeNew(path, 0o600)
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	key, err := make()
	if err != nil {
		return errors.Join(err, file.drop())
	}
	if err := file.keep([]byte(key.Key)); err != nil {
		return fmt.Errorf("the key %s of %s was made but not saved (%w); disable it: cloakroom service disable %s --key %s", key.ID, key.Name, err, key.Name, key.ID)
	}
	key.Key = ""
	type saved struct {
		Name string `json:"name"`
		Role string `json:"role"`
		ID   string `json:"id"`
		File string `json:"file"`
	}
	return p.print(saved{key.Name, key.Role, key.ID, path}, func() *table {
		t := newTable("NAME", "ROLE", "ID", "KEY FILE")
		t.add(key.Name, key.Role, key.ID, path)
		return t
	})
}

func (p *program) serviceList() *cobra.Command {
	return listing[wire.ServiceList]{
		key: operatorKey,
		get: func(ctx context.Context, cl *client.Client, page client.Page) (wire.ServiceList, error) {
			return cl.Services(ctx, page)
		},
		join: func(all *wire.ServiceList, part wire.ServiceList) string {
			all.Services, all.NextCursor = append(all.Services, part.Services...), part.NextCursor
			return part.NextCursor
		},
		table: func(all wire.ServiceList) (*table, error) {
			t := newTable("NAME", "ROLE", "CREATED", "STATE", "KEYS")
			for _, s := range all.Services {
				keys := make([]string, 0, len(s.Keys))
				for _, k := range s.Keys {
					if k.Disabled {
						keys = append(keys, k.ID+" (disabled)")
					} else {
						keys = append(keys, k.ID)
					}
				}
				t.add(s.Name, s.Role, clock(s.CreatedAt), state(s.Disabled), strings.Join(keys, " "))
			}
			return t, nil
		},
	}.command(p, &cobra.Command{Use: "list", Short: "List callers and the ids of their keys"})
}

func state(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "active"
}

func (p *program) serviceDisable() *cobra.Command {
	var key string
	var yes bool
	c := &cobra.Command{
		Use:   "disable NAME [--key ID]",
		Short: "End a caller with all its keys, or one key",
		Long: `End a caller with all its keys, or with --key one of them. Neither can be enabled again: a caller that was ended
keeps its name, so that the audit log stays clear, and another one needs another name.`,
		Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.HasPrefix(key, "ck_") {
				return usage("--key takes the id of a key, the part between ck_ and the second _, never the key itself")
			}
			if key == "" && p.inTerminal && !yes {
				const question = "The caller ends with all its keys and cannot be enabled again, and its name stays taken. Type the name again to disable it"
				if err := p.confirm(question, args[0]); err != nil {
					return err
				}
			}
			cl, err := p.connect(operatorKey)
			if err != nil {
				return err
			}
			if key != "" {
				err = cl.DisableKey(c.Context(), args[0], key)
			} else {
				err = cl.DisableService(c.Context(), args[0])
			}
			if err != nil {
				return err
			}
			type disabled struct {
				Name     string `json:"name"`
				Key      string `json:"key,omitzero"`
				Disabled bool   `json:"disabled"`
			}
			return p.print(disabled{args[0], key, true}, func() *table {
				t := newTable("NAME", "KEY", "STATE")
				which := key
				if which == "" {
					which = "all"
				}
				t.add(args[0], which, "disabled")
				return t
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "the `id` of the one key to end")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask on a terminal")
	p.connects(c)
	return c
}
