package sqltable_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/internal/sqltest"
)

// stored is a value as bytes of its column's character set, in hexadecimal.
type stored struct {
	bytes, text string // text "": it cannot be read exactly
}

type encoding struct {
	name, database, column string // character sets; PostgreSQL has none for a column
	values                 []stored
}

// encodings are texts in other character sets than UTF-8: what comes back from there as it was is worked on, and what
// does not stays as it is, with its row.
func encodings() []encoding {
	return []encoding{
		{"sql_ascii", "'SQL_ASCII'", "", []stored{{"e5bca0", "张"}, {"31ff", ""}, {"d5c5", ""}, {"616263", "abc"}}},
		{"euc_cn", "'EUC_CN'", "", []stored{{"d5c5c8fd", "张三"}, {"31aaa1", ""}, {"616263", "abc"}}},
		{"euc_jp", "'EUC_JP'", "", []stored{{"c5c4", "田"}, {"616263", "abc"}, {"31adf0", ""}}},
		{"win1252", "'WIN1252'", "", []stored{{"e9", "é"}, {"80", "€"}, {"3181", ""}}},
		{"gbk", "", "gbk", []stored{{"d5c5c8fd", "张三"}, {"a2a1", "ⅰ"}, {"31fefe", ""}, {"616263", "abc"}}},
		{"gb2312", "", "gb2312", []stored{{"d5c5", "张"}, {"31aaa1", ""}}},
		{"big5", "", "big5", []stored{{"b1693131", "張11"}, {"31f9fe", ""}, {"a15a", ""}}},
		{"sjis", "", "sjis", []stored{{"9363", "田"}, {"31fcfc", ""}}},
		{"cp932", "", "cp932", []stored{{"9363", "田"}, {"fa54", ""}}},
		{"eucjpms", "", "eucjpms", []stored{{"c5c4", "田"}, {"31f4fe", ""}}},
		{"euckr", "", "euckr", []stored{{"b1e8", "김"}, {"31a2fe", ""}}},
		{"latin1", "latin1", "latin1", []stored{{"e9", "é"}, {"80", "€"}, {"3181", "1\u0081"}}},
		{"ucs2", "latin1", "ucs2", []stored{{"5f20", "张"}, {"0061", "a"}}},
		{"utf8mb3", "gbk", "utf8mb3", []stored{{"e5bca0", "张"}}},
	}
}

func TestCharacterSets(t *testing.T) {
	for _, tt := range encodings() {
		t.Run(tt.name, func(t *testing.T) {
			s, database := sort{"MariaDB", mariadb, true}, tt.database
			if tt.column == "" {
				s = sort{"PostgreSQL", postgres, false}
			}
			if database == "" {
				database = "utf8mb4"
			}
			d := s.server.Encoded(t, database)
			table, refused := charsetTable(t, s, d, tt.column, tt.values)
			all := len(tt.values)
			contents := func() []string {
				var hexes []string
				for _, r := range d.Query(t, "SELECT "+s.pick("encode(a::bytea, 'hex')", "LOWER(HEX(a))")+" FROM people ORDER BY id") {
					hexes = append(hexes, r[0])
				}
				return hexes
			}
			for _, limit := range []int{2, 100} {
				sum := walk(t, table, sqltable.ToFill, limit, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
					for _, r := range rows {
						if c := r.Cells[0]; c.Plain.Valid && tt.values[len(r.Key)-1].text != c.Plain.Value {
							t.Errorf("row %s was given as %q", r.Key, c.Plain.Value)
						}
					}
					return tokenize(ctx, rows)
				})
				equal(t, "filled", sum.Changed, all-len(refused))
				keysRefused(t, "by the fill", sum.Refused, refused)
				for page := (sqltable.Page{}); !page.Done; {
					var err error
					if page, err = table.Read(t.Context(), sqltable.WithToken, page.Next, limit); err != nil {
						t.Fatal(err)
					}
					keysRefused(t, "by a walk over rows with a token", page.Refused, nil)
				}
				var read []sqltable.Refusal
				for page := (sqltable.Page{}); !page.Done; {
					var err error
					if page, err = table.Read(t.Context(), sqltable.All, page.Next, limit); err != nil {
						t.Fatal(err)
					}
					read = append(read, page.Refused...)
				}
				keysRefused(t, "by a walk over all", read, refused)
				rows, err := table.Sample(t.Context(), sqltable.ToCutOver, 100, 1)
				if err != nil || len(rows) != all-len(refused) {
					t.Errorf("a sample of %d rows: %v", len(rows), err)
				}
				sum = walk(t, table, sqltable.ToCutOver, limit, clear)
				equal(t, "cut over", sum.Changed, all-len(refused))
				keysRefused(t, "by the cut-over", sum.Refused, refused)
				for i, hex := range contents() {
					if bad := tt.values[i].text == ""; bad && hex != tt.values[i].bytes || !bad && hex != "<null>" {
						t.Errorf("row %d holds %s after the cut-over", i, hex)
					}
				}
				walk(t, table, sqltable.ToRestore, limit, restore)
				equal(t, "restored", contents(), hexOf(tt.values))
				walk(t, table, sqltable.WithToken, limit, func(_ context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
					for _, r := range rows {
						r.Cells[0].Token = sqltable.Text{}
					}
					return rows, nil
				})
			}
		})
	}
}

