package transit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloakroom-io/cloakroom/keys"
)

const keyType = "aes256-gcm96"

// CheckSettings reads both keys and asks what this login may do. Errors, joined: keys.ErrNoKey; keys.ErrSettings with a
// line for each fault of a key and each missing permission; keys.ErrKMSUnavailable. Warnings say what the login may do
// beyond the service's policy.
func (t *Transit) CheckSettings(ctx context.Context) (warnings []string, err error) {
	var faults, unread []string
	for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		s, err := t.readKey(ctx, key)
		if errors.Is(err, errDenied) {
			unread = append(unread, "this login may not read "+t.keyPath(key))
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, fault := range s.faults(key) {
			faults = append(faults, t.keyPath(key)+": "+fault)
		}
	}
	missing, warnings, err := t.checkCapabilities(ctx)
	if err != nil {
		return nil, err
	}
	if len(missing) == 0 {
		missing = unread // nobody may tell what is missing, or it has just been granted
	}
	faults = append(faults, missing...)
	if len(faults) > 0 {
		return warnings, fmt.Errorf("%w:\n  - %s", keys.ErrSettings, strings.Join(faults, "\n  - "))
	}
	return warnings, nil
}

// faults says what must not be so, and what to do.
func (s keyState) faults(key keys.KeyName) []string {
	var out []string
	const anew = "; this can't be taken back: move the data to a new key, and find out who set it"
	add := func(bad bool, text string) {
		if bad {
			out = append(out, text)
		}
	}
	add(s.Type != keyType, "its type is "+bounded(s.Type)+", not "+keyType)
	add(is(s.Exportable, true), "it is exportable"+anew)
	add(is(s.PlaintextBackup, true), "it allows plaintext backups"+anew)
	add(is(s.Imported, true), "it was imported, so that a copy may be elsewhere: move the data to a key that Vault made")
	add(is(s.DeletionAllowed, true), "it may be deleted; set deletion_allowed=false on its config")
	add(s.AutoRotate == nil || *s.AutoRotate != 0, "it rotates by itself; set auto_rotate_period=0 on its config")
	if key == keys.DEKKey {
		add(is(s.Derived, false), "it is not derived, so that one person's key would open under another's context")
	} else {
		add(is(s.Derived, true), "it is derived, which the root key must not be")
	}
	add(s.Convergent, "it encrypts convergently, so that equal keys show")
	return out
}

// is counts what Vault does not tell as the bad value.
func is(value *bool, bad bool) bool { return value == nil || *value == bad }
