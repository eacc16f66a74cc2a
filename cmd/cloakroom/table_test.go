package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
)

func TestTableLinesUpWideCharacters(t *testing.T) {
	tab := newTable("NAME", "PHONE", "NOTE")
	tab.add("张三", "138****8000", "")
	tab.add("Zhang", "1", "x")
	tab.add("欧阳小小", "", "y")
	var b bytes.Buffer
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	at := func(line, cell string) int { return uniseg.StringWidth(line[:strings.Index(line, cell)]) }
	if a, b, c := at(lines[0], "PHONE"), at(lines[1], "138"), at(lines[2], "1"); a != b || b != c {
		t.Errorf("column PHONE begins at %d, %d, %d", a, b, c)
	}
	if a, b := at(lines[2], "x"), at(lines[3], "y"); a != b {
		t.Errorf("column NOTE begins at %d, %d", a, b)
	}
	for _, l := range lines {
		if strings.HasSuffix(l, " ") {
			t.Errorf("trailing space: %q", l)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"张三 ok":      "张三 ok",
		"\x1b[2J":    `\x1b[2J`,
		"a\nb\t":     `a\nb\t`,
		"\u202eabc":  `\u202eabc`,
		"zero\u200b": `zero\u200b`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
