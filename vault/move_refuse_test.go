package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// bentKMS is a key service some of whose answers are bent. Hooks that are nil change nothing.
type bentKMS struct {
	keys.KMS
	settings func() ([]string, error)
	create   func(keys.KeyName) error
	wrap     func(keys.KeyName) error
	unwrap   func(key keys.KeyName, items []keys.UnwrapItem, out []keys.Outcome) error
}

func (k *bentKMS) CheckSettings(context.Context) ([]string, error) {
	if k.settings == nil {
		return nil, nil
	}
	return k.settings()
}

func (k *bentKMS) Create(ctx context.Context, key keys.KeyName) error {
	if k.create != nil {
		if err := k.create(key); err != nil {
			return err
		}
	}
	return k.KMS.Create(ctx, key)
}

func (k *bentKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if k.wrap != nil {
		if err := k.wrap(key); err != nil {
			return nil, err
		}
	}
	return k.KMS.Wrap(ctx, key, version, items)
}

func (k *bentKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	out, err := k.KMS.Unwrap(ctx, key, items)
	if k.unwrap != nil && err == nil {
		err = k.unwrap(key, items, out)
	}
	return out, err
}

// Close closes the key service that is bent.
func (k *bentKMS) Close() error { return k.KMS.(interface{ Close() error }).Close() }

// other opens the second keyring behind a bentKMS.
func (k *bentKMS) other(dir string) (kms keys.KMS, err error) {
	k.KMS, err = vaulttest.OtherKeyring(dir)
	return k, err
}

// TestMoveRefused: what cannot come to its end does not begin, and changes nothing.
func TestMoveRefused(t *testing.T) {
	t.Parallel()
	options := func(pairs ...string) vault.JobRequest {
		req := vault.JobRequest{Kind: vault.MoveKeys, Options: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			req.Options[pairs[i]] = pairs[i+1]
		}
		return req
	}
	lie := func(at keys.KeyName) func(keys.KeyName, []keys.UnwrapItem, []keys.Outcome) error {
		return func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
			if key == at {
				out[0].Plaintext.Reveal()[0] ^= 1
			}
			return nil
		}
	}
	for _, c := range []struct {
		name string
		req  vault.JobRequest
		bent bentKMS
		want *vault.Error
		says string
	}{
		{"no kind", vault.JobRequest{}, bentKMS{}, vault.ErrMalformed, "move-keys"},
		{"unknown kind", vault.JobRequest{Kind: "move-house"}, bentKMS{}, vault.ErrMalformed, "move-keys"},
		{"no options", options(), bentKMS{}, vault.ErrMalformed, `"from" and "to"`},
		{"unknown name", options("from", "local", "to", "vault"), bentKMS{}, vault.ErrMalformed, `"from" and "to"`},
		{"to itself", options("from", "local", "to", "local"), bentKMS{}, vault.ErrMalformed, `"from" and "to"`},
		{"one option more", options("from", "local", "to", "transit", "fast", "yes"), bentKMS{}, vault.ErrMalformed, `"from" and "to"`},
		{"long option", options("from", strings.Repeat("x", 300)), bentKMS{}, vault.ErrMalformed, "256 bytes"},
		{"from where they are not", toKeyring(), bentKMS{}, vault.ErrConflict, "not at HashiCorp Vault but at the keyring file"},
		{"target away", toVault(), bentKMS{create: func(keys.KeyName) error { return fmt.Errorf("%w: sealed", keys.ErrKMSUnavailable) }}, vault.ErrKeyService, "sealed"},
		{"target makes no keys", toVault(), bentKMS{create: func(keys.KeyName) error { return errors.New("ask an operator") }}, vault.ErrConflict, "ask an operator"},
		{"target says much", toVault(), bentKMS{create: func(keys.KeyName) error { return errors.New("x" + strings.Repeat("问", 500)) }}, vault.ErrConflict, "问问 …"},
		{"target says what is no text", toVault(), bentKMS{create: func(keys.KeyName) error { return errors.New("no\xff") }}, vault.ErrConflict, "no?"},
		{"target not safe", toVault(), bentKMS{settings: func() ([]string, error) { return nil, fmt.Errorf("%w: dek is exportable", keys.ErrSettings) }}, vault.ErrConflict, "exportable"},
		{"target wraps no data keys", toVault(), bentKMS{wrap: func(key keys.KeyName) error {
			if key == keys.DEKKey {
				return keys.ErrNoKey
			}
			return nil
		}}, vault.ErrConflict, "no such key"},
		{"target gives back another data key", toVault(), bentKMS{unwrap: lie(keys.DEKKey)}, vault.ErrConflict, "another key"},
		{"target gives back another root", toVault(), bentKMS{unwrap: lie(keys.RootKey)}, vault.ErrConflict, "another key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: c.bent.other})
			before := dump(t, in.Store)
			_, err := in.StartJob(bg, operator, c.req)
			wantCode(t, err, c.want)
			if !strings.Contains(vault.AsError(err).Detail, c.says) {
				t.Errorf("says %q and not %q", vault.AsError(err).Detail, c.says)
			}
			if !utf8.ValidString(vault.AsError(err).Detail) {
				t.Errorf("says %q", vault.AsError(err).Detail)
			}
			if !sameRows(before, dump(t, in.Store)) || in.KMS.Scheme() != "local" {
				t.Errorf("something changed; new keys are of %s", in.KMS.Scheme())
			}
		})
	}
	t.Run("target not given", func(t *testing.T) {
		t.Parallel()
		in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
		_, err := in.StartJob(bg, operator, toVault())
		wantCode(t, err, vault.ErrConflict)
		if !strings.Contains(vault.AsError(err).Detail, "settings of both") {
			t.Error(err)
		}
	})
}
