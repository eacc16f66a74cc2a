package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// written is a table for tests and what its rows hold.
type written struct {
	path   string
	rows   int
	good   []string // ids in their order
	phones map[string]string
	bad    map[string]string // number of a bad row -> its rule
}

// writeTable makes n rows, one bad in a hundred: bad values, ragged rows and ids that were there, in turn.
func writeTable(t *testing.T, n int) written {
	t.Helper()
	w := written{path: filepath.Join(t.TempDir(), "people.csv"), rows: n, phones: map[string]string{}, bad: map[string]string{}}
	var b bytes.Buffer
	b.WriteString("id,手机号,姓名,备注\n")
	for i := range n {
		id, phone, number := fmt.Sprintf("p%d", i), fmt.Sprintf("138%08d", i), fmt.Sprint(i+2)
		switch {
		case i%100 != 50:
			fmt.Fprintf(&b, "%s,%s,张三%d,\"=%d\nx\"\n", id, phone, 0, i)
			w.good, w.phones[id] = append(w.good, id), phone
			continue
		case i%300 == 50:
			fmt.Fprintf(&b, "%s,%sO,张三,x\n", id, phone[:10])
			w.bad[number] = "digits"
		case i%300 == 150:
			fmt.Fprintf(&b, "%s,%s\n", id, phone)
			w.bad[number] = "ragged"
		default:
			fmt.Fprintf(&b, "p%d,%s,张三,x\n", i-1, phone)
			w.bad[number] = "duplicate_subject"
		}
	}
	// Names hold no digit.
	text := strings.ReplaceAll(b.String(), "张三0", "张三")
	if err := os.WriteFile(w.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

var importMap = []string{"--subject", "id", "--map", "phone=手机号,name=姓名", "--keep", "备注"}

// check compares the outputs with the table: every row once, in its place, and each token with its value.
func (w written) check(t *testing.T, s *served, out string) {
	t.Helper()
	rows := readCSV(t, out)
	if len(rows) != len(w.good)+1 || strings.Join(rows[0], ",") != "id,备注,phone,name" {
		t.Fatalf("%d lines below %q, want %d", len(rows)-1, rows[0], len(w.good))
	}
	var tokens []wire.Plain
	seen := map[string]bool{}
	for i, row := range rows[1:] {
		if row[0] != w.good[i] {
			t.Fatalf("line %d is of %s, want %s", i+2, row[0], w.good[i])
		}
		if !strings.HasPrefix(row[1], "'=") || !strings.HasSuffix(row[1], "\nx") {
			t.Fatalf("the kept cell of %s is %q", row[0], row[1])
		}
		for _, token := range row[2:] {
			if seen[token] {
				t.Fatalf("a token of %s stands twice", row[0])
			}
			seen[token] = true
		}
		tokens = append(tokens, wire.Plain(row[2]), wire.Plain(row[3]))
	}
	cl := s.client(t, "app")
	revealed, err := inBatches(t.Context(), tokens, func(ctx context.Context, part []wire.Plain) ([]wire.Revealed, error) {
		return cl.Detokenize(ctx, wire.Detokenize{Purpose: "service", Tokens: part})
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range revealed {
		want := "张三"
		if i%2 == 0 {
			want = w.phones[w.good[i/2]]
		}
		if r.Value == nil || string(*r.Value) != want {
			t.Fatalf("a token of %s does not open to its value: %v", w.good[i/2], r.Error)
		}
	}
	bad := readCSV(t, out+errorsSuffix)
	if len(bad) != len(w.bad)+1 {
		t.Errorf("%d bad rows, want %d", len(bad)-1, len(w.bad))
	}
	for _, row := range bad[1:] {
		want := w.bad[row[0]]
		if row[4] != want && (want != "digits" || row[2] != "phone" || row[3] != "invalid_value") {
			t.Errorf("row %s is bad for %q, want %q", row[0], row[2:5], want)
		}
	}
	if _, err := os.Stat(out + progressSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the progress file is left: %v", err)
	}
	for _, path := range []string{out, out + errorsSuffix} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) == 0 {
		t.Fatalf("%s: %d lines, %v", path, len(rows), err)
	}
	return rows
}

var tokenText = regexp.MustCompile(`tok_([a-z]+)_[0-9A-Za-z]{28}`)

// shape is a file with the chance taken out of it.
func shape(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return tokenText.ReplaceAllString(string(text), "tok_$1")
}
