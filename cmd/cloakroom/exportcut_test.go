package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
)

const exportCanary = "canary 13955512345"

// pagedServer answers exports with one page of people after the other; begin is called before each and may answer in
// its place.
func pagedServer(t *testing.T, pages, each int, begin func(n int, w http.ResponseWriter, r *http.Request) (answered bool)) string {
	t.Helper()
	const people = `"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","fields":{"text":{"value":"%s %s","updated_at":"2026-01-02T03:04:05Z"}},"tokens":[]}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 0
		if c := r.URL.Query().Get("cursor"); c != "" {
			if _, err := fmt.Sscanf(c, "page%d", &n); err != nil {
				t.Error(err)
			}
		}
		if begin(n, w, r) {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		var b strings.Builder
		for i := range each {
			fmt.Fprintf(&b, `,{"subject":"p%d",`, n*each+i)
			if strings.HasSuffix(r.URL.Path, "/tokens") {
				b.WriteString(`"tokens":{"phone":"tok_x"}}`)
			} else {
				fmt.Fprintf(&b, people, exportCanary, strings.Repeat("x", 1000))
			}
		}
		next := ""
		if n+1 < pages {
			next = fmt.Sprintf(`,"next_cursor":"page%d"`, n+1)
		}
		_, _ = fmt.Fprintf(w, `{"subjects":[%s]%s}`, b.String()[1:], next)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// exporting are the three commands; %s is the file.
func exporting(recipient string) map[string][]string {
	return map[string][]string{
		"encrypted": {"subject", "export", "--all", "--recipient", recipient, "--out"},
		"plain":     {"subject", "export", "--all", "--plain", "--yes", "--out"},
		"tokens":    {"export-tokens", "--fields", "phone", "--out"},
	}
}

// TestExportCut stops exports in the middle, by every side: nothing is left that looks whole, and what was there before is
// there still.
func TestExportCut(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	problem := func(w http.ResponseWriter, status int) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"type":"urn:x","title":"t","status":%d,"code":"audit_unavailable","detail":"full"}`, status)
	}
	cuts := map[string]struct {
		signal os.Signal // sent while the page is waited for
		answer http.HandlerFunc
		stderr string
	}{
		"refused":        {nil, func(w http.ResponseWriter, _ *http.Request) { problem(w, 503) }, "audit_unavailable"},
		"connection cut": {nil, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cloakroom: "},
		"answer cut": {nil, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"subjects":[{"subject":"p9"`)
		}, "not the documented JSON"},
		"the same page again": {nil, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"subjects":[],"next_cursor":"page2"}`)
		}, "does not come to an end"},
		"interrupted": {os.Interrupt, nil, "interrupted"},
		"terminated":  {syscall.SIGTERM, nil, "interrupted"},
		"killed":      {os.Kill, nil, ""},
	}
	for how, cut := range cuts {
		for name, args := range exporting(id.Recipient().String()) {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				asked, ended := make(chan struct{}, 1), make(chan struct{})
				addr := pagedServer(t, 5, 50, func(n int, w http.ResponseWriter, r *http.Request) bool {
					if n != 2 {
						return false
					}
					if cut.answer != nil {
						cut.answer(w, r)
						return true
					}
					asked <- struct{}{}
					<-ended
					return true
				})
				defer close(ended)
				dir := t.TempDir()
				out := filepath.Join(dir, "out.ndjson")
				if how == "refused" {
					if err := os.WriteFile(out, []byte("before"), 0o600); err != nil {
						t.Fatal(err)
					}
					args = append([]string{args[0]}, append(args[1:len(args)-1:len(args)-1], "--force", "--out")...)
				}
				cmd := exec.Command("cloakroom", append(args[:len(args):len(args)], out, "--addr", addr)...)
				cmd.Env = append(quick(), "CLOAKROOM_KEY=ck_key")
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- cmd.Wait() }()
				if cut.signal != nil {
					select {
					case <-asked:
					case err := <-done:
						t.Fatalf("it ends with %v and without the page: %s", err, &stderr)
					}
					if err := cmd.Process.Signal(cut.signal); err != nil {
						t.Fatal(err)
					}
				}
				var exit *exec.ExitError
				if err := <-done; !errors.As(err, &exit) {
					t.Fatalf("it ends with %v", err)
				}
				if code := exit.ExitCode(); cut.signal != os.Kill && code != 1 || !strings.Contains(stderr.String(), cut.stderr) {
					t.Errorf("exit code %d: %s", code, &stderr)
				}
				if strings.Contains(stderr.String(), "13955512345") {
					t.Errorf("standard error holds a value: %s", &stderr)
				}
				left, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range left {
					text, err := os.ReadFile(filepath.Join(dir, f.Name()))
					if err != nil {
						t.Fatal(err)
					}
					switch {
					case how == "refused" && f.Name() == "out.ndjson" && string(text) == "before":
					case how == "killed" && strings.HasPrefix(f.Name(), "out.ndjson.") && strings.HasSuffix(f.Name(), ".partial"):
						if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
							t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
						}
						if name == "encrypted" && (bytes.Contains(text, []byte("canary")) || opens(id, text)) {
							t.Error("what a killed export leaves is readable, or opens to its end")
						}
					default:
						t.Errorf("%s is left, %d bytes", f.Name(), len(text))
					}
				}
				if want := map[string]int{"refused": 1, "killed": 1}[how]; len(left) != want {
					t.Errorf("%d files are left", len(left))
				}
			})
		}
	}
}

