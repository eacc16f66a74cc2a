package keys

import (
	"context"
	"errors"
	"strings"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// KeyName is one of the two keys an instance has at its key service.
type KeyName string

const (
	RootKey KeyName = "root" // wraps the epoch root; Context is associated data
	DEKKey  KeyName = "dek"  // wraps data keys; Context derives the key, so that no wrapped key opens under another's
)

// Wrapped is what a key service gave for a key: printable, `<scheme>:v<key version>:<base64>`.
// It is not secret by itself, but never shown either.
type Wrapped string

// WrapItem is a key to be wrapped.
type WrapItem struct {
	Context   []byte
	Plaintext secret.Bytes // 32 bytes
}

// UnwrapItem is a wrapped key and the context it was wrapped with.
type UnwrapItem struct {
	Context []byte
	Wrapped Wrapped
}

// Outcome is one item's result: exactly one of Err and the value that was asked for is set.
type Outcome struct {
	Plaintext secret.Bytes // of Unwrap
	Wrapped   Wrapped      // of Wrap and Rewrap
	Err       error        // ErrUnwrap, ErrKMSUnavailable when only this item failed, or what is wrong with the item itself
}

// Versions is the state of one key at the key service. Versions count from 1.
type Versions struct {
	Latest       int // the newest
	MinAvailable int // older ones are destroyed; 0 or 1 when none is
	MinDecrypt   int // older ones are refused, though they could be allowed again
	MinEncrypt   int // 0: the latest only is used
}

var (
	// ErrKMSUnavailable: the key service did not answer, or answered that it can't now. Trying later may help.
	ErrKMSUnavailable = errors.New("key service unavailable")
	// ErrUnwrap: the key service answered and will not open this: wrong context, version destroyed, or altered.
	ErrUnwrap = errors.New("the key service refuses to unwrap")
	// ErrNoKey: the key service has no such key.
	ErrNoKey = errors.New("the key service has no such key")
	// ErrSettings: a key at the key service is set up so that it could leave it, vanish or change by itself, or the key
	// service does not grant what is needed.
	ErrSettings = errors.New("the key service is not set up safely")
)

// Wrapper wraps and unwraps keys in batches. Results stand in the order of the items; an error beside them means
// that no item has an outcome.
type Wrapper interface {
	// Wrap seals each item under version of the key; version 0 is the latest.
	Wrap(ctx context.Context, key KeyName, version int, items []WrapItem) ([]Outcome, error)
	// Unwrap opens each item.
	Unwrap(ctx context.Context, key KeyName, items []UnwrapItem) ([]Outcome, error)
	// Rewrap brings each item to the latest version. Only for DEKKey: the epoch root is wrapped anew from memory.
	Rewrap(ctx context.Context, key KeyName, items []UnwrapItem) ([]Outcome, error)
}

// Lifecycle changes the keys themselves.
type Lifecycle interface {
	// Create makes the key where it is absent and leaves one that is there.
	Create(ctx context.Context, key KeyName) error
	// Versions reports the key's state, or ErrNoKey.
	Versions(ctx context.Context, key KeyName) (Versions, error)
	// Rotate adds a version. It is not idempotent: never repeat it before reading Versions.
	Rotate(ctx context.Context, key KeyName) error
	// RaiseMinima refuses all versions below version, for both directions, in one step.
	RaiseMinima(ctx context.Context, key KeyName, version int) error
	// Trim destroys all versions below version for good. Both minima must be at or above it.
	Trim(ctx context.Context, key KeyName, version int) error
}

// KMS is a key service: keys/local is the embedded one, HashiCorp Vault Transit the one for production.
type KMS interface {
	Wrapper
	Lifecycle
	// Name says which kind it is in certificates and status: "local-file" or "vault-transit".
	Name() string
	// Scheme is what its wrapped keys begin with, before ":v": "local" or "vault". It tells which key service opens one.
	Scheme() string
}

// SettingsChecker is a key service whose keys others may configure. It is asked at each start, before anything is
// written.
type SettingsChecker interface {
	// CheckSettings answers ErrSettings, with what is wrong and what to do, when the keys must not be used as they are,
	// and warnings about what should be otherwise but may go on.
	CheckSettings(ctx context.Context) (warnings []string, err error)
}

// Scheme returns what stands before the first colon: which kind of key service wrapped this. "" when there is none.
func (w Wrapped) Scheme() string {
	scheme, _, found := strings.Cut(string(w), ":")
	if !found {
		return ""
	}
	return scheme
}
