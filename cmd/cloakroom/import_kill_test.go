package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// An import whose client and server are killed again and again ends in the same files as one that nothing disturbs.
func TestImportKilled(t *testing.T) {
	const rows, kills = 20_000, 8
	table := writeTable(t, rows)
	calm := serveFor(t)
	quiet := filepath.Join(t.TempDir(), "tokens.csv")
	stdout, _ := mustImport(t, calm.command(append([]string{table.path, "--out", quiet, "--json"}, importMap...)...), exitPartly)
	var sum importSummary
	if err := json.Unmarshal([]byte(stdout), &sum); err != nil {
		t.Fatal(err)
	}
	if !sum.Done || sum.Rows != rows || sum.Stored != int64(len(table.good)) || sum.Failed != rows/100 {
		t.Errorf("%d rows, %d stored, %d bad", sum.Rows, sum.Stored, sum.Failed)
	}
	table.check(t, calm, quiet)
	calm.kill()

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := serveFor(t)
	out := filepath.Join(t.TempDir(), "tokens.csv")
	again := func() *exec.Cmd {
		if _, err := os.Stat(out + progressSuffix); err == nil {
			return s.command("--resume", out+progressSuffix)
		}
		// Killed before there was anything to resume.
		return s.command(append([]string{table.path, "--out", out, "--force"}, importMap...)...)
	}
	killed := 0
	for ended := false; !ended; {
		cmd := again()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if killed == kills {
			if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != exitPartly {
				t.Fatalf("undisturbed it ends with %d", cmd.ProcessState.ExitCode())
			}
			break
		}
		gone := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(gone)
		}()
		// The first kills come before anything was made safe, the later ones anywhere behind a place that was.
		if killed >= 2 {
			waitForMore(t, out, gone)
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		if killed%3 == 0 {
			s.kill()
			<-gone
			s.start(t)
		} else {
			_ = cmd.Process.Kill()
			<-gone
		}
		switch code := cmd.ProcessState.ExitCode(); code {
		case exitPartly:
			ended = true
		case exitFailed, -1:
			killed++
			t.Logf("killed with %d rows done", rowsDone(t, out))
		default:
			t.Fatalf("killed, it ends with %d", code)
		}
	}
	if killed < 2 {
		t.Errorf("it was killed %d times only", killed)
	}
	table.check(t, s, out)
	for _, suffix := range []string{"", errorsSuffix} {
		if shape(t, out+suffix) != shape(t, quiet+suffix) {
			t.Errorf("tokens.csv%s is another one", suffix)
		}
	}
}

// rowsDone is what the progress file says, 0 when there is none.
func rowsDone(t *testing.T, out string) int64 {
	t.Helper()
	state, err := readProgress(out + progressSuffix)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return state.Totals.Rows
}

// waitForMore waits until an import has come further than it was, or is gone.
func waitForMore(t *testing.T, out string, gone <-chan struct{}) {
	t.Helper()
	before := rowsDone(t, out)
	for end := time.Now().Add(time.Minute); rowsDone(t, out) == before; {
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("the import does not go on")
		}
	}
}

func waitForRows(t *testing.T, out string, n int64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); rowsDone(t, out) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d rows are done and not %d", rowsDone(t, out), n)
		}
	}
}

var goesOn = regexp.MustCompile(`(?m)go on with: (cloakroom import --resume [^;\n]*)$`)

// Ctrl-C prints a command, and that goes on; with another input it does not.
func TestImportInterrupted(t *testing.T) {
	s := serveFor(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "people.csv"), filepath.Join(dir, "the tokens.csv")
	// Bad rows are done without the server, which stands still. So it is known how far the import comes.
	const first = 10
	text := "id,手机号,姓名,备注\n" + strings.Repeat("ragged\n", first) + "q1,13800138000,张三,a\nq2,13800138001,李四,b\nq1,13800138002,王五,c\n"
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	cmd := s.command(append([]string{in, "--out", out}, importMap...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForRows(t, out, first)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	found := goesOn.FindStringSubmatch(stderr.String())
	if cmd.ProcessState.ExitCode() != exitFailed || found == nil {
		t.Fatalf("exit code %d\n%s", cmd.ProcessState.ExitCode(), &stderr)
	}
	goOn := func(more string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", found[1]+more)
		cmd.Env = quick()
		return cmd
	}

	// Not begun anew by mistake.
	_, said := mustImport(t, s.command(append([]string{in, "--out", out}, importMap...)...), exitFailed)
	if !strings.Contains(said, "was not finished; go on with: cloakroom import --resume") {
		t.Errorf("it says %s", said)
	}
	info, err := os.Stat(in)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.csv")
	before := readCSV(t, out+errorsSuffix)
	for name, altered := range map[string]string{
		"a row more":           text + "q3,13800138003,王五,c\n",
		"another row at first": strings.Replace(text, "ragged", "rugged", 1),
		"a shorter file":       text[:60],
		"another header":       strings.Replace(text, "备注", "附注", 1),
	} {
		if err := os.WriteFile(other, []byte(altered), 0o600); err != nil {
			t.Fatal(err)
		}
		_, said := mustImport(t, goOn(" "+other), exitFailed)
		if !strings.Contains(said, "not the one that the import began with") && !strings.Contains(said, "there is no column") {
			t.Errorf("%s: it says %s", name, said)
		}
	}
	if err := os.Chtimes(in, time.Time{}, info.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, said := mustImport(t, goOn(""), exitFailed); !strings.Contains(said, "not the one that the import began with") {
		t.Errorf("touched: it says %s", said)
	}
	if err := os.Chtimes(in, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if after := readCSV(t, out+errorsSuffix); len(after) != len(before) {
		t.Error("what was refused changed the outputs")
	}

	// Rows that were written after the progress file was, as a crash leaves them.
	for _, path := range []string{out, out + errorsSuffix} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(strings.Repeat("of a run that was killed\n", 100) + "in the mid")
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	mustImport(t, goOn(""), exitPartly)
	if rows := readCSV(t, out); len(rows) != 3 || rows[1][0] != "q1" || rows[2][0] != "q2" {
		t.Errorf("%d lines", len(rows))
	}
	if rows := readCSV(t, out+errorsSuffix); len(rows) != first+2 || rows[first+1][4] != "duplicate_subject" {
		t.Errorf("%d bad rows", len(rows)-1)
	}
}

// Standard input cannot be sought in: what is done is read again and passed over.
func TestImportStandardInputResumed(t *testing.T) {
	s := serveFor(t)
	table := writeTable(t, 3000)
	text, err := os.ReadFile(table.path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "tokens.csv")
	cmd := s.command(append([]string{"-", "--out", out}, importMap...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The rest is kept back: the import waits for it when it is interrupted.
	if _, err := pipe.Write(text[:len(text)*3/4]); err != nil {
		t.Fatal(err)
	}
	waitForRows(t, out, 2000)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if found := goesOn.FindStringSubmatch(stderr.String()); found == nil || !strings.Contains(found[1], "< THE-SAME-INPUT") {
		t.Fatalf("it says %s", &stderr)
	}
	resume := func(in io.Reader) *exec.Cmd {
		cmd := s.command("--resume", out+progressSuffix)
		cmd.Stdin = in
		return cmd
	}
	if _, said := mustImport(t, resume(bytes.NewReader(bytes.Replace(text, []byte("138"), []byte("139"), 1))), exitFailed); !strings.Contains(said, "not the one") {
		t.Errorf("it says %s", said)
	}
	mustImport(t, resume(bytes.NewReader(text)), exitPartly)
	table.check(t, s, out)
}
