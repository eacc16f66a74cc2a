package systemtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mountsVar tells a child test process that the mounts it sees are its own.
const mountsVar = "CLOAKROOM_SYSTEMTEST_MOUNTS"

// refusedMount is what a child prints when this machine lets no test mount a file system.
const refusedMount = "no file system of its own"

// TestDiskFull fills real file systems, small ones of memory that only this test sees. Where that is not allowed,
// TestFileSizeLimit alone makes writes fail.
func TestDiskFull(t *testing.T) {
	if os.Getenv(mountsVar) == "" {
		inOwnMounts(t)
		return
	}
	t.Run("audit alone", func(t *testing.T) {
		data := filepath.Join(t.TempDir(), "data")
		audit := filepath.Join(data, "audit")
		must(t, os.MkdirAll(audit, 0o700))
		mountMemory(t, audit, "64k")
		s := start(t, data)
		full(t, s, 1, func() {}, func() { remount(t, audit, "64m") })
	})
	t.Run("all but the store", func(t *testing.T) {
		base := filepath.Join(t.TempDir(), "base")
		must(t, os.Mkdir(base, 0o700))
		mountMemory(t, base, "40m")
		s := start(t, filepath.Join(base, "data"))
		ballast := filepath.Join(base, "ballast")
		full(t, s, 1, func() { fillFile(t, ballast) }, func() { must(t, os.Remove(ballast)) })
	})
	t.Run("store alone", func(t *testing.T) {
		base := filepath.Join(t.TempDir(), "base")
		audit := filepath.Join(base, "data", "audit")
		must(t, os.Mkdir(base, 0o700))
		mountMemory(t, base, "24m")
		must(t, os.MkdirAll(audit, 0o700))
		mountMemory(t, audit, "64m")
		s := start(t, filepath.Join(base, "data"))
		full(t, s, 60_000, func() {}, func() { remount(t, base, "256m") })
	})
}

// inOwnMounts runs this test again, in a process whose mounts nobody else sees. Who is not root becomes it in a user
// namespace.
func inOwnMounts(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), binaryVar+"="+program, mountsVar+"=own")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil || bytes.Contains(out, []byte(refusedMount)):
		t.Logf("%s: %v", refusedMount, err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

func mountMemory(t *testing.T, dir, size string) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("%s: %v", refusedMount, err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Fatalf("%s: %v", refusedMount, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func remount(t *testing.T, dir, size string) {
	t.Helper()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+size))
}

// fillFile writes until the file system is full.
func fillFile(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	must(t, f.Close())
}

// TestFileSizeLimit makes writes fail by a limit on the size of files, which every system has. It also shows that the
// signal which comes with such a failure does not end the server.
func TestFileSizeLimit(t *testing.T) {
	limit := func(t *testing.T, s *server, bytes uint64) {
		t.Helper()
		must(t, unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil))
	}
	t.Run("every file", func(t *testing.T) {
		s := start(t, filepath.Join(t.TempDir(), "data"))
		full(t, s, 1, func() { limit(t, s, 10_000) }, func() { limit(t, s, unix.RLIM_INFINITY) })
	})
	t.Run("store growing", func(t *testing.T) {
		s := start(t, filepath.Join(t.TempDir(), "data"))
		full(t, s, 60_000, func() { limit(t, s, 16<<20+16<<10) }, func() { limit(t, s, unix.RLIM_INFINITY) })
	})
}

// full takes room away and writes values of size bytes until the server refuses, goes on for a while, makes room and
// looks: what was acknowledged is there, what was refused is not, and the server has mended itself. Then once more
// after a start.
func full(t *testing.T, s *server, size int, takeRoom, makeRoom func()) {
	t.Helper()
	values, tokens := map[string]string{}, map[string]string{}
	var refused, erased []string
	value := func(id string) string { return id + strings.Repeat(" x", size/2) }
	write := func(id string) bool {
		a, err := s.call(s.app, "PUT", "/v1/subjects/"+id, fields{"text": value(id)}.body())
		if err != nil {
			t.Fatalf("%v\n%s", err, s.log)
		}
		switch {
		case a.status == 201:
			var got put
			a.into(t, &got)
			values[id], tokens[id] = value(id), got.Tokens["text"]
			return true
		case a.code() == "audit_unavailable" || a.code() == "store_unavailable":
			refused = append(refused, id)
			return false
		}
		t.Fatalf("put: %d %s", a.status, a.body)
		return false
	}
	n := 0
	for range 10 {
		write(fmt.Sprintf("s%d", n))
		n++
	}
	takeRoom()
	for ; write(fmt.Sprintf("s%d", n)); n++ {
	}
	if n < 10 {
		t.Fatalf("full after %d writes", n)
	}
	// A store too full for a large value may still have room for a small one, and is ready then.
	parts := s.notReady(t)
	s.must(t, 200, "", "GET", "/healthz", nil)
	for i := range 20 {
		write(fmt.Sprintf("full-%d", i))
		id := fmt.Sprintf("s%d", i%n)
		a, err := s.call(s.app, "GET", get(id), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got put
		switch {
		case a.code() == "audit_unavailable":
		case a.code() == "subject_erased" && slices.Contains(erased, id):
		case a.status == 200:
			a.into(t, &got)
			if fault := differs(got, fields{"text": values[id]}); fault != "" {
				t.Errorf("while full: %s", fault[:min(len(fault), 200)])
			}
		default:
			t.Errorf("get while full: %d %s", a.status, a.body[:min(len(a.body), 300)])
		}
		if i < 3 {
			if a, err = s.call(s.officer, "DELETE", "/v1/subjects/"+id, nil); err != nil {
				t.Fatal(err)
			}
			switch {
			case a.status == 200:
				erased = append(erased, id)
				delete(values, id)
			case a.status != 503:
				t.Errorf("erase while full: %d %s", a.status, a.body)
			}
		}
	}
	makeRoom()
	s.untilReady(t)
	for i := range 5 {
		if id := fmt.Sprintf("after-%d", i); !write(id) {
			t.Errorf("refused after room was made\n%s", s.log)
		}
	}
	check := func() {
		t.Helper()
		for id, value := range values {
			s.mustShow(t, id, fields{"text": value})
		}
		for _, id := range refused {
			s.mustCode(t, 404, "subject_not_found", s.app, "GET", get(id), nil)
		}
		for _, id := range erased {
			s.mustCode(t, 410, "subject_erased", s.app, "GET", get(id), nil)
			if _, code := s.mustReveal(t, tokens[id]); code != "subject_erased" {
				t.Errorf("the token of the erased: %q", code)
			}
		}
	}
	check()
	s.mustStop(t)
	mustVerifyAudit(t, s.data)
	s = start(t, s.data)
	check()
	t.Logf("full after %d writes, not ready then: %v; %d refused in all, %d erased while full", n, parts, len(refused), len(erased))
	s.mustStop(t)
	mustVerifyAudit(t, s.data)
}
