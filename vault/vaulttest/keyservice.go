package vaulttest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/local"
)

// openKeyServices opens what the options ask for, the first one first.
func (in *Installation) openKeyServices(inst keys.InstanceID, opt Options) error {
	open := func(open func(dir string) (keys.KMS, error)) (keys.KMS, error) {
		kms, err := open(in.Dir)
		if c, ok := kms.(io.Closer); ok && err == nil {
			in.closers = append(in.closers, c.Close)
		}
		return kms, err
	}
	if opt.First == nil {
		opt.First = func(dir string) (keys.KMS, error) { return in.openUsual(dir, inst, opt.Logger) }
	}
	first, err := open(opt.First)
	if err != nil {
		return err
	}
	if opt.KMS != nil {
		first = opt.KMS(first)
	}
	in.KMS = keys.NewServices(first)
	if opt.Other == nil {
		return nil
	}
	other, err := open(opt.Other)
	if err != nil {
		return err
	}
	in.KMS = keys.NewServices(first, other)
	return nil
}

// openUsual opens the keyring, or what the environment says.
func (in *Installation) openUsual(dir string, inst keys.InstanceID, log *slog.Logger) (keys.KMS, error) {
	switch kind := os.Getenv(Variable); kind {
	case "", "local":
		ring, err := local.Open(filepath.Join(dir, "keyring"), local.Options{Create: true, Logger: log})
		in.Keyring = ring
		return ring, err
	case "transit":
		return openTransit(inst, log)
	default:
		return nil, fmt.Errorf("%s=%s: there are local and transit", Variable, kind)
	}
}

// OtherKeyring opens a second keyring in a folder, which passes for HashiCorp Vault: what it wraps begins so.
func OtherKeyring(dir string) (keys.KMS, error) {
	ring, err := local.Open(filepath.Join(dir, "other-keyring"), local.Options{Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return otherScheme{ring}, nil
}

// otherScheme exchanges the scheme in front of what a keyring wraps.
type otherScheme struct{ *local.Keyring }

const (
	ownPrefix   = "local:"
	otherPrefix = "vault:"
)

func (otherScheme) Name() string   { return "vault-transit" }
func (otherScheme) Scheme() string { return "vault" }

func (k otherScheme) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	return disguised(k.Keyring.Wrap(ctx, key, version, items))
}

func (k otherScheme) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	return k.Keyring.Unwrap(ctx, key, bared(items))
}

func (k otherScheme) Rewrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	return disguised(k.Keyring.Rewrap(ctx, key, bared(items)))
}

func disguised(out []keys.Outcome, err error) ([]keys.Outcome, error) {
	for i := range out {
		if rest, ok := strings.CutPrefix(string(out[i].Wrapped), ownPrefix); ok {
			out[i].Wrapped = keys.Wrapped(otherPrefix + rest)
		}
	}
	return out, err
}

// bared gives each item its own prefix back; one that has another is none of this key service's.
func bared(items []keys.UnwrapItem) []keys.UnwrapItem {
	out := make([]keys.UnwrapItem, len(items))
	for i, it := range items {
		rest, ok := strings.CutPrefix(string(it.Wrapped), otherPrefix)
		out[i] = keys.UnwrapItem{Context: it.Context, Wrapped: "none"}
		if ok {
			out[i].Wrapped = keys.Wrapped(ownPrefix + rest)
		}
	}
	return out
}
