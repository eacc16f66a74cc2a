package keys_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/kmstest"
	"github.com/cloakroom-io/cloakroom/keys/local"
)

func keyring(t testing.TB) *local.Keyring {
	t.Helper()
	k, err := local.Open(filepath.Join(t.TempDir(), "keyring"), local.Options{
		Create: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// pair returns two key services with both keys, here being the primary.
func pair(t *testing.T) (s *keys.Services, here, there *abroad) {
	t.Helper()
	here, there = &abroad{KMS: keyring(t), scheme: "here"}, &abroad{KMS: keyring(t), scheme: "there"}
	for _, a := range []*abroad{here, there} {
		for _, name := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
			if err := a.Create(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return keys.NewServices(here, there), here, there
}

// wrapped is a key, wrapped somewhere.
type wrapped struct {
	keys.UnwrapItem
	plain secret.Bytes
}

// wrapAt wraps keys that are the context, repeated.
func wrapAt(t *testing.T, kms keys.KMS, name keys.KeyName, contexts ...string) []wrapped {
	t.Helper()
	items := make([]keys.WrapItem, len(contexts))
	for i, c := range contexts {
		items[i] = keys.WrapItem{Context: []byte(c), Plaintext: secret.NewBytes([]byte(strings.Repeat(c, 32)[:32]))}
	}
	out, err := kms.Wrap(t.Context(), name, 0, items)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]wrapped, len(items))
	for i, o := range out {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		all[i] = wrapped{keys.UnwrapItem{Context: items[i].Context, Wrapped: o.Wrapped}, items[i].Plaintext}
	}
	return all
}

func request(items ...wrapped) []keys.UnwrapItem {
	out := make([]keys.UnwrapItem, len(items))
	for i, it := range items {
		out[i] = it.UnwrapItem
	}
	return out
}

func TestServicesOfOneIsAKeyService(t *testing.T) {
	kmstest.Run(t, func(t *testing.T) keys.KMS { return keys.NewServices(keyring(t)) })
}

func TestServicesOfTwoIsAKeyService(t *testing.T) {
	kmstest.Run(t, func(t *testing.T) keys.KMS {
		s := keys.NewServices(&abroad{KMS: keyring(t), scheme: "abroad"}, keyring(t))
		if err := s.Use("local"); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestServicesSayWhichIsPrimary(t *testing.T) {
	s, here, there := pair(t)
	twin := &abroad{KMS: here.KMS, scheme: "there"}
	s = keys.NewServices(here, there, twin)
	check := func(want *abroad) {
		t.Helper()
		if s.Primary() != keys.KMS(want) || s.Scheme() != want.scheme || s.Name() != want.Name() {
			t.Errorf("primary %s %s, want %s", s.Scheme(), s.Name(), want.scheme)
		}
		if got := wrapAt(t, s, keys.DEKKey, "c")[0].Wrapped.Scheme(); got != want.scheme {
			t.Errorf("wrapped by %s", got)
		}
		if warnings, err := s.CheckSettings(t.Context()); err != nil || !slices.Equal(warnings, []string{"of " + want.scheme}) {
			t.Errorf("settings %q, %v", warnings, err)
		}
		before, err := want.KMS.Versions(t.Context(), keys.RootKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Rotate(t.Context(), keys.RootKey); err != nil {
			t.Fatal(err)
		}
		if now, err := s.Versions(t.Context(), keys.RootKey); err != nil || now.Latest != before.Latest+1 {
			t.Errorf("%+v after rotating %+v", now, before)
		}
	}
	check(here)
	for range 2 {
		if err := s.Use("there"); err != nil {
			t.Fatal(err)
		}
		check(there)
	}
	if err := s.Use("elsewhere"); !errors.Is(err, keys.ErrUnknownScheme) {
		t.Errorf("an unknown scheme: %v", err)
	}
	check(there)
	if err := s.Use("here"); err != nil {
		t.Fatal(err)
	}
	check(here)
	if got := s.Schemes(); !slices.Equal(got, []string{"here", "there"}) {
		t.Errorf("schemes %q", got)
	}
	if kms, ok := s.Of("there"); !ok || kms != keys.KMS(there) {
		t.Error("there is not the one that was given first")
	}
	if _, ok := s.Of("local"); ok {
		t.Error("a scheme that nobody has is known")
	}
	if warnings, err := keys.NewServices(keyring(t)).CheckSettings(t.Context()); err != nil || warnings != nil {
		t.Errorf("a keyring's settings: %q, %v", warnings, err)
	}
}

// Keys of several services and of none, in one batch: each is answered in its place, with one call for each service.
func TestServicesUnwrapMixed(t *testing.T) {
	s, here, there := pair(t)
	for _, name := range []keys.KeyName{keys.DEKKey, keys.RootKey} {
		t.Run(string(name), func(t *testing.T) {
			a, b := wrapAt(t, here, name, "a", "b", "c"), wrapAt(t, there, name, "d", "e")
			here.asked()
			there.asked()
			lost, none, near := a[0], a[1], a[2]
			lost.Wrapped = "elsewhere" + lost.Wrapped[len("here"):]
			none.Wrapped = "here"
			near.Wrapped = "hereafter" + near.Wrapped[len("here"):]
			crossed := b[0]
			crossed.Wrapped = "here" + crossed.Wrapped[len("there"):]
			batch := []wrapped{b[0], lost, a[0], crossed, b[1], none, near, a[1], {}, a[2]}
			opens := []bool{true, false, true, false, true, false, false, true, false, true}
			out, err := s.Unwrap(t.Context(), name, request(batch...))
			if err != nil || len(out) != len(batch) {
				t.Fatalf("%d outcomes, %v", len(out), err)
			}
			for i, o := range out {
				switch {
				case opens[i] && (o.Err != nil || !o.Plaintext.Equal(batch[i].plain)):
					t.Errorf("item %d: %v", i, o.Err)
				case !opens[i] && (!errors.Is(o.Err, keys.ErrUnwrap) || o.Plaintext.Len() != 0):
					t.Errorf("item %d opens, or %v", i, o.Err)
				}
			}
			if h, th := here.asked(), there.asked(); !slices.Equal(h, []string{"unwrap 4"}) || !slices.Equal(th, []string{"unwrap 2"}) {
				t.Errorf("asked for %q and %q", h, th)
			}
			out, err = s.Unwrap(t.Context(), name, request(lost, none))
			if err != nil || !errors.Is(out[0].Err, keys.ErrUnwrap) || !errors.Is(out[1].Err, keys.ErrUnwrap) {
				t.Errorf("only unknown ones: %v, %v", out, err)
			}
		})
	}
}

// spy keeps the batch it is handed.
type spy struct {
	keys.KMS
	got []keys.UnwrapItem
}

func (s *spy) Unwrap(_ context.Context, _ keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	s.got = items
	return nil, io.ErrUnexpectedEOF
}

func TestServicesPassThroughWhatThePrimaryWrapped(t *testing.T) {
	primary := &spy{KMS: keyring(t)}
	s := keys.NewServices(primary, &abroad{scheme: "there"})
	batch := []keys.UnwrapItem{{Wrapped: "local:v1:x"}, {Wrapped: "local:v2:y"}}
	if _, err := s.Unwrap(t.Context(), keys.DEKKey, batch); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the primary's error is %v", err)
	}
	if len(primary.got) != 2 || &primary.got[0] != &batch[0] {
		t.Error("the batch was copied")
	}
}

func TestServicesOneFails(t *testing.T) {
	s, here, there := pair(t)
	a, b := wrapAt(t, here, keys.DEKKey, "a", "b"), wrapAt(t, there, keys.DEKKey, "d", "e")
	batch := request(a[0], b[0], a[1], b[1])
	for _, tc := range []struct {
		name        string
		here, there error
		fewer       bool // there
		want        [4]error
		whole       error
	}{
		{name: "there is away", there: keys.ErrKMSUnavailable, want: [4]error{nil, keys.ErrKMSUnavailable, nil, keys.ErrKMSUnavailable}},
		{name: "there has no key", there: keys.ErrNoKey, want: [4]error{nil, keys.ErrNoKey, nil, keys.ErrNoKey}},
		{name: "there answers too little", fewer: true, want: [4]error{nil, keys.ErrKMSUnavailable, nil, keys.ErrKMSUnavailable}},
		{name: "both are away", here: io.ErrUnexpectedEOF, there: keys.ErrKMSUnavailable, whole: keys.ErrKMSUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			here.err, there.err, there.fewer = tc.here, tc.there, tc.fewer
			there.opened = nil
			out, err := s.Unwrap(t.Context(), keys.DEKKey, batch)
			if !errors.Is(err, tc.whole) || err != nil && out != nil {
				t.Fatalf("%d outcomes, %v", len(out), err)
			}
			for i, o := range out {
				if !errors.Is(o.Err, tc.want[i]) || (o.Err != nil) != (o.Plaintext.Len() == 0) {
					t.Errorf("item %d: %v, want %v", i, o.Err, tc.want[i])
				}
			}
			if tc.fewer {
				wantWiped(t, there.opened)
			}
		})
	}
	here.err, there.err, there.fewer = nil, nil, false
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Unwrap(ctx, keys.DEKKey, batch); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func wantWiped(t *testing.T, opened []secret.Bytes) {
	t.Helper()
	for _, k := range opened {
		if !k.Equal(secret.NewBytes(make([]byte, 32))) {
			t.Error("a key that was opened is not wiped")
		}
	}
	if len(opened) == 0 {
		t.Error("nothing was opened")
	}
}

// Rewrapping carries nothing from one key service to another: that takes looking at what came out.
func TestServicesRewrapIsThePrimarys(t *testing.T) {
	s, here, there := pair(t)
	own, foreign := wrapAt(t, here, keys.DEKKey, "a", "b"), wrapAt(t, there, keys.DEKKey, "c")
	if err := here.Rotate(t.Context(), keys.DEKKey); err != nil {
		t.Fatal(err)
	}
	here.asked()
	there.asked()
	out, err := s.Rewrap(t.Context(), keys.DEKKey, request(own[0], foreign[0], own[1]))
	if err != nil || len(out) != 3 {
		t.Fatalf("%d outcomes, %v", len(out), err)
	}
	for i, o := range out {
		if i == 1 {
			if !errors.Is(o.Err, keys.ErrUnwrap) || o.Wrapped != "" {
				t.Errorf("what another key service wrapped: %v", o.Err)
			}
		} else if o.Err != nil || !strings.HasPrefix(string(o.Wrapped), "here:v2:") {
			t.Errorf("item %d: %v", i, o.Err)
		}
	}
	if h, th := here.asked(), there.asked(); !slices.Equal(h, []string{"rewrap 3"}) || th != nil {
		t.Errorf("asked for %q and %q", h, th)
	}
}

// Readers see nothing of a change of the primary.
func TestServicesUseWhileInUse(t *testing.T) {
	s, here, there := pair(t)
	batch := append(wrapAt(t, here, keys.DEKKey, "a", "b"), wrapAt(t, there, keys.DEKKey, "c")...)
	var done sync.WaitGroup
	stop := make(chan struct{})
	done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if err := s.Use([]string{"there", "here"}[i%2]); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 50 {
				out, err := s.Unwrap(t.Context(), keys.DEKKey, request(batch[:2]...))
				if err != nil || out[0].Err != nil || out[1].Err != nil {
					t.Error(err, out)
				}
				if out, err = s.Unwrap(t.Context(), keys.DEKKey, request(batch...)); err != nil || out[0].Err != nil || out[2].Err != nil {
					t.Error(err, out)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	done.Wait()
}

func BenchmarkServicesPassThrough(b *testing.B) {
	s := keys.NewServices(&spy{KMS: keyring(b)}, &abroad{scheme: "there"})
	batch := make([]keys.UnwrapItem, 500)
	for i := range batch {
		batch[i].Wrapped = "local:v1:x"
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Unwrap(b.Context(), keys.DEKKey, batch)
	}
}
