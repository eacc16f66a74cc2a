package tokenizer

import (
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"golang.org/x/text/unicode/norm"
)

// text is any writing, to 64 KiB of UTF-8. Compatibility characters keep their meaning (`²` is not `2`), so the form
// is NFC.
type text struct{}

var textCleaning = cleaning{kind: "text", max: 64 << 10, form: norm.NFC, lines: true}

func (text) Name() string  { return "text" }
func (text) Views() []View { return []View{Full, Masked} }
func (text) Rules() []Rule { return commonRules() }

func (text) Canonical(value string) (Canonical, error) {
	s, err := textCleaning.clean(value)
	if err != nil {
		return Canonical{}, err
	}
	return Canonical{Text: secret.NewText(s)}, nil
}

// Mask shows the first and the last character of three or more, and always the same number of asterisks.
func (text) Mask(value string, view View) string {
	if view == Full {
		return value
	}
	s, err := textCleaning.clean(value)
	if err != nil || view != Masked || utf8.RuneCountInString(s) < 3 {
		return hidden
	}
	_, first := utf8.DecodeRuneInString(s)
	_, last := utf8.DecodeLastRuneInString(s)
	return s[:first] + "******" + s[len(s)-last:]
}
