package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
)

func (p *program) initCommand() *cobra.Command {
	var apply bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Set everything up in an empty folder, without serving",
		Long: `Set everything up in an empty folder, as serve does on its first start. On a folder that is set up already it changes
nothing, except that --passphrase-file seals a keyring that is not sealed yet.

With --kms transit the keys are made at HashiCorp Vault, with a token that may: an operator's, from VAULT_TOKEN or
~/.vault-token. Two policies for Vault are printed, one for the server and one for whoever closes epochs, or with
--apply written there. It can be repeated: keys that are there are left as they are.

On a folder that uses the keyring, --vault-addr without --kms makes the keys that "cloakroom keys move" will need.`,
		Example: `  cloakroom init
  cloakroom init --kms transit --vault-addr https://vault.example:8200 --apply`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, _, err := p.settings(c)
			if err != nil {
				return err
			}
			if apply && !s.Vault.Given() {
				return usage("--apply writes policies to HashiCorp Vault: say which with --kms transit and --vault-addr")
			}
			if err := harden(); err != nil {
				return fmt.Errorf("protecting the process: %w", err)
			}
			inst, err := p.open(c.Context(), s, true, newLogger(p.err, s))
			if err != nil {
				return err
			}
			out := made{
				Data: inst.Data, Ledger: inst.Ledger, Backup: inst.Backup, New: inst.New, Sealed: inst.Sealed, SealedNow: inst.SealedNow,
			}
			if s.Vault.Given() {
				out.Access, err = inst.PrepareVault(c.Context(), apply)
			}
			out.KeyService = inst.KeyService(c.Context())
			out.Keyring = out.KeyService.Keyring
			if err = errors.Join(err, inst.Close()); err != nil {
				return err
			}
			if p.json {
				return p.printJSON(out)
			}
			return printMade(p.out, out, s, sealed(inst))
		},
	}
	settingFlags(c)
	c.Flags().BoolVar(&apply, "apply", false, "write the two policies to HashiCorp Vault instead of printing them")
	return c
}

// made is what init answers.
type made struct {
	Data    string `json:"data"`
	Keyring string `json:"keyring,omitzero"`
	Ledger  string `json:"ledger"`
	Backup  string `json:"backup"`
	New     bool   `json:"new"`
	Sealed  bool   `json:"sealed"`
	// SealedNow: it was there before, and was not sealed.
	SealedNow  bool                      `json:"sealed_now"`
	KeyService installation.KeyService   `json:"key_service"`
	Access     *installation.VaultAccess `json:"vault_access,omitzero"`
}

func printMade(w io.Writer, out made, s settings.Settings, seal string) error {
	t := newTable("INSTALLATION", "was there already")
	if out.New {
		t = newTable("INSTALLATION", "new")
	}
	t.add("data", out.Data)
	for _, row := range keyServiceRows(out.KeyService, seal) {
		t.add(row[0], row[1])
	}
	t.add("erasure ledger", out.Ledger)
	t.add("backups", out.Backup)
	if out.Access == nil {
		next := "cloakroom serve --data " + shell.Quote(s.Data)
		if s.PassphraseFile != "" {
			next += " --passphrase-file " + shell.Quote(s.PassphraseFile)
		}
		t.add("next", next)
		return t.write(w)
	}
	if out.Access.Made {
		t.add("keys at vault", "new")
	} else {
		t.add("keys at vault", "were there already")
	}
	for _, policy := range out.Access.Policies {
		if out.Access.Applied {
			t.add("policy", policy.Name+", written")
		} else {
			t.add("policy", policy.Name+", see below")
		}
	}
	if err := t.write(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, nextAtVault(out, s))
	return err
}

// nextAtVault are the steps between the keys and a server that may use them, as lines for a shell.
func nextAtVault(out made, s settings.Settings) string {
	var b strings.Builder
	b.WriteString("\nNext, as an operator of Vault:\n")
	if !out.Access.Applied {
		for _, policy := range out.Access.Policies {
			fmt.Fprintf(&b, "\nvault policy write %s - <<'EOF'\n%s\nEOF\n", policy.Name, strings.TrimRight(policy.Text, "\n"))
		}
		b.WriteString("\n")
	}
	serve := "cloakroom serve --data " + shell.Quote(s.Data) + " --vault-addr " + shell.Quote(s.Vault.Address)
	if out.KeyService.InUse == installation.VaultTransit {
		serve += " --kms transit"
	}
	for _, one := range []struct{ flag, value, usual string }{
		{"vault-namespace", s.Vault.Namespace, ""}, {"vault-mount", s.Vault.Mount, "transit"}, {"vault-ca-cert", s.Vault.CACert, ""},
		{"vault-client-cert", s.Vault.ClientCert, ""}, {"vault-client-key", s.Vault.ClientKey, ""}, {"vault-tls-server-name", s.Vault.ServerName, ""},
		{"passphrase-file", s.PassphraseFile, ""},
	} {
		if one.value != one.usual {
			serve += " --" + one.flag + " " + shell.Quote(one.value)
		}
	}
	role := "auth/approle/role/" + strings.TrimSuffix(out.Access.Service, "-service")
	fmt.Fprintf(&b, "vault write %s token_policies=%s token_ttl=1h token_max_ttl=24h\n", role, out.Access.Service)
	fmt.Fprintf(&b, "umask 077\nvault read -field=role_id %s/role-id > role-id\nvault write -field=secret_id -f %s/secret-id > secret-id\n", role, role)
	fmt.Fprintf(&b, "%s --vault-role-id-file role-id --vault-secret-id-file secret-id\n", serve)
	if out.KeyService.InUse != installation.VaultTransit {
		b.WriteString("cloakroom keys move --from local --to transit --data " + shell.Quote(s.Data) + "\n")
	}
	return b.String()
}

// sealed tells of the keyring's seal, behind the keyring's path.
func sealed(inst *installation.Installation) string {
	switch {
	case inst.SealedNow:
		return ", sealed now (copies made before are not: destroy them)"
	case inst.Sealed:
		return ", sealed"
	}
	return ", NOT SEALED"
}
