package kmstest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

func testRoundTrip(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	contexts := []string{"a", "b", "a", "with\x00zero\xff", strings.Repeat("long", 64)}
	for _, name := range both {
		items := wrap(t, k, name, 0, contexts...)
		wantOpens(t, k, name, items...)
		wantOpens(t, k, name, items[2], items[0]) // in another order
	}
}

func testEmpty(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		if out, err := k.Wrap(t.Context(), name, 0, nil); err != nil || len(out) != 0 {
			t.Fatalf("wrap nothing: %d outcomes, %v", len(out), err)
		}
		if out, err := k.Unwrap(t.Context(), name, nil); err != nil || len(out) != 0 {
			t.Fatalf("unwrap nothing: %d outcomes, %v", len(out), err)
		}
	}
}

func testLargeBatch(t *testing.T, k keys.KMS) {
	create(t, k, keys.DEKKey)
	contexts := make([]string, 10_000)
	for i := range contexts {
		contexts[i] = fmt.Sprintf("context %d", i)
	}
	items := wrap(t, k, keys.DEKKey, 0, contexts...)
	wantOpens(t, k, keys.DEKKey, items...)
}

func testHides(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		plain := randomKey(t)
		request := keys.WrapItem{Context: []byte("c"), Plaintext: plain}
		out, err := k.Wrap(t.Context(), name, 0, []keys.WrapItem{request, request})
		if err != nil || len(out) != 2 || out[0].Err != nil || out[1].Err != nil {
			t.Fatalf("wrap twice: %v", err)
		}
		if out[0].Wrapped == out[1].Wrapped {
			t.Fatal("wrapping one key twice gives the same: equal keys show")
		}
		for _, form := range []string{
			string(plain.Reveal()),
			hex.EncodeToString(plain.Reveal()),
			base64.StdEncoding.EncodeToString(plain.Reveal())[:40],
		} {
			if strings.Contains(string(out[0].Wrapped), form) {
				t.Fatal("the wrapped key shows the key")
			}
		}
	}
}

func testWrapLimits(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	good := randomKey(t)
	for _, name := range both {
		for what, request := range map[string]keys.WrapItem{
			"no key":       {Context: []byte("c")},
			"short key":    {Context: []byte("c"), Plaintext: secret.NewBytes(make([]byte, 31))},
			"long key":     {Context: []byte("c"), Plaintext: secret.NewBytes(make([]byte, 33))},
			"no context":   {Plaintext: good},
			"long context": {Context: bytes.Repeat([]byte{1}, 257), Plaintext: good},
		} {
			t.Run(string(name)+" "+what, func(t *testing.T) {
				wantNotWrapped(t, t.Context(), k, name, 0, request)
			})
		}
	}
}

func testOneBadItem(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		items := wrap(t, k, name, 0, "a", "b", "c")
		for what, bad := range map[string]keys.UnwrapItem{
			"altered":       {Context: items[1].context, Wrapped: altered(items[1].wrapped)},
			"cut short":     {Context: items[1].context, Wrapped: items[1].wrapped[:len(items[1].wrapped)-8]},
			"wrong context": {Context: []byte("x"), Wrapped: items[1].wrapped},
			"garbage":       {Context: items[1].context, Wrapped: "garbage"},
			"empty":         {Context: items[1].context},
		} {
			t.Run(string(name)+" "+what, func(t *testing.T) {
				request := []keys.UnwrapItem{items[0].asUnwrap(), bad, items[2].asUnwrap()}
				out := unwrap(t, k, name, request...)
				if !errors.Is(out[1].Err, keys.ErrUnwrap) || out[1].Plaintext.Len() != 0 {
					t.Fatalf("bad item: error %v, plaintext %t", out[1].Err, out[1].Plaintext.Len() != 0)
				}
				if strings.Contains(out[1].Err.Error(), string(items[1].wrapped)) {
					t.Fatal("the error shows the wrapped key")
				}
				for _, i := range []int{0, 2} {
					if out[i].Err != nil || !out[i].Plaintext.Equal(items[i].plain) {
						t.Fatalf("neighbour %d: %v", i, out[i].Err)
					}
				}
				if name != keys.DEKKey {
					return
				}
				out, err := k.Rewrap(t.Context(), name, request)
				if err != nil || len(out) != 3 {
					t.Fatalf("rewrap: %d outcomes, %v", len(out), err)
				}
				if !errors.Is(out[1].Err, keys.ErrUnwrap) || out[1].Wrapped != "" {
					t.Fatalf("rewrap of the bad item: error %v, wrapped %t", out[1].Err, out[1].Wrapped != "")
				}
				for _, i := range []int{0, 2} {
					if out[i].Err != nil {
						t.Fatalf("rewrap of neighbour %d: %v", i, out[i].Err)
					}
				}
			})
		}
	}
}

func testWrongContext(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		w := wrap(t, k, name, 0, "context")[0].wrapped
		for _, context := range []string{"Context", "contex", "context\x00", "\x00context"} {
			wantRefused(t, k, name, keys.UnwrapItem{Context: []byte(context), Wrapped: w})
		}
		wantOpens(t, k, name, wrap(t, k, name, 0, "context")...)
	}
}

