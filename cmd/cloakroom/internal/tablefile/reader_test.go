package tablefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll reads the columns of a table into lines: cells with | between them, or the fault, behind row and line.
func readAll(t *testing.T, in io.Reader, o Options, columns ...string) (lines []string, rows []Row) {
	t.Helper()
	r, err := NewReader(in, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Select(columns...); err != nil {
		t.Fatal(err)
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, rows
		}
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, c := range row.Cells {
			texts = append(texts, c.Text)
		}
		line := fmt.Sprintf("%d/%d ", row.Number, row.Line)
		if row.Fault != "" {
			line += "!" + string(row.Fault)
		} else {
			line += strings.Join(texts, "|")
		}
		lines, rows = append(lines, line), append(rows, row)
	}
}

func TestRecords(t *testing.T) {
	const columns = "a,b,c"
	long := strings.Repeat("x", MaxRecord)
	cases := []struct {
		name   string
		format Format
		in     string
		want   []string
	}{
		{"plain", CSV, "a,b,c\n1,2,3\n4,5,6\n", []string{"2/2 1|2|3", "3/3 4|5|6"}},
		{"no line end at the end", CSV, "a,b,c\n1,2,3", []string{"2/2 1|2|3"}},
		{"CR LF", CSV, "a,b,c\r\n1,2,3\r\n", []string{"2/2 1|2|3"}},
		{"quoted", CSV, "a,b,c\n\"1\",\"2,2\",\"3\"\"3\"\r\n", []string{"2/2 1|2,2|3\"3"}},
		{"quoted line ends", CSV, "a,b,c\n1,\"x\ny\r\nz\",3\n4,5,6\n", []string{"2/2 1|x\ny\r\nz|3", "3/5 4|5|6"}},
		{"quoted header", CSV, "\"a\",\"b\", c \n1,2,3\n", []string{"2/2 1|2|3"}},
		{"empty cells", CSV, "a,b,c\n1,,\n\"\",\"\",3\n", []string{"2/2 1||", "3/3 ||3"}},
		{"blank lines count", CSV, "a,b,c\n\n1,2,3\r\n\r\n,,\n4,5,6\n", []string{"3/3 1|2|3", "6/6 4|5|6"}},
		{"too few and too many cells", CSV, "a,b,c\n1,2\n1,2,3,4\n4,5,6\n", []string{"2/2 !ragged", "3/3 !ragged", "4/4 4|5|6"}},
		{"quote inside a cell", CSV, "a,b,c\n1,5\" x,3\n4,5,6\n", []string{"2/2 !quote", "3/3 4|5|6"}},
		{"text behind a quoted cell", CSV, "a,b,c\n1,\"2\"x,3\n4,5,6\n", []string{"2/2 !quote", "3/3 4|5|6"}},
		{"quote never closed", CSV, "a,b,c\n1,\"2,3\n4,5,6\n7,8,9", []string{"2/2 !quote", "3/3 4|5|6", "4/4 7|8|9"}},
		{"quote never closed in the last line", CSV, "a,b,c\n1,\"2,3", []string{"2/2 !quote"}},
		{"quote closed by a later row's", CSV, "a,b,c\n1,\"2,3\n4,\"5\",6\n7,8,9\n", []string{"2/2 !quote", "3/3 4|5|6", "4/4 7|8|9"}},
		{"quote that swallows 1 MiB", CSV, "a,b,c\n1,\"2,3\n4,5," + long + "\n7,8,9\n", []string{"2/2 !quote", "3/3 !record_too_long", "4/4 7|8|9"}},
		{"CR behind a quoted cell", CSV, "a,b,c\n1,2,\"3\"\rx\n4,5,6\n", []string{"2/2 !quote", "3/3 4|5|6"}},
		{"NUL", CSV, "a,b,c\n1,\x00,3\n4,5,6\n", []string{"2/2 !nul_byte", "3/3 4|5|6"}},
		{"longest record", CSV, "a,b,c\n1,2," + long[:MaxRecord-5] + "\n4,5,6\n", []string{"2/2 1|2|" + long[:MaxRecord-5], "3/3 4|5|6"}},
		{"record too long", CSV, "a,b,c\n1,2," + long[:MaxRecord-4] + "\n4,5,6\n", []string{"2/2 !record_too_long", "3/3 4|5|6"}},
		{"record that never ends", CSV, "a,b,c\n1,2," + long + long + long, []string{"2/2 !record_too_long"}},
		{"tabs", TSV, "a\tb\tc\n1\t2,2\t5\" x\n\"4\t4\"\t\"5\n\"\t6\n", []string{"2/2 1|2,2|5\" x", "3/3 4\t4|5\n|6"}},
		{"objects", NDJSON, `{"a":"1","b":"张","c":"\n"}` + "\n" + `{"c":3.50,"b":null,"a":true}` + "\n", []string{"1/1 1|张|\n", "2/2 true||3.50"}},
		{"objects without members", NDJSON, `{"a":"1","b":"2","c":"3"}` + "\n\n{}\r\n", []string{"1/1 1|2|3", "3/3 ||"}},
		{"no objects", NDJSON, `{"a":1,"b":2,"c":3}` + "\n" + `{"a":1,"a":2}` + "\n[1]\n{\n{} {}\n\"a\"\n" + `{"a":"\u0000"}` + "\n" + `{"a":"\ud800"}`,
			[]string{"1/1 1|2|3", "2/2 !malformed_json", "3/3 !malformed_json", "4/4 !malformed_json", "5/5 !malformed_json", "6/6 !malformed_json", "7/7 !nul_byte", "8/8 !malformed_json"}},
		{"object too long", NDJSON, `{"a":1,"b":2,"c":3}` + "\n" + `{"a":"` + long + `"}` + "\n{}", []string{"1/1 1|2|3", "2/2 !record_too_long", "3/3 ||"}},
		{"nested too deep", NDJSON, `{"a":1,"b":2,"c":3}` + "\n" + `{"a":` + strings.Repeat("[", 100_000) + "\n", []string{"1/1 1|2|3", "2/2 !malformed_json"}},
		{"broken UTF-8", CSV, "a,b,c\n张,三,李四王五赵六钱七孙八周九吴十\n1,\xe5,3\n4,5,6\n", []string{"2/2 张|三|李四王五赵六钱七孙八周九吴十", "3/3 !encoding", "4/4 4|5|6"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for how, in := range map[string]io.Reader{"at once": strings.NewReader(tc.in), "in pieces": iotest.HalfReader(strings.NewReader(tc.in))} {
				got, _ := readAll(t, in, Options{Format: tc.format}, strings.Split(columns, ",")...)
				if !slices.Equal(got, tc.want) {
					t.Errorf("%s: got %.300q\nwant %.300q", how, got, tc.want)
				}
			}
		})
	}
}

