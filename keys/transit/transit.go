// Package transit is the key service for production: two keys of HashiCorp Vault's Transit engine.
//
// A key that wraps never leaves Vault. This package sends what is to be wrapped or opened, in batches, and says what
// Vault's answer means: an item that will not open is [keys.ErrUnwrap], a key that is gone [keys.ErrNoKey], and
// everything that may pass by itself [keys.ErrKMSUnavailable]. One bad item spoils only itself.
//
//	batch.go      wrap, unwrap, rewrap: encode.go writes what is sent, decode.go reads what comes
//	lifecycle.go  create, versions, rotate, raise the minima, trim
//	settings.go   what others may have done to the keys, and capabilities.go what this login may do
//	policy.go     the two access policies an operator gives to Vault
//
// Below them every request takes one way, call.go: a circuit breaker, because a Vault that is away is asked by one
// caller at a time and fails all others at once; a few tries, only where a second one does no harm; and one fresh
// login when the token is refused. Tokens are renewed, and replaced before they end, by one goroutine (keeper.go);
// a credential that Vault refused is not shown to it again and again (refusal.go).
//
// Facts about Vault are taken from the source of version 1.21.
package transit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/cloakroom-io/cloakroom/keys"
)

var (
	// ErrConfig: the configuration contradicts itself or names what is not there.
	ErrConfig = errors.New("vault transit configuration")
	// ErrLogin: Vault answered and refuses the login, or the file that holds its secret can't be used.
	ErrLogin = errors.New("vault refuses the login")
	// ErrRequest: the caller asked for something outside the limits or the order of things.
	ErrRequest = errors.New("vault transit request refused")
	// ErrHalfTrimmed: a trim was sent and did not report success, and the key's oldest version has not changed or can't
	// be read. Vault may have destroyed the versions in its archive and kept them in the key, so a second trim, and
	// lowering the minima, would break the key. Read Versions: when they have not changed, rotate once more and go on to
	// a higher version.
	ErrHalfTrimmed = errors.New("vault may have trimmed the key by half")
)

// Transit is a login at Vault and the two keys of one installation. It is safe for concurrent use.
type Transit struct {
	client   *api.Client
	timeout  time.Duration
	mount    string
	instance keys.InstanceID
	log      *slog.Logger
	now      func() time.Time
	jitter   func() float64 // 0 to 1
	breaker  *breaker
	keeper   *keeper
	idle     func() // closes connections

	requests, answers sync.Pool // of *buffer
}

var (
	_ keys.KMS             = (*Transit)(nil)
	_ keys.SettingsChecker = (*Transit)(nil)
)

// Open checks c and logs in. It reads no key: CheckSettings does.
//
// Errors: ErrConfig, ErrLogin, keys.ErrKMSUnavailable, or the error of ctx.
func Open(ctx context.Context, c Config) (*Transit, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	client, transport, err := newClient(c)
	if err != nil {
		return nil, err
	}
	t := &Transit{
		client: client, timeout: c.Timeout, mount: c.Mount, instance: c.Instance, log: c.Logger,
		now: c.Now, jitter: rand.Float64,
		idle: transport.CloseIdleConnections,
	}
	if plainBeyondLoopback(c.Address) {
		t.log.Warn("VAULT IS ASKED WITHOUT TLS: whoever listens on the way reads tokens and keys. Use https.", "address", c.Address)
	}
	t.breaker = &breaker{now: c.Now, jitter: t.jitter, log: c.Logger}
	t.keeper = newKeeper(newSource(c.Login, t.ask, c.Now, c.Logger), t.ask, c.Now, t.jitter, c.Logger)
	if err := t.keeper.start(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if first, err := t.keeper.current(); err == nil && c.Login.Method == MethodToken && first.ttl > 0 && !first.renewable {
		t.log.Warn("the vault token can't be renewed, and nothing takes its place when it ends", "left", first.ttl)
	}
	return t, nil
}

// Close ends the goroutines and connections. A token that a login of this package made is revoked, if Vault answers
// soon. Later calls answer keys.ErrKMSUnavailable.
func (t *Transit) Close() error {
	t.keeper.close()
	t.idle()
	return nil
}

// Name is "vault-transit".
func (t *Transit) Name() string { return "vault-transit" }

// Scheme is "vault".
func (t *Transit) Scheme() string { return "vault" }

// keyName returns the key's name at Vault. Errors: ErrRequest for a key that is none of the two.
func (t *Transit) keyName(key keys.KeyName) (string, error) {
	if key != keys.RootKey && key != keys.DEKKey {
		return "", fmt.Errorf("%w: an installation has the keys root and dek only", ErrRequest)
	}
	return vaultKey(t.instance, key), nil
}

func vaultKey(instance keys.InstanceID, key keys.KeyName) string {
	return "cloakroom-" + instance.String() + "-" + string(key)
}
