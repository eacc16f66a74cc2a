package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
)

// finding is one thing that the doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, problem
	Detail string `json:"detail,omitzero"`
	Fix    string `json:"fix,omitzero"`
}

const (
	fine    = "ok"
	warning = "warning"
	problem = "problem"
)

// Free space below which the doctor warns, and below which it calls it a problem, in bytes.
const (
	lowSpace  = 1 << 30
	noSpace   = 64 << 20
	clockSkew = 2 * time.Minute
)

func (p *program) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look over the installation on this machine and say how to mend what is wrong",
		Long: `Look over the installation on this machine and say how to mend what is wrong. With the settings for HashiCorp Vault that
the server has it also logs in there, looks at the two keys, and says what the login may do beyond its part.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p.conn.once = true
			if err := harden(); err != nil {
				return fmt.Errorf("protecting the process: %w", err)
			}
			s, err := p.keyServiceSettings(c)
			if err != nil {
				return err
			}
			paths, err := installation.PathsOf(s.Data)
			if err != nil {
				return err
			}
			all := p.examine(c.Context(), paths, s)
			bad := false
			t := newTable("CHECK", "STATE", "DETAIL")
			for _, f := range all {
				bad = bad || f.State == problem
				t.add(f.Check, f.State, f.Detail)
				if f.Fix != "" {
					t.add("", "", "-> "+f.Fix)
				}
			}
			type answer struct {
				Findings []finding `json:"findings"`
			}
			if err := p.print(answer{all}, func() *table { return t }); err != nil {
				return err
			}
			if bad {
				return quiet{}
			}
			return nil
		},
	}
	p.connects(c)
	keyServiceFlags(c)
	return c
}

func (p *program) examine(ctx context.Context, paths installation.Paths, s settings.Settings) []finding {
	info, err := os.Stat(paths.Data)
	if err != nil {
		return append([]finding{{"data folder", problem, reason(err), "cloakroom init --data " + shell.Quote(paths.Data)}}, p.examineServer(ctx))
	}
	out := []finding{private("data folder", paths.Data, info, 0o700)}
	out = append(out, file("store", paths.Store, "put it back from a backup"))
	keys, _ := filepath.Glob(filepath.Join(paths.Data, "*.key"))
	for _, key := range keys {
		out = append(out, file(filepath.Base(key), key, ""))
	}
	out = append(out, p.examineKeys(ctx, paths, s)...)
	out = append(out,
		file("erasure ledger", paths.Ledger, "put the newest copy back; without it the server does not start"),
		folder("audit log", paths.Audit), folder("backup folder", paths.Backup),
		freeSpace(paths.Data), p.examineClock(paths.Audit), p.examineServer(ctx))
	return out
}

func reason(err error) string {
	if os.IsNotExist(err) {
		return "is not there"
	}
	return oneLine(err.Error())
}

// private checks that nobody but the owner has any access.
func private(name, path string, info fs.FileInfo, mode fs.FileMode) finding {
	if info.Mode().Perm()&0o077 != 0 {
		return finding{name, problem, fmt.Sprintf("%s is open to others (mode %04o)", path, info.Mode().Perm()), fmt.Sprintf("chmod %o %s", mode, shell.Quote(path))}
	}
	return finding{Check: name, State: fine, Detail: path}
}

func file(name, path, fix string) finding {
	info, err := os.Stat(path)
	if err != nil {
		return finding{name, problem, path + " " + reason(err), fix}
	}
	return private(name, path, info, 0o600)
}

func folder(name, path string) finding {
	info, err := os.Stat(path)
	if err != nil {
		return finding{name, problem, path + " " + reason(err), "put it back"}
	}
	return private(name, path, info, 0o700)
}

func freeSpace(path string) finding {
	const name = "free disk space"
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return finding{name, warning, reason(err), ""}
	}
	free := uint64(s.Bavail) * uint64(s.Bsize)
	detail := fmt.Sprintf("%d MiB at %s", free>>20, path)
	switch {
	case free < noSpace:
		return finding{name, problem, detail, "free some: without space nothing can be written or shown, since the audit log comes first"}
	case free < lowSpace:
		return finding{name, warning, detail, "free some soon"}
	}
	return finding{Check: name, State: fine, Detail: detail}
}

// examineClock compares the clock with the newest entry of the audit log: time should not have gone back.
func (p *program) examineClock(dir string) finding {
	const name = "clock"
	lines, _, err := newest(dir, 1)
	if err != nil || len(lines) == 0 {
		return finding{Check: name, State: fine, Detail: clock(p.now()) + ", no entry to compare with"}
	}
	var e entry
	if json.Unmarshal(lines[0], &e) != nil {
		return finding{name, warning, "the newest entry of the audit log cannot be read", "cloakroom audit verify " + shell.Quote(dir) + " --key FILE"}
	}
	if ahead := e.Time.Sub(p.now()); ahead > clockSkew {
		return finding{name, problem, fmt.Sprintf("it is %s behind the newest entry of the audit log", ahead.Round(time.Second)), "set the clock; tokens and certificates carry its time"}
	}
	return finding{Check: name, State: fine, Detail: clock(p.now())}
}

func (p *program) examineServer(ctx context.Context) finding {
	const name = "server"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cl, err := p.dial("")
	if err != nil {
		return finding{name, problem, oneLine(err.Error()), ""}
	}
	ready, err := cl.Ready(ctx)
	if err != nil {
		_, text := p.explain(err)
		return finding{name, warning, text, ""}
	}
	if !ready.Ready {
		var parts string
		for part, c := range ready.Checks {
			if !c.OK {
				parts += " " + part
			}
		}
		return finding{name, problem, cl.Addr() + " answers but is not ready:" + parts, "its log says why"}
	}
	return finding{Check: name, State: fine, Detail: cl.Addr() + " is ready"}
}
