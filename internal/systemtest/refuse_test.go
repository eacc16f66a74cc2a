package systemtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists what lies in a folder, with the content of each file.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mustContain holds a message to the words that tell its reader what happened and what to do.
func mustContain(t testing.TB, message string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("the message lacks %q: %s", word, message)
		}
	}
}

func TestSecondServerOnOneFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data)
	mustContain(t, mustRefuse(t, data), "cloakroom.db", "another")
	mustContain(t, mustRefuse(t, filepath.Join(t.TempDir(), "other"), "--addr", strings.TrimPrefix(s.url, "http://")), "in use", "--addr")
	s.mustPut(t, "u1", fields{"phone": "16100000001"})
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	var attr *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		// Root may write anywhere; nobody may not.
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	message := launchAs(t, attr, filepath.Join(dir, "data")).mustBeRefused(t)
	mustContain(t, message, "data folder", "permission denied")
	below := filepath.Join(dir, "data")
	if err := errors.Join(os.Chmod(dir, 0o700), os.WriteFile(below, []byte("a file"), 0o600)); err != nil {
		t.Fatal(err)
	}
	mustContain(t, mustRefuse(t, below), "data folder")
	mustContain(t, mustRefuse(t, filepath.Join(below, "deeper")), "data folder")
}

// Each case breaks an installation that holds a person and an erasure. Starting must be refused with a message that
// helps, and must change nothing; mended, the installation works.
func TestBrokenInstallationsAreRefused(t *testing.T) {
	base := filepath.Join(t.TempDir(), "a")
	foreign := filepath.Join(t.TempDir(), "b")
	data := filepath.Join(base, "data")
	other := filepath.Join(foreign, "data")
	start(t, other).mustStop(t)
	s := start(t, data)
	s.mustPut(t, "u1", fields{"phone": "16100000001"})
	s.mustPut(t, "u2", fields{"phone": "16100000002"})
	s.must(t, 200, s.app, "DELETE", "/v1/subjects/u2", nil)
	s.mustStop(t)
	old := filepath.Join(t.TempDir(), "ledger")
	copyFile(t, data+".ledger", old)
	s = start(t, data)
	s.mustPut(t, "u3", fields{"phone": "16100000003"})
	s.must(t, 200, s.app, "DELETE", "/v1/subjects/u3", nil)
	s.mustStop(t)

	remove := func(paths ...string) func() {
		return func() {
			for _, path := range paths {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	exchange := func(pairs ...string) func() {
		return func() {
			for i := 0; i < len(pairs); i += 2 {
				copyFile(t, pairs[i], pairs[i+1])
			}
		}
	}
	ring := data + ".keyring"
	tests := []struct {
		name  string
		fault func()
		words []string
	}{
		{"keyring missing", remove(ring, ring+".mirror"), []string{"keyring", ring, "put"}},
		{"keyring of another", exchange(other+".keyring", ring, other+".keyring.mirror", ring+".mirror"), []string{"key"}},
		{"keyring is empty", exchange("/dev/null", ring, "/dev/null", ring+".mirror"), []string{"keyring"}},
		{"ledger missing", remove(data + ".ledger"), []string{data + ".ledger"}},
		{"ledger is an older copy", exchange(old, data+".ledger"), []string{data + ".ledger", "older"}},
		{"ledger of another", exchange(other+".ledger", data+".ledger"), []string{data + ".ledger", "another installation"}},
		{"store missing", remove(filepath.Join(data, "cloakroom.db")), []string{"cloakroom.db", "missing"}},
		{"store is empty", exchange("/dev/null", filepath.Join(data, "cloakroom.db")), []string{"cloakroom.db"}},
		{"store of another", exchange(filepath.Join(other, "cloakroom.db"), filepath.Join(data, "cloakroom.db")), []string{"key"}},
		{"audit log missing", remove(filepath.Join(data, "audit")), []string{filepath.Join(data, "audit"), "gone"}},
		{"data folder missing", remove(data), []string{data + ".ledger"}},
		{"data folder empty", func() { remove(data)(); must(t, os.Mkdir(data, 0o700)) }, []string{data + ".ledger"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			whole := tree(t, base)
			tt.fault()
			before := tree(t, base)
			message := mustRefuse(t, data)
			mustContain(t, message, tt.words...)
			t.Log(strings.TrimSpace(message))
			after := tree(t, base)
			for path, text := range before {
				// bbolt makes a file without a byte into a store without a row.
				if after[path] != text && !(text == "" && strings.HasSuffix(path, "cloakroom.db")) {
					t.Errorf("the refused start changed %s", path)
				}
			}
			for path, text := range after {
				if _, there := before[path]; !there && text != "" {
					t.Errorf("the refused start made %s", path)
				}
			}
			for path, text := range whole {
				must(t, os.MkdirAll(filepath.Dir(path), 0o700))
				must(t, os.WriteFile(path, []byte(text), 0o600))
			}
			for path := range after {
				if _, there := whole[path]; !there {
					must(t, os.Remove(path))
				}
			}
			s := start(t, data)
			s.mustShow(t, "u1", fields{"phone": "16100000001"})
			s.mustCode(t, 410, "subject_erased", s.app, "GET", get("u2"), nil)
			s.mustStop(t)
		})
	}
}

// TestOldStoreWithNewLedger puts an older copy of the store back. It still holds who was erased since, which the ledger
// knows: it must not be served.
func TestOldStoreWithNewLedger(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	store, old, newest := filepath.Join(data, "cloakroom.db"), filepath.Join(t.TempDir(), "old.db"), filepath.Join(t.TempDir(), "new.db")
	s := start(t, data)
	s.mustPut(t, "stays", fields{"phone": "16100000001"})
	token := s.mustPut(t, "goes", fields{"phone": "16100000002"})["phone"]
	s.mustStop(t)
	copyFile(t, store, old)
	s = start(t, data)
	s.must(t, 200, s.app, "DELETE", "/v1/subjects/goes", nil)
	s.mustStop(t)
	copyFile(t, store, newest)
	copyFile(t, old, store)
	mustContain(t, mustRefuse(t, data), "the store is older than the erasure ledger", "put the newest copy of the data folder back")
	copyFile(t, newest, store)
	s = start(t, data)
	if value, code := s.mustReveal(t, token); value != "" || code != "subject_erased" {
		t.Errorf("the token of the erased: %q, code %q", value, code)
	}
	s.mustShow(t, "stays", fields{"phone": "16100000001"})
	s.mustStop(t)
	mustVerifyAudit(t, data)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEndUnderLoad(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data)
	addr := strings.TrimPrefix(s.url, "http://")

	// A request whose body the server has asked for, and does not have yet.
	body := `{"fields":{"phone":"16100000001"}}`
	c, err := net.Dial("tcp", addr)
	must(t, err)
	defer func() { _ = c.Close() }()
	_, err = fmt.Fprintf(c, "PUT /v1/subjects/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", s.app, len(body))
	must(t, err)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	must(t, err)
	if !strings.Contains(line, "100 Continue") {
		t.Fatalf("answer %q", line)
	}

	var mu sync.Mutex
	acknowledged := map[string]string{}
	begun := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				id, phone := fmt.Sprintf("w%d-%d", w, n), fmt.Sprintf("161%d%07d", w, n)
				a, err := s.call(s.app, "PUT", "/v1/subjects/"+id, fields{"phone": phone}.body())
				if err != nil {
					return // the server takes no more requests
				}
				if a.status != 201 {
					t.Errorf("%s: %d %s", id, a.status, a.body)
					return
				}
				mu.Lock()
				acknowledged[id] = phone
				mu.Unlock()
				if n == 5 {
					once.Do(func() { close(begun) })
				}
			}
		})
	}
	<-begun
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	until(func() bool { // the port is closed, and the slow request still under way
		probe, err := net.Dial("tcp", addr)
		if err == nil {
			_ = probe.Close()
		}
		return err != nil
	})
	_, err = io.WriteString(c, body)
	must(t, err)
	_, err = r.ReadString('\n') // the end of the 100
	must(t, err)
	resp, err := http.ReadResponse(r, nil)
	must(t, err)
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != 201 {
		t.Errorf("the request under way: %d %s", resp.StatusCode, text)
	}
	wg.Wait()
	if code := s.wait(); code != 0 {
		t.Fatalf("exit %d\n%s", code, s.log)
	}
	if !bytes.Contains(s.log.bytes(), []byte("stopped")) {
		t.Error("the log does not say that it stopped")
	}
	mustVerifyAudit(t, data)
	s = start(t, data)
	s.mustShow(t, "slow", fields{"phone": "16100000001"})
	for id, phone := range acknowledged {
		var got put
		a := s.must(t, 200, s.app, "GET", get(id), nil)
		must(t, json.Unmarshal(a.body, &got))
		if got.Fields["phone"].Value != phone {
			t.Errorf("%s is lost", id)
		}
	}
	t.Logf("%d writes acknowledged, on %s", len(acknowledged), runtime.GOOS)
}
