package sqltable

import (
	"errors"
	"fmt"
)

// fault is what a database said, sorted.
type fault struct {
	class error  // ErrLost, ErrBusy, ErrGrant, ErrDoesNotFit, ErrConstraint, ErrUnreachable or ErrStatement
	code  string // "SQLSTATE 40P01", "error 1213"
	stale bool   // the columns are not what they were when the table was looked over
	says  string // in the database's words, which may hold a row's values: see loud
}

func (f *fault) Error() string {
	if f.code == "" {
		return f.class.Error()
	}
	return fmt.Sprintf("%v (%s)", f.class, f.code)
}

func (f *fault) Unwrap() error { return f.class }

// loud adds the database's words to the error of a statement that touches no row's contents.
func loud(err error) error {
	if f, ok := errors.AsType[*fault](err); ok && f.says != "" {
		return fmt.Errorf("%w: %s", err, f.says)
	}
	return err
}

// ofRow tells a fault that one row's contents may be to blame for, and its reason.
func ofRow(err error) (why error, ok bool) {
	for _, why := range []error{ErrDoesNotFit, ErrConstraint} {
		if errors.Is(err, why) {
			return why, true
		}
	}
	return nil, false
}

// quiet makes the errors of a driver's Scan ours: theirs quote what they could not convert.
func quiet(scan func(...any) error) func(...any) error {
	return func(into ...any) error {
		if err := scan(into...); err != nil {
			return &fault{class: ErrStatement}
		}
		return nil
	}
}
