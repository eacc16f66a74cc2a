package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/policy"
)

// The matrix role x purpose x view for reading, written out by hand. "asked" is the view in the query, - for none;
// the three answers are without consent, then with it, where they differ.
func TestStarterViews(t *testing.T) {
	const matrix = `
		role      action      purpose   asked    no-consent           consent
		app       get         service   -        full                 full
		app       get         service   masked   masked               masked
		app       get         service   full     full                 full
		app       get         support   -        masked               masked
		app       get         support   masked   masked               masked
		app       get         support   full     forbidden            forbidden
		app       get         ads       -        consent_required     full
		app       get         ads       masked   consent_required     masked
		app       get         ads       full     consent_required     full
		app       get         service   waybill  forbidden            forbidden
		app       get         ads       waybill  consent_required     forbidden
		app       get         -         -        purpose_not_allowed  purpose_not_allowed
		app       get         research  -        purpose_not_allowed  purpose_not_allowed
		app       get         sale      -        purpose_not_allowed  purpose_not_allowed
		app       get         Service   -        purpose_not_allowed  purpose_not_allowed
		app       get         research  full     purpose_not_allowed  purpose_not_allowed
		app       detokenize  service   -        full                 full
		app       detokenize  service   masked   masked               masked
		app       detokenize  support   -        masked               masked
		app       detokenize  support   full     forbidden            forbidden
		app       detokenize  ads       -        consent_required     full
		app       detokenize  research  -        purpose_not_allowed  purpose_not_allowed
		app       search      service   -        masked               masked
		app       search      service   masked   masked               masked
		app       search      service   full     forbidden            forbidden
		app       search      support   -        masked               masked
		app       search      ads       -        consent_required     masked
		app       search      -         -        purpose_not_allowed  purpose_not_allowed
		app       translate   service   -        none                 none
		app       translate   service   masked   forbidden            forbidden
		app       translate   support   -        none                 none
		app       translate   ads       -        consent_required     none
		app       translate   research  -        purpose_not_allowed  purpose_not_allowed
		app       put         -         -        none                 none
		app       put         ads       -        none                 none
		app       put         -         full     forbidden            forbidden
		app       tokenize    -         -        none                 none
		app       erase       -         -        none                 none
		app       export      service   -        forbidden            forbidden
		app       policy      service   -        forbidden            forbidden
		support   get         support   -        masked               masked
		support   get         support   full     forbidden            forbidden
		support   get         service   -        purpose_not_allowed  purpose_not_allowed
		support   get         ads       -        purpose_not_allowed  purpose_not_allowed
		support   detokenize  support   -        masked               masked
		support   detokenize  support   full     forbidden            forbidden
		support   detokenize  service   masked   purpose_not_allowed  purpose_not_allowed
		support   detokenize  ads       masked   purpose_not_allowed  purpose_not_allowed
		support   search      support   -        masked               masked
		support   search      service   -        purpose_not_allowed  purpose_not_allowed
		support   translate   support   -        forbidden            forbidden
		support   put         support   -        forbidden            forbidden
		officer   get         service   -        masked               masked
		officer   get         service   full     forbidden            forbidden
		officer   get         support   -        masked               masked
		officer   get         support   full     forbidden            forbidden
		officer   get         ads       -        purpose_not_allowed  purpose_not_allowed
		officer   detokenize  service   -        forbidden            forbidden
		officer   search      service   -        forbidden            forbidden
		officer   export      -         -        full                 full
		officer   export      -         masked   masked               masked
		officer   disclosures -         -        none                 none
		operator  get         service   -        forbidden            forbidden
		operator  get         support   masked   forbidden            forbidden
		operator  detokenize  service   masked   forbidden            forbidden
		operator  search      service   -        forbidden            forbidden
		operator  export      -         -        forbidden            forbidden
		operator  list        -         -        none                 none
		operator  list        -         masked   forbidden            forbidden
		nobody    get         service   -        forbidden            forbidden
		-         get         service   -        forbidden            forbidden
		app       -           service   -        forbidden            forbidden
		app       steal       service   -        forbidden            forbidden`
	p := parseStarter(t)
	blank := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	lines := strings.Split(strings.TrimSpace(matrix), "\n")
	for _, line := range lines[1:] {
		c := strings.Fields(line)
		for i, consent := range []bool{false, true} {
			q := policy.Query{
				Role: blank(c[0]), Action: policy.Action(blank(c[1])), Purpose: blank(c[2]), Field: "phone",
				View: policy.View(blank(c[3])), Consent: consent,
			}
			want := policy.Decision{Refusal: policy.Code(c[4+i])}
			switch c[4+i] {
			case "full", "masked":
				want = policy.Decision{View: policy.View(c[4+i])}
			case "none":
				want = policy.Decision{}
			}
			if got := p.Decide(q); got != want {
				t.Errorf("%s, consent %v: %+v, want %+v", strings.Join(c[:4], " "), consent, got, want)
			}
		}
	}
}

// Every combination, against what must hold of any answer.
func TestDecideNeverGrantsMore(t *testing.T) {
	p := parseStarter(t)
	views := []policy.View{policy.NoView, policy.Masked, policy.Full, "waybill"}
	for _, role := range append(p.Roles(), "", "nobody") {
		for _, a := range append(policy.Actions(), "", "steal") {
			for _, purpose := range []string{"", "service", "support", "ads", "sale"} {
				for _, field := range []string{"", "phone", "text", "passport"} {
					for _, view := range views {
						for _, consent := range []bool{false, true} {
							q := policy.Query{Role: role, Action: a, Purpose: purpose, Field: field, View: view, Consent: consent}
							if fault := audit(p, q, p.Decide(q)); fault != "" {
								t.Errorf("%+v -> %+v: %s", q, p.Decide(q), fault)
							}
						}
					}
				}
			}
		}
	}
}

