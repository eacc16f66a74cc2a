package tokenizer

import (
	"strings"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"golang.org/x/text/unicode/norm"
)

// address is a postal address in one line, 1 to 200 characters. Its mask shows the region and nothing of the detail;
// what is a region is decided by the names in regions.txt, never by guessing at a character such as 区, which ends
// many a housing estate.
type address struct {
	regions regions
}

var addressCleaning = cleaning{kind: "address", max: 2048, form: norm.NFKC}

const maxAddressRunes = 200

func newAddress() address { return address{regions: parseRegions(regionsText)} }

func (address) Name() string  { return "address" }
func (address) Views() []View { return []View{Full, Masked} }

func (address) Rules() []Rule {
	return commonRules(Rule{Name: ruleTooLong, Meaning: "longer than 200 characters"})
}

func (a address) Canonical(value string) (Canonical, error) {
	s, err := a.written(value)
	if err != nil {
		return Canonical{}, err
	}
	return Canonical{Text: secret.NewText(s)}, nil
}

// Mask shows as much of province, city and district as the address begins with.
func (a address) Mask(value string, view View) string {
	if view == Full {
		return value
	}
	s, err := a.written(value)
	if err != nil || view != Masked {
		return hidden
	}
	return s[:a.regions.match(s)] + hidden
}

func (address) written(value string) (string, error) {
	s, err := addressCleaning.clean(value)
	if err != nil {
		return "", err
	}
	s = strings.Map(plainDash, s)
	s = tighten(s, func(before, after rune) bool { return isHan(before) || isHan(after) })
	if utf8.RuneCountInString(s) > maxAddressRunes {
		return "", Invalid{"address", ruleTooLong}
	}
	return s, nil
}
