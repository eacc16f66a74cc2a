package kmstest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
)

func testNoKey(t *testing.T, k keys.KMS) {
	ctx := t.Context()
	for _, name := range both {
		if _, err := k.Versions(ctx, name); !errors.Is(err, keys.ErrNoKey) {
			t.Errorf("versions of %s: %v, want ErrNoKey", name, err)
		}
	}
	create(t, k, keys.RootKey) // gives a wrapped key of the right shape
	w := wrap(t, k, keys.RootKey, 0, "c")[0].asUnwrap()
	for what, call := range map[string]func() error{
		"unwrap":       func() error { _, err := k.Unwrap(ctx, keys.DEKKey, []keys.UnwrapItem{w}); return err },
		"rewrap":       func() error { _, err := k.Rewrap(ctx, keys.DEKKey, []keys.UnwrapItem{w}); return err },
		"rotate":       func() error { return k.Rotate(ctx, keys.DEKKey) },
		"raise minima": func() error { return k.RaiseMinima(ctx, keys.DEKKey, 1) },
		"trim":         func() error { return k.Trim(ctx, keys.DEKKey, 1) },
	} {
		if err := call(); !errors.Is(err, keys.ErrNoKey) {
			t.Errorf("%s: %v, want ErrNoKey", what, err)
		}
	}
	// A key that was deleted must not come back quietly, unable to open anything.
	wantNotWrapped(t, ctx, k, keys.DEKKey, 0, keys.WrapItem{Context: []byte("c"), Plaintext: randomKey(t)})
	if _, err := k.Versions(ctx, keys.DEKKey); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("versions after wrap: %v, want ErrNoKey: wrapping made the key", err)
	}
}

func testCreate(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		wantVersions(t, k, name, keys.Versions{Latest: 1, MinAvailable: 1, MinDecrypt: 1})
	}
	items := wrap(t, k, keys.DEKKey, 0, "c")
	rotate(t, k, keys.DEKKey, 2)
	raise(t, k, keys.DEKKey, 1)
	before := versions(t, k, keys.DEKKey)
	create(t, k, both...)
	wantVersions(t, k, keys.DEKKey, before)
	wantOpens(t, k, keys.DEKKey, items...)
}

func testName(t *testing.T, k keys.KMS) {
	if k.Name() == "" {
		t.Fatal("no name: a certificate could not say which key service it speaks of")
	}
}

// Of several key services, the scheme alone says which one opens a wrapped key.
func testScheme(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	scheme := k.Scheme()
	if scheme == "" || strings.ContainsFunc(scheme, func(r rune) bool { return r < 'a' || r > 'z' }) {
		t.Fatalf("scheme %q, want small letters", scheme)
	}
	for _, name := range both {
		for version := 1; version <= 2; version++ {
			w := wrap(t, k, name, 0, "c")[0].wrapped
			if w.Scheme() != scheme || !strings.HasPrefix(string(w), fmt.Sprintf("%s:v%d:", scheme, version)) {
				t.Fatalf("a key wrapped under version %d does not begin with %s:v%d:", version, scheme, version)
			}
			rotate(t, k, name, 1)
		}
	}
}

func testRotate(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		var items []item
		for version := 1; version <= 3; version++ {
			wantVersions(t, k, name, keys.Versions{Latest: version, MinAvailable: 1, MinDecrypt: 1})
			items = append(items, wrap(t, k, name, 0, "c")...)
			rotate(t, k, name, 1)
		}
		wantOpens(t, k, name, items...)
	}
}

func testExplicitVersion(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		rotate(t, k, name, 2)
		raise(t, k, name, 2)
		request := keys.WrapItem{Context: []byte("c"), Plaintext: randomKey(t)}
		for _, version := range []int{-1, 1, 4} {
			wantNotWrapped(t, t.Context(), k, name, version, request)
		}
		second, third := wrap(t, k, name, 2, "c"), wrap(t, k, name, 3, "c")
		latest := wrap(t, k, name, 0, "c")
		wantOpens(t, k, name, second[0], third[0], latest[0])
		raise(t, k, name, 3) // tells under which version each was wrapped
		wantRefused(t, k, name, second[0].asUnwrap())
		wantOpens(t, k, name, third[0], latest[0])
	}
}

func testRaiseMinima(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		first := wrap(t, k, name, 0, "c")
		rotate(t, k, name, 2)
		second := wrap(t, k, name, 2, "c")
		for _, version := range []int{-1, 0, 4} {
			if err := k.RaiseMinima(t.Context(), name, version); err == nil {
				t.Fatalf("minima raised to %d of 3", version)
			}
		}
		wantVersions(t, k, name, keys.Versions{Latest: 3, MinAvailable: 1, MinDecrypt: 1})
		wantOpens(t, k, name, first[0], second[0])

		raise(t, k, name, 2)
		want := keys.Versions{Latest: 3, MinAvailable: 1, MinDecrypt: 2, MinEncrypt: 2}
		wantVersions(t, k, name, want)
		wantRefused(t, k, name, first[0].asUnwrap())
		wantOpens(t, k, name, second...)

		raise(t, k, name, 2)
		if err := k.RaiseMinima(t.Context(), name, 1); err == nil {
			t.Fatal("minima lowered")
		}
		wantVersions(t, k, name, want)
		wantRefused(t, k, name, first[0].asUnwrap())
	}
}

func testTrim(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		first := wrap(t, k, name, 0, "c")
		rotate(t, k, name, 3)
		second, third := wrap(t, k, name, 2, "c"), wrap(t, k, name, 3, "c")
		raise(t, k, name, 3)
		if err := k.Trim(t.Context(), name, 2); err != nil {
			t.Fatalf("trim to 2: %v", err)
		}
		wantVersions(t, k, name, keys.Versions{Latest: 4, MinAvailable: 2, MinDecrypt: 3, MinEncrypt: 3})
		if err := k.Trim(t.Context(), name, 3); err != nil {
			t.Fatalf("trim to 3: %v", err)
		}
		want := keys.Versions{Latest: 4, MinAvailable: 3, MinDecrypt: 3, MinEncrypt: 3}
		wantVersions(t, k, name, want)
		for _, version := range []int{1, 2} {
			if err := k.Trim(t.Context(), name, version); err == nil {
				t.Fatalf("trimmed back to %d", version)
			}
			if err := k.RaiseMinima(t.Context(), name, version); err == nil {
				t.Fatalf("minima lowered to %d after a trim", version)
			}
		}
		wantVersions(t, k, name, want)
		wantRefused(t, k, name, first[0].asUnwrap(), second[0].asUnwrap())
		wantOpens(t, k, name, third...)
		wantOpens(t, k, name, wrap(t, k, name, 0, "c")...)
		rotate(t, k, name, 1)
		wantOpens(t, k, name, append(third, wrap(t, k, name, 0, "c")...)...)
	}
}

func testTrimNeedsMinima(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		first := wrap(t, k, name, 0, "c")
		rotate(t, k, name, 2)
		before := versions(t, k, name)
		for _, version := range []int{-1, 0, 2, 3, 4} {
			if err := k.Trim(t.Context(), name, version); err == nil {
				t.Fatalf("trimmed to %d with minima never raised", version)
			}
		}
		wantVersions(t, k, name, before)
		wantOpens(t, k, name, first...)
		raise(t, k, name, 2)
		if err := k.Trim(t.Context(), name, 3); err == nil {
			t.Fatal("trimmed to 3 with minima at 2")
		}
		if got := versions(t, k, name).MinAvailable; got != 1 {
			t.Fatalf("min available = %d after a refused trim", got)
		}
	}
}
