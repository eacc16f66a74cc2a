package vault_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

const (
	canarySubject = "canary-7730912"
	canaryPhone   = "13955512345"
	canaryName    = "独孤求败"
)

// scene is a subject with tokens, an erased one, and a service with two keys: what every method finds something to do with.
type scene struct {
	tokens        map[string]secret.Text
	single        secret.Text
	erasure       string
	service, key1 string
}

func newScene(t testing.TB, v *vaulttest.Installation, id string) scene {
	t.Helper()
	put(t, v, canarySubject+id+"-gone", "phone", canaryPhone)
	c, err := vault.VerifyCertificate(erase(t, v, canarySubject+id+"-gone"), v.CertificateKey())
	if err != nil {
		t.Fatal(err)
	}
	service := "dispatch" + id
	first, err := v.AddService(bg, vaulttest.Call("operator", ""), service, "app")
	if err != nil {
		t.Fatal(err)
	}
	tokens := put(t, v, canarySubject+id, "phone", canaryPhone, "name", canaryName, "text", long(canaryName))
	return scene{
		tokens:  tokens,
		single:  mint(t, v, vault.TokenizeItem{Subject: canarySubject + id, Field: "phone", Value: secret.NewText(canaryPhone), SingleUse: true}),
		erasure: c.Erasure, service: service, key1: first.ID,
	}
}

// method is a call of one method; role is one that may make it.
type method struct {
	name, role string
	call       func(v *vaulttest.Installation, c vault.Call) (shown any, err error)
}

func (m method) as(role string) vault.Call {
	c := vaulttest.Call(role, "service")
	c.Reason = "order 7"
	return c
}

// everyMethod changes or shows something with each method that takes a call, in an order in which all succeed.
func everyMethod(s scene, id string) []method {
	subject := canarySubject + id
	var job string // of the one that StartJob began
	return []method{
		{"Put", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Put(bg, c, vault.PutRequest{Subject: subject, Fields: vaulttest.Fields("phone", "13955512346", "email", "canary@example.com")})
		}},
		{"Patch", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Patch(bg, c, vault.PutRequest{Subject: subject, Fields: []vault.FieldInput{{Field: "email", Remove: true}}})
		}},
		{"Import", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Import(bg, c, []vault.PutRequest{{Subject: subject, Fields: vaulttest.Fields("phone", "13955512346", "text", "canary")}})
		}},
		{"Get", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Get(bg, c, vault.GetRequest{Subject: subject})
		}},
		{"List", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, _, err := v.List(bg, c, vault.Page{})
			return out, err
		}},
		{"Export", "officer", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, _, err := v.Export(bg, c, vault.Page{})
			return out, err
		}},
		{"ExportSubject", "officer", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.ExportSubject(bg, c, subject)
		}},
		{"ListTokens", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, _, err := v.ListTokens(bg, c, vault.TokenQuery{})
			return out, err
		}},
		{"Tokenize", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Tokenize(bg, c, []vault.TokenizeItem{{Subject: subject, Field: "name", Value: secret.NewText(canaryName), Audience: "support"}})
		}},
		{"Detokenize", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Detokenize(bg, c, vault.DetokenizeRequest{Tokens: []secret.Text{s.tokens["name"], s.single}})
		}},
		{"Inspect", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Inspect(bg, c, []secret.Text{s.tokens["name"]})
		}},
		{"Revoke", "app", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.Revoke(bg, c, []secret.Text{s.tokens["name"]})
		}},
		{"EraseField", "officer", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.EraseField(bg, c, subject, "text")
		}},
		{"Erase", "officer", func(v *vaulttest.Installation, c vault.Call) (any, error) { return v.Erase(bg, c, subject) }},
		{"Erasure", "officer", func(v *vaulttest.Installation, c vault.Call) (any, error) { return v.Erasure(bg, c, s.erasure) }},
		{"Erasures", "officer", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, _, err := v.Erasures(bg, c, vault.ErasureQuery{})
			return out, err
		}},
		{"CurrentPolicy", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			_, out, err := v.CurrentPolicy(bg, c)
			return out, err
		}},
		{"KeyStatus", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) { return v.KeyStatus(bg, c) }},
		{"AddService", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return v.AddService(bg, c, "billing"+id, "app")
		}},
		{"AddKey", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) { return v.AddKey(bg, c, s.service) }},
		{"DisableKey", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return nil, v.DisableKey(bg, c, s.service, s.key1)
		}},
		{"DisableService", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			return nil, v.DisableService(bg, c, s.service)
		}},
		{"Services", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, _, err := v.Services(bg, c, vault.Page{})
			return out, err
		}},
		{"StartJob", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, err := v.StartJob(bg, c, toVault())
			if err == nil {
				job = out.ID
			}
			return out, err
		}},
		{"Job", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) { return v.Job(bg, c, job) }},
		{"Jobs", "operator", func(v *vaulttest.Installation, c vault.Call) (any, error) {
			out, _, err := v.Jobs(bg, c, vault.Page{})
			return out, err
		}},
	}
}

// TestEveryMethodIsInTheTable keeps a new method from going unaudited unnoticed.
func TestEveryMethodIsInTheTable(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, m := range everyMethod(scene{}, "") {
		have[m.name] = true
	}
	typ := reflect.TypeFor[*vault.Vault]()
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		for j := range m.Type.NumIn() {
			if m.Type.In(j) == reflect.TypeFor[vault.Call]() && !have[m.Name] {
				t.Errorf("%s takes a Call and is not in everyMethod", m.Name)
			}
		}
	}
}

func TestNothingWithoutAudit(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring})
	folder := filepath.Join(in.Dir, "audit")
	full := &fullLog{AuditLog: in.Log}
	v := another(t, in, func(c *vault.Config) { c.Audit = full })
	s := newScene(t, v, "")
	for _, c := range []struct {
		name       string
		fail, mend func()
	}{
		{"disk full", func() { full.full.Store(true) }, func() { full.full.Store(false) }},
		{"folder gone", func() { rename(t, folder, folder+".away") }, func() { rename(t, folder+".away", folder) }},
	} {
		before, logged := dump(t, in.Store), in.Log.Size()
		c.fail()
		for _, m := range everyMethod(s, "") {
			for _, role := range []string{m.role, "support"} { // allowed, and refused
				shown, err := m.call(v, m.as(role))
				wantCode(t, err, vault.ErrAuditUnavailable)
				if shown != nil && !reflect.ValueOf(shown).IsZero() {
					t.Errorf("%s: %s shows something beside its error", c.name, m.name)
				}
			}
			if !sameRows(before, dump(t, in.Store)) {
				t.Fatalf("%s: %s changed the store", c.name, m.name)
			}
		}
		c.mend()
		if in.Log.Size() != logged {
			t.Errorf("%s: %d entries were written", c.name, in.Log.Size()-logged)
		}
	}
	for _, m := range everyMethod(s, "") {
		if _, err := m.call(v, m.as(m.role)); err != nil {
			t.Errorf("%s once the log can be written: %v", m.name, err)
		}
	}
}

func TestOneEntryPerCall(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring})
	s := newScene(t, v, "")
	nobody := vaulttest.Call("app", "service")
	nobody.Principal.Role = "nobody"
	for _, m := range everyMethod(s, "") {
		for _, c := range []struct {
			call vault.Call
			code string
		}{{nobody, "forbidden"}, {m.as(m.role), ""}} {
			from := v.Log.Size()
			if _, err := m.call(v, c.call); (err == nil) != (c.code == "") {
				t.Errorf("%s: %v, want %q", m.name, err, c.code)
			}
			got := slices.DeleteFunc(entries(t, v.Log, from), func(e audit.Event) bool { return e.RequestID == "" }) // the job's end
			if len(got) != 1 {
				t.Errorf("%s, %q: %d entries", m.name, c.code, len(got))
				continue
			}
			e := got[0]
			p := c.call.Principal
			if e.Code != c.code || e.Service != p.Service || e.Credential != p.Credential || e.Reason != c.call.Reason ||
				e.Purpose != "service" || e.RequestID != "test" || e.Policy != 1 || e.Action == "" {
				t.Errorf("%s: entry %+v of call %+v", m.name, e, c.call)
			}
			for _, it := range e.Items {
				if c.code == "" && it.Outcome != "ok" {
					t.Errorf("%s: an item's outcome is %q", m.name, it.Outcome)
				}
			}
		}
	}
	refusals(t, v)
	checkLogDiscreet(t, v, s)
}

// refusals are those that come from the data and not from the role.
func refusals(t *testing.T, v *vaulttest.Installation) {
	t.Helper()
	app, officer, operator := vaulttest.Call("app", "service"), vaulttest.Call("officer", "service"), vaulttest.Call("operator", "")
	put(t, v, "r1", "phone", canaryPhone)
	used := idempotent(app, "key-1", "one")
	if _, err := v.Put(bg, used, vault.PutRequest{Subject: "r1", Fields: vaulttest.Fields("name", canaryName)}); err != nil {
		t.Fatal(err)
	}
	mismatch := idempotent(app, "key-1", "two")
	for _, c := range []struct {
		name string
		call func() error
		want *vault.Error
	}{
		{"get of nobody", func() error { _, err := v.Get(bg, app, vault.GetRequest{Subject: "r9"}); return err }, vault.ErrSubjectNotFound},
		{"get of the erased", func() error { _, err := v.Get(bg, app, vault.GetRequest{Subject: canarySubject}); return err }, vault.ErrSubjectErased},
		{"get of a field that is none", func() error {
			_, err := v.Get(bg, app, vault.GetRequest{Subject: "r1", Fields: []string{canaryPhone + strings.Repeat("x", 60)}})
			return err
		}, vault.ErrUnknownField},
		{"get for ads", func() error {
			c := app
			c.Purpose = "ads"
			_, err := v.Get(bg, c, vault.GetRequest{Subject: "r1"})
			return err
		}, vault.ErrConsent},
		{"get for a value in the place of a purpose", func() error {
			c := app
			c.Purpose = canaryPhone
			_, err := v.Get(bg, c, vault.GetRequest{Subject: "r1"})
			return err
		}, vault.ErrPurpose},
		{"get of more", func() error {
			c := app
			c.Purpose = "support"
			_, err := v.Get(bg, c, vault.GetRequest{Subject: "r1", View: "full"})
			return err
		}, vault.ErrForbidden},
		{"put of a bad value", func() error {
			_, err := v.Put(bg, app, vault.PutRequest{Subject: "r1", Fields: vaulttest.Fields("phone", "139555")})
			return err
		}, vault.ErrInvalidValue},
		{"put of a field that is none", func() error {
			_, err := v.Put(bg, app, vault.PutRequest{Subject: "r1", Fields: vaulttest.Fields(canaryPhone, "1")})
			return err
		}, vault.ErrUnknownField},
		{"patch of nobody", func() error {
			_, err := v.Patch(bg, app, vault.PutRequest{Subject: "r9", Fields: vaulttest.Fields("phone", canaryPhone)})
			return err
		}, vault.ErrSubjectNotFound},
		{"erase of nobody", func() error { _, err := v.Erase(bg, officer, "r9"); return err }, vault.ErrSubjectNotFound},
		{"erase of the erased", func() error { _, err := v.Erase(bg, officer, canarySubject); return err }, vault.ErrSubjectErased},
		{"erase of a field not there", func() error { _, err := v.EraseField(bg, officer, "r1", "email"); return err }, vault.ErrNotFound},
		{"erase of a field that is none", func() error { _, err := v.EraseField(bg, officer, "r1", "canary_7730912"); return err }, vault.ErrUnknownField},
		{"certificate not there", func() error { _, err := v.Erasure(bg, officer, "era_00000000000000000000000000"); return err }, vault.ErrNotFound},
		{"export of nobody", func() error { _, err := v.ExportSubject(bg, officer, "r9"); return err }, vault.ErrSubjectNotFound},
		{"export of the erased", func() error { _, err := v.ExportSubject(bg, officer, canarySubject); return err }, vault.ErrSubjectErased},
		{"tokens of a field that is none", func() error {
			_, _, err := v.ListTokens(bg, operator, vault.TokenQuery{Fields: []string{"canary_7730912"}})
			return err
		}, vault.ErrUnknownField},
		{"tokens for no service", func() error {
			_, _, err := v.ListTokens(bg, operator, vault.TokenQuery{Audience: "canary-7730912"})
			return err
		}, vault.ErrUnknownAudience},
		{"put, key used", func() error { _, err := v.Put(bg, mismatch, vault.PutRequest{Subject: "r1"}); return err }, vault.ErrIdempotency},
		{"tokenize, key used", func() error { _, err := v.Tokenize(bg, mismatch, nil); return err }, vault.ErrIdempotency},
		{"revoke, key used", func() error { _, err := v.Revoke(bg, mismatch, nil); return err }, vault.ErrIdempotency},
		{"erase, key used", func() error { _, err := v.Erase(bg, mismatch, "r1"); return err }, vault.ErrIdempotency},
		{"service there", func() error { _, err := v.AddService(bg, operator, "app", "app"); return err }, vault.ErrConflict},
		{"erase of a field that is none, forbidden", func() error { _, err := v.EraseField(bg, operator, "r1", "canary_7730912"); return err }, vault.ErrForbidden},
		{"key of no service", func() error { _, err := v.AddKey(bg, operator, "nobody"); return err }, vault.ErrNotFound},
		{"disable no key", func() error { return v.DisableKey(bg, operator, "app", "x") }, vault.ErrNotFound},
		{"disable no service", func() error { return v.DisableService(bg, operator, "nobody") }, vault.ErrNotFound},
		{"job that is none", func() error { _, err := v.Job(bg, operator, "job_00000000000000000000000000"); return err }, vault.ErrNotFound},
		{"move to where the keys are", func() error {
			_, err := v.StartJob(bg, operator, toVault())
			return err
		}, vault.ErrConflict},
		{"disable oneself", func() error { return v.DisableService(bg, operator, "operator") }, vault.ErrConflict},
	} {
		from := v.Log.Size()
		wantCode(t, c.call(), c.want)
		if got := entries(t, v.Log, from); len(got) != 1 || got[0].Code != c.want.Code {
			t.Errorf("%s: entries %+v, want one of %s", c.name, got, c.want.Code)
		}
	}
}

// checkLogDiscreet looks for what must not stand in any file of the log.
func checkLogDiscreet(t *testing.T, v *vaulttest.Installation, s scene) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(v.Dir, "audit", "*"))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read += len(text)
		for _, secret := range []string{canarySubject, "7730912", canaryPhone, "139555", canaryName, "tok_", s.single.Reveal()} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s holds %q", filepath.Base(file), secret)
			}
		}
	}
	if read < 5000 {
		t.Errorf("only %d bytes of log were looked at", read)
	}
}
