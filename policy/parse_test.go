package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/policy"
)

// small is a policy that is valid and short; the tests of refusals change one line of it.
const small = `version: 7
controller:
  name: Example
  contact: privacy@example.com
fields:
  phone: {kind: phone, index: true}
  note:
    kind: text
purposes:
  service:
    basis: contract
  ads:
    basis: consent
roles:
  app:
    actions: [get, put]
    views:
      service: full
      ads: masked
  operator:
    actions:
      - services
      - policy
`

func TestSmall(t *testing.T) {
	for _, tt := range []struct{ name, text string }{
		{"as it is", small},
		{"carriage returns", strings.ReplaceAll(small, "\n", "\r\n")},
		{"byte order mark", "\ufeff" + small},
		{"document marker", "---\n" + small},
		{"end marker", small + "...\n"},
		{"comments", "# one\n" + strings.ReplaceAll(small, "version: 7", "version: 7 # seven")},
		{"no last line break", strings.TrimSuffix(small, "\n")},
		{"quoted keys", strings.Replace(small, "version:", `"version":`, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tt.text), known)
			if err != nil {
				t.Fatal(err)
			}
			if p.Version() != 7 || len(p.Fields()) != 2 || len(p.Roles()) != 2 || len(p.Purposes()) != 2 {
				t.Errorf("version %d, fields %v, roles %v, purposes %v", p.Version(), p.Fields(), p.Roles(), p.Purposes())
			}
			if f, ok := p.Field("note"); !ok || f.Index || f.Kind != "text" {
				t.Errorf("note = %+v, %v", f, ok)
			}
			if d := p.Decide(policy.Query{Role: "app", Action: policy.Get, Purpose: "ads", Field: "note", Consent: true}); d.View != policy.Masked {
				t.Errorf("decision %+v", d)
			}
			if string(p.Source()) != tt.text {
				t.Error("the source is not what was parsed")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	// change replaces old by new in the small policy.
	change := func(old, new string) string {
		if !strings.Contains(small, old) {
			t.Fatalf("the small policy has no %q", old)
		}
		return strings.Replace(small, old, new, 1)
	}
	tests := []struct {
		name string
		text string
		line int
		path string
		says string
	}{
		{"empty", "", 0, "", "empty"},
		{"only a comment", "# nothing\n", 0, "", "empty"},
		{"null", "null\n", 1, "", "mapping"},
		{"a list", "- version: 1\n", 1, "", "mapping"},
		{"a text", "version\n", 1, "", "mapping"},
		{"not utf-8", small + "# \xff\n", 0, "", "UTF-8"},
		{"tab", change("  name:", "\tname:"), 3, "", "control character"},
		{"nul", change("Example", "Exa\x00mple"), 3, "", "control character"},
		{"lone carriage return", change("Example", "Exa\rmple"), 3, "", "control character"},
		{"escape sequence", change("name: Example", `name: "\x1b[2J"`), 3, "controller.name", "one line"},
		{"syntax", change("version: 7", "version: [7"), 2, "", "YAML"},
		{"two values", change("version: 7", "version: 7: 8"), 1, "", "YAML"},
		{"two documents", small + "---\n" + small, 24, "", "more than one document"},
		{"a second end marker", small + "...\n...\n", 25, "", "more than one document"},
		{"a document behind its end", small + "...\nversion: 8\n", 25, "", "more than one document"},
		{"a document behind an empty one", "---\n---\n" + small, 2, "", "more than one document"},
		{"anchor", change("{kind: phone, index: true}", "&p {kind: phone}"), 6, "", "anchors"},
		{"alias", change("{kind: phone, index: true}", "*p"), 6, "", "aliases"},
		{"merge key", change("kind: text", "<<: {kind: text}"), 8, "", "merge"},
		{"tag", change("version: 7", "version: !!int 7"), 1, "", "tags"},
		{"own tag", change("version: 7", "version: !env SECRET"), 1, "", "tags"},
		{"directive", "%YAML 1.2\n---\n" + small, 1, "", "directives"},
		{"question mark key", "? version\n: 7\n", 1, "", "?"},
		{"block text", change("name: Example", "name: |\n    Example"), 3, "", "several lines"},
		{"folded text", change("name: Example", "name: >-\n    Example"), 3, "", "several lines"},

		{"unknown key", small + "colour: red\n", 24, "colour", "not known"},
		{"unknown key of the controller", change("  name:", "  phone: 1\n  name:"), 3, "controller.phone", "not known"},
		{"unknown key of a field", change("index: true", "unique: true"), 6, "fields.phone.unique", "not known"},
		{"unknown key of a purpose", change("    basis: consent", "    basis: consent\n    form: explicit"), 14, "purposes.ads.form", "not known"},
		{"unknown key of a role", change("    views:", "    sees:"), 17, "roles.app.sees", "not known"},
		{"key in other case", change("version:", "Version:"), 1, "Version", "not known"},
		{"number as a key", change("  ads:\n    basis", "  12:\n    basis"), 12, "purposes", "plain text"},
		{"long key", strings.Repeat("k", 1000) + ": 1\n" + small, 1, strings.Repeat("k", 32) + "...", "not known"},
		{"key that does not print", `"a\u0007b": 1` + "\n" + small, 1, `"a\ab"`, "not known"},

		{"key twice", small + "version: 8\n", 24, "version", "twice, first in line 1"},
		{"field twice", change("  note:", "  phone:"), 7, "fields.phone", "twice"},
		{"key twice in braces", change("index: true", "kind: text"), 6, "fields.phone.kind", "twice"},
		{"key twice, once in quotes", small + "\"version\": 8\n", 24, "version", "twice"},
		{"action twice", change("[get, put]", "[get, get]"), 16, "roles.app.actions[1]", "twice"},

		{"no version", change("version: 7\n", ""), 0, "version", "missing"},
		{"version zero", change("version: 7", "version: 0"), 1, "version", "whole number"},
		{"version negative", change("version: 7", "version: -1"), 1, "version", "whole number"},
		{"version hex", change("version: 7", "version: 0x7"), 1, "version", "whole number"},
		{"version float", change("version: 7", "version: 1.5"), 1, "version", "whole number"},
		{"version text", change("version: 7", `version: "7"`), 1, "version", "whole number"},
		{"version too large", change("version: 7", "version: 9223372036854775808"), 1, "version", "whole number"},
		{"version empty", change("version: 7", "version:"), 1, "version", "whole number"},

		{"no controller", change("controller:\n  name: Example\n  contact: privacy@example.com\n", ""), 0, "controller", "missing"},
		{"no contact", change("  contact: privacy@example.com\n", ""), 2, "controller.contact", "contact"},
		{"empty contact", change("privacy@example.com", `""`), 4, "controller.contact", "not empty"},
		{"blank contact", change("privacy@example.com", `"  "`), 4, "controller.contact", "not empty"},
		{"null contact", change("privacy@example.com", `~`), 4, "controller.contact", "not empty"},
		{"long contact", change("privacy@example.com", strings.Repeat("x", 201)), 4, "controller.contact", "200"},
		{"no name", change("  name: Example\n", ""), 2, "controller.name", "missing"},
		{"controller is a text", change("controller:\n  name: Example\n  contact: privacy@example.com\n", "controller: us\n"), 2, "controller", "mapping"},

		{"field without kind", change("    kind: text", "    index: true"), 7, "fields.note.kind", "missing"},
		{"unknown kind", change("kind: text", "kind: passport"), 8, "fields.note.kind", `no kind "passport"`},
		{"kind is a number", change("kind: text", "kind: 3"), 8, "fields.note.kind", "text"},
		{"index is a text", change("index: true", "index: yes"), 6, "fields.phone.index", "true or false"},
		{"field name with a space", change("  note:", "  my note:"), 7, "fields.my note", "no name"},
		{"field name in upper case", change("  note:", "  Note:"), 7, "fields.Note", "no name"},
		{"field name too long", change("  note:", "  "+strings.Repeat("n", 33)+":"), 7, "fields." + strings.Repeat("n", 32) + "...", "no name"},
		{"field name empty", change("  note:", `  "":`), 7, `fields.""`, "no name"},
		{"field name not ascii", change("  note:", "  备注:"), 7, "fields.备注", "no name"},

		{"purpose without basis", change("    basis: consent", "    {}"), 12, "purposes.ads.basis", "missing"},
		{"purpose with nothing", change("  ads:\n    basis: consent", "  ads:"), 12, "purposes.ads", "mapping"},
		{"unknown basis", change("basis: consent", "basis: interest"), 13, "purposes.ads.basis", `no basis "interest"`},
		{"sale", change("  ads:\n    basis: consent", "  sale:\n    basis: consent"), 12, "purposes.sale", "not sold"},
		{"sale in quotes", change("  ads:\n    basis: consent", "  \"sa\\x6ce\":\n    basis: consent"), 12, "purposes.sale", "not sold"},

		{"no actions", change("    actions: [get, put]\n", ""), 15, "roles.app.actions", "missing"},
		{"unknown action", change("[get, put]", "[get, steal]"), 16, "roles.app.actions[1]", `no action "steal"`},
		{"unknown action in a block", change("- policy", "- policy\n      - polish"), 24, "roles.operator.actions[2]", `no action "polish"`},
		{"actions are a text", change("[get, put]", "get"), 16, "roles.app.actions", "list"},
		{"action is a list", change("[get, put]", "[get, [put]]"), 16, "roles.app.actions[1]", "text"},
		{"unknown view", change("service: full", "service: raw"), 18, "roles.app.views.service", `no view "raw"`},
		{"empty view", change("service: full", `service: ""`), 18, "roles.app.views.service", "text"},
		{"view is true", change("service: full", "service: true"), 18, "roles.app.views.service", "text"},
		{"unknown purpose in a role", change("      ads: masked", "      survey: masked"), 19, "roles.app.views.survey", `no purpose "survey"`},

		{"nobody may apply a policy", change("      - policy\n", ""), 14, "roles", "administer"},
		{"nobody may add services", change("      - services\n", ""), 14, "roles", "administer"},
		{"administration split over two roles", change("      - services\n", "") + "  third: {actions: [services]}\n", 14, "roles", "administer"},
		{"no roles", small[:strings.Index(small, "roles:")] + "roles: {}\n", 14, "roles", "administer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tt.text), known)
			if err == nil || p != nil {
				t.Fatal("accepted")
			}
			if !errors.Is(err, policy.ErrInvalid) {
				t.Errorf("not ErrInvalid: %v", err)
			}
			var invalid *policy.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("not an *InvalidError: %v", err)
			}
			for _, p := range invalid.Problems {
				if p.Line == tt.line && p.Path == tt.path && strings.Contains(p.Text, tt.says) {
					return
				}
			}
			t.Errorf("want line %d, path %q, %q; got %v", tt.line, tt.path, tt.says, err)
		})
	}
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	text := strings.NewReplacer("kind: text", "kind: passport", "service: full", "service: raw", "- policy", "- polish").Replace(small)
	_, err := policy.Parse([]byte(text), known)
	want := `policy is not valid: line 8: fields.note.kind: there is no kind "passport"`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want it to begin %s", err, want)
	}
	var invalid *policy.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 4 {
		t.Errorf("want 4 problems (kind, view, action, nobody administers): %v", err)
	}
}

