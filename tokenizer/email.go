package tokenizer

import (
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Rules of mail addresses.
const (
	ruleSyntax    = "syntax"
	ruleDomain    = "domain"
	ruleLocalPart = "local_part"
)

// email is one mail address (RFC 5321, RFC 6531) without a display name. Its canonical form is lower case, although
// the standard lets a host tell `A@` from `a@`: none that matters does. A `+tag` stays.
type email struct{}

var emailCleaning = cleaning{kind: "email", max: 1024, form: norm.NFKC}

const (
	maxLocal   = 64  // octets, RFC 5321 section 4.5.3.1.1
	maxAddress = 254 // octets, RFC 5321 section 4.5.3.1.3 without the brackets
	maxLabel   = 63  // octets, RFC 1035 section 2.3.4
)

func (email) Name() string  { return "email" }
func (email) Views() []View { return []View{Full, Masked} }

func (email) Rules() []Rule {
	return commonRules(
		Rule{Name: ruleSyntax, Meaning: "not one bare address of the form local@domain"},
		Rule{Name: ruleDomain, Meaning: "the part after the @ is not a host name with a dot"},
		Rule{Name: ruleLocalPart, Meaning: "the part before the @ is longer than 64 octets"},
		Rule{Name: ruleTooLong, Meaning: "longer than 254 octets"},
	)
}

func (e email) Canonical(value string) (Canonical, error) {
	m, err := e.parse(value)
	if err != nil {
		return Canonical{}, err
	}
	return Canonical{Text: secret.NewText(m.lower + "@" + m.domain)}, nil
}

// Mask shows the first character of a longer local part, always the same number of asterisks, and the domain in
// its ASCII form, which cannot be mistaken for a look-alike.
func (e email) Mask(value string, view View) string {
	if view == Full {
		return value
	}
	m, err := e.parse(value)
	if err != nil || view != Masked {
		return hidden
	}
	_, first := utf8.DecodeRuneInString(m.local)
	if first == len(m.local) {
		first = 0
	}
	return m.local[:first] + "*******@" + m.domain
}

// mailAddress is an address that was understood.
type mailAddress struct {
	local  string // as written
	lower  string // as compared
	domain string // ASCII, lower case
}

func (email) parse(value string) (mailAddress, error) {
	s, err := emailCleaning.clean(value)
	if err != nil {
		return mailAddress{}, err
	}
	// Quoted local parts, comments, groups, routes and address literals are valid on an envelope; people have none.
	at := strings.IndexByte(s, '@')
	if at < 1 || strings.ContainsAny(s, " \"(),:;<>[\\]") {
		return mailAddress{}, Invalid{"email", ruleSyntax}
	}
	if parsed, err := mail.ParseAddress(s); err != nil || parsed.Name != "" || parsed.Address != s {
		return mailAddress{}, Invalid{"email", ruleSyntax}
	}
	m := mailAddress{local: s[:at]}
	if m.lower, err = emailCleaning.settle(m.local, strings.ToLower); err != nil {
		return mailAddress{}, err
	}
	if m.domain, err = idna.Lookup.ToASCII(s[at+1:]); err != nil || !hostName(m.domain) {
		return mailAddress{}, Invalid{"email", ruleDomain}
	}
	switch {
	case len(m.local) > maxLocal || len(m.lower) > maxLocal: // lower case can take more octets
		return mailAddress{}, Invalid{"email", ruleLocalPart}
	case len(m.lower)+1+len(m.domain) > maxAddress:
		return mailAddress{}, Invalid{"email", ruleTooLong}
	}
	return m, nil
}

// hostName reports whether s has at least two labels of legal length and a last one that is not a number: an IPv4
// address is no host name.
func hostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel {
			return false
		}
	}
	return len(labels) > 1 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
