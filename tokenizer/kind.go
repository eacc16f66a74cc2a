package tokenizer

import "github.com/cloakroom-io/cloakroom/internal/secret"

// NormaliserVersion is the version of all rules that lead to Canonical.Text. It goes up when any of them changes.
const NormaliserVersion uint16 = 1

// View says how much of a value is shown.
type View string

const (
	Full    View = "full"    // the value as its owner wrote it
	Masked  View = "masked"  // enough to recognise a value one knows already
	Waybill View = "waybill" // a phone number on a parcel: at least six digits hidden (GB/T 41833)
)

// hidden is the mask that shows nothing; its length says nothing either.
const hidden = "********"

// Canonical is a value's form for comparing.
type Canonical struct {
	// Text is the same for all spellings of the same value. It is as secret as the value.
	Text secret.Text
	// Warnings names the rules by which an accepted value is doubtful; nil when there is no doubt.
	Warnings []string
}

// Rule is one reason to refuse a value, or to doubt it.
type Rule struct {
	Name    string // snake_case, part of the API
	Meaning string // one phrase for people
	Warning bool   // the value is accepted and the rule appears in Canonical.Warnings
}

// Kind is the type of a field. Implementations may be used from any goroutine.
type Kind interface {
	// Name is the kind's name in a policy, such as "phone".
	Name() string
	// Canonical returns the form for comparing, or an Invalid.
	Canonical(value string) (Canonical, error)
	// Mask returns what view shows of value, which may be any spelling. Full is value itself; a view that the
	// kind does not have, and a value that it would refuse, are all asterisks.
	Mask(value string, view View) string
	// Views lists the views that the kind has, the widest first.
	Views() []View
	// Rules lists every rule that Canonical may name.
	Rules() []Rule
}

// Invalid says that a value is not of its kind. It never holds the value.
type Invalid struct {
	Kind string
	Rule string
}

func (e Invalid) Error() string { return "invalid " + e.Kind + ": " + e.Rule }

// Options settle what the kinds leave open.
type Options struct {
	// DefaultRegion is the ISO 3166-1 code of the country whose phone numbers may be written without a
	// country code. Empty: "CN". With a code that is no country's, only numbers with a country code are valid.
	DefaultRegion string
}

// Kinds is a fixed set of kinds. The zero value has none.
type Kinds struct{ list []Kind }

// NewKinds returns all kinds that Cloakroom knows.
func NewKinds(o Options) Kinds {
	if o.DefaultRegion == "" {
		o.DefaultRegion = "CN"
	}
	return Kinds{list: []Kind{
		phone{region: o.DefaultRegion},
		personName{},
		newAddress(),
		email{},
		text{},
	}}
}

// Lookup returns the kind of that name.
func (k Kinds) Lookup(name string) (Kind, bool) {
	for _, kind := range k.list {
		if kind.Name() == name {
			return kind, true
		}
	}
	return nil, false
}

// Names returns the names of all kinds, in a fixed order.
func (k Kinds) Names() []string {
	names := make([]string, len(k.list))
	for i, kind := range k.list {
		names[i] = kind.Name()
	}
	return names
}
