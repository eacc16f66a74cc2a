package api_test

import (
	"bufio"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// wireCodes reads the constants of type Code from the source of package wire, so that none can be forgotten.
func wireCodes(t *testing.T) []wire.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "wire/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []wire.Code
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec)
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if kind, ok := spec.Type.(*ast.Ident); err != nil || !ok || kind.Name != "Code" {
				t.Fatalf("%s is not a Code", spec.Names[0])
			}
			out = append(out, wire.Code(text))
		}
	}
	if len(out) < 30 {
		t.Fatalf("found %d codes only", len(out))
	}
	return out
}

func TestEveryCodeIsMapped(t *testing.T) {
	statuses, titles := api.Statuses(), api.Titles()
	known := map[wire.Code]bool{}
	for _, code := range wireCodes(t) {
		known[code] = true
		if s := statuses[code]; s[0] < 400 || s[0] > 599 || s[1] < 400 || http.StatusText(s[0]) == "" {
			t.Errorf("%s has status %v", code, s)
		}
		if titles[code] == "" {
			t.Errorf("%s has no title", code)
		}
	}
	for code := range statuses {
		if !known[code] {
			t.Errorf("%s is mapped and is no code of wire", code)
		}
	}
	for _, e := range vault.Errors() {
		if !known[wire.Code(e.Code)] {
			t.Errorf("the vault's %s is no code of wire", e.Code)
		}
	}
}

// The statuses that docs/api.md promises.
func TestStatuses(t *testing.T) {
	statuses := api.Statuses()
	for status, codes := range map[int][]wire.Code{
		400: {wire.MalformedRequest},
		401: {wire.Unauthenticated},
		403: {wire.Forbidden, wire.PurposeNotAllowed, wire.OptedOut, wire.SubjectRestricted, wire.WrongAudience},
		404: {wire.SubjectNotFound, wire.NotFound, wire.TokenUnknown},
		405: {wire.MethodNotAllowed},
		408: {wire.RequestTimeout},
		409: {wire.Conflict, wire.LegalHold, wire.IdempotencyMismatch},
		410: {wire.SubjectErased, wire.FieldErased, wire.TokenExpired, wire.TokenUsed, wire.TokenRevoked},
		413: {wire.BodyTooLarge},
		415: {wire.UnsupportedMediaType},
		422: {wire.InvalidValue, wire.UnknownField, wire.InvalidSubjectID, wire.IdentifyingSubjectID, wire.SourceRequired, wire.UnknownAudience, wire.UnsupportedFormat, wire.TokenMalformed},
		429: {wire.BudgetExceeded, wire.RateLimited},
		500: {wire.InternalError, wire.DataCorrupt},
		503: {wire.KeyServiceUnavailable, wire.KeyUnavailable, wire.AuditUnavailable, wire.StoreUnavailable},
	} {
		for _, code := range codes {
			if got := statuses[code]; got != [2]int{status, status} {
				t.Errorf("%s is %v, want %d", code, got, status)
			}
		}
	}
	if got := statuses[wire.ConsentRequired]; got != [2]int{403, 422} {
		t.Errorf("consent_required is %v, want 403 on a read and 422 on a write", got)
	}
}

