package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNewestEntriesCrossSegments(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	join := func(lines [][]byte) string {
		var parts []string
		for _, l := range lines {
			parts = append(parts, string(l))
		}
		return strings.Join(parts, " ")
	}
	if _, _, err := newest(dir, 1); err == nil {
		t.Error("an empty folder is a log")
	}
	const first, second, third = "entries-0000000000000000.jsonl", "entries-0000000000000003.jsonl", "entries-0000000000000005.jsonl"
	write(first, "0\n1\n2\n")
	write(second, "3\n4")
	for count, want := range map[int]string{0: "", 1: "3", 2: "2 3", 9: "0 1 2 3"} {
		lines, _, err := newest(dir, count)
		if err != nil || join(lines) != want {
			t.Errorf("%d: %q, %v", count, join(lines), err)
		}
	}
	// Following: what was torn is read once whole, and the next segment comes after this one.
	_, at, err := newest(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	follow := func() {
		t.Helper()
		for range 3 {
			var lines [][]byte
			if lines, at, err = at.next(dir); err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				got = append(got, string(l))
			}
		}
	}
	follow()
	write(second, "\n")
	write(third, "5\n")
	follow()
	write(third, "6\n")
	follow()
	if want := "4 5 6"; strings.Join(got, " ") != want {
		t.Errorf("followed %q, want %q", got, want)
	}
}
