package vault

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Credential is one key of a service, without its secret.
type Credential struct {
	ID       string
	Created  time.Time
	Disabled bool
}

// Service is a caller: a program or a person, in one role.
type Service struct {
	Name, Role string
	Created    time.Time
	Disabled   bool
	Keys       []Credential
}

// maxKeys bounds the credentials of one service.
const maxKeys = 100

// validServiceName: 1 to 64 of a-z 0-9 _ . -, beginning with a letter.
func validServiceName(name string) bool {
	if name == "" || len(name) > 64 || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// Authenticate returns who holds a credential. What is wrong with one that is refused is not told apart.
func (v *Vault) Authenticate(ctx context.Context, bearer secret.Text) (Principal, error) {
	var who Principal
	id, ok := parseCredential(bearer.Reveal())
	if !ok {
		return who, ErrUnauthenticated
	}
	digest := sha256.Sum256([]byte(bearer.Reveal()))
	err := v.store.View(ctx, func(tx store.ReadTx) error {
		value, err := tx.Get(store.Services, credentialKey(id))
		if errors.Is(err, store.ErrNotFound) {
			return ErrUnauthenticated
		}
		if err != nil {
			return err
		}
		row, ok := parseCredentialRow(value)
		if !ok {
			return fmt.Errorf("credential row: %w", ErrCorrupt)
		}
		if subtle.ConstantTimeCompare(row.digest[:], digest[:]) != 1 || row.disabled {
			return ErrUnauthenticated
		}
		service, err := readService(tx, row.service)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("a credential of no service: %w", ErrCorrupt)
		}
		if err != nil {
			return err
		}
		if service.disabled {
			return ErrUnauthenticated
		}
		who = Principal{Service: row.service, Role: service.role, Credential: id}
		return nil
	})
	return who, storeError(err)
}

// stillValid refuses a caller whose credential or service was disabled since it was authenticated: a request may take its
// time to arrive. A principal without a row here came in by another door.
func stillValid(tx store.ReadTx, who Principal) error {
	value, err := tx.Get(store.Services, credentialKey(who.Credential))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	row, ok := parseCredentialRow(value)
	if !ok {
		return fmt.Errorf("credential row: %w", ErrCorrupt)
	}
	service, err := readService(tx, row.service)
	if err != nil {
		return err
	}
	if row.disabled || service.disabled {
		return ErrUnauthenticated
	}
	return nil
}

func readService(tx store.ReadTx, name string) (serviceRow, error) {
	if !validServiceName(name) {
		return serviceRow{}, ErrNotFound.saying("there is no service of that name")
	}
	value, err := tx.Get(store.Services, serviceKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return serviceRow{}, ErrNotFound.saying("there is no service of that name")
	}
	if err != nil {
		return serviceRow{}, err
	}
	row, ok := parseServiceRow(value)
	if !ok {
		return row, fmt.Errorf("service row: %w", ErrCorrupt)
	}
	return row, nil
}

// AddService makes a service in a role of the policy, with its first credential.
func (v *Vault) AddService(ctx context.Context, call Call, name, role string) (NewCredential, error) {
	if !validServiceName(name) {
		return NewCredential{}, ErrMalformed.saying("a service's name is 1 to 64 of a-z 0-9 _ . - and begins with a letter")
	}
	return v.addCredential(ctx, call, name, func(tx store.ReadTx, p *policyInForce) (string, error) {
		if !slices.Contains(p.Roles(), role) {
			return "", ErrMalformed.saying("the policy has no such role; `cloakroom policy show` lists them")
		}
		switch _, err := readService(tx, name); {
		case errors.Is(err, ErrNotFound):
			return role, nil
		case err != nil:
			return "", err
		default:
			return "", ErrConflict.saying("a service of that name exists; add a key to it instead")
		}
	}, func(tx store.Tx) error {
		row := serviceRow{role: role, created: millis(v.now())}
		return tx.Create(store.Services, serviceKey(name), row.marshal())
	})
}

// AddKey makes another credential for a service, so that one can be replaced without a gap.
func (v *Vault) AddKey(ctx context.Context, call Call, service string) (NewCredential, error) {
	return v.addCredential(ctx, call, service, func(tx store.ReadTx, _ *policyInForce) (string, error) {
		row, err := readService(tx, service)
		if err != nil {
			return "", err
		}
		if row.disabled {
			return "", ErrConflict.saying("the service is disabled")
		}
		n := 0
		err = scanCredentials(tx, func(_ string, row credentialRow) error {
			if row.service == service && !row.disabled {
				n++
			}
			return nil
		})
		if err == nil && n >= maxKeys {
			err = ErrConflict.saying("the service has 100 keys, the most there can be")
		}
		return row.role, err
	}, func(store.Tx) error { return nil })
}

