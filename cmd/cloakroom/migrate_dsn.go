package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
)

// dsnVariable is where a database's address comes from when --dsn is not given.
const dsnVariable = "CLOAKROOM_DSN"

// maxDSN is far above what an address of a database needs, in bytes.
const maxDSN = 16 << 10

// database is the address of somebody's database and how it came here. It is never printed: it may hold a password.
type database struct {
	dsn  string
	flag string // what --dsn may be given again, without a password; "" = the environment had it
	had  bool   // a password was left out of flag
}

// findDatabase reads --dsn, which is an address or @FILE, or the environment.
func (p *program) findDatabase(given string) (database, error) {
	if given == "" {
		dsn, ok := p.lookup(dsnVariable)
		if !ok || dsn == "" {
			return database{}, usage("say where the table is: " + dsnVariable + "=postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE in the environment, or --dsn")
		}
		return database{dsn: dsn}, nil
	}
	if path, ok := strings.CutPrefix(given, "@"); ok {
		dsn, err := readDSN(path)
		return database{dsn: dsn, flag: given}, err
	}
	clean, had := sqltable.WithoutPassword(given)
	if clean == "" {
		return database{}, usage("--dsn is no address such as postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE; special characters of a password are escaped (%40 for @)")
	}
	if had {
		_, _ = fmt.Fprintln(p.err, "A password in an argument shows in ps and in the shell's history. Give the address in "+dsnVariable+
			" or as --dsn @FILE; PostgreSQL also takes a password from PGPASSWORD or ~/.pgpass.")
	}
	return database{given, clean, had}, nil
}

// readDSN reads a file with an address, and refuses one that others may read.
func readDSN(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--dsn: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("--dsn: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", printable(path), info.Mode().Perm(), shellWord(path))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxDSN+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("--dsn: %w", err)
	case len(text) > maxDSN:
		return "", errors.New("the file of --dsn is too long for an address")
	}
	return strings.TrimSpace(string(text)), nil
}
