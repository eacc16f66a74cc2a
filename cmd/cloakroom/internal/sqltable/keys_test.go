package sqltable_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

func TestKeys(t *testing.T) {
	tests := []struct {
		name   string
		pg, my string   // types
		keys   []string // in their order
	}{
		{"smallint", "smallint", "smallint", []string{"-32768", "-1", "0", "9", "10", "32767"}},
		{"int", "int", "int", []string{"-5", "9", "10", "2147483647"}},
		{"bigint", "bigint", "bigint", []string{"-9223372036854775808", "9007199254740992", "9007199254740993", "9223372036854775807"}},
		{"unsigned", "bigint", "bigint unsigned", []string{"1", "9007199254740992", "9007199254740993", "9223372036854775807"}},
		{"varchar", "varchar(40)", "varchar(40)", []string{"", "10", "9", "a", "b'\"`\\", "张"}},
		{"char", "char(9)", "char(9)", []string{"10", "9", "a"}},
		{"collated", `varchar(40) COLLATE "und-x-icu"`, "varchar(40) COLLATE utf8mb4_unicode_ci", []string{"_", "10", "9", "a", "B", "c"}},
		{"binary order", `varchar(40) COLLATE "C"`, "varchar(40) COLLATE utf8mb4_bin", []string{"10", "9", "B", "_", "a", "c"}},
		{"another character set", "text", "varchar(40) CHARACTER SET latin1 COLLATE latin1_bin", []string{"1", "a", "é"}},
		{"a wide character set", "text", "varchar(40) CHARACTER SET utf16 COLLATE utf16_bin", []string{"1", "a", "张"}},
		{"uuid", "uuid", "uuid", []string{"00000000-0000-4000-8000-000000000001", "123e4567-e89b-42d3-a456-426614174000", "ffffffff-ffff-4fff-bfff-ffffffffffff"}},
	}
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		db := open(t, d.DSN, sqltable.Options{})
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				d.Exec(t, "DROP TABLE IF EXISTS people", "CREATE TABLE people (id "+s.pick(tt.pg, tt.my)+" PRIMARY KEY, phone varchar(20))")
				for i := range tt.keys {
					key := tt.keys[len(tt.keys)-1-i]
					if s.my {
						key = strings.ReplaceAll(key, `\`, `\\`)
					}
					d.Exec(t, "INSERT INTO people VALUES ("+text(key)+", '1')")
				}
				for _, limit := range []int{1, 2, 100} {
					table := look(t, db, spec("people", "phone"), true)
					var seen []string
					sum := walk(t, table, sqltable.ToFill, limit, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
						for _, r := range rows {
							seen = append(seen, r.Key)
							r.Cells[0].Token = some("tok_" + fmt.Sprint(slices.Index(tt.keys, r.Key)))
						}
						return rows, nil
					})
					equal(t, "keys", seen, tt.keys)
					equal(t, "changed", sum.Changed, len(tt.keys))
					b, err := table.BatchOf(t.Context(), seen, func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
						for _, r := range rows {
							equal(t, "token of "+r.Key, r.Cells[0].Token.Value, "tok_"+fmt.Sprint(slices.Index(tt.keys, r.Key)))
							r.Cells[0].Token = sqltable.Text{}
						}
						return rows, nil
					})
					if err != nil || b.Changed != len(seen) {
						t.Fatalf("all of them again: %v, %v", b, err)
					}
				}
			})
		}
	})
}
