package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// subjectsVar asks TestMemory for another number of subjects.
const subjectsVar = "CLOAKROOM_SYSTEMTEST_SUBJECTS"

// TestMemory reports what the server holds in memory after many subjects were put and read back. It has no limit: the
// numbers are of this machine. Without the race detector they are those of real use.
func TestMemory(t *testing.T) {
	n := 3000
	if text := os.Getenv(subjectsVar); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data, "--log-level", "info")
	t.Logf("at the start: %s", s.memory(t))
	value := func(i int) fields {
		return fields{"phone": fmt.Sprintf("161%08d", i), "name": "张三", "email": fmt.Sprintf("p%d@example.com", i), "address": fmt.Sprintf("北京市海淀区中关村大街%d号", i)}
	}
	mustAll(t, n, func(i int) error {
		a, err := s.call(s.app, "PUT", fmt.Sprintf("/v1/subjects/m%d", i), value(i).body())
		if err == nil && a.status != 201 {
			err = fmt.Errorf("put: %d %s", a.status, a.body)
		}
		return err
	})
	t.Logf("%d subjects put: %s", n, s.memory(t))
	mustAll(t, n, func(i int) error {
		a, err := s.call(s.app, "GET", get(fmt.Sprintf("m%d", i)), nil)
		if err == nil && a.status != 200 {
			err = fmt.Errorf("get: %d %s", a.status, a.body)
		}
		return err
	})
	t.Logf("and read back: %s", s.memory(t))
	s.mustStop(t)
	s = start(t, data, "--log-level", "info")
	t.Logf("started again: %s", s.memory(t))
	s.mustShow(t, "m0", value(0))
	s.mustStop(t)
	if info, err := os.Stat(filepath.Join(data, "cloakroom.db")); err == nil {
		t.Logf("store: %d MiB", info.Size()>>20)
	}
}

// memory is what the kernel says of the process.
func (s *server) memory(t testing.TB) string {
	t.Helper()
	var out []string
	for _, name := range []string{"VmHWM", "VmRSS", "RssAnon", "RssFile"} {
		out = append(out, fmt.Sprintf("%s %.1f MiB", name, s.held(t, name)))
	}
	return strings.Join(out, ", ")
}

// held is one figure of the kernel's, in MiB.
func (s *server) held(t testing.TB, name string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(line), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return float64(kib) / 1024
}
