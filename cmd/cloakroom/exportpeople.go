package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

const exportHelp = `Write all that is held of a person: every field in full, where it came from, and every token; as JSON. With --all it is
everybody's, one person a line (NDJSON), encrypted to age recipients, or readable with --plain.

Make a key with age-keygen -o key.txt, which prints the recipient (age1...), and keep key.txt somewhere else than the
export. Whoever has it opens the export with: age -d -i key.txt people.ndjson.age. SSH public keys (ssh-ed25519, ssh-rsa) are
recipients too. Nothing readable touches the disk.

--out is written under another name beside it and gets its own when it is whole; mode 0600. When the command is killed, the
other one stays (it ends in .partial). Delete it: with --plain, or of one person, it is readable. Each field and token that
is written stands in the audit log before.

A person who cannot be read has a line too, with "error" in it; of one with a single damaged value the rest is there.

Exit codes: 0 everybody is there, 3 the export is complete but for people who could not be read, or not as a whole, 1
failed and no export, 2 wrong usage.`

// errReadable shows both ways of an export of everybody.
var errReadable = usageError(`an export of everybody is encrypted, or readable on purpose:
  age-keygen -o key.txt        # makes a key and prints its recipient, age1...
  cloakroom subject export --all --out people.ndjson.age --recipient age1...
  cloakroom subject export --all --out people.ndjson --plain`)

// peopleExport is `cloakroom subject export` as it was asked for.
type peopleExport struct {
	to               exportTo
	id               string // "" with all
	all, plain, yes  bool
	recipients, from []string
}

func (p *program) subjectExport() *cobra.Command {
	var x peopleExport
	c := &cobra.Command{
		Use:   "export ID | --all",
		Short: "Write all that is held of a person, or of everybody",
		Long:  exportHelp,
		Example: `  cloakroom subject export u1
  cloakroom subject export --all --out people.ndjson.age --recipient age1...
  cloakroom subject export --all --out people.ndjson --plain`,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 1, len(args) == 1 && x.all:
				return usage("give one ID, or --all; see " + c.CommandPath() + " --help")
			case len(args) == 0 && !x.all:
				return usage("whose data? give an ID, or --all for everybody; see " + c.CommandPath() + " --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				x.id = args[0]
			}
			if err := p.checkExport(&x); err != nil {
				return err
			}
			if x.all {
				return p.exportAll(c.Context(), x)
			}
			return p.exportOne(c.Context(), x)
		},
	}
	f := c.Flags()
	f.BoolVar(&x.all, "all", false, "everybody")
	f.StringVar(&x.to.out, "out", "", "`file` to write (default: standard output)")
	f.StringArrayVar(&x.recipients, "recipient", nil, "encrypt to this age `recipient`; may be repeated, each of them can open it")
	f.StringArrayVar(&x.from, "recipients-file", nil, "encrypt to the recipients in this `file`, one a line; may be repeated")
	f.BoolVar(&x.plain, "plain", false, "write it readable")
	f.BoolVar(&x.yes, "yes", false, "do not ask before --all --plain")
	f.BoolVar(&x.to.force, "force", false, "write over a file that is there")
	p.connects(c)
	return c
}

// checkExport settles whether it is encrypted, and asks before it is not.
func (p *program) checkExport(x *peopleExport) (err error) {
	if x.to.recipients, err = parseRecipients(x.recipients, x.from); err != nil {
		return err
	}
	encrypted := x.to.recipients != nil
	switch {
	case encrypted && x.plain:
		return usage("--plain and recipients exclude each other")
	case x.all && !encrypted && !x.plain:
		return errReadable
	case encrypted && x.to.out == "" && p.outTerminal:
		return usage("an encrypted export is not for a terminal; give --out FILE")
	case !encrypted && strings.HasSuffix(strings.ToLower(x.to.out), ".age"):
		return usage("--out ends in .age, but nothing is encrypted without --recipient")
	case !x.all || encrypted || x.yes:
		return nil
	case !p.inTerminal:
		return usage("--all --plain writes everybody's data readable; where nobody can be asked, confirm it with --yes")
	}
	return p.confirm("This writes the data of everybody readable. Type the word plain to go on", "plain")
}

func (p *program) exportOne(ctx context.Context, x peopleExport) error {
	cl, err := p.connect(officerKey)
	if err != nil {
		return err
	}
	defer cl.Close()
	var person wire.ExportedSubject
	err = p.export(x.to, func(w io.Writer) (err error) {
		if person, err = cl.ExportSubject(ctx, x.id); err != nil {
			return err
		}
		options := []json.Options{json.Deterministic(true)}
		if x.to.out == "" && p.outTerminal {
			options = append(options, jsontext.WithIndent("  "))
		}
		text, err := json.Marshal(person, options...)
		if err != nil {
			return errors.New("the person cannot be written as JSON")
		}
		_, err = w.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	if person.Error != nil {
		return partly(fmt.Errorf("not everything could be read: %w", itemError{*person.Error}))
	}
	return nil
}

// exportSummary is what --json prints of an export to a file.
type exportSummary struct {
	People int64  `json:"people"` // that are whole
	Failed int64  `json:"failed"` // that could not be read, or not as a whole
	Out    string `json:"out"`
	Open   string `json:"open,omitzero"` // the command that opens it, when it is encrypted
}

func (p *program) exportAll(ctx context.Context, x peopleExport) error {
	cl, err := p.connect(officerKey)
	if err != nil {
		return err
	}
	defer cl.Close()
	count := p.exportCount(x.to)
	err = p.export(x.to, func(w io.Writer) error {
		return pages(client.Page{}, true, func(page client.Page) (string, error) {
			part, err := cl.Export(ctx, page)
			for i := range part.Subjects {
				if err == nil {
					count.add(part.Subjects[i].Error)
					err = writeJSONLine(w, &part.Subjects[i])
				}
			}
			return part.NextCursor, err
		})
	})
	count.end()
	if err != nil {
		return err
	}
	if err := p.exportedAll(x, count); err != nil {
		return err
	}
	return count.result()
}

// exportedAll says how it went: on standard error, for standard output may hold the people.
func (p *program) exportedAll(x peopleExport, count *exportCount) error {
	s := exportSummary{People: count.People, Failed: count.Failed, Out: x.to.out}
	if x.to.recipients != nil {
		s.Open = "age -d -i key.txt"
		if x.to.out != "" {
			s.Open += " " + shellWord(x.to.out)
		}
	}
	if p.json && x.to.out != "" {
		return p.printJSON(s)
	}
	if p.json {
		return nil // an error follows where somebody is missing
	}
	_, _ = fmt.Fprintf(p.err, "%d people\n", s.People)
	if s.Failed > 0 {
		_, _ = fmt.Fprintf(p.err, "%d people could not be read, or not as a whole: %s\n", s.Failed, count.reasons())
	}
	if s.Open != "" {
		_, _ = fmt.Fprintf(p.err, "Open it with: %s\n", s.Open)
	}
	return nil
}
