package sqltest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// mariadb is Debian's MariaDB.
type mariadb struct {
	server, install string
}

func (m *mariadb) find() error {
	var err error
	if m.server, err = exec.LookPath("mariadbd"); err != nil {
		m.server = "/usr/sbin/mariadbd" // not everybody's PATH has it
		if _, err := os.Stat(m.server); err != nil {
			return errors.New("no MariaDB server on this machine")
		}
	}
	if m.install, err = exec.LookPath("mariadb-install-db"); err != nil {
		return errors.New("no mariadb-install-db on this machine")
	}
	return nil
}

func (m *mariadb) prepare(s *Server) error {
	_, user := m.command(s)
	users := filepath.Join(s.dir, "users.sql")
	text := fmt.Sprintf("CREATE USER IF NOT EXISTS %s IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO %s WITH GRANT OPTION;\n",
		admin, quotedPassword(), admin)
	if err := os.WriteFile(users, []byte(text), 0o600); err != nil {
		return err
	}
	if err := give(users, user); err != nil {
		return err
	}
	if err := os.Mkdir(m.temporary(s), 0o700); err != nil {
		return err
	}
	if err := give(m.temporary(s), user); err != nil {
		return err
	}
	install := exec.Command(m.install, "--no-defaults", "--datadir="+m.data(s), "--tmpdir="+m.temporary(s), "--skip-test-db",
		"--auth-root-authentication-method=normal", "--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=8M")
	install.Dir = s.dir
	return finish(install, user)
}

func (m *mariadb) data(s *Server) string { return filepath.Join(s.dir, "data") }

// temporary is a folder of the server's own: two that share one remove each other's files.
func (m *mariadb) temporary(s *Server) string { return filepath.Join(s.dir, "tmp") }

// command lets a commit live when the process is killed, and does not wait for a disk.
func (m *mariadb) command(s *Server) (*exec.Cmd, string) {
	cmd := exec.Command(m.server, "--no-defaults", "--datadir="+m.data(s), "--tmpdir="+m.temporary(s), "--bind-address=127.0.0.1",
		"--port="+strconv.Itoa(s.port), "--socket="+filepath.Join(s.dir, "socket"), "--pid-file="+filepath.Join(s.dir, "pid"),
		"--init-file="+filepath.Join(s.dir, "users.sql"), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2",
		"--innodb-flush-method=nosync", "--innodb-log-file-size=8M", "--character-set-server=utf8mb4")
	cmd.Dir = s.dir
	return cmd, "mysql"
}

func (m *mariadb) client(s *Server, database string) *exec.Cmd {
	cmd := exec.Command("mariadb", "--no-defaults", "--batch", "--skip-column-names", "--default-character-set=utf8mb4",
		"--protocol=tcp", "--host=127.0.0.1", "--port="+strconv.Itoa(s.port), "--user="+admin, database)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+Password)
	return cmd
}

// rows reads lines of cells between tabs, in which a backslash hides what would break them.
func (m *mariadb) rows(output []byte) ([][]string, error) {
	var all [][]string
	plain := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\0`, "\x00")
	for line := range strings.Lines(string(output)) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i, c := range cells {
			if cells[i] = plain.Replace(c); c == "NULL" {
				cells[i] = "<null>"
			}
		}
		all = append(all, cells)
	}
	return all, nil
}

func mariadbDialect() dialect {
	return dialect{
		scheme: "mysql", anywhere: "mysql",
		createDatabase: "CREATE DATABASE %s CHARACTER SET utf8mb4",
		encoded:        "CHARACTER SET",
		dropDatabase:   "DROP DATABASE %s",
		createUser:     "CREATE USER %s IDENTIFIED BY '" + quotedPassword() + "'",
	}
}

func quotedPassword() string {
	return strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(Password)
}