func TestFailures(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7: refused")
	for name, c := range map[string]struct {
		err         error
		read, write int
		code        wire.Code
		field       string
		logged      string
		retry       bool
	}{
		"a read without consent":           {err: vault.ErrConsent, read: 403, write: 422, code: wire.ConsentRequired},
		"wrapped":                          {err: fmt.Errorf("put: %w", vault.ErrConflict), read: 409, write: 409, code: wire.Conflict},
		"with a field":                     {err: &vault.Error{Code: "invalid_value", Detail: "no", Field: "phone", Rule: "length"}, read: 422, write: 422, code: wire.InvalidValue, field: "phone"},
		"with a value for a field's name":  {err: &vault.Error{Code: "unknown_field", Detail: "no", Field: marker}, read: 422, write: 422, code: wire.UnknownField},
		"with a mail address for one":      {err: &vault.Error{Code: "unknown_field", Detail: "no", Field: "zhang@example.com"}, read: 422, write: 422, code: wire.UnknownField},
		"something else":                   {err: secret, read: 500, write: 500, code: wire.InternalError, logged: "10.0.0.7"},
		"a code that nobody knows":         {err: &vault.Error{Code: "brand_new", Detail: marker}, read: 500, write: 500, code: wire.InternalError},
		"the key service is down":          {err: vault.ErrKeyService, read: 503, write: 503, code: wire.KeyServiceUnavailable, retry: true},
		"the audit log cannot be written":  {err: vault.ErrAuditUnavailable, read: 503, write: 503, code: wire.AuditUnavailable, retry: true},
		"too much asked":                   {err: &vault.Error{Code: "budget_exceeded", Detail: "later"}, read: 429, write: 429, code: wire.BudgetExceeded, retry: true},
		"a damaged row":                    {err: vault.ErrCorrupt, read: 500, write: 500, code: wire.DataCorrupt},
		"a token's code at the top":        {err: vault.ErrTokenUnknown, read: 404, write: 404, code: wire.TokenUnknown},
		"internal, as the vault calls it":  {err: vault.ErrInternal, read: 500, write: 500, code: wire.InternalError},
		"a joined error with one of ours ": {err: errors.Join(secret, vault.ErrForbidden), read: 403, write: 403, code: wire.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			log := &logbook{}
			srv := serve(t, api.NewFailing(api.Config{Logger: log.logger()}, c.err))
			for method, status := range map[string]int{"GET": c.read, "PUT": c.write} {
				resp, body := do(t, srv, method, "/fail", "")
				p := wantProblem(t, resp, body, status, c.code)
				if p.Field != c.field {
					t.Errorf("field %q", p.Field)
				}
				if got := resp.Header.Get("Retry-After") != ""; got != c.retry {
					t.Errorf("Retry-After: %v", got)
				}
				if strings.Contains(body, "10.0.0.7") {
					t.Error("the answer tells the cause")
				}
				wantSilence(t, resp, body, log)
				if !strings.Contains(log.String(), c.logged) {
					t.Errorf("the log lacks the cause: %s", log)
				}
				if status >= 500 && !strings.Contains(log.String(), `"level":"ERROR","msg":"request failed","request_id":"`+p.RequestID) {
					t.Errorf("the log lacks the failure: %s", log)
				}
			}
		})
	}
}

func TestPanics(t *testing.T) {
	var none map[string]int
	for name, c := range map[string]struct {
		throw func() any
		want  string // in the log
	}{
		"a text":          {func() any { return "phone " + marker }, `"type":"string"`},
		"an error":        {func() any { return errors.New(marker) }, `"type":"*errors.errorString"`},
		"a runtime error": {func() any { none["x"] = 1; return nil }, "assignment to entry in nil map"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &logbook{}
			srv := serve(t, api.NewThrowing(api.Config{Logger: log.logger()}, c.throw, false))
			for range 3 {
				resp, body := do(t, srv, "GET", "/throw", "")
				wantProblem(t, resp, body, 500, wire.InternalError)
				wantSilence(t, resp, body, log)
			}
			for _, want := range []string{c.want, "export_test.go:"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log lacks %q: %s", want, log)
				}
			}
		})
	}
	t.Run("after the answer began", func(t *testing.T) {
		log := &logbook{}
		srv := serve(t, api.NewThrowing(api.Config{Logger: log.logger()}, func() any { return marker }, true))
		conn := dial(t, srv)
		fmt.Fprintf(conn, "GET /throw HTTP/1.1\r\nHost: vault\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			t.Errorf("a cut answer looks whole: %d", resp.StatusCode)
		}
		if !strings.Contains(log.String(), `"msg":"request"`) || strings.Contains(log.String(), marker) {
			t.Errorf("log: %s", log)
		}
	})
}