// TestExportNeverOverwrites: neither a file that is there, for which the server is not even asked, nor one that comes meanwhile.
func TestExportNeverOverwrites(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	commands := exporting(id.Recipient().String())
	commands["one person"] = []string{"subject", "export", "u1", "--out"}
	commands["one person, encrypted"] = []string{"subject", "export", "u1", "--recipient", id.Recipient().String(), "--out"}
	for name, args := range commands {
		for _, meanwhile := range []bool{false, true} {
			dir := t.TempDir()
			out := filepath.Join(dir, "out.ndjson")
			put := func() {
				if err := os.WriteFile(out, []byte("another's"), 0o600); err != nil {
					t.Error(err)
				}
			}
			addr := pagedServer(t, 3, 3, func(n int, w http.ResponseWriter, r *http.Request) bool {
				one := strings.HasSuffix(r.URL.Path, "/subjects/u1/export")
				if one {
					_, _ = io.WriteString(w, `{"subject":"u1","fields":{},"tokens":[]}`)
				}
				if !meanwhile {
					t.Errorf("%s: the server was asked for people whom there is no place for", name)
				} else if n == 1 || one {
					put()
				}
				return one
			})
			if !meanwhile {
				put()
			}
			p, _, errs := testProgram("")
			p.now, p.lookup = time.Now, withKey
			code := p.run(t.Context(), append(args[:len(args):len(args)], out, "--addr", addr))
			text, err := os.ReadFile(out)
			left, _ := os.ReadDir(dir)
			if code != 1 || !strings.Contains(errs.String(), "is there already") || err != nil || string(text) != "another's" || len(left) != 1 {
				t.Errorf("%s, meanwhile %t: exit code %d, %d files: %s", name, meanwhile, code, len(left), errs)
			}
		}
	}
}

func opens(id age.Identity, file []byte) bool {
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return err == nil
}

// TestExportCutOnStandardOutput: what came of an encrypted export that failed does not open to its end.
func TestExportCutOnStandardOutput(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, fails := range []bool{false, true} {
		addr := pagedServer(t, 5, 200, func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 3 && fails {
				_, _ = io.WriteString(w, `{`)
			}
			return n == 3 && fails
		})
		p, out, errs := testProgram("")
		p.now, p.lookup = time.Now, withKey
		code := p.run(t.Context(), []string{"subject", "export", "--all", "--recipient", id.Recipient().String(), "--addr", addr})
		if code != map[bool]int{true: 1, false: 0}[fails] || opens(id, out.Bytes()) == fails || out.Len() < 400_000 || bytes.Contains(out.Bytes(), []byte("canary")) {
			t.Errorf("fails %t: exit code %d, %d bytes: %s", fails, code, out.Len(), errs)
		}
	}
}

