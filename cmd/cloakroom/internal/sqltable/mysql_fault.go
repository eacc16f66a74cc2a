package sqltable

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/go-sql-driver/mysql"
)

// errDiscard makes database/sql drop a session.
var errDiscard = driver.ErrBadConn

// judge sorts what the driver says, by the numbers of MySQL's and MariaDB's lists of errors.
func (m *mysqlConn) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*mysql.MySQLError](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, mysql.ErrPktTooLarge):
		return &fault{class: ErrDoesNotFit}
	case !ok:
		return &fault{class: ErrLost}
	}
	f := &fault{class: ErrStatement, code: fmt.Sprintf("error %d", e.Number), says: e.Message}
	f.stale = slices.Contains([]uint16{1054, 1060, 1091}, e.Number) // unknown column, duplicate column, no column to drop
	is := func(numbers ...uint16) bool { return slices.Contains(numbers, e.Number) }
	switch state := string(e.SQLState[:2]); {
	case is(1205, 1213, 1412, 1020): // lock wait, deadlock, a table altered or a row changed since the transaction began
		f.class = ErrBusy
	case is(1044, 1142, 1143, 1227, 1370):
		f.class = ErrGrant
	case is(1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031) || state == "08":
		f.class = ErrLost
	case is(1845, 1846):
		f.class = errForm
	case is(1153, 1264, 1265, 1292, 1366, 1406, 1690, 1977, 3854) || state == "22":
		f.class = ErrDoesNotFit
	case is(1048, 1062, 1364, 1451, 1452, 1644, 3819, 4025) || state == "23" || state == "45":
		f.class = ErrConstraint
	}
	return f
}
