package vault

import (
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/keys"
)

// keyService is a kind of key service as people are told of it.
type keyService struct {
	scheme string // of what it wraps
	option string // as options name it
	name   string
	start  string // how a server is started with it
	mend   string // what to look at when it does not answer
}

func keyServices() []keyService {
	return []keyService{
		{"local", "local", "the keyring file", "start with --kms local and the keyring file in its place",
			"see that the keyring file is in its place and can be read"},
		{"vault", "transit", "HashiCorp Vault", "start with --kms transit and the Vault settings",
			"see that HashiCorp Vault runs, is unsealed and answers at the address given"},
	}
}

func keyServiceOf(scheme string) keyService {
	for _, s := range keyServices() {
		if s.scheme == scheme {
			return s
		}
	}
	const unknown = "a key service that this version does not know"
	return keyService{scheme: scheme, option: scheme, name: unknown, start: "start a newer version", mend: "see that it runs"}
}

// schemeOf returns the scheme of a key service that an option names.
func schemeOf(option string) (scheme string, ok bool) {
	for _, s := range keyServices() {
		if s.option == option {
			return s.scheme, true
		}
	}
	return "", false
}

// What can be wrong with the key service at a start.
var (
	ErrWrongKeys = errors.New("the key service does not open this store's root key: it is another installation's, or its keys were deleted or replaced; bring back the right keyring or key service")
	ErrWrongDEK  = errors.New("the key service does not open what this store's dek key wrapped: that key was deleted, made anew, or is another installation's; bring it back from a backup of the key service, or start with the right one")
	// ErrOtherService: the key service that wrapped the store's keys was not given.
	ErrOtherService = errors.New("this start was not given the key service that the store needs")
)

// startError says what a key service's failure means for a start.
func startError(scheme string, err error) error {
	if errors.Is(err, keys.ErrKMSUnavailable) {
		s := keyServiceOf(scheme)
		return fmt.Errorf("%s does not answer; %s, then start again: %w", s.name, s.mend, err)
	}
	return err
}

// among reports whether the key service of a scheme was given.
func among(services *keys.Services, scheme string) bool {
	_, ok := services.Of(scheme)
	return ok
}
