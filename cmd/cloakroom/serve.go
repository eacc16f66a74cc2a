package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/installation"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
)

func (p *program) serveCommand() *cobra.Command {
	var addrFile string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server; on an empty folder set everything up first",
		Long: `Run the server until it is interrupted. On an empty or missing data folder it first makes the store, the starter
policy, the audit log, public keys and three credentials in DATA/*.key, and beside the folder the keyring, the erasure
ledger and the backup folder. With --kms transit HashiCorp Vault takes the keyring's place: "cloakroom init" prepares it.

Vault's token, where the server does not log in by other ways, comes from CLOAKROOM_VAULT_TOKEN, VAULT_TOKEN or
~/.vault-token. Variables of Vault's own tools count only where --kms transit or a setting named vault-... is given.

Each flag can also be an environment variable or a line of the YAML file of --config; a flag wins over the
environment, the environment over the file. "cloakroom config" shows what would be used.`,
		Example: `  cloakroom serve
  cloakroom serve --data /var/lib/cloakroom/data --addr 0.0.0.0:8440 --tls-cert cert.pem --tls-key key.pem
  cloakroom serve --kms transit --vault-addr https://vault.example:8200 --vault-role-id-file role-id \
      --vault-secret-id-file secret-id`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, _, err := p.settings(c)
			if err != nil {
				return err
			}
			return p.serve(c.Context(), s, addrFile)
		},
	}
	settingFlags(c)
	c.Flags().StringVar(&addrFile, "addr-file", "", "write the URL to this `file` once the server answers")
	return c
}

func newLogger(w io.Writer, s settings.Settings) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.LogLevel}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// open opens the installation; operator is whether whoever runs the command is asked for, and not a server.
func (p *program) open(ctx context.Context, s settings.Settings, operator bool, log *slog.Logger) (*installation.Installation, error) {
	o, err := p.options(s, log)
	if err != nil {
		return nil, err
	}
	defer o.Passphrase.Wipe()
	o.Operator = operator
	return installation.Open(ctx, o)
}

// options are what the settings say; whoever asks wipes the passphrase.
func (p *program) options(s settings.Settings, log *slog.Logger) (installation.Options, error) {
	pass, err := passphrase(s.PassphraseFile)
	return installation.Options{
		Data: s.Data, Passphrase: pass, KMS: s.KMS, Transit: transitConfig(s.Vault),
		CacheEntries: s.CacheEntries, CacheTTL: s.CacheTTL, Now: p.now, Logger: log,
	}, err
}

