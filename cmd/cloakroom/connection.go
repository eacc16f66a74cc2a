package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
)

// connection is how a client command reaches a server: --addr, --data, --as and the environment.
type connection struct {
	addr, data, as, caFile string
	insecureHTTP           bool
	once                   bool // do not repeat what the server says to try again: whoever looks at it wants to see that

	keySource string // where the key came from, for people
}

// The credentials that a new installation has.
const (
	appKey      = "app"
	officerKey  = "officer"
	operatorKey = "operator"
)

// connects adds the flags of a client command.
func (p *program) connects(commands ...*cobra.Command) {
	for _, c := range commands {
		f := c.Flags()
		f.StringVar(&p.conn.addr, "addr", "", "the server's URL (CLOAKROOM_ADDR; default http://"+settings.DefaultAddr+")")
		p.findsKeys(c)
		f.StringVar(&p.conn.caFile, "ca", "", "PEM `file` of the authority that signed the server's certificate (CLOAKROOM_CA; default the system's)")
		f.BoolVar(&p.conn.insecureHTTP, "insecure-http", false, "allow plain HTTP to another machine: key and values travel readable")
	}
}

// findsKeys adds the flags of a command that reads key files.
func (p *program) findsKeys(c *cobra.Command) {
	c.Flags().StringVar(&p.conn.data, "data", "", "`folder` where the keys lie (CLOAKROOM_DATA; default "+settings.DefaultData+")")
	c.Flags().StringVar(&p.conn.as, "as", "", "use the key in DATA/`NAME`.key")
}

func (c *connection) address(lookup func(string) (string, bool)) string {
	return c.choose(lookup, c.addr, "CLOAKROOM_ADDR", "http://"+settings.DefaultAddr)
}

func (c *connection) folder(lookup func(string) (string, bool)) string {
	return c.choose(lookup, c.data, "CLOAKROOM_DATA", settings.DefaultData)
}

func (c *connection) choose(lookup func(string) (string, bool), flag, env, otherwise string) string {
	if flag != "" {
		return flag
	}
	if v, ok := lookup(env); ok && v != "" {
		return v
	}
	return otherwise
}

// key finds the credential: --as, then CLOAKROOM_KEY, then the default file of the command.
func (c *connection) key(lookup func(string) (string, bool), standard string) (wire.Plain, error) {
	name := c.as
	if name == "" {
		if v, ok := lookup("CLOAKROOM_KEY"); ok && v != "" {
			c.keySource = "CLOAKROOM_KEY"
			return wire.Plain(strings.TrimSpace(v)), nil
		}
		name = standard
	}
	if !settings.KeyName(name) {
		return "", usage("--as takes the name of a key file in the data folder, without .key and without a path")
	}
	path := filepath.Join(c.folder(lookup), name+".key")
	c.keySource = path
	return readKey(path)
}

// readKey reads a key file, and refuses one that others may read: whoever holds the key is the service.
func readKey(path string) (wire.Plain, error) {
	const limit = 4096
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no key at %s; say where the data folder is with --data, or give a key in CLOAKROOM_KEY", path)
	}
	if err != nil {
		return "", fmt.Errorf("the key cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("the key cannot be read: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), shell.Quote(path))
	case info.Size() > limit:
		return "", fmt.Errorf("%s is too long for a key", path)
	}
	buf := make([]byte, limit)
	n, err := f.Read(buf)
	if err != nil && n == 0 {
		return "", fmt.Errorf("%s holds no key; make another with: cloakroom service add-key", path)
	}
	return wire.Plain(strings.TrimRight(string(buf[:n]), "\r\n")), nil
}

// connect makes a client with the command's standard key.
func (p *program) connect(standard string) (*client.Client, error) {
	key, err := p.conn.key(p.lookup, standard)
	if err != nil {
		return nil, err
	}
	return p.dial(key)
}

// dial makes a client with the key given, which may be empty.
func (p *program) dial(key wire.Plain) (*client.Client, error) {
	o := client.Options{Addr: p.conn.address(p.lookup), Key: key, InsecureHTTP: p.conn.insecureHTTP}
	if file := p.conn.choose(p.lookup, p.conn.caFile, "CLOAKROOM_CA", ""); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", file)
		}
		o.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if p.conn.once {
		o.Retries = -1
	}
	c, err := client.New(o)
	if err != nil {
		return nil, usage(strings.TrimPrefix(err.Error(), "client: "))
	}
	return c, nil
}