func TestNoKindIsKnownWithoutAJudge(t *testing.T) {
	if _, err := policy.Parse([]byte(small), nil); err == nil {
		t.Error("accepted kinds that nobody vouched for")
	}
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name string
		text string
		says string
	}{
		{"too long", small + "#" + strings.Repeat("x", policy.MaxSource-len(small)), "longer than"},
		{"too many lines", small + strings.Repeat("\n", policy.MaxLines), "lines"},
		{"brackets", strings.Repeat("[", 50_000), "nest deeper"},
		{"braces", strings.Repeat("{a: ", 50_000), "nest deeper"},
		{"dashes", strings.Repeat("- ", 50_000), "indented further"},
		{"colons", strings.Repeat("a: ", 50_000), "indented further"},
		{"question marks", strings.Repeat("? ", 50_000), "?"},
		{"steps", steps(1000), "indented further"},
		{"aliases", "a: &a [x]\nb: [*a, *a, *a, *a]\n", "anchors"},
		{"entries", "fields: {" + strings.Repeat("a: 1, ", 600) + "b: 1}", "more than 512 entries"},
		{"actions", "roles: {a: {actions: [" + strings.Repeat("get, ", 600) + "get]}}", "more than 512 entries"},
		{"an open quote", `"` + strings.Repeat("a", policy.MaxSource-1), "YAML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Parse([]byte(tt.text), known)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("want %q, got %.200v", tt.says, err)
			}
			if err != nil && len(err.Error()) > 8192 {
				t.Errorf("the error itself has %d bytes", len(err.Error()))
			}
		})
	}
	t.Run("exactly as long as allowed", func(t *testing.T) {
		text := small + "#" + strings.Repeat("x", policy.MaxSource-len(small)-1)
		if _, err := policy.Parse([]byte(text), known); err != nil {
			t.Error(err)
		}
	})
}

