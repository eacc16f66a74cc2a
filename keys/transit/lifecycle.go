package transit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/cloakroom-io/cloakroom/keys"
)

// keyState is what Vault tells of a key. A nil pointer is what it does not tell.
type keyState struct {
	Type         string `json:"type"`
	Latest       int    `json:"latest_version"`
	MinAvailable int    `json:"min_available_version"`
	MinDecrypt   int    `json:"min_decryption_version"`
	MinEncrypt   int    `json:"min_encryption_version"`

	Derived         *bool  `json:"derived"`
	Exportable      *bool  `json:"exportable"`
	PlaintextBackup *bool  `json:"allow_plaintext_backup"`
	DeletionAllowed *bool  `json:"deletion_allowed"`
	Imported        *bool  `json:"imported_key"`
	AutoRotate      *int64 `json:"auto_rotate_period"` // seconds
	Convergent      bool   `json:"convergent_encryption"`
}

func (t *Transit) keyPath(key keys.KeyName) string {
	return t.mount + "/keys/" + vaultKey(t.instance, key)
}

func (t *Transit) absent(key keys.KeyName) error {
	return fmt.Errorf("%w: %s: bring back the Vault or the key that this installation was set up with, or check address, "+
		"namespace and mount; a new key opens nothing old", keys.ErrNoKey, t.keyPath(key))
}

// unmounted is the meaning of a 404 that gives a reason.
func (t *Transit) unmounted(a *answer) error {
	return fmt.Errorf("%w: is a transit engine mounted at %s/, and is the namespace right? vault says: %s", keys.ErrNoKey, t.mount, a.text)
}

// readKey asks for a key's state. Errors: ErrRequest, keys.ErrNoKey, keys.ErrKMSUnavailable.
func (t *Transit) readKey(ctx context.Context, key keys.KeyName) (keyState, error) {
	var state keyState
	if _, err := t.keyName(key); err != nil {
		return state, err
	}
	r := request{method: http.MethodGet, path: t.keyPath(key)}
	a, err := t.call(ctx, r)
	if err != nil {
		return state, err
	}
	defer a.release()
	switch {
	case a.status == http.StatusNotFound && a.text == "":
		return state, t.absent(key)
	case a.status == http.StatusNotFound:
		return state, t.unmounted(a)
	case a.status != http.StatusOK:
		return state, refused(r, a)
	}
	var out struct {
		Data *keyState `json:"data"`
	}
	out.Data = &state
	if err := json.Unmarshal(a.body.b, &out); err != nil || out.Data == nil || state.Latest < 1 {
		return keyState{}, fmt.Errorf("%w: %s: %w", keys.ErrKMSUnavailable, r.path, errAnswer)
	}
	return state, nil
}

// write puts to a path below a key, once, and takes any 2xx for success.
func (t *Transit) write(ctx context.Context, path string, in any) error {
	body, err := encodeJSON(&t.requests, in)
	if err != nil {
		return err
	}
	defer body.release()
	r := request{method: http.MethodPut, path: path, body: body, once: true}
	a, err := t.call(ctx, r)
	if err != nil {
		return err
	}
	defer a.release()
	switch {
	case a.status == http.StatusNotFound:
		return t.unmounted(a)
	case a.status >= 300:
		return refused(r, a)
	default:
		return nil
	}
}

// Create makes the key where it is absent: aes256-gcm96, not exportable, the dek key derived. One that is there is left
// as it is. Only making needs the permission to create. Errors: keys.ErrSettings when Vault does not grant that,
// ErrRequest, keys.ErrKMSUnavailable.
func (t *Transit) Create(ctx context.Context, key keys.KeyName) error {
	if _, err := t.readKey(ctx, key); !errors.Is(err, keys.ErrNoKey) {
		return err
	}
	derived := key == keys.DEKKey
	err := t.write(ctx, t.keyPath(key), map[string]any{
		"type": keyType, "derived": derived, "exportable": false, "allow_plaintext_backup": false,
	})
	if errors.Is(err, errDenied) {
		return fmt.Errorf("%w: this login may not make %s; an operator runs: vault write %s type=%s derived=%t",
			keys.ErrSettings, t.keyPath(key), t.keyPath(key), keyType, derived)
	}
	return err
}

