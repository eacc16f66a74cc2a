package sample

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// Every value has to pass the kind of the field that a demonstration writes it to.
func TestKindsAcceptEveryValue(t *testing.T) {
	kinds := tokenizer.NewKinds(tokenizer.Options{DefaultRegion: "CN"})
	numbers := map[string]string{}
	for _, c := range load(t) {
		for name, value := range map[string]string{"phone": c.Phone, "name": c.Name, "address": c.Address, "email": c.Email} {
			kind, ok := kinds.Lookup(name)
			if !ok {
				t.Fatalf("there is no kind %s", name)
			}
			form, err := kind.Canonical(value)
			if err != nil {
				t.Errorf("%s: %v in %q", c.ID, err, value)
				continue
			}
			mask := kind.Mask(value, tokenizer.Masked)
			if mask == value || mask == "" {
				t.Errorf("%s: the mask of the %s hides nothing: %q", c.ID, name, mask)
			}
			if name != "phone" {
				if len(form.Warnings) > 0 {
					t.Errorf("%s: warnings %v for the %s", c.ID, form.Warnings, name)
				}
				continue
			}
			// The one doubt there may be: mainland numbers are of segments that no operator has.
			mainland := strings.HasPrefix(form.Text.Reveal(), "+86")
			if len(form.Warnings) > 0 && !(mainland && slices.Equal(form.Warnings, []string{"unknown_segment"})) {
				t.Errorf("%s: mainland %v, warnings %v", c.ID, mainland, form.Warnings)
			}
			if other, taken := numbers[form.Text.Reveal()]; taken {
				t.Errorf("%s and %s share a number", c.ID, other)
			}
			numbers[form.Text.Reveal()] = c.ID
		}
		if !tokenizer.ValidSubjectID(c.ID) || tokenizer.IdentifyingID(c.ID) {
			t.Errorf("%s is no id for a subject", c.ID)
		}
	}
}
