package sqltable

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mySQL is MySQL 8 and MariaDB 10.6 and later.
type mySQL struct {
	db       *sql.DB
	password string
	opt      Options
}

func newMySQL(u *url.URL, opt Options) (*mySQL, error) {
	config := mysql.NewConfig()
	config.DBName = strings.TrimPrefix(u.Path, "/")
	config.User = u.User.Username()
	var ok bool
	if config.Passwd, ok = u.User.Password(); !ok {
		config.Passwd = os.Getenv("MYSQL_PWD")
	}
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	config.Net, config.Addr = "tcp", net.JoinHostPort(u.Hostname(), port)
	if err := mysqlParameters(config, u); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDSN, err)
	}
	if config.DBName == "" || config.User == "" {
		return nil, fmt.Errorf("%w: it names a user and a database, mysql://user@host/database", ErrDSN)
	}
	config.Timeout = dialPatience
	config.MaxAllowedPacket = 0        // the server's
	config.Logger = &mysql.NopLogger{} // it would write to standard error
	config.Collation = "utf8mb4_bin"   // both have it; what is compared is given a collation where it matters
	config.ConnectionAttributes = "program_name:cloakroom"
	config.Params = map[string]string{
		// Whatever the server is set to: a value that does not fit is an error.
		"sql_mode":                 "'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"innodb_lock_wait_timeout": seconds(opt.LockWait),
		"lock_wait_timeout":        seconds(opt.AlterWait),
		"wait_timeout":             "600", // frees the rows where this process or its network dies without a word
		"autocommit":               "1",
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrDSN, mute(err.Error(), config.Passwd))
	}
	return &mySQL{db: sql.OpenDB(connector), password: config.Passwd, opt: opt}, nil
}

// mysqlParameters reads those of the address; its errors hold no value of one.
func mysqlParameters(config *mysql.Config, u *url.URL) error {
	query := u.Query()
	for name, values := range query {
		if !slices.Contains([]string{"tls", "tls-ca", "tls-cert", "tls-key", "socket"}, name) || len(values) != 1 {
			return errors.New("its parameters are tls, tls-ca, tls-cert, tls-key and socket, once each")
		}
	}
	if socket := query.Get("socket"); socket != "" {
		config.Net, config.Addr = "unix", socket
	} else if u.Hostname() == "" {
		return errors.New("it names no host")
	}
	mode := query.Get("tls")
	files := query.Has("tls-ca") || query.Has("tls-cert") || query.Has("tls-key")
	switch {
	case files && mode != "" && mode != "true":
		return errors.New("the tls files need tls=true")
	case files:
		var err error
		config.TLS, err = tlsFromFiles(u.Hostname(), query)
		return err
	case mode == "" && config.Net == "unix":
		config.TLSConfig = "false"
	case mode == "":
		config.TLSConfig = "preferred"
	case slices.Contains([]string{"true", "false", "preferred", "skip-verify"}, mode):
		config.TLSConfig = mode
	default:
		return errors.New("tls is true, preferred, skip-verify or false")
	}
	return nil
}

func tlsFromFiles(host string, query url.Values) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if file := query.Get("tls-ca"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("tls-ca: no certificate in it")
		}
	}
	if query.Has("tls-cert") || query.Has("tls-key") {
		pair, err := tls.LoadX509KeyPair(query.Get("tls-cert"), query.Get("tls-key"))
		if err != nil {
			return nil, fmt.Errorf("tls-cert and tls-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// seconds of a setting that knows no shorter time than one.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(max(1, math.Ceil(d.Seconds()))))
}

func (m *mySQL) dial(ctx context.Context) (conn, error) {
	c, err := m.db.Conn(ctx)
	if err == nil {
		session := &mysqlConn{c: c}
		for _, s := range mysqlSession() {
			if err := session.exec(ctx, s); err != nil {
				session.close()
				return nil, err
			}
		}
		return session, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f := &fault{class: ErrUnreachable, says: mute(err.Error(), m.password)}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		f.code, f.says = fmt.Sprintf("error %d", e.Number), mute(e.Message, m.password)
	}
	return nil, f
}

// mysqlSession are the statements a session begins with. The second takes away what bounds slow statements of an
// application; each product runs one of the comments in it.
func mysqlSession() []string {
	return []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
		"SET @cloakroom = 1 /*M! , SESSION max_statement_time = 0 */ /*!80000 , SESSION max_execution_time = 0 */",
	}
}

func (m *mySQL) close() { _ = m.db.Close() }

func (m *mySQL) version(ctx context.Context, c conn) (string, error) {
	var version string
	err := c.query(ctx, "SELECT VERSION()", nil, func(scan func(...any) error) error { return scan(&version) })
	if err != nil {
		return "", err
	}
	number, _, _ := strings.Cut(version, "-")
	name, least := "MySQL ", [2]int{8, 0}
	if strings.Contains(version, "MariaDB") {
		name, least = "MariaDB ", [2]int{10, 6}
	}
	var has [2]int
	_, _ = fmt.Sscanf(number, "%d.%d", &has[0], &has[1])
	if slices.Compare(has[:], least[:]) < 0 || strings.Contains(version, "TiDB") {
		return "", fmt.Errorf("%w: %s; it has to be MySQL 8, or MariaDB 10.6, or later", ErrVersion, version)
	}
	return name + number, nil
}

// mysqlConn is a session of MySQL or MariaDB.
type mysqlConn struct{ c *sql.Conn }

func (m *mysqlConn) exec(ctx context.Context, statement string, args ...any) error {
	_, err := m.c.ExecContext(ctx, statement, args...)
	return m.judge(ctx, err)
}

func (m *mysqlConn) query(ctx context.Context, statement string, args []any, each func(scan func(into ...any) error) error) error {
	rows, err := m.c.QueryContext(ctx, statement, args...)
	if err != nil {
		return m.judge(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := each(quiet(rows.Scan)); err != nil {
			return err
		}
	}
	return m.judge(ctx, rows.Err())
}

func (m *mysqlConn) ping(ctx context.Context) error { return m.judge(ctx, m.c.PingContext(ctx)) }

// close ends the session itself, and does not put it back where database/sql keeps them: it may hold locks.
func (m *mysqlConn) close() {
	_ = m.c.Raw(func(any) error { return errDiscard })
	_ = m.c.Close()
}
