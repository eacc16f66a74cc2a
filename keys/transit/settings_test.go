package transit

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// wrapForImport is AES key wrap with padding (RFC 5649) of a 32-byte key, which needs no padding.
func wrapForImport(t *testing.T, under, key []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(under)
	must(t, err)
	const blocks = 4
	a := [8]byte{0xA6, 0x59, 0x59, 0xA6, 0, 0, 0, 8 * blocks}
	out := append(make([]byte, 8), key...)
	for j := range 6 {
		for i := 1; i <= blocks; i++ {
			in := append(slices.Clone(a[:]), out[8*i:8*i+8]...)
			block.Encrypt(in, in)
			step := uint64(blocks*j + i)
			binary.BigEndian.PutUint64(a[:], binary.BigEndian.Uint64(in)^step)
			copy(out[8*i:], in[8:])
		}
	}
	copy(out, a[:])
	return out
}

// importKey brings a key of our own into Vault.
func importKey(t *testing.T, s *stand, name string, derived bool) {
	t.Helper()
	answer := s.Do(t, "GET", "/v1/transit/wrapping_key", nil)
	block, _ := pem.Decode([]byte(answer["data"].(map[string]any)["public_key"].(string)))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(t, err)
	between, key := newKey(t).Reveal(), newKey(t).Reveal()
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), between, nil)
	must(t, err)
	s.Do(t, "POST", "/v1/transit/keys/"+name+"/import", map[string]any{
		"ciphertext": base64.StdEncoding.EncodeToString(append(sealed, wrapForImport(t, between, key)...)),
		"type":       keyType, "derived": derived, "hash_function": "SHA256",
	})
}

func TestKeySettings(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	make := func(settings map[string]any) func(*testing.T, string, bool) {
		return func(t *testing.T, name string, derived bool) {
			body := map[string]any{"derived": derived}
			maps.Copy(body, settings)
			s.Do(t, "POST", "/v1/transit/keys/"+name, body)
		}
	}
	set := func(settings map[string]any) func(*testing.T, string, bool) {
		return func(t *testing.T, name string, derived bool) {
			make(nil)(t, name, derived)
			s.Do(t, "POST", "/v1/transit/keys/"+name+"/config", settings)
		}
	}
	for _, tt := range []struct {
		name  string
		setUp func(t *testing.T, name string, derived bool)
		only  keys.KeyName // "" both
		says  string       // "" no fault
	}{
		{"good", make(nil), "", ""},
		{"exportable", make(map[string]any{"exportable": true}), "", "exportable"},
		{"exportable, later", set(map[string]any{"exportable": true}), "", "exportable"},
		{"backup", make(map[string]any{"allow_plaintext_backup": true}), "", "plaintext backups"},
		{"backup, later", set(map[string]any{"allow_plaintext_backup": true}), "", "plaintext backups"},
		{"deletion", set(map[string]any{"deletion_allowed": true}), "", "deletion_allowed=false"},
		{"rotates", make(map[string]any{"auto_rotate_period": "24h"}), "", "auto_rotate_period=0"},
		{"imported", func(t *testing.T, name string, derived bool) { importKey(t, s, name, derived) }, "", "imported"},
		{"type", make(map[string]any{"type": "aes128-gcm96"}), "", "aes128-gcm96, not aes256-gcm96"},
		{"not derived", make(map[string]any{"derived": false}), keys.DEKKey, "not derived"},
		{"derived", make(map[string]any{"derived": true}), keys.RootKey, "is derived"},
		{"convergent", make(map[string]any{"convergent_encryption": true}), keys.DEKKey, "convergently"},
	} {
		for _, bad := range bothKeys {
			if tt.only != "" && tt.only != bad {
				continue
			}
			t.Run(tt.name+" "+string(bad), func(t *testing.T) {
				inst := newInstance(t)
				for _, key := range bothKeys {
					setUp := tt.setUp
					if key != bad {
						setUp = make(nil)
					}
					setUp(t, vaultKey(inst, key), key == keys.DEKKey)
				}
				_, err := open(t, withToken(s.URL, s.Root, inst)).CheckSettings(t.Context())
				if tt.says == "" {
					must(t, err)
					return
				}
				wantError(t, err, keys.ErrSettings)
				wantText(t, err.Error(), tt.says, vaultKey(inst, bad))
				if n := strings.Count(err.Error(), "\n"); n != 1 {
					t.Errorf("%d faults in %q", n, err)
				}
			})
		}
	}
	t.Run("several", func(t *testing.T) {
		inst := newInstance(t)
		for _, key := range bothKeys {
			make(map[string]any{"exportable": true, "allow_plaintext_backup": true})(t, vaultKey(inst, key), key == keys.DEKKey)
		}
		_, err := open(t, withToken(s.URL, s.Root, inst)).CheckSettings(t.Context())
		if n := strings.Count(fmt.Sprint(err), "\n"); n != 4 {
			t.Errorf("%d faults in %q", n, err)
		}
	})
	t.Run("no key", func(t *testing.T) {
		_, err := open(t, withToken(s.URL, s.Root, newInstance(t))).CheckSettings(t.Context())
		wantError(t, err, keys.ErrNoKey)
		wantText(t, err.Error(), "check address, namespace and mount")
	})
	t.Run("no engine", func(t *testing.T) {
		c := withToken(s.URL, s.Root, s.inst)
		c.Mount = "elsewhere"
		k := open(t, c)
		_, err := k.CheckSettings(t.Context())
		wantError(t, err, keys.ErrNoKey)
		wantText(t, err.Error(), "mounted at elsewhere/")
		wantError(t, k.Create(t.Context(), keys.DEKKey), keys.ErrNoKey)
	})
}

