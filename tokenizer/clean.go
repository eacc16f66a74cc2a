package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Rules that every kind shares.
const (
	ruleLength  = "length"
	ruleUTF8    = "utf8"
	ruleControl = "control"
	ruleMarks   = "marks"
	ruleEmpty   = "empty"
)

// commonRules returns the shared rules followed by those of one kind.
func commonRules(own ...Rule) []Rule {
	return append([]Rule{
		{Name: ruleLength, Meaning: "longer than the kind allows"},
		{Name: ruleUTF8, Meaning: "not valid UTF-8"},
		{Name: ruleControl, Meaning: "holds a control character or a line break"},
		{Name: ruleMarks, Meaning: "more than 30 combining marks on one character"},
		{Name: ruleEmpty, Meaning: "nothing but spaces and invisible characters"},
	}, own...)
}

// cleaning is the step that comes first for every kind.
type cleaning struct {
	kind  string
	max   int       // bytes of raw input, checked before any work
	form  norm.Form // NFKC, or NFC where compatibility characters carry meaning
	lines bool      // line breaks and tabs are part of the value
}

// clean returns value normalised, without invisible characters and surrounding white space, or an Invalid.
// The result is not empty, and cleaning it again returns it.
func (c cleaning) clean(value string) (string, error) {
	if len(value) > c.max {
		return "", Invalid{c.kind, ruleLength}
	}
	ascii := true
	for i := range len(value) {
		if b := value[i]; b >= utf8.RuneSelf {
			ascii = false
			break
		} else if b < ' ' || b == 0x7f {
			if !c.lines || !lineRune(rune(b)) {
				return "", Invalid{c.kind, ruleControl}
			}
		}
	}
	if !ascii {
		var err error
		if value, err = c.unicode(value); err != nil {
			return "", err
		}
	}
	value = strings.TrimFunc(value, unicode.IsSpace)
	if value == "" {
		return "", Invalid{c.kind, ruleEmpty}
	}
	return value, nil
}

func (c cleaning) unicode(value string) (string, error) {
	if !utf8.ValidString(value) {
		return "", Invalid{c.kind, ruleUTF8}
	}
	strip := false
	for _, r := range value {
		switch {
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
			if !c.lines || !lineRune(r) && r != '\u2028' && r != '\u2029' {
				return "", Invalid{c.kind, ruleControl}
			}
		case r >= utf8.RuneSelf && invisible(r):
			strip = true
		}
	}
	// Stripping first: an invisible character between a letter and its accent keeps the two from composing.
	if strip {
		value = strings.Map(func(r rune) rune {
			if invisible(r) {
				return -1
			}
			return r
		}, value)
	}
	value = c.form.String(value)
	switch {
	case strings.ContainsRune(value, markBreak):
		return "", Invalid{c.kind, ruleMarks}
	case len(value) > c.max:
		return "", Invalid{c.kind, ruleLength}
	}
	return value, nil
}

// markBreak is what the normaliser puts into a run of more than 30 marks (UAX #15, stream-safe text format). It never
// comes from the input, where it is one of the invisible characters.
const markBreak = '\u034f'

// settle makes s, a cleaned text, lower case by lower. That can undo normalisation, and normalising can bring
// upper case back, so both are repeated until nothing changes: two rounds for every letter known.
func (c cleaning) settle(s string, lower func(string) string) (string, error) {
	for range 4 {
		next := c.form.String(lower(s))
		if next == s {
			return s, nil
		}
		if strings.ContainsRune(next, markBreak) {
			break
		}
		s = next
	}
	return "", Invalid{c.kind, ruleMarks}
}

func lineRune(r rune) bool { return r == '\n' || r == '\t' || r == '\r' }

// invisible reports whether r has no shape of its own: Unicode category Cf, variation selectors and the other
// code points that fonts show as nothing (UAX #44, Default_Ignorable_Code_Point).
func invisible(r rune) bool {
	if r >= 0x3400 && r <= 0x9fff { // hanzi, most of what is asked
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// plainDash maps the dashes and the minus that people type for a hyphen to it.
func plainDash(r rune) rune {
	if r >= '\u2010' && r <= '\u2015' || r == '\u2212' {
		return '-'
	}
	return r
}

// isHan reports whether r is written as a hanzi: the script Han, the two planes set aside for it, of which new
// parts are assigned every few years, and the private use areas, where Chinese registers keep rare characters.
func isHan(r rune) bool {
	return unicode.Is(unicode.Han, r) || r >= 0x20000 && r <= 0x3fffd || unicode.Is(unicode.Co, r)
}

// tighten makes each run of white space one space, and none between two runes for which drop holds: hanzi are
// written without spaces, so one between them means nothing.
func tighten(s string, drop func(before, after rune) bool) string {
	if !strings.ContainsFunc(s, unicode.IsSpace) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	var before rune
	space := false
	for _, r := range s {
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if space && before != 0 && !drop(before, r) {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
		before = r
	}
	return b.String()
}
