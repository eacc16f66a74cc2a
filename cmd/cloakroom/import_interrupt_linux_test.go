package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An interruption ends the command wherever it waits for its input.
func TestImportInterruptedWhileReading(t *testing.T) {
	s := serveFor(t)
	out := filepath.Join(t.TempDir(), "tokens.csv")
	importing := append([]string{"-", "--out", out}, importMap...)
	cases := []struct {
		name string
		args []string
		in   string // what comes before nothing comes
		want string
	}{
		{"import", importing, "id,手机号", "interrupted before the first answer; run the same command again"},
		{"dry run", append([]string{"-", "--dry-run"}, importMap...), "i", "interrupted"},
		{"dry run, under way", append([]string{"-", "--dry-run"}, importMap...), strings.Repeat("id,手机号,姓名,备注\n", 4000), "interrupted"},
		{"detect", []string{"-", "--detect"}, "id,手机号,姓名,备注\n", "interrupted"},
	}
	for _, tc := range cases {
		for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			t.Run(tc.name+" "+signal.String(), func(t *testing.T) {
				if stderr := interrupted(t, s, signal, tc.in, tc.args...); !strings.Contains(stderr, tc.want) {
					t.Errorf("it says %s", stderr)
				}
			})
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an output is left: %v", err)
	}

	// A progress file, for --resume.
	cmd := s.command(importing...)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(pipe, "id,手机号,姓名,备注\n"+strings.Repeat("ragged,"+strings.Repeat("x", 60)+"\n", 3000)); err != nil {
		t.Fatal(err)
	}
	waitForRows(t, out, 1000)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for name, in := range map[string]string{"nothing comes": "i", "what is done comes": "id,手机号,姓名,备注\n" + strings.Repeat("ragged,"+strings.Repeat("x", 60)+"\n", 900)} {
		if stderr := interrupted(t, s, os.Interrupt, in, "--resume", out+progressSuffix); !strings.Contains(stderr, "interrupted; go on with: cloakroom import --resume") {
			t.Errorf("resume, %s: it says %s", name, stderr)
		}
	}
}

// interrupted starts an import that waits for more of its standard input, sends it a signal, and returns what it says.
func interrupted(t *testing.T, s *served, signal os.Signal, in string, args ...string) string {
	t.Helper()
	cmd := s.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	defer from.Close()
	cmd.Stdin = from
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	if _, err := io.WriteString(to, in); err != nil {
		t.Fatal(err)
	}
	// It waits for more once it has taken everything.
	deadline := time.After(time.Minute)
	for {
		left, err := unix.IoctlGetInt(int(from.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		select {
		case <-ended:
			t.Fatalf("it ended by itself: %s", &stderr)
		case <-deadline:
			t.Fatal("it reads nothing")
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-deadline:
		_ = cmd.Process.Kill()
		<-ended
		t.Fatal("the interruption did not end it")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	return stderr.String()
}
