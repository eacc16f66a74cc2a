package transit

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// at matches requests whose path ends so.
func at(end string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, end) }
}

// TestOnceOnly: what must not be repeated is sent once, whatever goes wrong.
func TestOnceOnly(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, withToken(p.URL, s.Root, s.inst))
	ctx := t.Context()
	for _, tt := range []struct {
		name  string
		fault transittest.Fault
		done  bool // Vault did it all the same
	}{
		{"503", transittest.Fault{Status: 503}, false},
		{"429", transittest.Fault{Status: 429}, false},
		{"500", transittest.Fault{Status: 500}, false},
		{"403", transittest.Fault{Status: 403}, false},
		{"403, invalid token", transittest.Fault{Status: 403, Body: `{"errors":["invalid token"]}`}, false},
		{"closed", transittest.Fault{Refuse: true}, false},
		{"answer lost", transittest.Fault{Drop: true}, true},
		{"slow", transittest.Fault{Delay: halfMinute}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, err := k.Versions(ctx, keys.DEKKey) // closes the breaker
			must(t, err)
			tt.fault.Match = at("/rotate")
			if tt.fault.Delay > 0 {
				k.timeout = 2 * time.Second
			}
			p.Set(tt.fault)
			seen := p.Count("/rotate")
			err = k.Rotate(ctx, keys.DEKKey)
			k.timeout = 20 * time.Second
			p.Set(transittest.Fault{})
			wantError(t, err, keys.ErrKMSUnavailable)
			if tt.fault.Status != 403 {
				wantText(t, err.Error(), "versions")
			}
			if n := p.Count("/rotate") - seen; n != 1 {
				t.Errorf("sent %d times", n)
			}
			after, err := k.Versions(ctx, keys.DEKKey)
			must(t, err)
			if rotated := after.Latest > before.Latest; rotated != tt.done {
				t.Errorf("rotated: %t", rotated)
			}
		})
	}
}

// TestHalfTrimmed: a trim that fails is judged by what the key says afterwards.
func TestHalfTrimmed(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, withToken(p.URL, s.Root, s.inst))
	ctx := t.Context()
	version := 1
	var trimmed atomic.Bool
	for _, tt := range []struct {
		name   string
		fault  transittest.Fault
		blind  bool // reading fails afterwards, too
		half   bool
		want   error
		happen bool
	}{
		{"answer lost", transittest.Fault{Drop: true}, false, false, nil, true},
		{"answer lost, and then nothing", transittest.Fault{Drop: true}, true, true, keys.ErrKMSUnavailable, true},
		{"500", transittest.Fault{Status: 500}, false, true, keys.ErrKMSUnavailable, false},
		{"400", transittest.Fault{Status: 400}, false, true, keys.ErrKMSUnavailable, false},
		{"503", transittest.Fault{Status: 503}, false, true, keys.ErrKMSUnavailable, false},
		{"closed", transittest.Fault{Refuse: true}, false, true, keys.ErrKMSUnavailable, false},
		{"403", transittest.Fault{Status: 403}, false, false, keys.ErrKMSUnavailable, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, k.Rotate(ctx, keys.RootKey))
			version++
			must(t, k.RaiseMinima(ctx, keys.RootKey, version))
			trimmed.Store(false)
			tt.fault.Match = func(r *http.Request) bool {
				if at("/trim")(r) {
					trimmed.Store(true)
					return true
				}
				return trimmed.Load() && tt.blind && r.Method == http.MethodGet
			}
			p.Set(tt.fault)
			seen := p.Count("/trim")
			err := k.Trim(ctx, keys.RootKey, version)
			p.Set(transittest.Fault{})
			if n := p.Count("/trim") - seen; n != 1 {
				t.Errorf("sent %d times", n)
			}
			if errors.Is(err, ErrHalfTrimmed) != tt.half || !errors.Is(err, tt.want) {
				t.Errorf("%v; want half: %t, and %v", err, tt.half, tt.want)
			}
			v, err := k.Versions(ctx, keys.RootKey)
			must(t, err)
			if happened := v.MinAvailable == version; happened != tt.happen {
				t.Errorf("%+v after a trim to %d", v, version)
			}
		})
	}
	t.Run("never sent", func(t *testing.T) {
		must(t, k.Rotate(ctx, keys.RootKey))
		version++
		must(t, k.RaiseMinima(ctx, keys.RootKey, version))
		for range breakAfter {
			k.breaker.leave(false, away, "test")
		}
		err := k.write(ctx, k.keyPath(keys.RootKey)+"/trim", map[string]int{"min_available_version": version})
		wantError(t, err, errNotSent, keys.ErrKMSUnavailable)
	})
}

// TestRolesSuffice: what each of the two policies is for works with it alone, and what it is not for does not.
func TestRolesSuffice(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	ctx := t.Context()
	service := open(t, s.appRole(t, s.URL, "service", nil))
	closer := open(t, s.appRole(t, s.URL, "closer", map[string]any{"token_policies": s.closer}))
	warnings, err := service.CheckSettings(ctx)
	must(t, err)
	if len(warnings) > 0 {
		t.Errorf("the service's policy: %q", warnings)
	}
	for _, key := range bothKeys {
		it := wrapSome(t, service, key, 1)[0]
		must(t, service.Create(ctx, key), sing(t, service, key, it))
		wantError(t, service.Rotate(ctx, key), errDenied)
		must(t, closer.Rotate(ctx, key))
		wantError(t, service.RaiseMinima(ctx, key, 2), errDenied)
		must(t, closer.RaiseMinima(ctx, key, 2))
		wantError(t, service.Trim(ctx, key, 2), errDenied)
		wantError(t, sing(t, service, key, it), keys.ErrUnwrap)
		must(t, closer.Trim(ctx, key, 2))
		v, err := service.Versions(ctx, key)
		must(t, err)
		if want := (keys.Versions{Latest: 2, MinAvailable: 2, MinDecrypt: 2, MinEncrypt: 2}); v != want {
			t.Errorf("%+v, want %+v", v, want)
		}
		wantError(t, sing(t, closer, key, wrapSome(t, service, key, 1)[0]), errDenied)
	}
	wantError(t, service.ApplyPolicies(ctx), keys.ErrSettings)
	// The closer may set the minima and nothing else.
	token, err := closer.keeper.current()
	must(t, err)
	for _, member := range []string{"exportable", "allow_plaintext_backup", "deletion_allowed", "auto_rotate_period"} {
		status, _, err := s.Try("POST", "/v1/"+closer.keyPath(keys.DEKKey)+"/config", token.text.Reveal(), map[string]any{member: true})
		if err != nil || status != http.StatusForbidden {
			t.Errorf("%s: status %d, %v", member, status, err)
		}
	}
	if warnings, err := closer.CheckSettings(ctx); !errors.Is(err, keys.ErrSettings) || len(warnings) != 1 {
		t.Errorf("the closer's policy: %v, %q", err, warnings)
	}
}
