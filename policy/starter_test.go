package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/policy"
)

// known stands for the tokenizer's kinds.
func known(kind string) bool {
	return slices.Contains([]string{"phone", "name", "address", "email", "text"}, kind)
}

func parseStarter(t testing.TB) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(policy.Starter(), known)
	if err != nil {
		t.Fatalf("the starter policy does not parse: %v", err)
	}
	return p
}

func TestStarterContents(t *testing.T) {
	p := parseStarter(t)
	if p.Version() != 1 {
		t.Errorf("version %d, want 1", p.Version())
	}
	if c := p.Controller(); c.Name == "" || c.Contact == "" {
		t.Errorf("controller %+v has no name or contact", c)
	}
	wantFields := []policy.Field{
		{Name: "address", Kind: "address"},
		{Name: "email", Kind: "email", Index: true},
		{Name: "name", Kind: "name", Index: true},
		{Name: "phone", Kind: "phone", Index: true},
		{Name: "text", Kind: "text"},
	}
	if got := p.Fields(); !slices.Equal(got, wantFields) {
		t.Errorf("fields %+v, want %+v", got, wantFields)
	}
	for _, want := range wantFields {
		if got, ok := p.Field(want.Name); !ok || got != want {
			t.Errorf("Field(%q) = %+v, %v", want.Name, got, ok)
		}
	}
	if _, ok := p.Field("passport"); ok {
		t.Error("there is a field that the policy does not name")
	}
	wantPurposes := []policy.Purpose{
		{Name: "ads", Basis: policy.BasisConsent},
		{Name: "service", Basis: policy.BasisContract},
		{Name: "support", Basis: policy.BasisContract},
	}
	if got := p.Purposes(); !slices.Equal(got, wantPurposes) {
		t.Errorf("purposes %+v, want %+v", got, wantPurposes)
	}
	if got, ok := p.Purpose("ads"); !ok || got != wantPurposes[0] {
		t.Errorf("Purpose(ads) = %+v, %v", got, ok)
	}
	if _, ok := p.Purpose("sale"); ok {
		t.Error("there is a purpose sale")
	}
	if got, want := p.Roles(), []string{"app", "officer", "operator", "support"}; !slices.Equal(got, want) {
		t.Errorf("roles %v, want %v", got, want)
	}
}

// What a caller does with an answer must not change the policy.
func TestAnswersAreCopies(t *testing.T) {
	text := policy.Starter()
	p, err := policy.Parse(text, known)
	if err != nil {
		t.Fatal(err)
	}
	text[0] = 'X'
	p.Source()[1] = 'X'
	p.Fields()[0].Name = "X"
	p.Purposes()[0].Name = "X"
	p.Roles()[0] = "X"
	if got := p.Source(); string(got) != string(policy.Starter()) {
		t.Error("the source changed")
	}
	if p.Fields()[0].Name != "address" || p.Purposes()[0].Name != "ads" || p.Roles()[0] != "app" {
		t.Error("an answer was not a copy")
	}
}

// The matrix role x action, written out by hand: x is granted.
func TestStarterActions(t *testing.T) {
	const matrix = `
		             app  support  officer  operator
		put           x      .        .        .
		patch         x      .        .        .
		get           x      x        x        .
		list          .      .        .        x
		tokenize      x      .        .        .
		detokenize    x      x        .        .
		inspect       x      .        .        .
		revoke        x      .        .        .
		translate     x      .        .        .
		search        x      x        .        .
		erase         x      .        x        .
		export        .      .        x        .
		disclosures   .      .        x        .
		hold          .      .        x        .
		consent       x      .        .        .
		preferences   x      .        .        .
		certificates  .      .        x        .
		audit         .      .        x        .
		services      .      .        .        x
		policy        .      .        .        x
		keys          .      .        .        x
		jobs          .      .        .        x
		backup        .      .        .        x
		steal         .      .        .        .`
	p := parseStarter(t)
	lines := strings.Split(strings.TrimSpace(matrix), "\n")
	roles := strings.Fields(lines[0])
	var seen []policy.Action
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		a := policy.Action(cells[0])
		seen = append(seen, a)
		for i, role := range roles {
			if got, want := p.Allows(role, a), cells[1+i] == "x"; got != want {
				t.Errorf("%s may %s: %v, want %v", role, a, got, want)
			}
		}
		for _, role := range []string{"", "nobody", "App", "app "} {
			if p.Allows(role, a) {
				t.Errorf("the unknown role %q may %s", role, a)
			}
		}
	}
	for _, a := range policy.Actions() {
		if !slices.Contains(seen, a) {
			t.Errorf("the matrix has no row for %s", a)
		}
	}
}
