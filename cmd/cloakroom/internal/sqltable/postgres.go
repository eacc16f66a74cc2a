package sqltable

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgres is PostgreSQL 12 and later. Statements are not prepared by name, so that a pooler between may hand each
// transaction to another session.
type postgres struct {
	config *pgx.ConnConfig
	opt    Options
}

func newPostgres(dsn string, u *url.URL, opt Options) (*postgres, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The driver's words may hold the password, so they are those about the same address without one.
		clean, _ := WithoutPassword(dsn)
		if _, err = pgx.ParseConfig(clean); err == nil {
			err = errors.New("it cannot be read; " + escapeHint)
		}
		return nil, fmt.Errorf("%w: %v", ErrDSN, err)
	}
	if !u.Query().Has("default_query_exec_mode") {
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	if !u.Query().Has("connect_timeout") {
		config.ConnectTimeout = dialPatience
	}
	config.RuntimeParams["client_encoding"] = "UTF8"
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "cloakroom"
	}
	return &postgres{config: config, opt: opt}, nil
}

func (p *postgres) dial(ctx context.Context) (conn, error) {
	c, err := pgx.ConnectConfig(ctx, p.config)
	if err == nil {
		return &postgresConn{c}, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f := &fault{class: ErrUnreachable}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		f.code, f.says = "SQLSTATE "+e.Code, e.Message
	} else if e, ok := errors.AsType[*net.OpError](err); ok {
		f.says = e.Error()
	} else {
		f.says = err.Error()
	}
	f.says = mute(f.says, p.config.Password)
	return nil, f
}

func (p *postgres) close() {}

func (p *postgres) version(ctx context.Context, c conn) (string, error) {
	var number, name string
	err := c.query(ctx, "SELECT current_setting('server_version_num'), current_setting('server_version')", nil,
		func(scan func(...any) error) error { return scan(&number, &name) })
	if err != nil {
		return "", err
	}
	name, _, _ = strings.Cut(name, " ")
	if len(number) < 6 || number < "120000" {
		return "", fmt.Errorf("%w: PostgreSQL %s; it has to be 12 or later", ErrVersion, name)
	}
	return "PostgreSQL " + name, nil
}

// postgresConn is a session of PostgreSQL.
type postgresConn struct{ c *pgx.Conn }

func (p *postgresConn) exec(ctx context.Context, statement string, args ...any) error {
	tag, err := p.c.Exec(ctx, statement, args...)
	if err == nil && statement == "COMMIT" && tag.String() != "COMMIT" {
		// PostgreSQL answers so, without an error, to the commit of a transaction that failed.
		return &fault{class: ErrStatement, says: "the transaction was rolled back"}
	}
	return p.judge(ctx, err)
}

func (p *postgresConn) query(ctx context.Context, statement string, args []any, each func(scan func(into ...any) error) error) error {
	rows, err := p.c.Query(ctx, statement, args...)
	if err != nil {
		return p.judge(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(quiet(rows.Scan)); err != nil {
			return err
		}
	}
	return p.judge(ctx, rows.Err())
}

func (p *postgresConn) ping(ctx context.Context) error { return p.judge(ctx, p.c.Ping(ctx)) }

func (p *postgresConn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = p.c.Close(ctx)
}

// judge sorts what the driver says, by the classes of PostgreSQL's appendix A.
func (p *postgresConn) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok && ctx.Err() != nil:
		return ctx.Err()
	case !ok && p.c.IsClosed():
		return &fault{class: ErrLost}
	case !ok:
		return &fault{class: ErrStatement} // the driver's words may hold a value
	case e.Code == "57014" && ctx.Err() != nil:
		return ctx.Err()
	}
	f := &fault{class: ErrStatement, code: "SQLSTATE " + e.Code, says: e.Message}
	f.stale = e.Code == "42701" || e.Code == "42703" // duplicate column, undefined column
	switch class := e.Code[:min(2, len(e.Code))]; {
	case e.Code == "40001" || e.Code == "40P01" || e.Code == "55P03":
		f.class = ErrBusy
	case e.Code == "42501":
		f.class = ErrGrant
	case class == "08" || e.Code == "57P01" || e.Code == "57P02" || e.Code == "57P03" || e.Code == "25P03":
		f.class = ErrLost
	case class == "22" || class == "54":
		f.class = ErrDoesNotFit
	case class == "23" || class == "44" || class == "P0":
		f.class = ErrConstraint
	}
	return f
}

// milliseconds of a setting, of which 0 would mean to wait for ever.
func milliseconds(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }
