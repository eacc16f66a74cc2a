package vault_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestKeyServiceAway takes the key service away, as a wrapper that answers so and as a keyring file that is gone.
func TestKeyServiceAway(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	keyring := filepath.Join(in.Dir, "keyring")
	kms := &awayKMS{KMS: in.Keyring}
	for _, c := range []struct {
		name       string
		away, back func()
	}{
		{"answering so", func() { kms.away.Store(true) }, func() { kms.away.Store(false) }},
		{"keyring file gone", func() { rename(t, keyring, keyring+".away") }, func() { rename(t, keyring+".away", keyring) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			time := newClock()
			v := another(t, in, func(c *vault.Config) { c.KMS, c.Now = keys.NewServices(kms), time.now })
			outage{v, time, c.name[:3], c.away, c.back}.run(t)
		})
	}
}

type outage struct {
	v          *vaulttest.Installation
	clock      *clock
	prefix     string // of subjects
	away, back func()
}

func (o outage) run(t *testing.T) {
	v, app := o.v, vaulttest.Call("app", "service")
	cold := put(t, v, o.prefix+"-cold", "phone", "13700137000")["phone"]
	o.clock.move(40 * time.Second)
	warm := put(t, v, o.prefix+"-warm", "phone", "13800138000")["phone"]
	doomed := put(t, v, o.prefix+"-doomed", "phone", "13900139000", "text", long("text"))
	o.clock.move(30 * time.Second) // cold is 70 s old, warm 30 s
	o.away()

	out, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: []secret.Text{cold, warm}})
	if err != nil {
		t.Fatalf("one key is cached: %v", err)
	}
	if out[0].Err == nil || out[0].Err.Code != "key_unavailable" || !out[0].Value.Empty() {
		t.Errorf("a token whose key is not cached answers %v", out[0].Err)
	}
	if out[1].Err != nil || out[1].Value.Reveal() != "13800138000" {
		t.Errorf("a token whose key is cached answers %v", out[1].Err)
	}
	_, err = v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: []secret.Text{cold}})
	wantCode(t, err, vault.ErrKeyService)
	o.writes(t)
	o.erases(t, doomed)

	o.clock.move(29 * time.Second)
	if got := code(t, v, warm); got != "" {
		t.Errorf("59 s after it was cached the key is not used (%s)", got)
	}
	o.clock.move(time.Second)
	if got := code(t, v, warm); got != "key_service_unavailable" {
		t.Errorf("60 s after it was cached the token answers %q", got)
	}
	o.back()
	if code(t, v, cold) != "" || code(t, v, warm) != "" {
		t.Error("the key service is back and the tokens do not open")
	}
	put(t, v, o.prefix+"-new", "phone", "13800138000")
}

// writes holds what needs a key that cannot be had: it is refused and leaves nothing.
func (o outage) writes(t *testing.T) {
	v, app := o.v, vaulttest.Call("app", "service")
	before := dump(t, v.Store)
	fresh := o.prefix + "-new"
	_, err := v.Put(bg, idempotent(app, o.prefix+"-put", "x"), vault.PutRequest{Subject: fresh, Fields: vaulttest.Fields("phone", "13800138000")})
	wantCode(t, err, vault.ErrKeyService)
	_, err = v.Put(bg, app, vault.PutRequest{Subject: o.prefix + "-cold", Fields: vaulttest.Fields("phone", "13800138000")})
	wantCode(t, err, vault.ErrKeyService)
	_, err = v.Get(bg, app, vault.GetRequest{Subject: o.prefix + "-cold"})
	wantCode(t, err, vault.ErrKeyService)
	_, _, err = v.List(bg, vaulttest.Call("operator", ""), vault.Page{})
	wantCode(t, err, vault.ErrKeyService)
	_, err = v.KeyStatus(bg, vaulttest.Call("operator", ""))
	wantCode(t, err, vault.ErrKeyService)
	_, err = v.Tokenize(bg, idempotent(app, o.prefix+"-tok", "x"), []vault.TokenizeItem{{Subject: fresh, Field: "phone", Value: secret.NewText("13800138000")}})
	wantCode(t, err, vault.ErrKeyService)
	if !sameRows(before, dump(t, v.Store)) {
		t.Error("a refused write left something in the store")
	}
	some, err := v.Tokenize(bg, idempotent(app, o.prefix+"-tok", "y"), []vault.TokenizeItem{
		{Subject: fresh, Field: "phone", Value: secret.NewText("13800138000")},
		{Subject: o.prefix + "-warm", Field: "phone", Value: secret.NewText("13800138000")},
	})
	if err != nil || some[0].Err == nil || some[0].Err.Code != "key_unavailable" || some[1].Err != nil {
		t.Errorf("a batch with one key that can be had: %v, %v", some, err)
	}
	_, err = v.Get(bg, app, vault.GetRequest{Subject: fresh})
	wantCode(t, err, vault.ErrSubjectNotFound)
	// The batch is not remembered: with the key service back the same call gets further (see below).
	o.back()
	some, err = v.Tokenize(bg, idempotent(app, o.prefix+"-tok", "y"), []vault.TokenizeItem{
		{Subject: fresh, Field: "phone", Value: secret.NewText("13800138000")},
		{Subject: o.prefix + "-warm", Field: "phone", Value: secret.NewText("13800138000")},
	})
	if err != nil || some[0].Err != nil || some[1].Err != nil {
		t.Errorf("the repeated batch: %v, %v", some, err)
	}
	o.away()
}

// erases holds what needs no key.
func (o outage) erases(t *testing.T, tokens map[string]secret.Text) {
	v, app := o.v, vaulttest.Call("app", "service")
	if _, err := v.EraseField(bg, app, o.prefix+"-doomed", "text"); err != nil {
		t.Errorf("erasing a field: %v", err)
	}
	if _, err := v.Patch(bg, app, vault.PutRequest{Subject: o.prefix + "-new", Fields: []vault.FieldInput{{Field: "phone", Remove: true}}}); err != nil {
		t.Errorf("removing a field: %v", err)
	}
	extra := tokens["phone"]
	if _, err := v.Revoke(bg, app, []secret.Text{extra}); err != nil {
		t.Errorf("revoking: %v", err)
	}
	if _, err := vault.VerifyCertificate(erase(t, v, o.prefix+"-doomed"), v.CertificateKey()); err != nil {
		t.Errorf("erasing: %v", err)
	}
	if got := code(t, v, tokens["text"]); got != "field_erased" {
		t.Errorf("the token of the erased field answers %q", got)
	}
	_, err := v.Get(bg, app, vault.GetRequest{Subject: o.prefix + "-doomed"})
	wantCode(t, err, vault.ErrSubjectErased)
	for _, p := range v.Ready(bg) {
		if (p.Err != nil) != (p.Name == "kms") {
			t.Errorf("%s is reported as %v", p.Name, p.Err)
		}
	}
}
