// Package transittest runs a real HashiCorp Vault for tests, and a proxy that stands between it and a client to be slow,
// to refuse or to swallow answers where the real one will not do so on demand.
//
// The server is internal/vaultserver, built once by scripts/vaultserver.
package transittest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for the server: it never decides a test on a machine that is merely slow.
const patience = 2 * time.Minute

// Options of a server. The zero value is one in memory, over plain HTTP.
type Options struct {
	Storage string // folder that outlives the process; "" keeps everything in memory
	TLS     bool   // HTTPS; clients must show ClientCert
	NoAudit bool   // without the audit device: for benchmarks
	Bare    bool   // unsealed and otherwise empty: no engine, no auth method, no audit device
}

// Server is a running Vault: initialised, unsealed, Transit mounted at transit/, AppRole enabled at approle/, and a
// file audit device.
type Server struct {
	URL   string
	Root  string // the root token
	Audit string // file of the audit device; with Options.Bare, where one may be put

	CA, ClientCert, ClientKey string // PEM files, with Options.TLS

	opt    Options
	unseal string
	dir    string
	listen string
	tls    *certificates
	client *http.Client
	cmd    *exec.Cmd
	exited chan struct{}
	stderr bytes.Buffer
}

// Start runs a server until the end of the test.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	s, stop, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// New is Start without a test, for a TestMain whose tests share one server.
func New(opt Options) (s *Server, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "vaultserver-")
	if err != nil {
		return nil, nil, err
	}
	s = &Server{opt: opt, dir: dir, listen: "127.0.0.1:0", client: &http.Client{Transport: &http.Transport{}}}
	stop = func() error {
		s.client.CloseIdleConnections()
		return errors.Join(s.kill(), os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	if opt.TLS {
		if s.tls, err = makeCertificates(dir); err != nil {
			return nil, nil, err
		}
		s.CA, s.ClientCert, s.ClientKey = s.tls.ca, s.tls.clientCert, s.tls.clientKey
		if s.client, err = s.tls.client(); err != nil {
			return nil, nil, err
		}
	}
	if err := s.run(); err != nil {
		return nil, nil, err
	}
	if err := s.setUp(); err != nil {
		return nil, nil, err
	}
	return s, stop, nil
}

// run starts the process and waits for its address.
func (s *Server) run() error {
	binary, err := build()
	if err != nil {
		return err
	}
	addrFile := filepath.Join(s.dir, "addr")
	if err := os.RemoveAll(addrFile); err != nil {
		return err
	}
	args := []string{"--addr-file", addrFile, "--listen", s.listen}
	if s.opt.Storage != "" {
		args = append(args, "--storage", s.opt.Storage)
	}
	if s.tls != nil {
		args = append(args, "--tls-cert", s.tls.serverCert, "--tls-key", s.tls.serverKey, "--tls-client-ca", s.tls.ca)
	}
	s.stderr.Reset()
	s.cmd = exec.Command(binary, args...)
	s.cmd.Stderr = &s.stderr
	dieWithParent(s.cmd)
	// The parent's death signal is bound to the thread that starts the child: it has to live as long as the process.
	started := make(chan error, 1)
	exited := make(chan struct{})
	cmd := s.cmd
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed on purpose
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.exited = exited
	return wait("the server's address", func() (bool, error) {
		select {
		case <-exited:
			return false, fmt.Errorf("the server ended: %s", s.stderr.String())
		default:
		}
		text, err := os.ReadFile(addrFile)
		if err != nil {
			return false, nil
		}
		s.URL = strings.TrimSpace(string(text))
		_, s.listen, _ = strings.Cut(s.URL, "://") // a restart takes the same port
		return true, nil
	})
}

func (s *Server) setUp() error {
	var made struct {
		Keys []string `json:"keys"`
		Root string   `json:"root_token"`
	}
	if err := s.call("PUT", "/v1/sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &made); err != nil {
		return err
	}
	s.unseal, s.Root = made.Keys[0], made.Root
	if err := s.open(); err != nil {
		return err
	}
	s.Audit = filepath.Join(s.dir, "audit.log")
	if s.opt.Bare {
		return nil
	}
	calls := []struct {
		path string
		body map[string]any
	}{
		{"/v1/sys/mounts/transit", map[string]any{"type": "transit"}},
		{"/v1/sys/auth/approle", map[string]any{"type": "approle"}},
	}
	if !s.opt.NoAudit {
		calls = append(calls, struct {
			path string
			body map[string]any
		}{"/v1/sys/audit/file", map[string]any{"type": "file", "options": map[string]string{"file_path": s.Audit}}})
	}
	for _, c := range calls {
		if err := s.call("POST", c.path, c.body, nil); err != nil {
			return err
		}
	}
	return nil
}

// open unseals and waits until the server is active.
func (s *Server) open() error {
	if err := s.call("PUT", "/v1/sys/unseal", map[string]any{"key": s.unseal}, nil); err != nil {
		return err
	}
	return wait("the unsealed server", func() (bool, error) {
		status, _, err := s.Try("GET", "/v1/sys/health", "", nil)
		return err == nil && status == http.StatusOK, nil
	})
}

// Seal makes the server answer 503 until Unseal.
func (s *Server) Seal(t testing.TB) {
	t.Helper()
	s.Do(t, "PUT", "/v1/sys/seal", nil)
}

// Unseal opens a sealed server.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the process by SIGKILL.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) kill() error {
	if s.exited == nil {
		return nil
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.exited
	s.exited = nil
	return nil
}

// Restart runs the server again after Kill, at the same address, and unseals it. Without Options.Storage it has
// forgotten everything, and refuses to be unsealed.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.RestartSealed(t)
	s.Unseal(t)
}

// RestartSealed is Restart without the unsealing.
func (s *Server) RestartSealed(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// Do calls the API as root and returns the answer, failing the test on a status of 400 or above.
func (s *Server) Do(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	var out map[string]any
	if err := s.call(method, path, body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *Server) call(method, path string, body, out any) error {
	status, text, err := s.send(method, path, s.Root, body)
	if err != nil {
		return err
	}
	if status >= 400 {
		return fmt.Errorf("%s %s: status %d: %s", method, path, status, text)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}

// Try calls the API with a token, "" for none, and reports what came.
func (s *Server) Try(method, path, token string, body any) (status int, answer map[string]any, err error) {
	status, text, err := s.send(method, path, token, body)
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &answer)
	}
	return status, answer, err
}

func (s *Server) send(method, path, token string, body any) (int, []byte, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, s.URL+path, in)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// wait asks until done says so, or says why it never will.
func wait(what string, done func() (bool, error)) error {
	for end := time.Now().Add(patience); ; {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// build returns the path of the server's program.
func build() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the sources are not where they were compiled")
	}
	script := filepath.Join(filepath.Dir(here), "..", "..", "..", "scripts", "vaultserver")
	cmd := exec.Command(script)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", script, err, log.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// client returns an HTTP client that knows the authority and shows the client's certificate.
func (c *certificates) client() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(c.clientCert, c.clientKey)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no authority")
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair},
	}}}, nil
}
