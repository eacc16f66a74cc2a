package sqltest

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// postgres is Debian's PostgreSQL, of the newest version that is installed.
type postgres struct {
	bin string
}

func (p *postgres) find() error {
	all, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return err
	}
	newest := 0
	for _, path := range all {
		bin := filepath.Dir(path)
		if version, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && version > newest {
			newest, p.bin = version, bin
		}
	}
	if p.bin != "" {
		return nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return errors.New("no PostgreSQL server on this machine")
	}
	p.bin = filepath.Dir(path)
	return nil
}

func (p *postgres) prepare(s *Server) error {
	file := filepath.Join(s.dir, "password")
	if err := os.WriteFile(file, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	_, user := p.command(s)
	if err := give(file, user); err != nil {
		return err
	}
	init := exec.Command(filepath.Join(p.bin, "initdb"), "--pgdata", p.data(s), "--username", admin, "--pwfile", file,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	init.Dir = s.dir
	return finish(init, user)
}

func (p *postgres) data(s *Server) string { return filepath.Join(s.dir, "data") }

func (p *postgres) command(s *Server) (*exec.Cmd, string) {
	args := []string{"-D", p.data(s), "-k", s.dir, "-p", strconv.Itoa(s.port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off", "max_connections=100", "deadlock_timeout=100ms",
	} {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), args...)
	cmd.Dir = s.dir
	return cmd, "postgres"
}

func (p *postgres) client(s *Server, database string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, "psql"), "--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--pset", "null=<null>",
		"--set", "ON_ERROR_STOP=1", "--host", "127.0.0.1", "--port", strconv.Itoa(s.port), "--username", admin, "--dbname", database)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+Password, "PGCLIENTENCODING=UTF8", "PGOPTIONS=-c client_min_messages=warning")
	return cmd
}

func (p *postgres) rows(output []byte) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(output))
	r.FieldsPerRecord = -1
	return r.ReadAll()
}

func postgresDialect() dialect {
	return dialect{
		scheme: "postgres", query: "sslmode=disable", anywhere: "postgres",
		createDatabase: "CREATE DATABASE %s",
		encoded:        "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING",
		dropDatabase:   "DROP DATABASE %s WITH (FORCE)",
		createUser:     "CREATE ROLE %s LOGIN PASSWORD '" + strings.ReplaceAll(Password, "'", "''") + "'",
	}
}
