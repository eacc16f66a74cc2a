package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/bench"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
)

// memory is what a server holds, in bytes.
type memory struct {
	RSS  int64 `json:"rss_bytes"`
	Anon int64 `json:"rss_anon_bytes"` // without mapped files
}

type benchResult struct {
	Conns    int          `json:"conns"`
	Duration string       `json:"duration"` // of each operation
	Subjects int          `json:"subjects"`
	Cases    []bench.Case `json:"cases"`
	Server   *memory      `json:"server,omitzero"`
}

func (p *program) benchCommand() *cobra.Command {
	cfg := bench.Config{}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput and latency, next to an echo on the same stack",
		Long: `Measure a server over HTTP. Without --addr a server of this program is started on a temporary folder, and an echo
server beside it: it reads and answers the same JSON on the same HTTP stack, and does nothing else. The operations take
turns in rounds, so that both meet the same machine. "ratio" is operations per second against the echo of the same size.

With --addr a running server is measured, without an echo. It is then left with new subjects named bench-...: use a
server that is there for trying. So is a Vault with two new keys, after --kms transit --vault-addr URL. Settings of the
key service count as flags alone, but for Vault's token, in CLOAKROOM_VAULT_TOKEN or VAULT_TOKEN.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if cfg.Conns < 1 || cfg.Conns > 4096 {
				return usage("--conns is 1 to 4096")
			}
			if cfg.Subjects < bench.Batch || cfg.Subjects > 1_000_000 {
				return usage(fmt.Sprintf("--subjects is %d to 1000000", bench.Batch))
			}
			if cfg.Duration < time.Millisecond || cfg.Duration > time.Hour {
				return usage("--duration is 1ms to 1h")
			}
			out := benchResult{Conns: cfg.Conns, Duration: cfg.Duration.String(), Subjects: cfg.Subjects}
			var kms []string
			for _, s := range settings.All() {
				if f := c.Flags().Lookup(s.Name); ofKeyService(s) && f != nil && f.Changed {
					kms = append(kms, "--"+s.Name+"="+f.Value.String())
				}
			}
			remote := c.Flags().Changed("addr")
			if remote && len(kms) > 0 {
				return usage("--addr names a running server, which has its key service: leave " + strings.SplitN(kms[0], "=", 2)[0] + " out")
			}
			if err := p.bench(c.Context(), cfg, remote, kms, &out); err != nil {
				return err
			}
			if p.json {
				return p.printJSON(out)
			}
			return printBench(p.out, out)
		},
	}
	f := c.Flags()
	f.IntVar(&cfg.Conns, "conns", 64, "connections, one goroutine each")
	f.DurationVar(&cfg.Duration, "duration", 3*time.Second, "how long each operation is measured, over all rounds")
	f.IntVar(&cfg.Subjects, "subjects", 2000, "people that are there before the clock runs")
	p.connects(c)
	flagsOf(c, ofKeyService)
	return c
}

// bench measures the server at --addr, or one of its own, which is given the flags in kms.
func (p *program) bench(ctx context.Context, cfg bench.Config, remote bool, kms []string, out *benchResult) (err error) {
	cfg.Prefix = "bench-" + strings.ToLower(rand.Text()[:8]) + "-"
	bar := p.progress(1, "measuring")
	cfg.Progress = func(done, total int, what string) {
		bar.ChangeMax(total)
		bar.Describe(fmt.Sprintf("%-15s", what))
		_ = bar.Set(done)
	}
	if remote {
		if cfg.Key, err = p.conn.key(p.lookup, appKey); err != nil {
			return err
		}
		cl, err := p.dial(cfg.Key)
		if err != nil {
			return err
		}
		cfg.Server = cl.Addr()
		out.Cases, err = bench.Run(ctx, cfg)
		return err
	}
	dir, err := os.MkdirTemp("", "cloakroom-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	data := filepath.Join(dir, "data")
	server, err := p.spawn(ctx, dir, tokenFor(kms), append([]string{"serve", "--data", data, "--addr", "127.0.0.1:0", "--log-level", "error"}, kms...)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	echo, err := p.spawn(ctx, dir, "", "bench-echo", "--log-level", "error")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()
	if cfg.Key, err = readKey(filepath.Join(data, appKey+".key")); err != nil {
		return err
	}
	cfg.Server, cfg.Echo = server.url, echo.url
	if out.Cases, err = bench.Run(ctx, cfg); err != nil {
		return err
	}
	out.Server = memoryOf(server.cmd.Process.Pid)
	return nil
}

func printBench(w io.Writer, r benchResult) error {
	t := newTable("OPERATION", "OPS/S", "VALUES/S", "P50 MS", "P99 MS", "RATIO")
	for _, c := range r.Cases {
		ratio := ""
		if c.Against != "" {
			ratio = fmt.Sprintf("%.2f of %s", c.Ratio, c.Against)
		}
		t.add(c.Name, fmt.Sprintf("%.0f", c.PerSecond), fmt.Sprintf("%.0f", c.ValuesPerS), fmt.Sprintf("%.2f", c.P50), fmt.Sprintf("%.2f", c.P99), ratio)
	}
	if err := t.write(w); err != nil || r.Server == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "The server holds %.1f MiB, %.1f MiB of it without mapped files.\n", float64(r.Server.RSS)/(1<<20), float64(r.Server.Anon)/(1<<20))
	return err
}

// child is another process of this program.
type child struct {
	cmd    *exec.Cmd
	url    string
	stderr *os.File
	ended  chan error
}

// tokenFor names the variable of the one setting that is no flag, for a server whose flags are about Vault. To another
// it would be a setting for a Vault that it does not have.
func tokenFor(kms []string) string {
	if slices.ContainsFunc(kms, func(f string) bool {
		return f == "--kms="+settings.Transit || strings.HasPrefix(f, "--vault-")
	}) {
		return "CLOAKROOM_VAULT_TOKEN"
	}
	return ""
}

// spawn starts this program with args and waits until it has written its address. Of the settings in the environment,
// which are meant for the user's own server, it gets the one named keep.
func (p *program) spawn(ctx context.Context, dir, keep string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addrFile := filepath.Join(dir, args[0]+".addr")
	stderr, err := os.Create(filepath.Join(dir, args[0]+".log"))
	if err != nil {
		return nil, err
	}
	c := &child{stderr: stderr, ended: make(chan error, 1)}
	c.cmd = exec.CommandContext(ctx, self, append(args, "--addr-file", addrFile)...)
	c.cmd.Stderr = stderr
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = 20 * time.Second
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name == keep || !strings.HasPrefix(name, "CLOAKROOM_") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, stderr.Close())
	}
	go func() { c.ended <- c.cmd.Wait() }()
	for {
		if text, err := os.ReadFile(addrFile); err == nil {
			c.url = strings.TrimSpace(string(text))
			return c, nil
		}
		select {
		case <-c.ended:
			return nil, errors.Join(fmt.Errorf("%s ended: %s", args[0], c.said()), stderr.Close())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// said is the last line that the child wrote.
func (c *child) said() string {
	text, err := os.ReadFile(c.stderr.Name())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	err := <-c.ended
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", c.cmd.Args[1], err, c.said())
	}
	return errors.Join(err, c.stderr.Close())
}

// memoryOf reads /proc, which only Linux has; nil elsewhere.
func memoryOf(pid int) *memory {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var m memory
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			m.RSS = kib << 10
		case "RssAnon":
			m.Anon = kib << 10
		}
	}
	return &m
}

// benchEchoCommand is the yardstick's process. Its surroundings are those of serve.
func (p *program) benchEchoCommand() *cobra.Command {
	var addrFile string
	c := &cobra.Command{
		Use:    "bench-echo",
		Short:  "Serve the yardstick of bench",
		Hidden: true,
		Args:   noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := harden(); err != nil {
				return fmt.Errorf("protecting the process: %w", err)
			}
			s, _, err := p.settings(c)
			if err != nil {
				return err
			}
			log := newLogger(p.err, s)
			l, err := listen(c.Context(), "127.0.0.1:0", false)
			if err != nil {
				return err
			}
			if addrFile != "" {
				if err := writeLine(addrFile, "http://"+l.Addr().String()); err != nil {
					return errors.Join(err, l.Close())
				}
			}
			return api.NewServer(api.Echo(api.Config{Logger: log}), log).Serve(c.Context(), l, nil)
		},
	}
	settingFlags(c)
	c.Flags().StringVar(&addrFile, "addr-file", "", "write the URL to this `file`")
	return c
}
