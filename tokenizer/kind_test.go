package tokenizer

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// valueCase is one value of one kind: either what it becomes, or the rule that refuses it.
type valueCase struct {
	name   string
	value  string
	want   string // canonical form
	masked string
	rule   string // refused by it
	warn   string
}

func kindOf(t testing.TB, name string) Kind {
	t.Helper()
	k, ok := NewKinds(Options{}).Lookup(name)
	if !ok {
		t.Fatalf("no kind %q", name)
	}
	return k
}

func runCases(t *testing.T, k Kind, cases []valueCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := k.Canonical(c.value)
			if c.rule != "" {
				if want := (Invalid{k.Name(), c.rule}); err != want {
					t.Errorf("Canonical(%q) = %q, %v, want %v", c.value, got.Text.Reveal(), err, want)
				}
				if !got.Text.Empty() || got.Warnings != nil {
					t.Errorf("Canonical(%q) holds %q beside an error", c.value, got.Text.Reveal())
				}
				if m := k.Mask(c.value, Masked); m != hidden {
					t.Errorf("Mask(%q) = %q, want nothing shown", c.value, m)
				}
				return
			}
			if err != nil {
				t.Fatalf("Canonical(%q): %v", c.value, err)
			}
			if got.Text.Reveal() != c.want {
				t.Errorf("Canonical(%q) = %q, want %q", c.value, got.Text.Reveal(), c.want)
			}
			if warn := strings.Join(got.Warnings, ","); warn != c.warn {
				t.Errorf("Canonical(%q) warns %q, want %q", c.value, warn, c.warn)
			}
			if m := k.Mask(c.value, Masked); m != c.masked {
				t.Errorf("Mask(%q) = %q, want %q", c.value, m, c.masked)
			}
			checkKind(t, k, c.value)
		})
	}
}

// checkKind holds what must be true of every kind and every value, valid or not.
func checkKind(t interface {
	Helper()
	Errorf(string, ...any)
}, k Kind, value string) {
	t.Helper()
	c, err := k.Canonical(value)
	if err != nil {
		var inv Invalid
		if !errors.As(err, &inv) || inv.Kind != k.Name() {
			t.Errorf("%s: Canonical(%q) fails with %T", k.Name(), value, err)
		}
		if !slices.ContainsFunc(k.Rules(), func(r Rule) bool { return r.Name == inv.Rule && !r.Warning }) {
			t.Errorf("%s: rule %q is not documented", k.Name(), inv.Rule)
		}
	} else {
		again, err := k.Canonical(c.Text.Reveal())
		if err != nil || again.Text != c.Text || !slices.Equal(again.Warnings, c.Warnings) {
			t.Errorf("%s: %q becomes %q, then %q, %v", k.Name(), value, c.Text.Reveal(), again.Text.Reveal(), err)
		}
		for _, w := range c.Warnings {
			if !slices.ContainsFunc(k.Rules(), func(r Rule) bool { return r.Name == w && r.Warning }) {
				t.Errorf("%s: warning %q is not documented", k.Name(), w)
			}
		}
	}
	if got := k.Mask(value, Full); got != value {
		t.Errorf("%s: the full view of %q is %q", k.Name(), value, got)
	}
	if got := k.Mask(value, "no such view"); got != hidden {
		t.Errorf("%s: an unknown view of %q shows %q", k.Name(), value, got)
	}
	for _, view := range []View{Masked, Waybill} {
		got := k.Mask(value, view)
		if (err != nil || !slices.Contains(k.Views(), view)) && got != hidden {
			t.Errorf("%s: the %s view of %q shows %q", k.Name(), view, value, got)
		}
		if !strings.Contains(got, "*") {
			t.Errorf("%s: the %s view of %q hides nothing: %q", k.Name(), view, value, got)
		}
	}
}

func TestKinds(t *testing.T) {
	kinds := NewKinds(Options{})
	if want := []string{"phone", "name", "address", "email", "text"}; !slices.Equal(kinds.Names(), want) {
		t.Errorf("Names() = %q, want %q", kinds.Names(), want)
	}
	snake := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, name := range kinds.Names() {
		k, ok := kinds.Lookup(name)
		if !ok || k.Name() != name {
			t.Errorf("Lookup(%q) = %v, %v", name, k, ok)
		}
		if views := k.Views(); len(views) < 2 || views[0] != Full || views[1] != Masked {
			t.Errorf("%s has views %q", name, views)
		}
		seen := map[string]bool{}
		for _, r := range k.Rules() {
			if seen[r.Name] || !snake.MatchString(r.Name) || r.Meaning == "" {
				t.Errorf("%s: rule %+v", name, r)
			}
			seen[r.Name] = true
		}
	}
	if _, ok := kinds.Lookup("none"); ok {
		t.Error("Lookup finds a kind that is not there")
	}
	if _, ok := (Kinds{}).Lookup("phone"); ok {
		t.Error("the zero Kinds has a kind")
	}
}

