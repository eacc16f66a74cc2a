package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/keys"
)

// patience is how long the doctor waits for another machine.
const patience = 10 * time.Second

// examineKeys looks at the key services that have a part. Where nothing tells which is in use, the keyring is taken to
// be, unless there are settings for HashiCorp Vault.
func (p *program) examineKeys(ctx context.Context, paths installation.Paths, s settings.Settings) []finding {
	uses := p.keyServiceInUse(ctx, paths)
	var out []finding
	_, err := os.Lstat(paths.Keyring)
	switch {
	case uses == installation.LocalFile, uses == "" && (err == nil || !s.Vault.Given()):
		out = examineKeyring(paths)
	case err == nil:
		out = append(out, file("keyring", paths.Keyring, ""))
		if out[0].State == fine {
			out[0].Detail += ", needed only while keys move; copies of the data from before they did still open with it"
		}
	}
	switch {
	case s.Vault.Given():
		out = append(out, p.examineVault(ctx, paths, s)...)
	case uses == installation.VaultTransit:
		out = append(out, finding{"vault", warning, "HashiCorp Vault has the keys, and was not looked at: no settings for it were given", "run it with the settings of the server (--config FILE, or --vault-addr and how to log in)"})
	}
	return out
}

// keyServiceInUse asks the server, or reads the store where no server has it open; "" = neither says.
func (p *program) keyServiceInUse(ctx context.Context, paths installation.Paths) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if cl, err := p.connect(operatorKey); err == nil {
		defer cl.Close()
		if status, err := cl.KeyStatus(ctx); err == nil {
			return status.KMS
		}
	}
	uses, err := installation.UsesOf(ctx, paths)
	if err != nil {
		return ""
	}
	return uses
}

func (p *program) examineVault(ctx context.Context, paths installation.Paths, s settings.Settings) []finding {
	const name = "vault"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	config := transitConfig(s.Vault)
	where := config.Address + ", mount " + config.Mount
	inst, err := installation.InstanceOf(paths)
	if err != nil {
		return []finding{{name, problem, "which keys there are this installation's cannot be told: " + reason(err), "put the erasure ledger back"}}
	}
	s.LogLevel = max(s.LogLevel, slog.LevelWarn)
	config.Instance, config.Now, config.Logger = inst, p.now, newLogger(p.err, s)
	found, warnings, err := installation.ExamineVault(ctx, *config)
	var out []finding
	for _, k := range found.Keys {
		if k.Latest > 0 {
			out = append(out, finding{Check: "vault key", State: fine, Detail: describeVaultKey(k)})
		}
	}
	for _, w := range warnings {
		out = append(out, finding{Check: "vault settings", State: warning, Detail: oneLine(w)})
	}
	switch {
	case errors.Is(err, keys.ErrSettings), errors.Is(err, keys.ErrNoKey):
		// One line for each fault, below a first that says what they are.
		lines := strings.Split(err.Error(), "\n")
		if len(lines) > 1 {
			lines = lines[1:]
		}
		for _, line := range lines {
			out = append(out, finding{Check: "vault settings", State: problem, Detail: oneLine(line)})
		}
		return out
	case err != nil:
		return append(out, finding{name, problem, where + ": " + oneLine(err.Error()), "see that it runs, is unsealed, and that the settings for it are those of the server"})
	}
	return append([]finding{{Check: name, State: fine, Detail: where}}, out...)
}

func examineKeyring(paths installation.Paths) []finding {
	out := []finding{file("keyring", paths.Keyring, "put it back from "+paths.Keyring+".mirror or a copy; without it no value can be read")}
	if out[0].State == problem {
		return out
	}
	switch is, err := installation.KeyringSealed(paths.Keyring); {
	case err != nil:
		out = append(out, finding{"keyring seal", problem, reason(err), "put it back from " + paths.Keyring + ".mirror or a copy"})
	case is:
		out = append(out, finding{Check: "keyring seal", State: fine, Detail: "sealed under a passphrase"})
	default:
		out = append(out, finding{"keyring seal", warning, "not sealed: whoever reads the file can read all data", "start it with --passphrase-file, which seals it, destroy older copies, and keep keyring and data on different disks"})
	}
	return append(out, file("keyring mirror", paths.Keyring+".mirror", "start the server: it writes the mirror anew"))
}
