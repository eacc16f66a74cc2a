package vault_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// certificates are one of a field and one of its subject.
func certificates(t testing.TB) (field, subject []byte, key string) {
	t.Helper()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, v, "u1", "phone", "13800138000", "name", "张三")
	field, err := v.EraseField(bg, vaulttest.Call("officer", ""), "u1", "phone")
	if err != nil {
		t.Fatal(err)
	}
	return field, erase(t, v, "u1"), v.CertificateKey()
}

func members(t testing.TB, certificate []byte) map[string]jsontext.Value {
	t.Helper()
	var m map[string]jsontext.Value
	if err := json.Unmarshal(certificate, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCertificateCannotBeAltered(t *testing.T) {
	t.Parallel()
	field, subject, key := certificates(t)
	for name, c := range map[string][]byte{"field": field, "subject": subject} {
		if _, err := vault.VerifyCertificate(c, key); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tidy := jsontext.Value(bytes.Clone(c))
		if err := tidy.Indent(); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.VerifyCertificate(tidy, key+"\n"); err != nil {
			t.Errorf("%s, laid out for reading: %v", name, err)
		}
	}
	begin := bytes.Index(field, members(t, field)["signature"])
	for i := range field {
		changes := []byte{field[i] + 1}
		if i >= begin && i < begin+90 { // base64: its neighbours, other bits of its last character, what is passed over
			changes = append(changes, field[i]^1, field[i]^0x20, field[i]+4, ' ', '=')
		}
		for _, b := range changes {
			altered := bytes.Clone(field)
			if altered[i] = b; b == field[i] {
				continue
			}
			if _, err := vault.VerifyCertificate(altered, key); err == nil {
				t.Errorf("byte %d changed from %q to %q is accepted", i, field[i], b)
			}
		}
		if _, err := vault.VerifyCertificate(field[:i], key); err == nil {
			t.Errorf("cut after %d bytes is accepted", i)
		}
	}
	exchangeMembers(t, field, subject, key)
}

func exchangeMembers(t *testing.T, field, subject []byte, key string) {
	t.Helper()
	a, b := members(t, field), members(t, subject)
	refused := func(name string, m map[string]jsontext.Value) {
		t.Helper()
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vault.VerifyCertificate(text, key); err == nil {
			t.Errorf("accepted: %s", name)
		}
	}
	copied := func() map[string]jsontext.Value {
		m := map[string]jsontext.Value{}
		for k, v := range a {
			m[k] = v
		}
		return m
	}
	for name := range a {
		m := copied()
		delete(m, name)
		refused("without "+name, m)
		if other, ok := b[name]; ok && !bytes.Equal(other, a[name]) {
			m[name] = other
			refused(name+" of another certificate", m)
		}
		for other := range a {
			if !bytes.Equal(a[name], a[other]) {
				m := copied()
				m[name], m[other] = a[other], a[name]
				refused(name+" and "+other+" exchanged", m)
			}
		}
	}
	m := copied()
	m["note"] = jsontext.Value(`"x"`)
	refused("a member of its own", m)
}

func TestCertificateForms(t *testing.T) {
	t.Parallel()
	field, subject, key := certificates(t)
	_, _, other := certificates(t)
	public := base64.StdEncoding.EncodeToString(make([]byte, ed25519.PublicKeySize))
	sum := sha256.Sum256(make([]byte, ed25519.PublicKeySize))
	signature := string(members(t, field)["signature"])
	lastBits := strings.Replace(string(field), signature, signature[:86]+string(signature[86]+1)+signature[87:], 1)
	for _, c := range []struct {
		name, certificate, key string
		want                   error
	}{
		{"another installation's key", string(field), other, vault.ErrCertificateOtherKey},
		{"a key with our id", string(field), strings.Replace(key, base64Of(key), base64Of(other), 1), vault.ErrCertificateKey},
		{"no key", string(field), "", vault.ErrCertificateKey},
		{"key without its prefix", string(field), strings.TrimPrefix(key, "cloakroom-certificate+"), vault.ErrCertificateKey},
		{"short key", string(field), "cloakroom-certificate+" + hex.EncodeToString(sum[:8]) + "+" + public[:40], vault.ErrCertificateKey},
		{"zero key", string(field), "cloakroom-certificate+" + hex.EncodeToString(sum[:8]) + "+" + public, vault.ErrCertificateOtherKey},
		{"nothing", "", key, vault.ErrCertificateForm},
		{"no JSON", "era_x", key, vault.ErrCertificateForm},
		{"a list", "[" + string(field) + "]", key, vault.ErrCertificateForm},
		{"two", string(field) + string(subject), key, vault.ErrCertificateForm},
		{"a member twice", strings.Replace(string(field), `{`, `{"level":2,`, 1), key, vault.ErrCertificateForm},
		{"unused bits of the signature", lastBits, key, vault.ErrCertificateSignature},
		{"line break in the signature", strings.Replace(string(field), signature[1:40], signature[1:20]+`\n`+signature[20:40], 1), key, vault.ErrCertificateSignature},
		{"signature that is none", strings.Replace(string(field), signature, `"?"`, 1), key, vault.ErrCertificateSignature},
		{"too long", string(field) + strings.Repeat(" ", 1<<20), key, vault.ErrCertificateForm},
	} {
		if _, err := vault.VerifyCertificate([]byte(c.certificate), c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func base64Of(key string) string { return key[strings.LastIndex(key, "+")+1:] }
