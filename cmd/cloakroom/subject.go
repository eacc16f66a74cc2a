package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

func (p *program) subjectCommand() *cobra.Command {
	return group("subject", "Put, read, list, export and erase people", p.subjectPut(), p.subjectGet(), p.subjectList(), p.subjectExport(), p.subjectErase())
}

func (p *program) subjectPut() *cobra.Command {
	var fields, remove []string
	var recreate bool
	var source, authorization string
	c := &cobra.Command{
		Use:   "put ID [--field NAME[=@FILE]]...",
		Short: "Set fields of a subject and print their tokens",
		Example: `  cloakroom subject put u1 --field phone            # asks for it
  printf 'phone=138 0013 8000\nname=Zhang San\n' | cloakroom subject put u1
  cloakroom subject put u1 --field profile=@profile.json`,
		Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			sources, err := parseFields(fields)
			if err != nil {
				return err
			}
			if len(remove) > 0 && recreate {
				return usage("--remove and --recreate exclude each other")
			}
			body := wire.PutSubject{Fields: map[string]wire.FieldValue{}}
			if len(remove) == 0 || len(fields) > 0 {
				values, err := p.fieldValues(sources)
				if err != nil {
					return err
				}
				for _, v := range values {
					body.Fields[v.field] = wire.FieldValue{Value: v.value, Source: source, Authorization: authorization}
				}
			}
			for _, name := range remove {
				if _, set := body.Fields[name]; set {
					return usage("a field cannot be set and removed at once")
				}
				body.Fields[name] = wire.FieldValue{Remove: true}
			}
			cl, err := p.connect(appKey)
			if err != nil {
				return err
			}
			options := []client.Option{}
			if recreate {
				options = append(options, client.Recreate())
			}
			var out wire.SubjectTokens
			if len(remove) > 0 {
				out, err = cl.PatchSubject(c.Context(), args[0], body, append(options, client.IdempotencyKey(rand.Text()))...)
			} else {
				out, err = cl.PutSubject(c.Context(), args[0], body, options...)
			}
			if err != nil {
				return err
			}
			return p.printPut(out, remove)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&fields, "field", nil, fieldHelp)
	f.StringArrayVar(&remove, "remove", nil, "`field` to remove; may be repeated")
	f.BoolVar(&recreate, "recreate", false, "begin anew for an erased subject; its old tokens stay dead")
	f.StringVar(&source, "source", "", "where the values came from, when not from the person")
	f.StringVar(&authorization, "authorization", "", "on what authority they came from there")
	p.connects(c)
	return c
}

// printPut says in a sentence what became of the subject, and shows its tokens where there are any.
func (p *program) printPut(out wire.SubjectTokens, removed []string) error {
	if p.json {
		return p.printJSON(out)
	}
	text := "Subject " + out.Subject + " was there before"
	if out.Created {
		text = "Subject " + out.Subject + " is new"
	}
	if len(removed) > 0 {
		text += "; removed: " + strings.Join(removed, ", ")
	}
	if err := p.printf("%s.\n", printable(text)); err != nil || len(out.Tokens) == 0 {
		return err
	}
	t := newTable("FIELD", "TOKEN", "WARNING")
	for _, name := range slices.Sorted(maps.Keys(out.Tokens)) {
		t.add(name, string(out.Tokens[name]), warnings(out.Warnings, name))
	}
	return t.write(p.out)
}

func warnings(all []wire.Warning, field string) string {
	var rules []string
	for _, w := range all {
		if w.Field == field || field == "" {
			rules = append(rules, w.Rule)
		}
	}
	return strings.Join(rules, ", ")
}

