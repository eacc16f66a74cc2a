package sqltable

import (
	"context"
	"errors"
	"testing"
)

// crooked is a database whose rows always begin anew: its order is not that of its comparison.
type crooked struct{ engine }

func (crooked) dial(context.Context) (conn, error) { return crookedConn{}, nil }

func (crooked) close() {}

type crookedConn struct{}

func (crookedConn) exec(context.Context, string, ...any) error { return nil }

func (crookedConn) query(_ context.Context, _ string, _ []any, each func(scan func(into ...any) error) error) error {
	return each(func(into ...any) error {
		for _, x := range into {
			switch x := x.(type) {
			case *string:
				*x = "?"
			case *bool:
				*x = true
			}
		}
		return nil
	})
}

func (crookedConn) ping(context.Context) error { return nil }

func (crookedConn) close() {}

// A walk that comes back to where it was ends with an error, and not never.
func TestWalkThatDoesNotAdvance(t *testing.T) {
	f := &found{table: "x", key: column{name: "id", kind: text}, columns: []column{{name: "a"}}, tokens: []column{{name: "b"}}}
	table := &Table{db: &DB{engine: crooked{}, opt: Options{}.withDefaults()}, found: f, sql: (&postgres{}).statements(f)}
	walks := map[string]func(from Place) (Place, error){
		"batch": func(from Place) (Place, error) {
			b, err := table.Batch(t.Context(), All, from, 1, func(context.Context, []Row) ([]Row, error) { return nil, nil })
			return b.Next, err
		},
		"read": func(from Place) (Place, error) {
			p, err := table.Read(t.Context(), All, from, 1)
			return p.Next, err
		},
	}
	for name, next := range walks {
		at, err := next(Place{})
		if err != nil {
			t.Fatalf("%s: the first step: %v", name, err)
		}
		if _, err := next(at); !errors.Is(err, ErrKey) {
			t.Errorf("%s: the second step: %v", name, err)
		}
	}
}

func TestNullable(t *testing.T) {
	tests := []struct {
		definition, want string // "": not understood
	}{
		{"varchar(20) NOT NULL", "varchar(20) NULL"},
		{"varchar(20) NOT NULL DEFAULT 'x'", "varchar(20) NULL"},
		{"int(10) unsigned zerofill NOT NULL DEFAULT 0000000007 COMMENT 'DEFAULT 5'", "int(10) unsigned zerofill NULL COMMENT 'DEFAULT 5'"},
		{"varchar(9) CHARACTER SET gbk COLLATE gbk_bin NOT NULL DEFAULT concat('a b',char(65)) COMMENT 'it''s \\' NOT NULL'",
			"varchar(9) CHARACTER SET gbk COLLATE gbk_bin NULL COMMENT 'it''s \\' NOT NULL'"},
		{"varchar(9) NOT NULL DEFAULT (concat(_utf8mb4'(',`a DEFAULT b`)) CHECK (`a` <> 'NOT NULL')", "varchar(9) NULL CHECK (`a` <> 'NOT NULL')"},
		{"varchar(9) NOT NULL DEFAULT _utf8mb4'x y' /*!80023 INVISIBLE */", "varchar(9) NULL /*!80023 INVISIBLE */"},
		{"varchar(9) INVISIBLE NOT NULL DEFAULT -5", "varchar(9) INVISIBLE NULL"},
		{"varchar(9) DEFAULT 'x'", ""},
		{"varchar(9) NOT NULL DEFAULT 'x", ""},
		{"varchar(9) NOT NULL DEFAULT ('x'", ""},
		{"varchar(9) NOT NULL COMMENT 'x\\'", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, ok := nullable(tt.definition)
		if ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", tt.definition, got, ok, tt.want)
		}
	}
}
