package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

// served is a server that can be killed and started again. It and the program are processes of their own: TestMain puts
// the program into PATH.
type served struct {
	dir, addr string
	cmd       *exec.Cmd
}

func serveFor(t *testing.T) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{dir: t.TempDir(), addr: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *served) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command("cloakroom", "serve", "--data", filepath.Join(s.dir, "data"), "--addr", s.addr, "--log-level", "error")
	s.cmd.Env = quick()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); s.client(t, "").Health(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no server came up")
		}
	}
}

func (s *served) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// quick is the environment of a process that does not wait for the race detector at its end.
func quick() []string { return append(os.Environ(), "GORACE=atexit_sleep_ms=0") }

func (s *served) client(t *testing.T, name string) *client.Client {
	t.Helper()
	var key []byte
	if name != "" {
		var err error
		if key, err = os.ReadFile(filepath.Join(s.dir, "data", name+".key")); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := client.New(client.Options{Addr: s.addr, Key: wire.Plain(bytes.TrimSpace(key))})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// command is `cloakroom import` against the server.
func (s *served) command(args ...string) *exec.Cmd {
	cmd := exec.Command("cloakroom", append([]string{"import", "--data", filepath.Join(s.dir, "data"), "--addr", "http://" + s.addr}, args...)...)
	cmd.Env = quick()
	return cmd
}

// mustImport runs one to its end.
func mustImport(t *testing.T, cmd *exec.Cmd, want int) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("exit code %d, want %d\n%s%s", got, want, &out, &errs)
	}
	return out.String(), errs.String()
}