func hexOf(values []stored) (all []string) {
	for _, v := range values {
		all = append(all, v.bytes)
	}
	return all
}

// charsetTable makes people (id, a) with a row for each value, keys "1", "11", "111", ..., and returns the keys of
// those that cannot be read.
func charsetTable(t *testing.T, s sort, d *sqltest.Database, charset string, values []stored) (table *sqltable.Table, refused []string) {
	t.Helper()
	d.Exec(t, s.pick("CREATE TABLE people (id varchar(40) PRIMARY KEY, a varchar(40))",
		"CREATE TABLE people (id varchar(40) CHARACTER SET ascii PRIMARY KEY, a varchar(40) CHARACTER SET "+charset+")"))
	for i, v := range values {
		key := strings.Repeat("1", i+1)
		literal := "_" + charset + " X'" + v.bytes + "'"
		if !s.my {
			literal = "E'\\x" + strings.Join(slices.Collect(pairs(v.bytes)), "\\x") + "'"
		}
		d.Exec(t, fmt.Sprintf("INSERT INTO people (id, a) VALUES ('%s', %s)", key, literal))
		if v.text == "" {
			refused = append(refused, key)
		}
	}
	return look(t, open(t, d.DSN, sqltable.Options{}), spec("people", "a"), true), refused
}

func pairs(hex string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := 0; i+1 < len(hex); i += 2 {
			if !yield(hex[i : i+2]) {
				return
			}
		}
	}
}

func keysRefused(t *testing.T, how string, got []sqltable.Refusal, want []string) {
	t.Helper()
	var keys []string
	for _, r := range got {
		keys = append(keys, r.Key)
		if r.Err != sqltable.ErrDoesNotConvert {
			t.Errorf("row %s was refused %s: %v", r.Key, how, r.Err)
		}
	}
	if !slices.Equal(keys, want) {
		t.Errorf("rows %v were refused %s, want %v", keys, how, want)
	}
}

// The database's own character set is not that of the table: what is written comes through as it is.
func TestDatabaseOfAnotherCharacterSet(t *testing.T) {
	for _, charset := range []string{"latin1", "ascii", "gbk", "ucs2"} {
		t.Run(charset, func(t *testing.T) {
			d := mariadb.Encoded(t, charset)
			d.Exec(t, "CREATE TABLE people (id varchar(40) PRIMARY KEY, a varchar(40), b text, n bigint) CHARACTER SET utf8mb4",
				"INSERT INTO people VALUES ('张', '李四', '😀', 1), ('é', 'ü', NULL, 2), ('z', 'z', 'z', NULL)")
			before := d.Query(t, "SELECT * FROM people ORDER BY id")
			table := look(t, open(t, d.DSN, sqltable.Options{}), spec("people", "a", "b", "n"), true)
			equal(t, "filled", walk(t, table, sqltable.ToFill, 2, tokenize).Changed, 3)
			equal(t, "cut over", walk(t, table, sqltable.ToCutOver, 2, clear).Changed, 3)
			equal(t, "restored", walk(t, table, sqltable.ToRestore, 2, restore).Changed, 3)
			if err := table.DropTokenColumns(t.Context()); err != nil {
				t.Fatal(err)
			}
			equal(t, "table", d.Query(t, "SELECT * FROM people ORDER BY id"), before)
		})
	}
}

