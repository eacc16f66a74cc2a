// Package kmstest is the contract of keys.KMS, run by the tests of every driver.
//
// It knows nothing of how a driver writes a wrapped key or where it keeps its keys, and takes only errors that
// package keys names for granted. So the same run judges a file and a key service on a network.
package kmstest

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// Run runs the contract as subtests of t. open returns a key service of its own for each subtest, one that has no key
// yet; what it opens it closes with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) keys.KMS) {
	for _, c := range []struct {
		name string
		test func(*testing.T, keys.KMS)
	}{
		{"no key yet", testNoKey},
		{"create", testCreate},
		{"name", testName},
		{"scheme", testScheme},
		{"wrap and unwrap", testRoundTrip},
		{"empty batch", testEmpty},
		{"large batch", testLargeBatch},
		{"wrapping hides", testHides},
		{"what is not wrapped", testWrapLimits},
		{"one bad item", testOneBadItem},
		{"wrong context", testWrongContext},
		{"contexts exchanged", testExchange},
		{"keys apart", testKeysApart},
		{"rotate", testRotate},
		{"explicit version", testExplicitVersion},
		{"rewrap", testRewrap},
		{"rewrap root", testRewrapRoot},
		{"raise minima", testRaiseMinima},
		{"trim", testTrim},
		{"trim needs minima", testTrimNeedsMinima},
		{"cancelled context", testCancelled},
		{"concurrency", testConcurrency},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

var both = []keys.KeyName{keys.RootKey, keys.DEKKey}

func create(t *testing.T, k keys.KMS, names ...keys.KeyName) {
	t.Helper()
	for _, name := range names {
		if err := k.Create(t.Context(), name); err != nil {
			t.Fatalf("create %s: %v", name, err)
		}
	}
}

func rotate(t *testing.T, k keys.KMS, name keys.KeyName, times int) {
	t.Helper()
	for range times {
		if err := k.Rotate(t.Context(), name); err != nil {
			t.Fatalf("rotate %s: %v", name, err)
		}
	}
}

func raise(t *testing.T, k keys.KMS, name keys.KeyName, version int) {
	t.Helper()
	if err := k.RaiseMinima(t.Context(), name, version); err != nil {
		t.Fatalf("raise minima of %s to %d: %v", name, version, err)
	}
}

func versions(t *testing.T, k keys.KMS, name keys.KeyName) keys.Versions {
	t.Helper()
	v, err := k.Versions(t.Context(), name)
	if err != nil {
		t.Fatalf("versions of %s: %v", name, err)
	}
	if v.MinAvailable == 0 { // 0 and 1 say the same
		v.MinAvailable = 1
	}
	return v
}

func wantVersions(t *testing.T, k keys.KMS, name keys.KeyName, want keys.Versions) {
	t.Helper()
	if got := versions(t, k, name); got != want {
		t.Fatalf("versions of %s = %+v, want %+v", name, got, want)
	}
}

func randomKey(t *testing.T) secret.Bytes {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return secret.NewBytes(b)
}

// item is a key, its context and the wrapped form.
type item struct {
	context []byte
	plain   secret.Bytes
	wrapped keys.Wrapped
}

func (i item) asUnwrap() keys.UnwrapItem {
	return keys.UnwrapItem{Context: i.context, Wrapped: i.wrapped}
}

// wrap wraps a random key under each context.
func wrap(t *testing.T, k keys.KMS, name keys.KeyName, version int, contexts ...string) []item {
	t.Helper()
	items := make([]item, len(contexts))
	request := make([]keys.WrapItem, len(contexts))
	for i, c := range contexts {
		items[i] = item{context: []byte(c), plain: randomKey(t)}
		request[i] = keys.WrapItem{Context: items[i].context, Plaintext: items[i].plain}
	}
	out, err := k.Wrap(t.Context(), name, version, request)
	if err != nil {
		t.Fatalf("wrap under %s: %v", name, err)
	}
	if len(out) != len(items) {
		t.Fatalf("wrap: %d outcomes for %d items", len(out), len(items))
	}
	for i, o := range out {
		if o.Err != nil || o.Wrapped == "" || o.Plaintext.Len() != 0 {
			t.Fatalf("wrap: item %d: error %v, wrapped %t, plaintext %t",
				i, o.Err, o.Wrapped != "", o.Plaintext.Len() != 0)
		}
		items[i].wrapped = o.Wrapped
	}
	return items
}

func unwrap(t *testing.T, k keys.KMS, name keys.KeyName, request ...keys.UnwrapItem) []keys.Outcome {
	t.Helper()
	out, err := k.Unwrap(t.Context(), name, request)
	if err != nil {
		t.Fatalf("unwrap under %s: %v", name, err)
	}
	if len(out) != len(request) {
		t.Fatalf("unwrap: %d outcomes for %d items", len(out), len(request))
	}
	return out
}

func wantOpens(t *testing.T, k keys.KMS, name keys.KeyName, items ...item) {
	t.Helper()
	request := make([]keys.UnwrapItem, len(items))
	for i := range items {
		request[i] = items[i].asUnwrap()
	}
	for i, o := range unwrap(t, k, name, request...) {
		if o.Err != nil || o.Wrapped != "" {
			t.Fatalf("unwrap: item %d: error %v, wrapped %t", i, o.Err, o.Wrapped != "")
		}
		if !o.Plaintext.Equal(items[i].plain) {
			t.Fatalf("unwrap: item %d is not the key that was wrapped", i)
		}
	}
}

func wantRefused(t *testing.T, k keys.KMS, name keys.KeyName, request ...keys.UnwrapItem) {
	t.Helper()
	for i, o := range unwrap(t, k, name, request...) {
		if !errors.Is(o.Err, keys.ErrUnwrap) || o.Plaintext.Len() != 0 || o.Wrapped != "" {
			t.Fatalf("unwrap: item %d: error %v, plaintext %t, wrapped %t; want ErrUnwrap alone",
				i, o.Err, o.Plaintext.Len() != 0, o.Wrapped != "")
		}
	}
}

// wantNotWrapped takes an error of the call or of each item: key services differ in where they refuse.
func wantNotWrapped(t *testing.T, ctx context.Context, k keys.KMS, name keys.KeyName, version int, request ...keys.WrapItem) {
	t.Helper()
	out, err := k.Wrap(ctx, name, version, request)
	if err != nil {
		return
	}
	if len(out) != len(request) {
		t.Fatalf("wrap: %d outcomes for %d items", len(out), len(request))
	}
	for i, o := range out {
		if o.Err == nil || o.Wrapped != "" {
			t.Fatalf("wrap: item %d was wrapped", i)
		}
	}
}

// altered exchanges one character in the last part, so that the shape stays.
func altered(w keys.Wrapped) keys.Wrapped {
	b := []byte(w)
	at := len(b) - 16
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return keys.Wrapped(b)
}
