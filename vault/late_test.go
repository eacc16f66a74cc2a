package vault_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// slowLog does something while a call waits for its entry, and lets the clock go on meanwhile.
type slowLog struct {
	vault.AuditLog
	meanwhile func()
}

func (l *slowLog) Append(ctx context.Context, e *audit.Event) (uint64, error) {
	if do := l.meanwhile; do != nil {
		l.meanwhile = nil
		do()
	}
	return l.AuditLog.Append(ctx, e)
}

// TestErasedWhileWaiting erases a person while calls that have opened a value wait for the log: nothing is shown.
func TestErasedWhileWaiting(t *testing.T) {
	t.Parallel()
	now := time.Now()
	log := &slowLog{}
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{
		Now:   func() time.Time { return now },
		Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log },
	})
	app := vaulttest.Call("app", "service")
	for name, read := range map[string]func(secret.Text) error{
		"detokenize": func(token secret.Text) error {
			out, err := v.Detokenize(bg, app, vault.DetokenizeRequest{Tokens: []secret.Text{token}})
			if err == nil && out[0].Err != nil {
				err = out[0].Err
			}
			return err
		},
		"get": func(secret.Text) error {
			_, err := v.Get(bg, app, vault.GetRequest{Subject: "u1"})
			return err
		},
	} {
		_, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13800138000")})
		if err != nil {
			t.Fatal(err)
		}
		token := put(t, v, "u1", "phone", "13800138000")["phone"]
		log.meanwhile = func() {
			erase(t, v, "u1")
			now = now.Add(time.Second)
		}
		if err := read(token); err == nil {
			t.Errorf("%s shows a value after the certificate of its erasure was given", name)
		} else {
			wantCode(t, err, vault.ErrSubjectErased)
		}
	}
}

// TestFullSubjectKeepsItsValue: an item that is refused for want of room changes nothing.
func TestFullSubjectKeepsItsValue(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	phone := put(t, v, "u1", "phone", "13800138000")["phone"]
	app := vaulttest.Call("app", "")
	one := vault.TokenizeItem{Subject: "u1", Field: "phone", Value: secret.NewText("13800138000"), SingleUse: true}
	items := make([]vault.TokenizeItem, vault.MaxItems)
	for i := range items {
		items[i] = one
	}
	for range 5 {
		if _, err := v.Tokenize(bg, app, items); err != nil {
			t.Fatal(err)
		}
	}
	one.Value = secret.NewText("13900139000")
	out, err := v.Tokenize(bg, app, []vault.TokenizeItem{one})
	if err != nil || out[0].Err == nil || out[0].Err.Code != "conflict" {
		t.Fatalf("a full subject takes another token: %v, %v", out, err)
	}
	if got, err := reveal(t, v, phone); err != nil || got != "13800138000" {
		t.Errorf("the refused item changed the value (%v)", err)
	}
}

// TestDisabledMeanwhile calls with a principal whose credential was disabled after it was authenticated.
func TestDisabledMeanwhile(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	token := put(t, v, "u1", "phone", "13800138000")["phone"]
	who, err := v.Authenticate(bg, v.Key["app"])
	if err != nil {
		t.Fatal(err)
	}
	call := vault.Call{Principal: who, Purpose: "service"}
	if _, err := v.Detokenize(bg, call, vault.DetokenizeRequest{Tokens: []secret.Text{token}}); err != nil {
		t.Fatal(err)
	}
	if err := v.DisableKey(bg, vaulttest.Call("operator", ""), "app", who.Credential); err != nil {
		t.Fatal(err)
	}
	_, err = v.Detokenize(bg, call, vault.DetokenizeRequest{Tokens: []secret.Text{token}})
	wantCode(t, err, vault.ErrUnauthenticated)
}

// hangingKMS wraps no key until it is let go.
type hangingKMS struct {
	keys.KMS
	asked, letGo chan struct{}
}

func (k *hangingKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if key == keys.DEKKey {
		close(k.asked)
		<-k.letGo
	}
	return k.KMS.Wrap(ctx, key, version, items)
}

// TestEraseDoesNotQueueBehindTheKeyService erases a person while a write in the same bucket waits for a key.
func TestEraseDoesNotQueueBehindTheKeyService(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := vaulttest.Open(t, dir, vaulttest.Options{})
	put(t, first, "u1", "phone", "13800138000")
	erase(t, first, "u1")
	if _, err := first.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true}); err != nil {
		t.Fatal(err)
	}
	erase(t, first, "u1")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	kms := &hangingKMS{asked: make(chan struct{}), letGo: make(chan struct{})}
	v := vaulttest.Open(t, dir, vaulttest.Options{KMS: func(k keys.KMS) keys.KMS { kms.KMS = k; return kms }})
	wrote := make(chan error, 1)
	go func() {
		_, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true})
		wrote <- err
	}()
	<-kms.asked
	_, err := v.Erase(bg, vaulttest.Call("officer", ""), "u1") // answers while the other still waits
	wantCode(t, err, vault.ErrSubjectErased)
	select {
	case <-wrote:
		t.Error("the write did not wait for the key service: the test shows nothing")
	default:
	}
	close(kms.letGo)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}
