package sqltest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// aptGet stands for apt-get: it writes down how it was called and what it found in place of Debian's files.
const aptGet = `#!/bin/sh
echo "$*" >>"$ROOT/log"
case " $* " in
*" update "*) exit 0 ;;
*" --simulate "*) [ ! -e "$ROOT/full" ] && exit 0; echo "E: Packages need to be removed but remove is disabled."; exit 100 ;;
esac
grep . "$ROOT/policy-rc.d" "$ROOT/etc/createcluster.conf" >"$ROOT/during"
mkdir -p "$ROOT/share" && echo package >"$ROOT/share/createcluster.conf"
while [ -e "$ROOT/hold" ]; do sleep 0.01; done
[ ! -e "$ROOT/broken" ]
`

// scripts/databases on a machine that is a folder: it removes nothing, and what it sets for the installation is gone at
// its end, whatever that is.
func TestDatabasesScript(t *testing.T) {
	text, err := os.ReadFile("../../scripts/databases")
	if err != nil {
		t.Fatal(err)
	}
	const conf, policy = "etc/createcluster.conf", "policy-rc.d"
	tests := []struct {
		name   string
		before []string // files that hold "theirs"
		signal syscall.Signal
		ok     bool
		says   string
		after  map[string]string // "": absent
	}{
		{"installs", nil, 0, true, "installing postgresql", map[string]string{conf: "package", policy: ""}},
		{"files of somebody's own stay", []string{conf, policy}, 0, true, "", map[string]string{conf: "theirs", policy: "theirs"}},
		{"fails", []string{"broken"}, 0, false, "", map[string]string{conf: "package", policy: ""}},
		{"would have to remove something", []string{"full"}, 0, false, "without removing what is installed", map[string]string{conf: "", policy: "", "during": ""}},
		{"is ended", []string{"hold"}, syscall.SIGTERM, false, "", map[string]string{conf: "package", policy: ""}},
		{"loses its terminal", []string{"hold"}, syscall.SIGHUP, false, "", map[string]string{conf: "package", policy: ""}},
		{"is interrupted", []string{"hold"}, syscall.SIGINT, false, "", map[string]string{conf: "package", policy: ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			file := func(name string) string { return filepath.Join(root, name) }
			there := func(name string) string {
				text, err := os.ReadFile(file(name))
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(text))
			}
			write := func(name, text string, mode os.FileMode) {
				t.Helper()
				if err := errors.Join(os.MkdirAll(filepath.Dir(file(name)), 0o755), os.WriteFile(file(name), []byte(text), mode)); err != nil {
					t.Fatal(err)
				}
			}
			moved := strings.NewReplacer("/usr/sbin/policy-rc.d", file(policy), "/etc/postgresql-common/", file("etc")+"/", "/usr/share/postgresql-common/", file("share")+"/",
				"/usr/lib/postgresql/", file("none")+"/", "command -v postgres ", "false ", "command -v ", "true ", "$(id -u)", "0").Replace(string(text))
			write("script", moved, 0o755)
			write("bin/apt-get", aptGet, 0o755)
			for _, name := range tt.before {
				write(name, "theirs\n", 0o644)
			}
			cmd := exec.Command(file("script"))
			cmd.Env = append(os.Environ(), "ROOT="+root, "PATH="+file("bin")+":"+os.Getenv("PATH"))
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if tt.signal != 0 {
				for end := time.Now().Add(patience); there("share/createcluster.conf") == ""; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("waited %v for the installation: %s", patience, out.String())
					}
				}
				if err := errors.Join(cmd.Process.Signal(tt.signal), os.Remove(file("hold"))); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); (err == nil) != tt.ok || !strings.Contains(out.String(), tt.says) {
				t.Errorf("%v: %s", err, out.String())
			}
			for name, want := range tt.after {
				if got := there(name); got != want {
					t.Errorf("%s holds %q afterwards, want %q", name, got, want)
				}
			}
			if during := there("during"); len(tt.before) == 0 && (!strings.Contains(during, "exit 101") || !strings.Contains(during, "create_main_cluster = false")) {
				t.Errorf("during the installation: %s", during)
			}
			for line := range strings.Lines(there("log")) {
				if strings.HasPrefix(line, "install") && !strings.Contains(line, " --no-remove ") {
					t.Errorf("apt-get %s", line)
				}
			}
		})
	}
}