// Many rows of which a few cannot be handed over: those alone are refused, whatever batch they are in.
func TestRowsThatDoNotConvertAmongMany(t *testing.T) {
	d := postgres.Encoded(t, "'SQL_ASCII'")
	d.Exec(t, "CREATE TABLE people (id int PRIMARY KEY, phone text)",
		`INSERT INTO people SELECT i, CASE WHEN i IN (1, 250, 499, 500, 501, 1200) THEN E'\xff' ELSE '1380' || i END FROM generate_series(1, 1200) i`)
	table := look(t, open(t, d.DSN, sqltable.Options{}), spec("people", "phone"), true)
	want := []string{"1", "250", "499", "500", "501", "1200"}
	for _, limit := range []int{100, 600, 5000} {
		sum := walk(t, table, sqltable.ToFill, limit, tokenize)
		keysRefused(t, "by the fill", sum.Refused, want)
		equal(t, "filled", sum.Changed, 1194)
		d.Exec(t, "UPDATE people SET phone_token = NULL")
	}
}

// A walk has to find the place again where a key was.
func TestKeysThatDoNotConvert(t *testing.T) {
	t.Run("MariaDB", func(t *testing.T) {
		d := mariadb.Database(t)
		db := open(t, d.DSN, sqltable.Options{})
		for _, charset := range []string{"gbk", "gb2312", "big5", "euckr", "sjis", "cp932", "ujis", "eucjpms", "cp1251", "tis620", "greek"} {
			d.Exec(t, "DROP TABLE IF EXISTS people", "CREATE TABLE people (id varchar(9) CHARACTER SET "+charset+" PRIMARY KEY, a text)")
			if _, err := db.Table(t.Context(), spec("people", "a")); !errors.Is(err, sqltable.ErrKey) || !strings.Contains(err.Error(), charset) {
				t.Errorf("%s: %v", charset, err)
			}
		}
		for _, charset := range []string{"ascii", "latin1", "latin2", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32"} {
			d.Exec(t, "DROP TABLE IF EXISTS people", "CREATE TABLE people (id varchar(9) CHARACTER SET "+charset+" PRIMARY KEY, a text)",
				"INSERT INTO people (id, a) SELECT "+map[bool]string{true: "seq", false: "CONVERT(CHAR(seq USING ucs2) USING " + charset + ")"}[charset == "ascii"]+
					", 'v' FROM seq_33_to_64 WHERE seq BETWEEN 33 AND 64", "INSERT IGNORE INTO people SELECT CONCAT('x', CONVERT(CHAR(seq USING "+
					map[bool]string{true: charset, false: "ucs2"}[strings.HasPrefix(charset, "latin")]+") USING "+charset+"), seq), 'v' FROM seq_128_to_255 WHERE '"+charset+"' <> 'ascii'")
			n, seen := d.Query(t, "SELECT COUNT(*) FROM people")[0][0], map[string]bool{}
			sum := walk(t, look(t, db, spec("people", "a"), true), sqltable.ToFill, 7, func(ctx context.Context, rows []sqltable.Row) ([]sqltable.Row, error) {
				for _, r := range rows {
					seen[r.Key] = true
				}
				return tokenize(ctx, rows)
			})
			if fmt.Sprint(sum.Changed) != n || len(seen) != sum.Changed {
				t.Errorf("%s: %d rows, changed %d, saw %d keys", charset, sum.Rows, sum.Changed, len(seen))
			}
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		for _, tt := range []struct{ encoding, key string }{{"'SQL_ASCII'", `E'1\xff'`}, {"'EUC_CN'", `E'1\xaa\xa1'`}, {"'EUC_JP'", `E'1\xad\xf0'`}} {
			d := postgres.Encoded(t, tt.encoding)
			d.Exec(t, "CREATE TABLE people (id varchar(9) PRIMARY KEY, a text)", "INSERT INTO people VALUES ('1', 'v'), ("+tt.key+", 'v')")
			table := look(t, open(t, d.DSN, sqltable.Options{}), spec("people", "a"), true)
			if _, err := table.Batch(t.Context(), sqltable.ToFill, sqltable.Place{}, 9, tokenize); !errors.Is(err, sqltable.ErrKey) {
				t.Errorf("%s: batch: %v", tt.encoding, err)
			}
			if _, err := table.Read(t.Context(), sqltable.ToFill, sqltable.Place{}, 9); !errors.Is(err, sqltable.ErrKey) {
				t.Errorf("%s: read: %v", tt.encoding, err)
			}
		}
	})
}
