package tablefile

import (
	"bytes"
	"strings"
	"testing"
)

func TestWriter(t *testing.T) {
	cells := []Cell{{Text: "u1"}, {Text: "=1+2", JSON: `"=1+2"`}, {Text: "a,\"b\"\nc"}, {Text: "x;=1"}, {Text: "1,5"}, {Text: "a\tb"}, {Text: "a\rb"}, {Text: " a"}, {Text: "a b"}, {}}
	cases := []struct {
		format Format
		want   string
	}{
		{CSV, "id,'+x,t,s,c,d,e,f,g,h\nu1,'=1+2,\"a,\"\"b\"\"\nc\",\"x;=1\",\"1,5\",\"a\tb\",\"a\rb\",\" a\",a b,\n"},
		{TSV, "id\t'+x\tt\ts\tc\td\te\tf\tg\th\nu1\t'=1+2\t\"a,\"\"b\"\"\nc\"\tx;=1\t1,5\t\"a\tb\"\t\"a\rb\"\t\" a\"\ta b\t\n"},
		{NDJSON, `{"id":"u1","+x":"=1+2","t":"a,\"b\"\nc","s":"x;=1","c":"1,5","d":"a\tb","e":"a\rb","f":" a","g":"a b"}` + "\n"},
	}
	for _, tc := range cases {
		t.Run(string(tc.format), func(t *testing.T) {
			var b bytes.Buffer
			w := NewWriter(&b, tc.format, []string{"id", "+x", "t", "s", "c", "d", "e", "f", "g", "h"})
			if err := w.Header(); err != nil {
				t.Fatal(err)
			}
			if err := w.Write(cells); err != nil {
				t.Fatal(err)
			}
			if b.Len() > 0 {
				t.Error("it is written before Flush")
			}
			if err := w.Flush(); err != nil || b.String() != tc.want {
				t.Errorf("%v, got %q", err, b.String())
			}
			if w.Write(cells[:3]) == nil {
				t.Error("a short record is written")
			}
		})
	}
}

// What an NDJSON input had is written as it was: numbers stay numbers.
func TestWriterKeepsJSON(t *testing.T) {
	const line = `{"a":12.50,"b":null,"c":["x",{"y":1}],"d":true,"e":"+1"}` + "\n"
	r, err := NewReader(strings.NewReader(line), Options{Format: NDJSON})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Select(r.Columns()...); err != nil {
		t.Fatal(err)
	}
	row, err := r.Next()
	if err != nil || row.Fault != "" {
		t.Fatal(row.Fault, err)
	}
	var b bytes.Buffer
	w := NewWriter(&b, NDJSON, r.Columns())
	if err := w.Write(row.Cells); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil || b.String() != line {
		t.Errorf("%v, got %s", err, b.String())
	}
}

func TestDefuse(t *testing.T) {
	for _, cell := range []string{"=1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠A"} {
		if got := Defuse(cell); got != "'"+cell {
			t.Errorf("%q becomes %q", cell, got)
		}
	}
	for _, cell := range []string{"", "a=1", "1-2", "'=1", "tok_phone_x", "张三", ".5", "_a", ":x"} {
		if got := Defuse(cell); got != cell {
			t.Errorf("%q becomes %q", cell, got)
		}
	}
}

func TestNames(t *testing.T) {
	for path, want := range map[string]Format{"a.csv": CSV, "A.CSV": CSV, "x/b.tsv": TSV, "b.txt": TSV, "c.ndjson": NDJSON, "c.jsonl": NDJSON, "d.xlsx": "", "csv": "", "": ""} {
		if got, ok := FormatOf(path); got != want || ok != (want != "") {
			t.Errorf("%s is %q", path, got)
		}
	}
	for name, want := range map[string]Encoding{"UTF-8": UTF8, "utf8": UTF8, "gbk": GB18030, "GB2312": GB18030, "utf-16": UTF16LE, "utf-16be": UTF16BE, "latin1": Detect} {
		if got, ok := ParseEncoding(name); got != want || ok != (want != Detect) {
			t.Errorf("%s is %q", name, got)
		}
	}
}
