// Command vaultserver is a HashiCorp Vault for tests: the real core, its HTTP API, the Transit engine, AppRole and the
// file audit device, in one process. It is a module of its own, so that the product depends on none of it.
//
// It starts sealed and without keys, as any Vault does: who starts it initialises and unseals it over the API. Storage
// is a folder, or memory when none is given.
//
//	vaultserver --addr-file FILE [--listen 127.0.0.1:0] [--storage DIR] [--tls-cert FILE --tls-key FILE [--tls-client-ca FILE]]
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

type options struct {
	listen, addrFile, storage string
	cert, key, clientCA       string
	logLevel                  string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "host:port; port 0 takes a free one")
	flag.StringVar(&o.addrFile, "addr-file", "", "file that gets the URL once the server answers")
	flag.StringVar(&o.storage, "storage", "", "folder to keep everything in; empty = memory")
	flag.StringVar(&o.cert, "tls-cert", "", "certificate, PEM")
	flag.StringVar(&o.key, "tls-key", "", "its key, PEM")
	flag.StringVar(&o.clientCA, "tls-client-ca", "", "PEM; with it, clients must show a certificate that these signed")
	flag.StringVar(&o.logLevel, "log-level", "error", "of the server's own log, on standard error")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "vaultserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, o options) error {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.LevelFromString(o.logLevel)})
	config, err := tlsConfig(o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	if config != nil {
		url = "https://" + listener.Addr().String()
		listener = tls.NewListener(listener, config)
	}
	core, err := newCore(o.storage, url, log)
	if err != nil {
		return err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{
		MaxRequestSize: vaulthttp.DefaultMaxRequestSize, MaxRequestDuration: vault.DefaultMaxRequestDuration,
	}})
	core.SetClusterHandler(handler)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if o.addrFile != "" {
		if err := writeLine(o.addrFile, url); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return errors.Join(server.Close(), core.Shutdown())
}

func newCore(storage, url string, log hclog.Logger) (*vault.Core, error) {
	var backend physical.Backend
	var err error
	if storage == "" {
		backend, err = inmem.NewInmem(nil, log)
	} else {
		backend, err = file.NewFileBackend(map[string]string{"path": storage}, log)
	}
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           backend,
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
		AuditBackends:      map[string]audit.Factory{"file": audit.NewFileBackend},
		BuiltinRegistry:    builtins{},
		DisableMlock:       true, // tests hold nothing that a swap must not see
		Logger:             log,
		RedirectAddr:       url,
		NumRollbackWorkers: 2,
	})
}

// builtins tells the core which of its back-ends count as its own.
type builtins struct{}

func factory(name string, kind consts.PluginType) (logical.Factory, bool) {
	switch {
	case name == "transit" && kind == consts.PluginTypeSecrets:
		return transit.Factory, true
	case name == "approle" && kind == consts.PluginTypeCredential:
		return approle.Factory, true
	}
	return nil, false
}

func (builtins) Contains(name string, kind consts.PluginType) bool {
	_, ok := factory(name, kind)
	return ok
}

func (builtins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	f, ok := factory(name, kind)
	return func() (any, error) { return f, nil }, ok
}

func (builtins) Keys(kind consts.PluginType) []string {
	switch kind {
	case consts.PluginTypeSecrets:
		return []string{"transit"}
	case consts.PluginTypeCredential:
		return []string{"approle"}
	default:
		return nil
	}
}

func (b builtins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func tlsConfig(o options) (*tls.Config, error) {
	if o.cert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if o.clientCA != "" {
		text, err := os.ReadFile(o.clientCA)
		if err != nil {
			return nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", o.clientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// writeLine puts a line into a file in one step, so that who waits for the file never reads half of it.
func writeLine(path, line string) error {
	if err := os.WriteFile(path+".new", []byte(line+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
