package readmetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const program = "go run ./cmd/cloakroom"

// TestREADME runs the demo, then a server in an empty folder and, beside it, every shell block of the README. Only
// three things are put in place of what stands there: the built program for `go run`, a free port for 8440, and real
// tokens for the shortened ones.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	first := firstScreen(string(readme))
	if !strings.Contains(first, program+" demo") || !strings.Contains(first, "./scripts/test") {
		t.Error("the README's first screen does not have both commands: the demo and ./scripts/test")
	}
	bin := build(t)
	dir := t.TempDir()

	demo := exec.Command(bin, "demo")
	demo.Dir = dir
	if out, err := demo.CombinedOutput(); err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("the demo left %s behind", left[0].Name())
	}

	addr := serve(t, bin, dir)
	tokens := map[string]string{}
	blocks := shellBlocks(string(readme))
	if len(blocks) < 2 {
		t.Fatalf("found %d shell blocks", len(blocks))
	}
	for _, block := range blocks {
		run(t, bin, dir, addr, block, tokens)
	}
}

func firstScreen(readme string) string {
	lines := strings.Split(readme, "\n")
	return strings.Join(lines[:min(len(lines), 24)], "\n")
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "cloakroom")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/cloakroom")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// serve starts the server of the README on a free port and returns its address.
func serve(t *testing.T, bin, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addr")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, bin, "serve", "--addr", "127.0.0.1:0", "--addr-file", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	for {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("serve ended: %v\n%s", err, out.String())
		case <-time.After(20 * time.Millisecond):
		}
		if addr, err := os.ReadFile(file); err == nil && len(bytes.TrimSpace(addr)) > 0 {
			return strings.TrimPrefix(strings.TrimSpace(string(addr)), "http://")
		}
	}
}

var fence = regexp.MustCompile("(?s)```sh\n(.*?)```")

func shellBlocks(readme string) []string {
	var out []string
	for _, m := range fence.FindAllStringSubmatch(readme, -1) {
		out = append(out, m[1])
	}
	return out
}

var (
	token     = regexp.MustCompile(`tok_([a-z]+)_[0-9A-Za-z]{28}`)
	shortened = regexp.MustCompile(`tok_([a-z]+)_…`)
)

// run runs a block as one shell script that stops at the first failure, and looks for each answer that the README shows
// as a comment.
func run(t *testing.T, bin, dir, addr, block string, tokens map[string]string) {
	t.Helper()
	var script, shown []string
	for _, line := range strings.Split(block, "\n") {
		if answer, ok := strings.CutPrefix(line, "# "); ok {
			shown = append(shown, answer)
		}
		if code, comment, ok := strings.Cut(line, "     # "); ok {
			line, shown = code, append(shown, comment)
		}
		script = append(script, line)
	}
	var output strings.Builder
	// Each command after which the README shows an answer may use a token of the one before: run them one at a time.
	for _, part := range parts(script) {
		text := strings.ReplaceAll(part, program, bin)
		text = strings.ReplaceAll(text, "127.0.0.1:8440", addr)
		text = shortened.ReplaceAllStringFunc(text, func(s string) string {
			return tokens[shortened.FindStringSubmatch(s)[1]]
		})
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", text)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CLOAKROOM_ADDR=http://"+addr)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v\n%s", part, err, out)
		}
		output.Write(out)
		for _, m := range token.FindAllStringSubmatch(string(out), -1) {
			tokens[m[1]] = m[0]
		}
	}
	for _, answer := range shown {
		if !strings.Contains(token.ReplaceAllString(output.String(), "tok_${1}_…"), answer) {
			t.Errorf("the README shows %q, but the answer was\n%s", answer, output.String())
		}
	}
}

// parts cuts a script at its empty lines; the assignments of the first part go before every other.
func parts(lines []string) []string {
	var out []string
	for _, p := range strings.Split(strings.Join(lines, "\n"), "\n\n") {
		if strings.TrimSpace(p) == "" {
			continue
		}
		if len(out) > 0 && strings.HasPrefix(out[0], "key=") {
			p = strings.SplitN(out[0], "\n", 2)[0] + "\n" + p
		}
		out = append(out, p)
	}
	return out
}
