package sqltest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func servers() map[string]func() *Server {
	return map[string]func() *Server{"PostgreSQL": Postgres, "MariaDB": MariaDB}
}

func stopAtEnd(t *testing.T, s *Server) {
	t.Helper()
	t.Cleanup(func() {
		dir := s.dir
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the folder is still there: %v", err)
		}
	})
}

func TestServerLife(t *testing.T) {
	for name, server := range servers() {
		t.Run(name, func(t *testing.T) {
			s := server()
			stopAtEnd(t, s)
			d, other := s.Database(t), s.Database(t)
			d.Exec(t, "CREATE TABLE a (b int)", "INSERT INTO a VALUES (1), (NULL)")
			other.Exec(t, "CREATE TABLE a (b int)")
			s.Kill(t)
			if err := d.Try("SELECT 1"); err == nil {
				t.Error("killed, and it answers")
			}
			s.Restart(t)
			if got := fmt.Sprint(d.Query(t, "SELECT b FROM a ORDER BY b IS NULL")); got != "[[1] [<null>]]" {
				t.Errorf("after a restart: %s", got)
			}
			if got := other.Query(t, "SELECT * FROM a"); len(got) > 0 {
				t.Errorf("the other database has %v", got)
			}
			user, dsn := d.User(t)
			if dsn == d.DSN || user == "" {
				t.Errorf("user %q at the administrator's address", user)
			}
		})
	}
}

// The test runs itself, kills that process, and looks whether the servers end.
func TestServerEndsWithTheTest(t *testing.T) {
	const child = "SQLTEST_CHILD"
	if name := os.Getenv(child); name != "" {
		s := servers()[name]()
		s.Database(t)
		fmt.Printf("\n%d %s\n", s.process.cmd.Process.Pid, s.dir)
		select {}
	}
	for name := range servers() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestServerEndsWithTheTest$")
			cmd.Env = append(os.Environ(), child+"="+name)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			var dir string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if n, _ := fmt.Sscanf(lines.Text(), "%d %s", &pid, &dir); n == 2 {
					break
				}
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if pid == 0 {
				t.Fatal("the child did not start a server")
			}
			for end := time.Now().Add(patience); running(pid); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the server outlived its test by " + strconv.Itoa(int(patience.Seconds())) + " s")
				}
			}
		})
	}
}

// running reports whether a process is there that has not ended; one that nobody has waited for yet has.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	var id int
	var name, state string
	_, _ = fmt.Sscanf(string(text), "%d %s %s", &id, &name, &state)
	return state != "Z"
}
