package systemtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// binaryVar names the binary to a child test process, which then does not build it again.
const binaryVar = "CLOAKROOM_SYSTEMTEST_BINARY"

// program is what is under test, built once by TestMain.
var program string

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	if program = os.Getenv(binaryVar); program != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "cloakroom-systemtest-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// One of the tests runs the server as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	program = filepath.Join(dir, "cloakroom")
	args := []string{"build", "-o", program}
	if withRace {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/cloakroom-io/cloakroom/cmd/cloakroom")...).CombinedOutput()
	if err != nil {
		return 1, fmt.Errorf("building cloakroom: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// process is a run of `cloakroom serve`.
type process struct {
	cmd       *exec.Cmd
	log       *serverLog
	listening chan string   // the URL, once
	ended     chan struct{} // closed when the process is gone
}

// launch starts a server on the data folder without waiting for it.
func launch(t testing.TB, data string, args ...string) *process {
	t.Helper()
	return launchAs(t, nil, data, args...)
}

func launchAs(t testing.TB, attr *syscall.SysProcAttr, data string, args ...string) *process {
	t.Helper()
	p := &process{listening: make(chan string, 1), ended: make(chan struct{})}
	p.log = &serverLog{listening: p.listening}
	all := append([]string{"serve", "--data", data, "--addr", "127.0.0.1:0", "--log-level", "debug"}, args...)
	p.cmd = exec.Command(program, all...)
	// The race detector would wait a second at the end of each process.
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = p.log, p.log, attr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process at once, as a loss of power would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop asks the process to end and returns its exit code.
func (p *process) stop() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait()
}

func (p *process) wait() int {
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// url waits for the server to listen; ok is false when it ended instead.
func (p *process) url() (url string, ok bool) {
	select {
	case url = <-p.listening:
		return url, true
	case <-p.ended:
		return "", false
	}
}

// start runs a server that must come up, and ends it with the test. Its log must show no race and no crash.
func start(t testing.TB, data string, args ...string) *server {
	t.Helper()
	p := launch(t, data, args...)
	url, ok := p.url()
	if !ok {
		t.Fatalf("the server did not start: exit %d\n%s", p.wait(), p.log)
	}
	s := connect(t, p, data, url)
	t.Cleanup(func() {
		p.kill()
		if fault := p.log.fault(); fault != "" {
			t.Errorf("the server's log has %q:\n%s", fault, p.log)
		}
	})
	return s
}

// mustStop ends a server in order.
func (s *server) mustStop(t testing.TB) {
	t.Helper()
	if code := s.stop(); code != 0 {
		t.Fatalf("the server ended with exit %d\n%s", code, s.log)
	}
}

// mustRefuse runs a server that must not come up, and returns what it said. It must be one line of reason and exit 1.
func mustRefuse(t testing.TB, data string, args ...string) string {
	t.Helper()
	return launch(t, data, args...).mustBeRefused(t)
}

func (p *process) mustBeRefused(t testing.TB) string {
	t.Helper()
	if url, ok := p.url(); ok {
		t.Fatalf("the server listens on %s:\n%s", url, p.log)
	}
	said := p.log.String()
	if code := p.wait(); code != 1 {
		t.Errorf("exit %d, want 1:\n%s", code, said)
	}
	if fault := p.log.fault(); fault != "" {
		t.Errorf("refused with %q:\n%s", fault, said)
	}
	last := said[strings.LastIndexByte(strings.TrimSuffix(said, "\n"), '\n')+1:]
	if !strings.HasPrefix(last, "cloakroom: ") {
		t.Errorf("the last line is no message:\n%s", said)
	}
	return last
}

// run runs another command to its end.
func run(t testing.TB, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// mustVerifyAudit runs `cloakroom audit verify`.
func mustVerifyAudit(t testing.TB, data string) {
	t.Helper()
	if code, out := run(t, "audit", "verify", filepath.Join(data, "audit"), "--key", filepath.Join(data, "audit.pub")); code != 0 {
		t.Errorf("audit verify: exit %d: %s", code, out)
	}
}

// serverLog is what a server wrote to its standard output and error.
type serverLog struct {
	listening chan<- string
	mu        sync.Mutex
	text      []byte
	told      bool
}

var listens = regexp.MustCompile(`(?:listens on |"url":")(http://[0-9.:]+)["\n]`)

func (l *serverLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	if !l.told {
		if m := listens.FindSubmatch(l.text); m != nil {
			l.told = true
			l.listening <- string(m[1])
		}
	}
	return len(b), nil
}

func (l *serverLog) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text)
}

// String returns the end of the log, enough to see what happened.
func (l *serverLog) String() string {
	const shown = 6000
	text := l.bytes()
	return string(text[max(0, len(text)-shown):])
}

// fault returns a sign of a broken server, or "".
func (l *serverLog) fault() string {
	text := l.bytes()
	for _, sign := range []string{"DATA RACE", "panic", "fatal error", "goroutine ", "SIGSEGV", "internal_error", "data_corrupt"} {
		if bytes.Contains(text, []byte(sign)) {
			return sign
		}
	}
	return ""
}
