package sqltable

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// dialPatience bounds the making of a connection where the address does not say how long.
const dialPatience = 15 * time.Second

// escapeHint is what most unreadable addresses need.
const escapeHint = "in its user and password, characters other than letters and digits have to be percent-encoded"

// Open connects to a database:
//
//	postgres://user:password@host:5432/database?sslmode=verify-full   (or postgresql://)
//	mysql://user:password@host:3306/database?tls=true                 (also MariaDB)
//
// For PostgreSQL, what the address leaves out comes from the PG environment variables and ~/.pgpass, and its parameters
// are those of libpq. For MySQL the parameters are tls (true: checked; preferred, the default: where the server has it,
// unchecked; skip-verify; false), tls-ca, tls-cert and tls-key (PEM files) and socket (a Unix socket's path in place of
// the host), and the password may come from MYSQL_PWD.
//
// It fails with ErrDSN, ErrUnreachable or ErrVersion. No error holds the password.
func Open(ctx context.Context, dsn string, opt Options) (*DB, error) {
	u, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	var e engine
	if u.Scheme == "mysql" {
		e, err = newMySQL(u, opt.withDefaults())
	} else {
		e, err = newPostgres(dsn, u, opt.withDefaults())
	}
	if err != nil {
		return nil, err
	}
	return openWith(ctx, e, opt.withDefaults())
}

// WithoutPassword returns the address in a form that may be printed, and whether it had a password. One that cannot be
// read gives "", true.
func WithoutPassword(dsn string) (clean string, had bool) {
	u, err := parseDSN(dsn)
	if err != nil {
		return "", true
	}
	if u.User != nil {
		if _, had = u.User.Password(); had {
			u.User = url.User(u.User.Username())
		}
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Del(name)
			had = true
			u.RawQuery = query.Encode()
		}
	}
	return u.String(), had
}

// parseDSN reads an address strictly: one in which part of a password would count as host, path or parameter is refused,
// because those are printed.
func parseDSN(dsn string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok || (scheme != "postgres" && scheme != "postgresql" && scheme != "mysql") {
		return nil, fmt.Errorf("%w: it begins with postgres:// or mysql://", ErrDSN)
	}
	u, err := url.Parse(dsn)
	if err != nil || strings.Contains(rest, "#") || strings.Count(rest, "@") > 1 ||
		strings.Contains(u.EscapedPath()+u.RawQuery, "@") || strings.Contains(u.Path[min(1, len(u.Path)):], "/") {
		return nil, fmt.Errorf("%w: it is not a URL; %s", ErrDSN, escapeHint)
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, fmt.Errorf("%w: its parameters cannot be read", ErrDSN)
	}
	return u, nil
}

// mute replaces a text that holds the password, which no text of the drivers should.
func mute(text, password string) string {
	if password != "" && strings.Contains(text, password) {
		return "(not shown)"
	}
	return text
}