func audit(p *policy.Policy, q policy.Query, d policy.Decision) string {
	if !d.OK() {
		if d.View != policy.NoView {
			return "a refusal shows something"
		}
		if q.View != policy.NoView {
			q.View = policy.NoView
			if e := p.Decide(q); !e.OK() && e != d {
				return "asking for a view hides the first refusal"
			}
		}
		return ""
	}
	switch {
	case !p.Allows(q.Role, q.Action):
		return "granted an action that the role does not have"
	case q.Field == "passport":
		return "granted an unknown field"
	case q.View == "waybill":
		return "granted an unknown view"
	case q.View != policy.NoView && d.View != q.View:
		return "answered with another view than the one asked for"
	case !q.Action.NeedsPurpose() && q.Action != policy.Export && d.View != policy.NoView:
		return "an action without values shows some"
	case q.Action.NeedsPurpose() && (q.Purpose == "" || q.Purpose == "sale"):
		return "granted without a purpose that exists"
	case q.Action.NeedsPurpose() && q.Purpose == "ads" && !q.Consent:
		return "granted without consent"
	case d.View == policy.Full && q.Action != policy.Export && !(q.Role == "app" && q.Purpose != "support"):
		return "a full view for a role or purpose that has none"
	case q.Role == "operator" && d.View != policy.NoView:
		return "the operator sees a value"
	}
	return ""
}

func TestOrderOfRefusals(t *testing.T) {
	p := parseStarter(t)
	// Each query has every fault from its own on; the first one has to be named.
	tests := []struct {
		name string
		q    policy.Query
		want policy.Code
	}{
		{"action first", policy.Query{Role: "operator", Action: policy.Get, Field: "passport", Purpose: "x", View: policy.Full}, policy.Forbidden},
		{"then field", policy.Query{Role: "app", Action: policy.Get, Field: "passport", Purpose: "x", View: "x"}, policy.UnknownField},
		{"then purpose", policy.Query{Role: "app", Action: policy.Get, Field: "phone", Purpose: "x", View: "x"}, policy.PurposeNotAllowed},
		{"then consent", policy.Query{Role: "app", Action: policy.Get, Field: "phone", Purpose: "ads", View: "x"}, policy.ConsentRequired},
		{"then view", policy.Query{Role: "app", Action: policy.Get, Field: "phone", Purpose: "ads", View: "x", Consent: true}, policy.Forbidden},
		{"none", policy.Query{Role: "app", Action: policy.Get, Field: "phone", Purpose: "ads", Consent: true}, policy.Granted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := p.Decide(tt.q).Refusal; got != tt.want {
				t.Errorf("refusal %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNoFieldIsNoUnknownField(t *testing.T) {
	p := parseStarter(t)
	if d := p.Decide(policy.Query{Role: "app", Action: policy.Erase}); !d.OK() {
		t.Errorf("erasing a subject as a whole: %+v", d)
	}
	if d := p.Decide(policy.Query{Role: "app", Action: policy.Put, Field: "passport"}); d.Refusal != policy.UnknownField {
		t.Errorf("writing a field that is not there: %+v", d)
	}
}

func TestZeroPolicyGrantsNothing(t *testing.T) {
	var p policy.Policy
	for _, a := range policy.Actions() {
		if p.Allows("app", a) || p.Decide(policy.Query{Role: "app", Action: a, Purpose: "service"}).OK() {
			t.Errorf("the zero policy grants %s", a)
		}
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	p := parseStarter(t)
	q := policy.Query{Role: "app", Action: policy.Detokenize, Purpose: "ads", Field: "phone", View: policy.Full, Consent: true}
	if n := testing.AllocsPerRun(100, func() { p.Decide(q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Run with -race: a policy has no state that a question changes.
func TestConcurrentUse(t *testing.T) {
	p := parseStarter(t)
	done := make(chan []policy.Decision)
	for range 4 {
		go func() {
			var out []policy.Decision
			for _, role := range p.Roles() {
				for _, a := range policy.Actions() {
					out = append(out, p.Decide(policy.Query{Role: role, Action: a, Purpose: "service", Field: "phone"}))
				}
			}
			done <- out
		}()
	}
	first := <-done
	for range 3 {
		if got := <-done; !slices.Equal(got, first) {
			t.Error("two goroutines were answered differently")
		}
	}
}

func TestActionsAreNamedOnce(t *testing.T) {
	all := policy.Actions()
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("an action stands twice")
	}
	for _, v := range []policy.View{policy.NoView, "waybill", "FULL"} {
		if v.Valid() {
			t.Errorf("view %q is valid", v)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p := parseStarter(b)
	for _, tt := range []policy.Query{
		{Role: "app", Action: policy.Detokenize, Purpose: "ads", Field: "phone", View: policy.Full, Consent: true},
		{Role: "support", Action: policy.Detokenize, Purpose: "ads", Field: "phone"},
		{Role: "app", Action: policy.Put, Field: "phone"},
	} {
		b.Run(fmt.Sprintf("%s %s", tt.Role, tt.Action), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(tt)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := policy.Starter()
	for b.Loop() {
		if _, err := policy.Parse(text, known); err != nil {
			b.Fatal(err)
		}
	}
}