// serve runs until ctx is done.
func (p *program) serve(ctx context.Context, s settings.Settings, addrFile string) error {
	// A sync of the audit log or the store holds one of Go's processors until the runtime notices, and there is nearly
	// always one under way: with twice as many the others go on meanwhile.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
	if err := harden(); err != nil {
		return fmt.Errorf("protecting the process: %w", err)
	}
	log := newLogger(p.err, s)
	config, err := tlsConfig(s)
	if err != nil {
		return err
	}
	// The port comes first: a second server on it should not touch the data.
	listener, err := listen(ctx, s.Addr, config != nil || s.InsecureHTTP)
	if err != nil {
		return err
	}
	inst, err := p.open(ctx, s, false, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	url := "http://" + listener.Addr().String()
	if config != nil {
		url = "https://" + listener.Addr().String()
	}
	if config == nil && !onLoopback(listener.Addr()) {
		log.Warn("PLAIN HTTP BEYOND THIS MACHINE: keys and values travel readable. Give --tls-cert and --tls-key.", "url", url)
	}
	p.greet(ctx, s, inst, url, log)
	if addrFile != "" {
		if err := writeLine(addrFile, url); err != nil {
			return errors.Join(fmt.Errorf("--addr-file: %w", err), listener.Close(), inst.Close())
		}
	}
	handler := api.New(api.Config{Vault: inst.Vault, Logger: log, Limits: api.Limits{BodyTime: s.BodyTimeout}})
	err = serveUntil(ctx, inst.Failed(), listener, api.NewServer(handler, log), config)
	if closed := inst.Close(); closed != nil {
		err = errors.Join(err, fmt.Errorf("closing: %w", closed))
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

var errStore = errors.New("the store cannot tell whether its last write holds (disk full or failing?); the server ended so that nothing is answered from memory. Mend the disk and start it again")

// serveUntil answers until ctx is done or the store has failed.
func serveUntil(ctx context.Context, failed <-chan struct{}, l net.Listener, server *api.Server, config *tls.Config) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-failed:
			stop(errStore)
		case <-ctx.Done():
		}
	}()
	err := server.Serve(ctx, l, config)
	if errors.Is(context.Cause(ctx), errStore) {
		return errStore
	}
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// greet says where everything is: to people in lines, to a log collector in one entry.
func (p *program) greet(ctx context.Context, s settings.Settings, inst *installation.Installation, url string, log *slog.Logger) {
	kms := inst.KeyService(ctx)
	if s.LogFormat == "json" {
		entry := []any{"url", url, "data", inst.Data, "kms", kms.InUse}
		if kms.Keyring != "" {
			entry = append(entry, "keyring", kms.Keyring, "sealed", inst.Sealed, "sealed_now", inst.SealedNow)
		}
		if kms.Vault != nil {
			entry = append(entry, "vault", kms.Vault.Address, "vault_mount", kms.Vault.Mount)
			for n, group := range []string{"root_key", "dek_key"} {
				k := kms.Vault.Keys[n]
				entry = append(entry, slog.Group(group, "name", k.Name, "latest", k.Latest, "min_available", k.MinAvailable, "min_decrypt", k.MinDecrypt))
			}
		}
		log.Info("listening", append(entry, "ledger", inst.Ledger, "new", inst.New)...)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Cloakroom %s listens on %s\n", version(), url)
	line := func(name, text string) { fmt.Fprintf(&b, "  %-8s %s\n", name, text) }
	if inst.New {
		line("data", inst.Data+" (new; credentials in app.key, officer.key, operator.key)")
	} else {
		line("data", inst.Data)
	}
	for _, row := range keyServiceRows(kms, sealed(inst)) {
		line(row[0], row[1])
	}
	line("ledger", inst.Ledger)
	if inst.New {
		fmt.Fprintf(&b, "Try: cloakroom subject put u1 --field phone%s\n", tryFlags(s, url))
	}
	_, _ = io.WriteString(p.err, b.String())
}

// tryFlags are what a client command needs to reach this server.
func tryFlags(s settings.Settings, url string) string {
	var out string
	if s.Data != settings.DefaultData {
		out += " --data " + shell.Quote(s.Data)
	}
	if s.Addr != settings.DefaultAddr {
		out += " --addr " + shell.Quote(url)
	}
	return out
}

func tlsConfig(s settings.Settings) (*tls.Config, error) {
	if s.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("tls-cert, tls-key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// listen opens the port. Beyond loopback it has to be safe: TLS, or plain HTTP by express wish.
func listen(ctx context.Context, addr string, safe bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usage("addr is host:port")
	}
	refusal := usage("plain HTTP on " + addr + " would show keys and values to the network; give --tls-cert and --tls-key, listen on 127.0.0.1, or say --insecure-http")
	if ip, err := netip.ParseAddr(host); !safe && host != "localhost" && (err != nil || !ip.Unmap().IsLoopback()) {
		return nil, refusal
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: another server runs there; end it, or choose another port with --addr", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	if !safe && !onLoopback(l.Addr()) {
		return nil, errors.Join(refusal, l.Close())
	}
	return l, nil
}

func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// writeLine puts a line into a file in one step, so that a script that waits for the file never reads half of it.
func writeLine(path, line string) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(line+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