func withKey(name string) (string, bool) { return "ck_key", name == "CLOAKROOM_KEY" }

// TestExportToATerminal: an encrypted one is refused, a readable one is asked about, a person is indented, and progress
// is shown and taken away, unless the export itself goes there.
func TestExportToATerminal(t *testing.T) {
	t.Parallel()
	addr := pagedServer(t, 2, 3, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/subjects/u1/export") {
			_, _ = io.WriteString(w, `{"subject":"u1","fields":{},"tokens":[],"error":{"code":"data_corrupt","field":"text"}}`)
			return true
		}
		return false
	})
	run := func(typed string, args ...string) (code int, out, errs string) {
		p, stdout, stderr := testProgram(typed)
		p.now, p.lookup = time.Now, withKey
		p.inTerminal, p.outTerminal, p.errTerminal = true, true, true
		code = p.run(t.Context(), append(args, "--addr", addr))
		return code, stdout.String(), stderr.String()
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := run("", "subject", "export", "--all", "--recipient", id.Recipient().String()); code != 2 || out != "" || !strings.Contains(errs, "not for a terminal") {
		t.Errorf("encrypted: %d, %q, %q", code, out, errs)
	}
	if code, out, errs := run("no\n", "subject", "export", "--all", "--plain"); code != 2 || out != "" || !strings.Contains(errs, "not confirmed") {
		t.Errorf("not confirmed: %d, %q, %q", code, out, errs)
	}
	if code, out, errs := run("plain\n", "subject", "export", "--all", "--plain"); code != 0 || strings.Count(out, "\n") != 6 || strings.Contains(errs, "\x1b") || !strings.HasSuffix(errs, ": 6 people\n") {
		t.Errorf("confirmed: %d, %q, %q", code, out, errs)
	}
	if code, out, errs := run("", "export-tokens", "--fields", "phone"); code != 0 || strings.Count(out, "\n") != 7 || errs != "" {
		t.Errorf("tokens: %d, %q, %q", code, out, errs)
	}
	for name, args := range exporting(id.Recipient().String()) {
		code, out, errs := run("", append(args, filepath.Join(t.TempDir(), "out.ndjson"))...)
		if code != 0 || out != "" || !strings.Contains(errs, "\r\x1b[K1 people, ") || !strings.Contains(errs, "\r\x1b[K6 people") {
			t.Errorf("%s to a file: %d, %q, %q", name, code, out, errs)
		}
	}
	if code, out, errs := run("", "subject", "export", "u1"); code != 3 || !strings.Contains(out, "\n  \"subject\": \"u1\"") || !strings.Contains(errs, "data_corrupt") {
		t.Errorf("one person: %d, %q, %q", code, out, errs)
	}
}

