package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/vault"
)

func (p *program) certificateCommand() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "verify FILE --key FILE",
		Short: "Verify a certificate of erasure, without a server",
		Long: `Verify a certificate of erasure against the installation's public key (DATA/certificate.pub, or the copy that you
keep of it), without a server. FILE - is standard input. It cannot know of a revocation that came later.`,
		Example: "  cloakroom certificate verify erasure.json --key certificate.pub",
		Args:    exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := publicKey(key, "certificate.pub")
			if err != nil {
				return err
			}
			raw, err := p.readFile(args[0], 1<<20)
			if err != nil {
				return err
			}
			cert, err := vault.VerifyCertificate(raw, public)
			if err != nil {
				return fmt.Errorf("%s: not verified: %w", args[0], err)
			}
			type verified struct {
				Verified    bool              `json:"verified"`
				Certificate vault.Certificate `json:"certificate"`
			}
			return p.print(verified{true, cert}, func() *table {
				t := certificateTable(cert)
				t.add("signature", "VERIFIED with "+key)
				return t
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "the public key's `file`, certificate.pub")
	return group("certificate", "Certificates of erasure, verified offline", c)
}

// publicKey reads the one line of a public key file.
func publicKey(path, usual string) (string, error) {
	if path == "" {
		return "", usage("give the public key with --key FILE, such as DATA/" + usual)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--key: %w", err)
	}
	line := trimLineEnd(string(text))
	if len(line) == 0 || len(line) > 1024 || bytes.ContainsAny(text, "\r") {
		return "", fmt.Errorf("--key: %s is no public key; expected one line", path)
	}
	return line, nil
}

// readFile reads a file, or standard input for "-", of at most limit bytes.
func (p *program) readFile(path string, limit int64) ([]byte, error) {
	from := p.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, errors.New(path + " is too long")
	}
	return raw, nil
}