func (p *program) subjectGet() *cobra.Command {
	var read client.Read
	c := &cobra.Command{
		Use:     "get ID --purpose PURPOSE",
		Short:   "Read fields of a subject",
		Example: "  cloakroom subject get u1 --purpose support --view masked",
		Args:    exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			if read.Purpose == "" {
				return usage("say why with --purpose; the purposes stand in the policy (cloakroom policy show)")
			}
			for _, f := range read.Fields {
				if strings.Contains(f, "=") {
					return usage("--field of get takes only a name")
				}
			}
			cl, err := p.connect(appKey)
			if err != nil {
				return err
			}
			out, err := cl.GetSubject(c.Context(), args[0], read)
			if err != nil {
				return err
			}
			return p.print(out, func() *table {
				t := newTable("FIELD", "VALUE", "VIEW", "KIND", "UPDATED", "TOKEN")
				for _, name := range slices.Sorted(maps.Keys(out.Fields)) {
					f := out.Fields[name]
					t.add(name, string(f.Value), f.View, f.Kind, clock(f.UpdatedAt), string(f.Token))
				}
				return t
			})
		},
	}
	f := c.Flags()
	f.StringVar(&read.Purpose, "purpose", "", "why the data are read")
	f.StringVar(&read.View, "view", "", "masked or full; the most that is allowed by default")
	f.StringSliceVar(&read.Fields, "field", nil, "`field` to read; all by default; may be repeated")
	p.connects(c)
	return c
}

func (p *program) subjectList() *cobra.Command {
	return listing[wire.SubjectList]{
		key: operatorKey,
		get: func(ctx context.Context, cl *client.Client, page client.Page) (wire.SubjectList, error) {
			return cl.ListSubjects(ctx, page)
		},
		join: func(all *wire.SubjectList, part wire.SubjectList) string {
			all.Subjects, all.NextCursor = append(all.Subjects, part.Subjects...), part.NextCursor
			return part.NextCursor
		},
		table: func(all wire.SubjectList) (*table, error) {
			t := newTable("SUBJECT", "CREATED", "UPDATED")
			for _, s := range all.Subjects {
				t.add(s.Subject, clock(s.CreatedAt), clock(s.UpdatedAt))
			}
			return t, nil
		},
	}.command(p, &cobra.Command{Use: "list", Short: "List ids and times of subjects"})
}

func (p *program) subjectErase() *cobra.Command {
	var field, reason, out string
	var yes bool
	c := &cobra.Command{
		Use:   "erase ID [--field NAME]",
		Short: "Erase a subject, or one field, and print the certificate",
		Long: `Erase a subject, or one field of it, for good. Old tokens answer "erased" from then on.

With --json the certificate is printed as it was signed, fit for: cloakroom certificate verify`,
		Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.Contains(field, "=") {
				return usage("--field of erase takes only a name")
			}
			cl, err := p.connect(officerKey)
			if err != nil {
				return err
			}
			file, err := makeNew(out, 0o644)
			if err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			if p.inTerminal && !yes {
				if err := p.confirm("This cannot be undone. Type the subject's id again to erase it", args[0]); err != nil {
					return errors.Join(err, file.drop())
				}
			}
			var certificate []byte
			// The key makes a lost answer safe to ask for again, with its certificate.
			once := client.IdempotencyKey(rand.Text())
			if field != "" {
				certificate, err = cl.EraseField(c.Context(), args[0], field, reason, once)
			} else {
				certificate, err = cl.EraseSubject(c.Context(), args[0], reason, once)
			}
			if err != nil {
				return errors.Join(err, file.drop())
			}
			if err := file.keep(certificate); err != nil {
				return fmt.Errorf("it is erased, but the certificate was not written (%w); fetch it with: cloakroom erasure get", err)
			}
			return p.printCertificate(certificate)
		},
	}
	f := c.Flags()
	f.StringVar(&field, "field", "", "erase this `field` only")
	f.StringVar(&reason, "reason", "", "why, for the audit log: up to 256 bytes, never a value")
	f.StringVar(&out, "out", "", "also write the certificate to this `file`, which must not be there yet")
	f.BoolVar(&yes, "yes", false, "do not ask on a terminal")
	p.connects(c)
	return c
}

// confirm asks on a terminal for a word to be typed again.
func (p *program) confirm(question, word string) error {
	_, _ = fmt.Fprintf(p.err, "%s: ", question)
	var typed string
	if _, err := fmt.Fscanln(p.in, &typed); err != nil || typed != word {
		return usage("not confirmed; nothing was changed")
	}
	return nil
}