// TestExportTellsWhoIsMissing counts those who could not be read. What is written is complete all the same, and the exit code is 3
// even where nobody could be.
func TestExportTellsWhoIsMissing(t *testing.T) {
	t.Parallel()
	addr := pagedServer(t, 1, 1, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		fields := `"fields":{},`
		if strings.HasSuffix(r.URL.Path, "/tokens") {
			fields = ""
		}
		_, _ = io.WriteString(w, `{"subjects":[{"subject":"u1",`+fields+`"tokens":`+map[bool]string{true: `{"phone":"tok_1","colour":"tok_2"}`, false: "[]"}[fields == ""]+`},
			{"error":{"code":"key_unavailable"}},{"error":{"code":"data_corrupt"}},{"error":{"code":"data_corrupt"}}]}`)
		return true
	})
	nobody := pagedServer(t, 1, 1, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/subjects/u1/export") {
			_, _ = io.WriteString(w, `{"subject":"u1","fields":{},"tokens":[],"error":{"code":"data_corrupt","field":"text"}}`)
		} else {
			_, _ = io.WriteString(w, `{"subjects":[{"error":{"code":"odd\u001b[2J"}}]}`)
		}
		return true
	})
	dir := t.TempDir()
	for _, c := range []struct {
		name      string
		args      []string
		out, errs string
		lines     int
	}{
		{"people", []string{"subject", "export", "--all", "--plain", "--yes"}, `{"error":{"code":"key_unavailable"}}` + "\n", "1 people\n3 people could not be read, or not as a whole: data_corrupt 2, key_unavailable 1\n", 4},
		{"tokens", []string{"export-tokens", "--fields", "phone"}, "subject,phone\nu1,tok_1\n", "have no column; NDJSON has their tokens: colour\n3 people could not be read and are left out: data_corrupt 2, key_unavailable 1\n", 2},
		{"tokens as JSON", []string{"export-tokens", "--json"}, `{"subject":"u1","tokens":{"colour":"tok_2","phone":"tok_1"}}` + "\n", `"code":"items_failed"`, 1},
		{"a summary", []string{"export-tokens", "--json", "--out", filepath.Join(dir, "x.ndjson")}, `"people":1,"failed":3,`, `"code":"items_failed"`, 1},
		{"nobody", []string{"subject", "export", "--all", "--plain", "--yes", "--addr", nobody}, `{"error":{"code":"odd`, `not as a whole: odd\x1b[2J 1` + "\ncloakroom: none of 1 succeeded; the reasons stand above\n", 1},
		{"nobody's tokens", []string{"export-tokens", "--fields", "phone", "--addr", nobody}, "subject,phone\n", `left out: odd\x1b[2J 1` + "\n", 1},
		{"nobody, to a file", []string{"subject", "export", "--all", "--plain", "--yes", "--json", "--out", filepath.Join(dir, "nobody"), "--addr", nobody}, `"people":0,"failed":1,`, `"code":"items_failed"`, 1},
		{"one person", []string{"subject", "export", "u1", "--json", "--addr", nobody}, `{"subject":"u1",`, `"code":"data_corrupt"`, 1},
		{"one person, to a file", []string{"subject", "export", "u1", "--out", filepath.Join(dir, "u1"), "--addr", nobody}, "", "not everything could be read: data_corrupt", 0},
	} {
		p, out, errs := testProgram("")
		p.now, p.lookup = time.Now, withKey
		args := c.args
		if !slices.Contains(args, "--addr") {
			args = append(args, "--addr", addr)
		}
		code := p.run(t.Context(), args)
		if code != 3 || strings.Contains(errs.String(), "\x1b") || !strings.Contains(out.String(), c.out) || strings.Count(out.String(), "\n") != c.lines || !strings.Contains(errs.String(), c.errs) {
			t.Errorf("%s: exit code %d, %s, %s", c.name, code, out, errs)
		}
		for i, word := range args {
			if word != "--out" {
				continue
			}
			if info, err := os.Stat(args[i+1]); err != nil || info.Size() == 0 {
				t.Errorf("%s: no complete file is left: %v", c.name, err)
			}
		}
	}
}

// TestExportTakesNoMemory: a hundred pages need no more than ten.
func TestExportTakesNoMemory(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range exporting(id.Recipient().String()) {
		var held [2]uint64
		addr := pagedServer(t, 101, 150, func(n int, _ http.ResponseWriter, _ *http.Request) bool {
			if n == 10 || n == 100 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				held[n/100] = m.HeapAlloc
			}
			return false
		})
		p, _, errs := testProgram("")
		p.now, p.lookup = time.Now, withKey
		out := filepath.Join(t.TempDir(), "out.ndjson")
		if code := p.run(t.Context(), append(args, out, "--addr", addr)); code != 0 {
			t.Fatalf("%s: exit code %d: %s", name, code, errs)
		}
		if grown := int64(held[1]) - int64(held[0]); grown > 2<<20 {
			t.Errorf("%s: 90 pages hold %d bytes", name, grown)
		}
	}
}