func testExchange(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	for _, name := range both {
		items := wrap(t, k, name, 0, "alice", "bob")
		wantRefused(t, k, name,
			keys.UnwrapItem{Context: items[1].context, Wrapped: items[0].wrapped},
			keys.UnwrapItem{Context: items[0].context, Wrapped: items[1].wrapped})
	}
}

func testKeysApart(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	wantRefused(t, k, keys.DEKKey, wrap(t, k, keys.RootKey, 0, "c")[0].asUnwrap())
	wantRefused(t, k, keys.RootKey, wrap(t, k, keys.DEKKey, 0, "c")[0].asUnwrap())
}

func testRewrap(t *testing.T, k keys.KMS) {
	create(t, k, keys.DEKKey)
	items := wrap(t, k, keys.DEKKey, 0, "alice", "bob")
	rotate(t, k, keys.DEKKey, 1)
	out, err := k.Rewrap(t.Context(), keys.DEKKey, []keys.UnwrapItem{items[0].asUnwrap(), items[1].asUnwrap()})
	if err != nil || len(out) != 2 {
		t.Fatalf("rewrap: %d outcomes, %v", len(out), err)
	}
	rewrapped := make([]item, 2)
	for i, o := range out {
		if o.Err != nil || o.Wrapped == "" || o.Plaintext.Len() != 0 {
			t.Fatalf("rewrap: item %d: error %v, plaintext %t", i, o.Err, o.Plaintext.Len() != 0)
		}
		rewrapped[i] = item{context: items[i].context, plain: items[i].plain, wrapped: o.Wrapped}
	}
	wantOpens(t, k, keys.DEKKey, append(rewrapped, items...)...)
	wantRefused(t, k, keys.DEKKey,
		keys.UnwrapItem{Context: items[1].context, Wrapped: rewrapped[0].wrapped},
		keys.UnwrapItem{Context: items[0].context, Wrapped: rewrapped[1].wrapped})
	raise(t, k, keys.DEKKey, 2)
	wantOpens(t, k, keys.DEKKey, rewrapped...)
	wantRefused(t, k, keys.DEKKey, items[0].asUnwrap(), items[1].asUnwrap())
}

func testRewrapRoot(t *testing.T, k keys.KMS) {
	create(t, k, keys.RootKey)
	w := wrap(t, k, keys.RootKey, 0, "c")[0]
	if _, err := k.Rewrap(t.Context(), keys.RootKey, []keys.UnwrapItem{w.asUnwrap()}); err == nil {
		t.Fatal("rewrap of the root key was not refused")
	}
}

func testCancelled(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	items := wrap(t, k, keys.DEKKey, 0, "c")
	before := versions(t, k, keys.DEKKey)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	unwrapItems := []keys.UnwrapItem{items[0].asUnwrap()}
	for what, call := range map[string]func() error{
		"wrap": func() error {
			_, err := k.Wrap(ctx, keys.DEKKey, 0, []keys.WrapItem{{Context: []byte("c"), Plaintext: items[0].plain}})
			return err
		},
		"unwrap":       func() error { _, err := k.Unwrap(ctx, keys.DEKKey, unwrapItems); return err },
		"rewrap":       func() error { _, err := k.Rewrap(ctx, keys.DEKKey, unwrapItems); return err },
		"versions":     func() error { _, err := k.Versions(ctx, keys.DEKKey); return err },
		"create":       func() error { return k.Create(ctx, keys.DEKKey) },
		"rotate":       func() error { return k.Rotate(ctx, keys.DEKKey) },
		"raise minima": func() error { return k.RaiseMinima(ctx, keys.DEKKey, 1) },
		"trim":         func() error { return k.Trim(ctx, keys.DEKKey, 1) },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", what, err)
		}
	}
	wantVersions(t, k, keys.DEKKey, before)
	wantOpens(t, k, keys.DEKKey, items...)
}

func testConcurrency(t *testing.T, k keys.KMS) {
	create(t, k, both...)
	const workers, rounds, rotations = 4, 10, 5
	first := wrap(t, k, keys.DEKKey, 0, "first")
	var wg sync.WaitGroup
	failures := make(chan error, workers+1)
	for n := range workers {
		wg.Go(func() {
			for i := range rounds {
				if err := roundTrip(t.Context(), k, both[n%2], fmt.Sprintf("%d %d", n, i)); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range rotations {
			if err := k.Rotate(t.Context(), keys.DEKKey); err != nil {
				failures <- err
				return
			}
		}
	})
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if got := versions(t, k, keys.DEKKey).Latest; got != 1+rotations {
		t.Errorf("latest = %d after %d rotations", got, rotations)
	}
	wantOpens(t, k, keys.DEKKey, first...)
}

func roundTrip(ctx context.Context, k keys.KMS, name keys.KeyName, context string) error {
	plain := secret.NewBytes(bytes.Repeat([]byte(context)[:1], 32))
	out, err := k.Wrap(ctx, name, 0, []keys.WrapItem{{Context: []byte(context), Plaintext: plain}})
	if err != nil {
		return err
	}
	if out[0].Err != nil {
		return out[0].Err
	}
	out, err = k.Unwrap(ctx, name, []keys.UnwrapItem{{Context: []byte(context), Wrapped: out[0].Wrapped}})
	if err != nil {
		return err
	}
	if out[0].Err != nil {
		return out[0].Err
	}
	if !out[0].Plaintext.Equal(plain) {
		return errors.New("another key came back")
	}
	return nil
}
