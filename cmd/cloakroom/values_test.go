package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

func testProgram(stdin string) (*program, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	return &program{
		in: strings.NewReader(stdin), out: &out, err: &errs, lookup: func(string) (string, bool) { return "", false },
		readHidden: func() ([]byte, error) { return nil, errors.New("no terminal") },
	}, &out, &errs
}

func TestFieldValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte("from a file\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(pairs ...string) (out []namedValue) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, namedValue{pairs[i], wire.Plain(pairs[i+1])})
		}
		return out
	}
	cases := []struct {
		name  string
		flags []string
		stdin string
		want  []namedValue
	}{
		{"one, the value alone", []string{"phone"}, "138\n", all("phone", "138")},
		{"one, without a line end", []string{"phone"}, "138", all("phone", "138")},
		{"one, with its name", []string{"phone"}, "phone=138\n", all("phone", "138")},
		{"one, of several lines", []string{"text"}, "a\nb\n\n", all("text", "a\nb\n")},
		{"one, with another's name", []string{"text"}, "phone=138\n", all("text", "phone=138")},
		{"one, spaces kept", []string{"text"}, " a \r\n", all("text", " a ")},
		{"several", []string{"phone", "name"}, "name=n=m\nphone=138\n", all("phone", "138", "name", "n=m")},
		{"several, CRLF", []string{"phone", "name"}, "name=n\r\nphone=138\r\n", all("phone", "138", "name", "n")},
		{"none named", nil, "name=n\nphone=138\n", all("name", "n", "phone", "138")},
		{"an empty value", []string{"phone", "name"}, "name=\nphone=138\n", all("phone", "138", "name", "")},
		{"a file", []string{"text=@" + path}, "", all("text", "from a file\n")},
		{"a file and standard input", []string{"text=@" + path, "phone"}, "138\n", all("text", "from a file\n", "phone", "138")},
		{"all of standard input", []string{"text=@-"}, "text=a\nb\n", all("text", "text=a\nb")},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p, _, _ := testProgram(tc.stdin)
			sources, err := parseFields(tc.flags)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.fieldValues(sources)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				for _, v := range got {
					t.Logf("%s = %q", v.field, string(v.value))
				}
				t.Errorf("not what was wanted")
			}
		})
	}
}

func TestFieldMistakes(t *testing.T) {
	const value = "13800138000"
	cases := []struct {
		name  string
		flags []string
		stdin string
		want  string
		usage bool
	}{
		{"a value in the flag", []string{"phone=" + value}, "", "standard input", true},
		{"no name", []string{"=@x"}, "", "name of a field", true},
		{"no file", []string{"phone=@"}, "", "names no file", true},
		{"twice", []string{"phone", "phone=@x"}, "", "stands twice", true},
		{"two of all of standard input", []string{"a=@-", "b=@-"}, "", "one field only", true},
		{"all of it and a line of it", []string{"a=@-", "b"}, "", "one field only", true},
		{"a line missing", []string{"phone", "name"}, "phone=" + value, "no line name=", true},
		{"a line too many", []string{"phone", "name"}, "phone=1\nname=n\nemail=" + value, "line 3", true},
		{"a line twice", []string{"phone", "name"}, "phone=1\nname=n\nphone=" + value, "line 3", true},
		{"not a line of the form", []string{"phone", "name"}, value + "\n", "line 1", true},
		{"nothing", nil, "", "line 1", true},
		{"not UTF-8", []string{"text"}, "\xff" + value, "not UTF-8", false},
		{"too long", []string{"text"}, strings.Repeat("x", maxInput+1), "longer than 8 MiB", false},
		{"no such file", []string{"text=@/nonexistent/x"}, "", "no such file", false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p, _, _ := testProgram(tc.stdin)
			sources, err := parseFields(tc.flags)
			if err == nil {
				_, err = p.fieldValues(sources)
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), value) {
				t.Errorf("the error holds the value: %v", err)
			}
			var use usageError
			if errors.As(err, &use) != tc.usage {
				t.Errorf("usage error: %v", !tc.usage)
			}
		})
	}
}

func TestPrompts(t *testing.T) {
	p, _, errs := testProgram("")
	p.inTerminal = true
	typed := []string{"138", "n"}
	p.readHidden = func() ([]byte, error) {
		next := typed[0]
		typed = typed[1:]
		return []byte(next), nil
	}
	got, err := p.fieldValues([]fieldSource{{name: "phone"}, {name: "name"}})
	if err != nil || len(got) != 2 || string(got[0].value) != "138" || string(got[1].value) != "n" {
		t.Errorf("%d values, %v", len(got), err)
	}
	if want := "phone: \nname: \n"; errs.String() != want {
		t.Errorf("asked %q, want %q", errs, want)
	}
	if _, err := p.fieldValues(nil); err == nil {
		t.Error("on a terminal no field was named, and none was asked for")
	}
}

func TestTokens(t *testing.T) {
	p, _, _ := testProgram("tok_a\n\n  tok_b \r\ntok_c")
	got, err := p.tokens()
	if err != nil || !reflect.DeepEqual(got, []wire.Plain{"tok_a", "tok_b", "tok_c"}) {
		t.Errorf("%d tokens, %v", len(got), err)
	}
	p, _, _ = testProgram("\n \n")
	if _, err := p.tokens(); err == nil {
		t.Error("no token is no mistake")
	}
}

func FuzzParseLines(f *testing.F) {
	f.Add("a=b\nc=d\n")
	f.Add("=\n")
	f.Add("a=\r\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		values, order, err := parseLines(text, nil)
		if err == nil && len(values) != len(order) {
			t.Errorf("%d values of %d names", len(values), len(order))
		}
	})
}