// TestUntoldSettings: what an answer leaves out counts as wrong.
func TestUntoldSettings(t *testing.T) {
	yes, no, zero := true, false, int64(0)
	told := keyState{Type: keyType, Derived: &yes, Exportable: &no, PlaintextBackup: &no, DeletionAllowed: &no, Imported: &no, AutoRotate: &zero}
	if got := told.faults(keys.DEKKey); len(got) != 0 {
		t.Fatalf("%q", got)
	}
	if got := (keyState{}).faults(keys.DEKKey); len(got) != 7 {
		t.Errorf("%q", got)
	}
}

// TestCapabilities takes each grant away, and adds each that is too much.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	ctx := t.Context()
	n := 0
	check := func(t *testing.T, grants []grant) ([]string, error) {
		t.Helper()
		n++
		name := fmt.Sprintf("matrix-%d", n)
		s.PutPolicy(t, name, policyText("test", grants))
		return open(t, s.appRole(t, s.URL, name, map[string]any{"token_policies": name})).CheckSettings(ctx)
	}
	service := slices.Concat(serviceGrants("transit", s.inst), selfGrants())
	warnings, err := check(t, service)
	must(t, err)
	if len(warnings) != 0 {
		t.Errorf("%q", warnings)
	}
	for i, g := range service {
		t.Run("without "+g.path, func(t *testing.T) {
			warnings, err := check(t, slices.Delete(slices.Clone(service), i, i+1))
			if strings.HasSuffix(g.path, "-self") {
				must(t, err)
				if len(warnings) != 1 {
					t.Fatalf("%q", warnings)
				}
				wantText(t, warnings[0], g.path)
				return
			}
			wantError(t, err, keys.ErrSettings)
			wantText(t, err.Error(), g.capability+" on "+g.path)
			if n := strings.Count(err.Error(), "\n"); n != 1 || len(warnings) != 0 {
				t.Errorf("%v, %q", err, warnings)
			}
		})
	}
	for _, e := range beyondService("transit", s.inst) {
		for _, f := range e.paths {
			for _, c := range f.capabilities {
				t.Run(c+" on "+f.path, func(t *testing.T) {
					more := make([]grant, 0, len(service)+1)
					found := false
					for _, g := range service {
						if g.path == f.path { // both in one rule, as the last of two for a path counts
							g.capability += `", "` + c
							found = true
						}
						more = append(more, g)
					}
					if !found {
						more = append(more, grant{path: f.path, capability: c})
					}
					name := "more-" + base64.RawURLEncoding.EncodeToString([]byte(c+f.path))
					s.PutPolicy(t, name, strings.ReplaceAll(policyText("test", more), `\"`, `"`))
					warnings, err := open(t, s.appRole(t, s.URL, name, map[string]any{"token_policies": name})).CheckSettings(ctx)
					must(t, err)
					if len(warnings) != 1 {
						t.Fatalf("%q", warnings)
					}
					wantText(t, warnings[0], e.what, c+" on "+f.path)
				})
			}
		}
	}
	t.Run("nothing at all", func(t *testing.T) {
		warnings, err := check(t, []grant{{path: "none", capability: "read"}})
		wantError(t, err, keys.ErrSettings)
		for _, key := range bothKeys {
			wantText(t, err.Error(), "may not read transit/keys/"+vaultKey(s.inst, key))
		}
		if len(warnings) != 1 {
			t.Errorf("%q", warnings)
		}
	})
	t.Run("root", func(t *testing.T) {
		warnings, err := open(t, withToken(s.URL, s.Root, s.inst)).CheckSettings(ctx)
		must(t, err)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "root") {
			t.Errorf("%q", warnings)
		}
	})
	t.Run("both roles", func(t *testing.T) {
		c := s.appRole(t, s.URL, "both", map[string]any{"token_policies": []string{s.service, s.closer}})
		warnings, err := open(t, c).CheckSettings(ctx)
		must(t, err)
		if len(warnings) != 1 || strings.Count(warnings[0], "update on") != 6 {
			t.Errorf("%q", warnings)
		}
	})
}
