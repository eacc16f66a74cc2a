package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// settingFlags adds a flag for every setting, and --config.
func settingFlags(c *cobra.Command) {
	flagsOf(c, func(settings.Setting) bool { return true })
	configFlag(c)
}

func configFlag(c *cobra.Command) {
	c.Flags().String("config", "", "YAML `file` with these settings by the names of their flags (CLOAKROOM_CONFIG)")
}

// flagsOf adds a flag for each setting that is wanted and may be one.
func flagsOf(c *cobra.Command, wanted func(settings.Setting) bool) {
	f := c.Flags()
	for _, s := range settings.All() {
		if s.Secret || !wanted(s) {
			continue
		}
		note := " (" + s.Env()
		if s.Also != "" {
			note += ", " + s.Also
		}
		if s.Default != "" {
			note += "; default " + s.Default
		}
		f.String(s.Name, "", s.Usage+note+")")
		if s.Bool {
			f.Lookup(s.Name).NoOptDefVal = "true"
		}
	}
}

// settings resolves flags, environment, file and defaults. Those skipped mean something else to the command.
func (p *program) settings(c *cobra.Command, skip ...string) (settings.Settings, []settings.Effective, error) {
	from := settings.Sources{Flags: map[string]string{}, Lookup: p.lookup, Skip: skip}
	c.Flags().Visit(func(f *pflag.Flag) { from.Flags[f.Name] = f.Value.String() })
	from.File = from.Flags["config"]
	if from.File == "" {
		from.File, _ = p.lookup("CLOAKROOM_CONFIG")
	}
	s, effective, err := settings.Resolve(from)
	if err != nil {
		return s, nil, usage(err.Error())
	}
	return s, effective, nil
}

func (p *program) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Print the settings that serve would run with, and where each came from",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, effective, err := p.settings(c)
			if err != nil {
				return err
			}
			// Not a setting of the server, but of every client command on this machine.
			if _, set := p.lookup("CLOAKROOM_KEY"); set {
				effective = append(effective, settings.Effective{Name: "key", Value: secret.Redacted, Source: "env CLOAKROOM_KEY"})
			}
			type answer struct {
				Settings []settings.Effective `json:"settings"`
			}
			return p.print(answer{effective}, func() *table {
				t := newTable("SETTING", "VALUE", "SOURCE")
				for _, e := range effective {
					value := e.Value
					if value == "" {
						value = "-"
					}
					t.add(e.Name, value, e.Source)
				}
				return t
			})
		},
	}
	settingFlags(c)
	return c
}

// passphrase reads the keyring's passphrase, the first line of the file. No file means none.
func passphrase(path string) (secret.Bytes, error) {
	if path == "" {
		return secret.Bytes{}, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("passphrase: %w", err)
	}
	line := trimLineEnd(string(text))
	if line == "" || strings.Contains(line, "\n") {
		return secret.Bytes{}, errors.New("passphrase: the file must hold one line that is not empty")
	}
	return secret.NewBytes([]byte(line)), nil
}
