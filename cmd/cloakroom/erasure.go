package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (p *program) erasureCommand() *cobra.Command {
	return group("erasure", "Certificates of erasure that the server keeps", p.erasureList(), p.erasureGet())
}

func (p *program) erasureList() *cobra.Command {
	var subject string
	c := &cobra.Command{Use: "list [--subject ID]", Short: "List erasures, all or those of one subject"}
	c.Flags().StringVar(&subject, "subject", "", "those of the subject with this `id`, and of its fields")
	return listing[wire.ErasureList]{
		key: officerKey,
		get: func(ctx context.Context, cl *client.Client, page client.Page) (wire.ErasureList, error) {
			var options []client.Option
			if c.Flags().Changed("subject") {
				if subject == "" {
					return wire.ErasureList{}, usage("--subject is empty; give the subject's id")
				}
				options = append(options, client.OfSubject(subject))
			}
			return cl.Erasures(ctx, page, options...)
		},
		join: func(all *wire.ErasureList, part wire.ErasureList) string {
			all.Erasures, all.NextCursor = append(all.Erasures, part.Erasures...), part.NextCursor
			return part.NextCursor
		},
		table: func(all wire.ErasureList) (*table, error) {
			t := newTable("ERASURE", "LEVEL", "WHAT", "ERASED", "SUBJECT DIGEST")
			for _, raw := range all.Erasures {
				cert, err := readCertificate(raw)
				if err != nil {
					return nil, err
				}
				t.add(cert.Erasure, strconv.Itoa(cert.Level), what(cert), clock(cert.ErasedAt), cert.SubjectDigest)
			}
			return t, nil
		},
	}.command(p, c)
}

func (p *program) erasureGet() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "get ID",
		Short: "Print one certificate; with --json as it was signed",
		Args:  exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := p.connect(officerKey)
			if err != nil {
				return err
			}
			file, err := makeNew(out, 0o644)
			if err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			certificate, err := cl.Erasure(c.Context(), args[0])
			if err != nil {
				return errors.Join(err, file.drop())
			}
			if err := file.keep(certificate); err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			return p.printCertificate(certificate)
		},
	}
	c.Flags().StringVar(&out, "out", "", "also write the certificate to this `file`, which must not be there yet")
	p.connects(c)
	return c
}

func readCertificate(raw []byte) (vault.Certificate, error) {
	var cert vault.Certificate
	if err := json.Unmarshal(raw, &cert); err != nil {
		return cert, fmt.Errorf("the server's answer is no certificate of erasure")
	}
	return cert, nil
}

func what(c vault.Certificate) string {
	if c.Field != "" {
		return c.What + " " + c.Field
	}
	return c.What
}

// printCertificate shows a certificate: its very bytes with --json, else what it says.
func (p *program) printCertificate(raw []byte) error {
	if p.json {
		_, err := p.out.Write(append(raw[:len(raw):len(raw)], '\n'))
		return err
	}
	cert, err := readCertificate(raw)
	if err != nil {
		return err
	}
	return certificateTable(cert).write(p.out)
}

func certificateTable(c vault.Certificate) *table {
	t := newTable("ERASURE", c.Erasure)
	t.add("level", strconv.Itoa(c.Level))
	t.add("what", what(c))
	t.add("subject digest", c.SubjectDigest)
	t.add("erased at", clock(c.ErasedAt))
	t.add("key service", c.KMS)
	t.add("audit entry", strconv.FormatUint(c.AuditIndex, 10))
	t.add("signed by", c.KeyID)
	t.add("claim", c.Claim)
	for i, n := range c.NotClaimed {
		head := ""
		if i == 0 {
			head = "not claimed"
		}
		t.add(head, n)
	}
	return t
}
