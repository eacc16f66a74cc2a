package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Services is a key service made of several, told apart by the scheme of what they wrapped. One of them is the primary:
// it wraps whatever is wrapped, and its are the lifecycle, the name and the settings. The others only unwrap, which is
// what they are needed for while keys move from one to the other. It is safe for concurrent use, also while Use
// changes the primary.
type Services struct {
	all     []service // fixed, in the order given
	primary atomic.Pointer[service]
}

type service struct {
	scheme string
	kms    KMS
}

// ErrUnknownScheme: no key service of that scheme was given.
var ErrUnknownScheme = errors.New("no key service of this scheme")

var (
	_ KMS             = (*Services)(nil)
	_ SettingsChecker = (*Services)(nil)
)

// NewServices joins key services, none of which is nil. Schemes should differ: of two with the same, the one given
// first is used and the other never, since no wrapped key could say which of them opens it.
func NewServices(primary KMS, others ...KMS) *Services {
	s := new(Services)
	for _, kms := range append([]KMS{primary}, others...) {
		if _, known := s.Of(kms.Scheme()); !known {
			s.all = append(s.all, service{kms.Scheme(), kms})
		}
	}
	s.primary.Store(&s.all[0])
	return s
}

// Use makes the key service of scheme the primary, or answers ErrUnknownScheme. Calls under way end where they began:
// what they wrap is still of the primary before.
func (s *Services) Use(scheme string) error {
	for i := range s.all {
		if s.all[i].scheme == scheme {
			s.primary.Store(&s.all[i])
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrUnknownScheme, scheme)
}

// Primary returns the key service that wraps.
func (s *Services) Primary() KMS { return s.primary.Load().kms }

// Of returns the key service of scheme.
func (s *Services) Of(scheme string) (KMS, bool) {
	for _, one := range s.all {
		if one.scheme == scheme {
			return one.kms, true
		}
	}
	return nil, false
}

// Schemes lists the schemes that can be unwrapped, in the order in which their services were given.
func (s *Services) Schemes() []string {
	schemes := make([]string, len(s.all))
	for i, one := range s.all {
		schemes[i] = one.scheme
	}
	return schemes
}

// Name is the primary's.
func (s *Services) Name() string { return s.Primary().Name() }

// Scheme is the primary's.
func (s *Services) Scheme() string { return s.primary.Load().scheme }

// Wrap is the primary's.
func (s *Services) Wrap(ctx context.Context, key KeyName, version int, items []WrapItem) ([]Outcome, error) {
	return s.Primary().Wrap(ctx, key, version, items)
}

// Unwrap opens each item where its scheme says, with one call per key service, side by side. An item of a scheme that
// was not given is ErrUnwrap by itself. Where one key service fails as a whole, that error is the outcome of its items,
// and the others' stand; it is the error of the call only when no item was answered.
func (s *Services) Unwrap(ctx context.Context, key KeyName, items []UnwrapItem) ([]Outcome, error) {
	p := s.primary.Load()
	if p.wrappedAll(items) {
		return p.kms.Unwrap(ctx, key, items)
	}
	out := make([]Outcome, len(items))
	parts := make([][]int, len(s.all))
	for i, it := range items {
		n := slices.IndexFunc(s.all, func(one service) bool { return one.wrapped(it.Wrapped) })
		if n < 0 {
			out[i].Err = fmt.Errorf("%w: wrapped by no key service that is in use", ErrUnwrap)
			continue
		}
		parts[n] = append(parts[n], i)
	}
	errs := make([]error, len(s.all))
	var asked sync.WaitGroup
	for n, part := range parts {
		if len(part) > 0 {
			asked.Go(func() { errs[n] = s.all[n].unwrap(ctx, key, items, part, out) })
		}
	}
	asked.Wait()
	failed := 0
	for n, part := range parts {
		if errs[n] == nil {
			continue
		}
		failed += len(part)
		for _, i := range part {
			out[i].Err = errs[n]
		}
	}
	if failed == len(items) {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// unwrap asks one key service for its part of items and writes the outcomes to their places in out.
func (one *service) unwrap(ctx context.Context, key KeyName, items []UnwrapItem, part []int, out []Outcome) error {
	mine := make([]UnwrapItem, len(part))
	for j, i := range part {
		mine[j] = items[i]
	}
	got, err := one.kms.Unwrap(ctx, key, mine)
	if err = answered(len(mine), got, err); err != nil {
		wipe(got)
		return err
	}
	for j, i := range part {
		out[i] = got[j]
	}
	return nil
}

// Rewrap is the primary's: what another key service wrapped is ErrUnwrap there.
func (s *Services) Rewrap(ctx context.Context, key KeyName, items []UnwrapItem) ([]Outcome, error) {
	return s.Primary().Rewrap(ctx, key, items)
}

// answered judges a whole answer: err as it is, or that there are not as many outcomes as items.
func answered(items int, out []Outcome, err error) error {
	if err == nil && len(out) != items {
		return fmt.Errorf("%w: it answered another number of items", ErrKMSUnavailable)
	}
	return err
}

func wipe(out []Outcome) {
	for _, o := range out {
		o.Plaintext.Wipe()
	}
}

// wrappedAll reports whether all items are of this key service, as they are unless keys are being moved.
func (one *service) wrappedAll(items []UnwrapItem) bool {
	for i := range items {
		if !one.wrapped(items[i].Wrapped) {
			return false
		}
	}
	return true
}

func (one *service) wrapped(w Wrapped) bool {
	rest, ok := strings.CutPrefix(string(w), one.scheme)
	return ok && strings.HasPrefix(rest, ":")
}

// Create is the primary's.
func (s *Services) Create(ctx context.Context, key KeyName) error {
	return s.Primary().Create(ctx, key)
}

// Versions is the primary's.
func (s *Services) Versions(ctx context.Context, key KeyName) (Versions, error) {
	return s.Primary().Versions(ctx, key)
}

// Rotate is the primary's.
func (s *Services) Rotate(ctx context.Context, key KeyName) error {
	return s.Primary().Rotate(ctx, key)
}

// RaiseMinima is the primary's.
func (s *Services) RaiseMinima(ctx context.Context, key KeyName, version int) error {
	return s.Primary().RaiseMinima(ctx, key, version)
}

// Trim is the primary's.
func (s *Services) Trim(ctx context.Context, key KeyName, version int) error {
	return s.Primary().Trim(ctx, key, version)
}

// CheckSettings is the primary's; one that others cannot configure has nothing to check.
func (s *Services) CheckSettings(ctx context.Context) ([]string, error) {
	checker, ok := s.Primary().(SettingsChecker)
	if !ok {
		return nil, nil
	}
	return checker.CheckSettings(ctx)
}