// Versions reports the key's state. Errors: keys.ErrNoKey, ErrRequest, keys.ErrKMSUnavailable.
func (t *Transit) Versions(ctx context.Context, key keys.KeyName) (keys.Versions, error) {
	s, err := t.readKey(ctx, key)
	if err != nil {
		return keys.Versions{}, err
	}
	return s.versions(), nil
}

func (s keyState) versions() keys.Versions {
	return keys.Versions{Latest: s.Latest, MinAvailable: s.MinAvailable, MinDecrypt: s.MinDecrypt, MinEncrypt: s.MinEncrypt}
}

// Rotate adds a version, by one request that is never repeated. The key is read before, so that an old token or an
// absent key shows while nothing has happened. Errors: keys.ErrNoKey, ErrRequest, keys.ErrKMSUnavailable, after which
// a version may have been added or not: Versions tells.
func (t *Transit) Rotate(ctx context.Context, key keys.KeyName) error {
	if _, err := t.readKey(ctx, key); err != nil {
		return err
	}
	err := t.write(ctx, t.keyPath(key)+"/rotate", struct{}{})
	if err == nil || errors.Is(err, errNotSent) || errors.Is(err, errDenied) {
		return err
	}
	return fmt.Errorf("%w (read the key's versions before trying again: it may have rotated)", err)
}

// RaiseMinima refuses versions below version from now on, by one call for both minima. Errors: ErrRequest when that
// would lower one of them or is beyond the latest version, keys.ErrNoKey, keys.ErrKMSUnavailable.
func (t *Transit) RaiseMinima(ctx context.Context, key keys.KeyName, version int) error {
	s, err := t.readKey(ctx, key)
	if err != nil {
		return err
	}
	lowest := max(s.MinDecrypt, s.MinEncrypt, s.MinAvailable, 1)
	if version < lowest || version > s.Latest {
		return fmt.Errorf("%w: minima can go from %d to %d, not to %d", ErrRequest, lowest, s.Latest, version)
	}
	if s.MinDecrypt == version && s.MinEncrypt == version {
		return nil
	}
	return t.write(ctx, t.keyPath(key)+"/config", map[string]int{
		"min_decryption_version": version, "min_encryption_version": version,
	})
}

// Trim destroys all versions below version, by one request that is never repeated. Errors: ErrRequest when a minimum is
// below version, or version below what was trimmed before; keys.ErrNoKey; keys.ErrKMSUnavailable when Vault was not
// asked; ErrHalfTrimmed when it was and the key has not changed, beside keys.ErrKMSUnavailable when that can't be read.
func (t *Transit) Trim(ctx context.Context, key keys.KeyName, version int) error {
	s, err := t.readKey(ctx, key)
	if err != nil {
		return err
	}
	lowest, highest := max(s.MinAvailable, 1), min(s.MinDecrypt, s.MinEncrypt)
	if version < lowest || version > highest {
		return fmt.Errorf("%w: can trim to a version from %d to %d, the minima, not to %d", ErrRequest, lowest, highest, version)
	}
	failed := t.write(ctx, t.keyPath(key)+"/trim", map[string]int{"min_available_version": version})
	if failed == nil || errors.Is(failed, errNotSent) || errors.Is(failed, errDenied) {
		return failed
	}
	after, err := t.readKey(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w; and then: %w", ErrHalfTrimmed, t.keyPath(key), failed, err)
	case after.MinAvailable == version && s.MinAvailable != version:
		return nil
	default:
		return fmt.Errorf("%w: %s: rotate it and go on to a higher version: %w", ErrHalfTrimmed, t.keyPath(key), failed)
	}
}
