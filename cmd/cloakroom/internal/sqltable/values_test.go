package sqltable_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// odd are texts that come to harm easily.
func odd() []string {
	return []string{
		"13800138000", "张三", "😀👩‍👩‍👧", "trailing  ", "  leading", "'quoted' \"twice\" `thrice`", `back\slash\n`, "line\nbreak\r\n",
		"tab\t", "%s ? $1 :x", `{"k": [1, null]}`, "  ", "\u0001\u007f", "é e\u0301", "NULL", "0", "1e3", "<a&b>\u2028",
	}
}

// What is read is what was stored, and what is restored is what was read.
func TestValuesComeBack(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, a "+s.pick("text", "text")+" NOT NULL DEFAULT 'x', b varchar(40), c char(12), n bigint NOT NULL)")
		for i, v := range odd() {
			c := strings.TrimRight(v, " ")
			if i%2 == 0 || len([]rune(c)) > 12 {
				c = ""
			}
			literal := text(v)
			if s.my {
				literal = fmt.Sprintf("CONVERT(X'%x' USING utf8mb4)", v)
			}
			d.Exec(t, fmt.Sprintf("INSERT INTO people VALUES (%d, %s, %s, %s, %d)", i, literal, literal, text(strings.ReplaceAll(c, `\`, "/")), 13800138000+i))
		}
		d.Exec(t, "INSERT INTO people VALUES (100, '', NULL, '', -9223372036854775808)")
		db := open(t, d.DSN, sqltable.Options{})
		table := look(t, db, spec("people", "a", "b", "c", "n"), true)
		before := d.Query(t, "SELECT id, a, b, c, n FROM people ORDER BY id")

		page, err := table.Read(t.Context(), sqltable.All, sqltable.Place{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range odd() {
			equal(t, "text", page.Rows[i].Cells[0].Plain.Value, v)
			equal(t, "varchar", page.Rows[i].Cells[1].Plain.Value, v)
			equal(t, "bigint", page.Rows[i].Cells[3].Plain.Value, fmt.Sprint(13800138000+i))
		}
		sum := walk(t, table, sqltable.ToFill, 7, tokenize)
		equal(t, "filled", sum.Changed, len(odd())+1)
		equal(t, "tokens", d.Query(t, "SELECT a_token FROM people WHERE id = 100 UNION ALL SELECT n_token FROM people WHERE id = 100"),
			[][]string{{"<null>"}, {token("-9223372036854775808")}})
		if err := table.DropNotNull(t.Context()); err != nil {
			t.Fatal(err)
		}
		equal(t, "before the cut-over", d.Query(t, "SELECT id, a, b, c, n FROM people ORDER BY id"), before)
		sum = walk(t, table, sqltable.ToCutOver, 7, clear)
		equal(t, "refused", sum.Refused, []sqltable.Refusal(nil))
		equal(t, "still there", d.Query(t, "SELECT count(*) FROM people WHERE a_token IS NOT NULL AND a IS NOT NULL OR n IS NOT NULL AND n_token IS NOT NULL"), [][]string{{"0"}})
		walk(t, table, sqltable.ToRestore, 7, restore)
		equal(t, "restored", d.Query(t, "SELECT id, a, b, c, n FROM people ORDER BY id"), before)
	})
}

// What the database would not store exactly is a refused row, and its neighbours are done.
func TestRefusedRows(t *testing.T) {
	each(t, func(t *testing.T, s sort, d *sqltest.Database) {
		d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, a varchar(5), b char(5), n bigint, m smallint, u varchar(9) UNIQUE"+s.pick(" DEFERRABLE INITIALLY DEFERRED", "")+", k varchar(9) CHECK (k <> 'no'), w varchar(99))")
		if s.my {
			s.session(t, d).Exec("ALTER TABLE people ADD l varchar(9) CHARACTER SET latin1", `CREATE TRIGGER fold BEFORE UPDATE ON people FOR EACH ROW BEGIN
				IF NEW.w = 'stop' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not stop'; END IF; SET NEW.w = LOWER(NEW.w); END`)
		} else {
			d.Exec(t, "ALTER TABLE people ADD l varchar(9)", `CREATE FUNCTION fold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.w = 'stop' THEN RAISE EXCEPTION 'not %', NEW.w; END IF; NEW.w := lower(NEW.w); RETURN NEW; END $$`,
				"CREATE TRIGGER fold BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION fold()")
		}
		db := open(t, d.DSN, sqltable.Options{})
		columns := []string{"a", "b", "n", "m", "u", "k", "w", "l"}
		table := look(t, db, spec("people", columns...), true)
		tests := []struct {
			column, value string
			want          error // nil: taken
		}{
			{"a", "12345", nil}, {"a", "123456", sqltable.ErrDoesNotFit}, {"a", "密密密密密", nil}, {"a", "12345 ", sqltable.ErrAltered},
			{"b", "123456", sqltable.ErrDoesNotFit}, {"b", "12 ", sqltable.ErrAltered}, {"b", "12", nil},
			{"n", "138 0013 8000", sqltable.ErrDoesNotFit}, {"n", "13800138000", nil}, {"n", "013800138000", sqltable.ErrAltered},
			{"n", "+13800138000", sqltable.ErrAltered}, {"n", "9223372036854775808", sqltable.ErrDoesNotFit}, {"n", "1e3", sqltable.ErrDoesNotFit},
			{"n", "", sqltable.ErrDoesNotFit}, {"m", "-32768", nil}, {"m", "32768", sqltable.ErrDoesNotFit}, {"m", "1.5", sqltable.ErrDoesNotFit},
			{"u", "taken", sqltable.ErrConstraint}, {"u", "free", nil}, {"k", "no", sqltable.ErrConstraint}, {"k", "yes", nil},
			{"w", "Folded", sqltable.ErrAltered}, {"w", "folded", nil}, {"w", "stop", sqltable.ErrConstraint},
			{"a", "\xff", sqltable.ErrDoesNotFit}, {"l", "é", nil},
		}
		if s.my {
			tests = append(tests, struct {
				column, value string
				want          error
			}{"l", "密", sqltable.ErrDoesNotFit})
		} else {
			tests = append(tests, struct {
				column, value string
				want          error
			}{"a", "a\x00b", sqltable.ErrDoesNotFit})
		}
		d.Exec(t, "INSERT INTO people (id, u) VALUES (999, 'taken')")
		for i := range tests {
			d.Exec(t, fmt.Sprintf("INSERT INTO people (id) VALUES (%d)", i))
		}
		b, err := table.Batch(t.Context(), sqltable.All, sqltable.Place{}, len(tests), func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
			for i, r := range rows {
				r.Cells[slices.Index(columns, tests[i].column)].Plain = some(tests[i].value)
			}
			return rows, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		why := map[string]error{}
		for _, r := range b.Refused {
			why[r.Key] = r.Err
			for _, tt := range tests {
				if tt.want != nil && len(tt.value) > 2 && strings.Contains(r.Err.Error(), tt.value) {
					t.Errorf("%v holds a value", r.Err)
				}
			}
		}
		for i, tt := range tests {
			stored := d.Query(t, fmt.Sprintf("SELECT %s FROM people WHERE id = %d", tt.column, i))[0][0]
			if tt.column == "b" {
				stored = strings.TrimRight(stored, " ")
			}
			want := tt.value
			if tt.want != nil {
				want = "<null>"
			}
			if got := why[fmt.Sprint(i)]; got != tt.want || stored != want {
				// Either reason names a value that is not taken: which one is the server's choice.
				if (got == nil) != (tt.want == nil) || stored != want || got == sqltable.ErrConstraint {
					t.Errorf("%s %q: %v, stored %q; want %v", tt.column, tt.value, got, stored, tt.want)
				}
			}
		}
		equal(t, "changed", b.Changed, len(tests)-len(b.Refused))
	})
}

func TestNothingOfATextIsPrinted(t *testing.T) {
	row := sqltable.Row{Key: "1", Cells: []sqltable.Cell{{Plain: some("13800138000"), Token: some("13800138000")}}}
	doc, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("row", "cell", row.Cells[0].Plain, "row", row)
	for _, got := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", row, row, row, row, row, row), string(doc), log.String()} {
		if strings.Contains(got, "138") || strings.Contains(got, fmt.Sprintf("%x", "138")) || !strings.Contains(got, "[hidden]") {
			t.Error(got)
		}
	}
}
