package api_test

import (
	"fmt"
	"testing"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// TestImportOfTheSameSource: what another source stored stays, and the line says so; without the parameter it is replaced.
func TestImportOfTheSameSource(t *testing.T) {
	h := newHouse(t)
	line := func(source, phone string) string {
		return fmt.Sprintf(`{"subject":"u1","fields":{"phone":{"value":%q,"source":%q}}}`+"\n", phone, source)
	}
	for _, c := range []struct {
		query, line string
		held        bool
		phone       string
	}{
		{"?replace=same-source", line("a", "13800138000"), false, "13800138000"},
		{"?replace=same-source", line("b", "13900139000"), true, "13800138000"},
		{"?replace=same-source", line("b", "13800138000"), false, "13800138000"},
		{"?replace=same-source", line("a", "13700137000"), false, "13700137000"},
		{"?replace=always", line("b", "13900139000"), false, "13900139000"},
		{"", line("a", "13800138000"), false, "13800138000"},
	} {
		l := h.imports(c.query, c.line).lines[0]
		if e := l.Error; c.held != (e != nil) || c.held && (e.Code != wire.Conflict || e.Field != "phone" || e.Rule != "held") {
			t.Errorf("%s %s: %+v", c.query, c.line, e)
		}
		if got := must[wire.Subject](h, 200, "app", "GET", "/v1/subjects/u1?purpose=service", ""); string(got.Fields["phone"].Value) != c.phone {
			t.Errorf("%s %s: another value is there", c.query, c.line)
		}
	}
}