func TestRefusedFiles(t *testing.T) {
	wide := strings.TrimSuffix(strings.Repeat("c,", MaxColumns+1), ",")
	cases := []struct {
		name string
		in   string
		o    Options
		want string
	}{
		{"empty", "", Options{Format: CSV}, "empty"},
		{"only a mark", "\xef\xbb\xbf", Options{Format: CSV}, "empty"},
		{"nothing but blank lines", "\n\n", Options{Format: NDJSON}, "empty"},
		{"xlsx", "PK\x03\x04\x14\x00", Options{Format: CSV}, "save it in Excel as CSV"},
		{"gzip", "\x1f\x8b\x08", Options{Format: CSV}, "gzip -dc"},
		{"xls", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Options{Format: CSV}, ".xls"},
		{"UTF-16 without a mark", encoded(t, "id,name\n1,x\n", UTF16LE), Options{Format: CSV}, "UTF-16"},
		{"neither", "id,n\xe9 \xff\n", Options{Format: CSV}, "--encoding"},
		{"another mark", "\xff\xfei\x00", Options{Format: CSV, Encoding: GB18030}, "mark of utf-16le"},
		{"blank header", "\nsecret,1\n", Options{Format: CSV}, "blank"},
		{"header of empty cells", ",,\nsecret,1,2\n", Options{Format: CSV}, "blank"},
		{"header with NUL", "a,\x00\n", Options{Format: CSV}, "NUL"},
		{"header with a stray quote", "a,b\"c\n", Options{Format: CSV}, "quote"},
		{"header without an end", strings.Repeat("x", 3*MaxRecord), Options{Format: CSV}, "longer than 1 MiB"},
		{"header named twice", "id,secret,secret\n", Options{Format: CSV}, "names columns 2 and 3 alike"},
		{"too many columns", wide, Options{Format: CSV}, "1001 columns"},
		{"CR alone", "id,secret\ru1,secret\ru2,secret\r", Options{Format: CSV}, "the line ends are CR alone (old Mac); save it with LF or CR LF"},
		{"CR alone, and quotes", "\"id\",\"a\rb\"\r\"u1\",\"secret\"\r", Options{Format: CSV}, "CR alone"},
		{"CR alone, and an LF in a cell", "id,name\ru1,\"a\nb\"\r", Options{Format: CSV}, "CR alone"},
		{"CR alone, one column", "id\rsecret\r", Options{Format: CSV}, "CR alone"},
		{"CR alone, tabs", "id\tb 5\" x\tc\rsecret\t1\t2\r", Options{Format: TSV}, "CR alone"},
		{"CR alone, UTF-16", "\xff\xfe" + encoded(t, "id,name\ru1,x\r", UTF16LE), Options{Format: CSV}, "CR alone"},
		{"CR alone, objects", "{\"a\":1}\r{\"a\":2}\r", Options{Format: NDJSON}, "CR alone"},
		{"semicolons", "id;secret;phone\nu1;x;1\n", Options{Format: CSV}, "the separator looks like \";\""},
		{"semicolons and quotes", "\"id\";\"secret, too\"\nu1;x\n", Options{Format: CSV}, "the separator looks like \";\""},
		{"semicolons for tabs", "id;secret\nu1;x\n", Options{Format: TSV}, "the separator looks like \";\""},
		{"a line that tells of semicolons", "sep=;\nid;secret\n", Options{Format: CSV}, "the separator looks like \";\""},
		{"tabs", "id\tsecret\tphone\nu1\tx\t1\n", Options{Format: CSV}, "--format tsv"},
		{"commas", "id,secret\nu1,x\n", Options{Format: TSV}, "--format csv"},
		{"no header, the same twice", "13800138000,13800138000\n", Options{Format: CSV}, "does not look like a header"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewReader(strings.NewReader(tc.in), tc.o)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "13800138000") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestMissingColumns(t *testing.T) {
	const unshown = " names that are not shown, as they may be a person's data: it must name the columns; look at it with: head -n 1 FILE"
	cases := []struct{ name, in, want string }{
		{"names are listed", "id,姓名,,电话\n", "there is no column phone, mail; there are: id, 姓名, 电话"},
		{"names that may be a person's are not", "u1,张三,,北京\n", "there is no column phone, id, mail; the first line has 3" + unshown},
		{"a person is not", "u1,张三,13800138000\n", "there is no column phone, id, mail; the first line does not look like a header, which must name the columns"},
		{"nor an address for mail", "u1,a@example.com\n", "there is no column phone, id, mail; the first line does not look like a header, which must name the columns"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r, err := NewReader(strings.NewReader(tc.in), Options{Format: CSV})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Select("phone", "id", "mail"); err == nil || err.Error() != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The place behind each record is that from which the rest reads the same, and the sum covers what is before it.
func TestPositions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, enc := range []Encoding{UTF8, GB18030, UTF16LE} {
		var b strings.Builder
		b.WriteString("a,b\n")
		for range 300 {
			words := []string{"x", "张三", "\"q\nr\"", "𠀀", "bad\"quote", "", "\"\"\"\"", "é"}
			b.WriteString(words[random.IntN(len(words))] + "," + words[random.IntN(len(words))] + "\n")
		}
		in := encoded(t, b.String(), enc)
		lines, rows := readAll(t, strings.NewReader(in), Options{Format: CSV, Encoding: enc}, "a", "b")
		header := encoded(t, "a,b\n", enc)
		sums := map[uint64]bool{}
		for i, row := range rows {
			rest, _ := readAll(t, strings.NewReader(header+in[row.After.Offset:]), Options{Format: CSV, Encoding: enc}, "a", "b")
			if len(rest) != len(lines)-i-1 || len(rest) > 0 && cellsOf(rest[0]) != cellsOf(lines[i+1]) {
				t.Fatalf("%s: from the end of row %d other rows are read: %d and not %d", enc, row.Number, len(rest), len(lines)-i-1)
			}
			sums[row.After.Sum] = true
		}
		if len(sums) != len(rows) {
			t.Errorf("%s: %d rows have %d sums", enc, len(rows), len(sums))
		}
	}
}

func cellsOf(line string) string {
	_, text, _ := strings.Cut(line, " ")
	return text
}

// endless is a table that makes itself: lines of a pattern until n bytes were given.
type endless struct {
	pattern []byte
	n       int64
	at      int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n := copy(p, e.pattern[e.at:])
	e.at = (e.at + n) % len(e.pattern)
	e.n -= int64(n)
	return n, nil
}

// Whatever is read, a reader keeps a little more than a record.
func TestMemory(t *testing.T) {
	const size = 32 << 20
	cases := []struct{ name, pattern string }{
		{"rows", "1," + strings.Repeat("x", 60) + "\n"},
		{"a line without an end", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
		{"a quote that is never closed", "1,\"2 3 4\n5 6 7 8 9 10 11 12 13\n"},
		{"commas", ",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			pattern := []byte(strings.Repeat(tc.pattern, 1000))
			in := io.MultiReader(strings.NewReader("a,b\n"), &endless{pattern: pattern, n: size})
			r, err := NewReader(in, Options{Format: CSV})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Select("a"); err != nil {
				t.Fatal(err)
			}
			var rows, most uint64
			for ; ; rows++ {
				if _, err := r.Next(); err != nil {
					break
				}
				if rows%(1<<18) == 0 {
					most = max(most, held())
				}
			}
			if most = max(most, held()); most > 64<<20 {
				t.Errorf("%d MiB are in use after %d rows", most>>20, rows)
			}
			runtime.KeepAlive(r)
		})
	}
}

func held() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("the disk is gone")
	r, err := NewReader(io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("a,b\n"), 50_000)), iotest.ErrReader(broken)), Options{Format: CSV})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Select("a"); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := NewReader(iotest.ErrReader(broken), Options{Format: CSV}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// FuzzReader: no input makes the reader fail to end, or give rows that do not add up.
func FuzzReader(f *testing.F) {
	f.Add([]byte("a,b\n1,\"2\n\"\n3,4"), uint8(0))
	f.Add([]byte("a\tb\n1\t\"\"\"2\"\n"), uint8(1))
	f.Add([]byte("{\"a\":1,\"b\":[]}\n{}"), uint8(2))
	f.Add([]byte("\xff\xfea\x00\n\x00\x00\xd8\n\x00"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, n uint8) {
		r, err := NewReader(bytes.NewReader(in), Options{Format: []Format{CSV, TSV, NDJSON}[n%3]})
		if err != nil {
			return
		}
		names := slices.DeleteFunc(slices.Clone(r.Columns()), func(s string) bool { return s == "" })
		if r.Select(names...) != nil {
			t.Fatal("its own columns are not there")
		}
		var last Position
		for {
			row, err := r.Next()
			if err != nil {
				return
			}
			if row.After.Rows <= last.Rows || row.After.Offset <= last.Offset || row.Number <= last.Rows || row.Line <= last.Lines {
				t.Fatalf("a row at %d ends at %+v, the one before at %+v", row.Number, row.After, last)
			}
			if row.Fault == "" && len(row.Cells) != len(names) {
				t.Fatalf("%d cells of %d", len(row.Cells), len(names))
			}
			last = row.After
		}
	})
}
