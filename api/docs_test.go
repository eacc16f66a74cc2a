package api_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api"
)

func documentation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/api.md lists every code, beside the status that it has.
func TestDocumentedCodes(t *testing.T) {
	_, table, _ := strings.Cut(documentation(t), "## Errors")
	found := map[string]int{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		status, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		for code := range strings.SplitSeq(cells[2], ",") {
			found[strings.Trim(code, " `")] = status
		}
	}
	for code, status := range api.Statuses() {
		if found[string(code)] != status[0] {
			t.Errorf("%s: documented %d, is %d", code, found[string(code)], status[0])
		}
		delete(found, string(code))
	}
	for code := range found {
		t.Errorf("%s is documented and does not exist", code)
	}
}

// docs/api.md names every route.
func TestDocumentedRoutes(t *testing.T) {
	text := documentation(t)
	for _, r := range api.Routes() {
		if name := "`" + r.Method + " " + documented(r.Path); !strings.Contains(text, name+"`") && !strings.Contains(text, name+"?") {
			t.Errorf("%s is not documented", name)
		}
	}
}

var curl = regexp.MustCompile(`curl -s (?:-X (\w+) )?"?\$vault([^" ]+)"? -H "Authorization: Bearer \$(\w+)"(?:[^'\n]*'Content-Type: application/json' \\\n  -d '([^']*)')?`)

// The examples of docs/api.md work, one after the other.
func TestDocumentedExamples(t *testing.T) {
	h := newHouse(t)
	text := documentation(t)
	examples := curl.FindAllStringSubmatch(text, -1)
	if want := strings.Count(text, "curl -s"); len(examples) != want {
		t.Fatalf("understood %d examples of %d", len(examples), want)
	}
	for _, e := range examples {
		method := e[1]
		if method == "" {
			method = "GET"
		}
		if resp, body := h.as(e[3], method, e[2], e[4]); resp.StatusCode > 299 {
			t.Errorf("%s: %d %s", e[0], resp.StatusCode, body)
		}
	}
}