// Whatever prints a refused or an accepted value's result must not print the value.
func TestResultsDoNotShowTheValue(t *testing.T) {
	for _, name := range NewKinds(Options{}).Names() {
		k := kindOf(t, name)
		for _, value := range []string{"13800138000", "张三丰", "z@example.com", "13800138OOO", "a\x00bcdefg"} {
			c, err := k.Canonical(value)
			out := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", c, c, c, c, err, err, err)
			for _, part := range []string{"138001", "张三", "example", "bcdefg"} {
				if strings.Contains(out, part) {
					t.Errorf("%s: the result of %q prints as %s", name, value, out)
				}
			}
		}
	}
}

func TestInvalid(t *testing.T) {
	err := fmt.Errorf("put: %w", Invalid{"phone", "letters"})
	var inv Invalid
	if !errors.As(err, &inv) || inv.Rule != "letters" || err.Error() != "put: invalid phone: letters" {
		t.Errorf("got %v, %+v", err, inv)
	}
	if !errors.Is(err, Invalid{"phone", "letters"}) || errors.Is(err, Invalid{"name", "letters"}) {
		t.Error("errors.Is does not compare kind and rule")
	}
}

// The steps that every kind begins with, held on each of them.
func TestCleaning(t *testing.T) {
	good := map[string]string{
		"phone": "13800138000", "name": "张三", "address": "北京市海淀区中关村大街27号",
		"email": "zhangsan@example.com", "text": "两行",
	}
	for name, value := range good {
		k := kindOf(t, name)
		want, err := k.Canonical(value)
		if err != nil {
			t.Fatal(err)
		}
		same := map[string]string{
			"zero-width space": "\u200b" + value[:0] + value + "\u200b",
			"byte order mark":  "\ufeff" + value,
			"bidi isolates":    "\u2068" + value + "\u2069",
			"variation":        value + "\ufe0f",
			"spaces":           "  " + value + "\u3000\u00a0",
			"hangul filler":    "\u3164" + value,
		}
		for what, s := range same {
			if got, err := k.Canonical(s); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s with %s: %q, %v", name, what, got.Text.Reveal(), err)
			}
		}
		refused := map[string]struct{ value, rule string }{
			"empty":             {"", "empty"},
			"spaces":            {" \u3000 ", "empty"},
			"invisible":         {"\u200b\u2060\ufeff", "empty"},
			"broken utf8":       {value + "\xff", "utf8"},
			"surrogate":         {"\xed\xa0\x80" + value, "utf8"},
			"overlong":          {"\xc0\xaf" + value, "utf8"},
			"NUL":               {value + "\x00", "control"},
			"escape":            {"\x1b[2J" + value, "control"},
			"delete":            {value + "\x7f", "control"},
			"C1":                {value + "\u0085", "control"},
			"marks":             {value + strings.Repeat("\u0301", 40), "marks"},
			"too long":          {strings.Repeat(" ", 70_000) + value, "length"},
			"too long and utf8": {strings.Repeat("\xff", 70_000), "length"},
		}
		if name != "text" {
			refused["line feed"] = struct{ value, rule string }{value + "\n", "control"}
			refused["tab"] = struct{ value, rule string }{"\t" + value, "control"}
			refused["line separator"] = struct{ value, rule string }{value + "\u2028", "control"}
		}
		for what, c := range refused {
			if _, err := k.Canonical(c.value); err != (Invalid{name, c.rule}) {
				t.Errorf("%s with %s: %v, want %s", name, what, err, c.rule)
			}
			if got := k.Mask(c.value, Masked); got != hidden {
				t.Errorf("%s with %s: mask %q", name, what, got)
			}
		}
	}
}

// Cleaning strips before it normalises, which is enough only while no visible character normalises to an invisible
// one.
func TestNormalisationMakesNothingInvisible(t *testing.T) {
	for r := rune(0); r <= 0x10ffff; r++ {
		if invisible(r) || r >= 0xd800 && r < 0xe000 {
			continue
		}
		for _, form := range []norm.Form{norm.NFC, norm.NFKC} {
			if s := form.String(string(r)); strings.ContainsFunc(s, invisible) {
				t.Errorf("%U normalises to %+q", r, s)
			}
		}
	}
}