// steps nests mappings by one column a line.
func steps(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

func FuzzParse(f *testing.F) {
	f.Add(policy.Starter())
	for _, s := range []string{
		small, "", "{}", "[]", "null", "---\n...\n", "a: &a [*a]", "<<: {a: b}", "? a\n: b", "a: |\n b", "\"\\u0000\": 1",
		"version: 1\n---\nversion: 2", "%YAML 1.2\n---\n", "- - - a", "{a: {b: [c]}}", "a: 'b", "a: \"b", "a: !!set {b}",
		"\ufeffversion: 1", "version: 0o7", "version: .inf", "roles: {a: {actions: [get], views: {x: full}}}", "a: b: c", "]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := policy.Parse(text, known)
		if err != nil {
			var invalid *policy.InvalidError
			if p != nil || !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("an error that is no list of problems: %v", err)
			}
			return
		}
		if p.Version() == 0 || p.Controller().Contact == "" || string(p.Source()) != string(text) {
			t.Fatal("accepted a policy that breaks its own rules")
		}
		if _, ok := p.Purpose("sale"); ok {
			t.Fatal("accepted the purpose sale")
		}
		administers := false
		for _, role := range p.Roles() {
			administers = administers || p.Allows(role, policy.ManagePolicy) && p.Allows(role, policy.Services)
		}
		if !administers {
			t.Fatal("accepted a policy that nobody may change")
		}
		again, err := policy.Parse(p.Source(), known)
		if err != nil || fmt.Sprint(again.Fields(), again.Purposes(), again.Roles()) != fmt.Sprint(p.Fields(), p.Purposes(), p.Roles()) {
			t.Fatalf("the source does not give the same policy again: %v", err)
		}
	})
}