// addCredential makes a credential where may allows it and tells its role, and with it what write puts. may is asked
// before the audit log is written, so that this tells a refusal, and again in the transaction.
func (v *Vault) addCredential(ctx context.Context, call Call, service string, may func(store.ReadTx, *policyInForce) (role string, err error), write func(store.Tx) error) (out NewCredential, err error) {
	err = attempt(ctx, func() error {
		rec := v.record(call, policy.Services)
		var p *policyInForce
		var role string
		var r *replay
		var refusal *Error
		err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
			if p, refusal, err = v.admitIn(tx, rec, call, policy.Services); err != nil || refusal != nil {
				return err
			}
			if r, err = v.replayOf(tx, call); err != nil {
				return err
			}
			if r != nil && r.seen {
				return ErrConflict.saying("this request made a credential already, and a credential is shown once")
			}
			role, err = may(tx, p)
			return err
		})
		if err != nil {
			return rec.fail(ctx, err)
		}
		if refusal != nil {
			return rec.refuse(ctx, refusal)
		}
		made, err := Mint(v.random, service, role)
		if err != nil {
			return err
		}
		var memory []byte
		if r != nil {
			if memory, err = v.sealReplay(r, nil); err != nil {
				return err
			}
		}
		rec.item(nil, service, "", "add-key "+made.ID, nil)
		if _, err := rec.commit(ctx); err != nil {
			return err
		}
		err = v.store.Update(ctx, func(tx store.Tx) error {
			if memory != nil { // first: a repeated request is told so, not that its own service exists
				if err := v.remember(tx, r, memory); err != nil {
					return err
				}
			}
			if _, err := may(tx, p); err != nil {
				return err
			}
			if err := write(tx); err != nil {
				return err
			}
			return tx.Create(store.Services, credentialKey(made.ID), newCredentialRow(made, v.now()))
		})
		if errors.Is(err, store.ErrExists) {
			return store.ErrConflict // an id drawn twice
		}
		out = made
		return err
	})
	if err != nil {
		return NewCredential{}, err
	}
	return out, nil
}

// DisableKey ends one credential at once and for good.
func (v *Vault) DisableKey(ctx context.Context, call Call, service, id string) error {
	return v.administer(ctx, call, service, "disable-key "+id, credentialKey(id), func(tx store.ReadTx) ([]byte, error) {
		if len(id) != credentialID {
			return nil, ErrNotFound.saying("the service has no key of that id")
		}
		value, err := tx.Get(store.Services, credentialKey(id))
		if errors.Is(err, store.ErrNotFound) {
			return nil, ErrNotFound.saying("the service has no key of that id")
		}
		if err != nil {
			return nil, err
		}
		row, ok := parseCredentialRow(value)
		if !ok {
			return nil, fmt.Errorf("credential row: %w", ErrCorrupt)
		}
		if row.service != service {
			return nil, ErrNotFound.saying("the service has no key of that id")
		}
		if id == call.Principal.Credential {
			return nil, ErrConflict.saying("a credential does not disable itself; use another one")
		}
		row.disabled = true
		return row.marshal(), nil
	})
}

// DisableService ends all credentials of a service at once. Its name stays taken: the audit log speaks of it.
func (v *Vault) DisableService(ctx context.Context, call Call, service string) error {
	return v.administer(ctx, call, service, "disable", serviceKey(service), func(tx store.ReadTx) ([]byte, error) {
		row, err := readService(tx, service)
		if err != nil {
			return nil, err
		}
		if service == call.Principal.Service {
			return nil, ErrConflict.saying("a service does not disable itself; use another operator")
		}
		row.disabled = true
		return row.marshal(), nil
	})
}

// administer replaces one row of the services by what change makes of it, asking it before the audit log is written and
// again in the transaction.
func (v *Vault) administer(ctx context.Context, call Call, service, deed string, key []byte, change func(store.ReadTx) ([]byte, error)) error {
	rec := v.record(call, policy.Services)
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if _, refusal, err = v.admitIn(tx, rec, call, policy.Services); err != nil || refusal != nil {
			return err
		}
		_, err = change(tx)
		return err
	})
	if err != nil {
		return storeError(rec.fail(ctx, err))
	}
	if refusal != nil {
		return rec.refuse(ctx, refusal)
	}
	rec.item(nil, service, "", deed, nil) // both are known by now: the change was tried on them
	if _, err := rec.commit(ctx); err != nil {
		return err
	}
	return attempt(ctx, func() error {
		return v.store.Update(ctx, func(tx store.Tx) error {
			value, err := change(tx)
			if err != nil {
				return err
			}
			return tx.Put(store.Services, key, value)
		})
	})
}

// Services lists callers with their credentials, by name.
func (v *Vault) Services(ctx context.Context, call Call, page Page) (out []Service, next string, err error) {
	rec := v.record(call, policy.Services)
	if _, err := v.admit(ctx, rec, call, policy.Services); err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	if page.Cursor != "" && !validServiceName(page.Cursor) {
		return nil, "", errCursor
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, "", err
	}
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		out, next = nil, ""
		from := serviceKey(page.Cursor)
		if page.Cursor != "" {
			from = append(from, 0)
		}
		err := tx.Scan(store.Services, from, []byte{'s' + 1}, func(key, value []byte) error {
			if len(out) == limit {
				next = out[limit-1].Name
				return errStop
			}
			row, ok := parseServiceRow(value)
			if !ok {
				return fmt.Errorf("service row: %w", ErrCorrupt)
			}
			out = append(out, Service{Name: string(key[1:]), Role: row.role, Created: fromMillis(row.created), Disabled: row.disabled})
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			return err
		}
		return scanCredentials(tx, func(id string, row credentialRow) error {
			for i := range out {
				if out[i].Name == row.service {
					out[i].Keys = append(out[i].Keys, Credential{id, fromMillis(row.created), row.disabled})
				}
			}
			return nil
		})
	})
	return out, next, storeError(err)
}

func scanCredentials(tx store.ReadTx, fn func(id string, row credentialRow) error) error {
	return tx.Scan(store.Services, []byte{'k'}, []byte{'k' + 1}, func(key, value []byte) error {
		row, ok := parseCredentialRow(value)
		if !ok {
			return fmt.Errorf("credential row: %w", ErrCorrupt)
		}
		return fn(string(key[1:]), row)
	})
}
