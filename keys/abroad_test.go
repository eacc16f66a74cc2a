package keys_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// abroad is a keyring that wraps under another scheme, fails when told to, and counts what it is asked.
type abroad struct {
	keys.KMS
	mu     sync.Mutex
	scheme string
	err    error
	fewer  bool // answers an item less
	calls  []string
	opened []secret.Bytes
}

func (a *abroad) Name() string   { return a.scheme + "-abroad" }
func (a *abroad) Scheme() string { return a.scheme }

func (a *abroad) CheckSettings(context.Context) ([]string, error) {
	return []string{"of " + a.scheme}, a.err
}

func (a *abroad) note(what string, n int) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprint(what, " ", n))
	return a.fewer, a.err
}

// asked returns the calls since it was asked last.
func (a *abroad) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := a.calls
	a.calls = nil
	return calls
}

func (a *abroad) outwards(out []keys.Outcome, fewer bool) []keys.Outcome {
	if fewer {
		out = out[1:]
	}
	for i, o := range out {
		if rest, ok := strings.CutPrefix(string(o.Wrapped), "local:"); ok {
			out[i].Wrapped = keys.Wrapped(a.scheme + ":" + rest)
		}
		if o.Plaintext.Len() > 0 {
			a.mu.Lock()
			a.opened = append(a.opened, o.Plaintext)
			a.mu.Unlock()
		}
	}
	return out
}

func (a *abroad) inwards(items []keys.UnwrapItem) []keys.UnwrapItem {
	in := slices.Clone(items)
	for i := range in {
		if rest, ok := strings.CutPrefix(string(in[i].Wrapped), a.scheme+":"); ok {
			in[i].Wrapped = keys.Wrapped("local:" + rest)
		}
	}
	return in
}

func (a *abroad) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	fewer, err := a.note("wrap", len(items))
	if err != nil {
		return nil, err
	}
	out, err := a.KMS.Wrap(ctx, key, version, items)
	return a.outwards(out, fewer), err
}

func (a *abroad) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	fewer, err := a.note("unwrap", len(items))
	if err != nil {
		return nil, err
	}
	out, err := a.KMS.Unwrap(ctx, key, a.inwards(items))
	return a.outwards(out, fewer), err
}

func (a *abroad) Rewrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	fewer, err := a.note("rewrap", len(items))
	if err != nil {
		return nil, err
	}
	out, err := a.KMS.Rewrap(ctx, key, a.inwards(items))
	return a.outwards(out, fewer), err
}
