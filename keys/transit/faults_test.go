package transit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// wantAway wants unavailable from every kind of call, and no key.
func wantAway(t *testing.T, k *Transit, it wrapped) {
	t.Helper()
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"unwrap": func() error { return sing(t, k, keys.DEKKey, it) },
		"wrap": func() error {
			_, err := k.Wrap(ctx, keys.DEKKey, 0, []keys.WrapItem{{Context: it.Context, Plaintext: it.plain}})
			return err
		},
		"rewrap":       func() error { _, err := k.Rewrap(ctx, keys.DEKKey, []keys.UnwrapItem{it.UnwrapItem}); return err },
		"versions":     func() error { _, err := k.Versions(ctx, keys.DEKKey); return err },
		"create":       func() error { return k.Create(ctx, keys.DEKKey) },
		"rotate":       func() error { return k.Rotate(ctx, keys.DEKKey) },
		"raise minima": func() error { return k.RaiseMinima(ctx, keys.DEKKey, 1) },
		"trim":         func() error { return k.Trim(ctx, keys.DEKKey, 1) },
		"settings":     func() error { _, err := k.CheckSettings(ctx); return err },
	} {
		if err := call(); !errors.Is(err, keys.ErrKMSUnavailable) {
			t.Errorf("%s: %v, want ErrKMSUnavailable", what, err)
		}
	}
}

// wantBack wants service again without anybody doing anything.
func wantBack(t *testing.T, k *Transit, it wrapped) {
	t.Helper()
	eventually(t, "vault to be back", func() bool {
		err := sing(t, k, keys.DEKKey, it)
		if err != nil && !errors.Is(err, keys.ErrKMSUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
}

func TestSealedStoppedRestarted(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{Storage: t.TempDir()})
	log := new(journal)
	c := s.appRole(t, s.URL, "r", nil)
	c.Logger = log.logger()
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	before, err := k.Versions(t.Context(), keys.DEKKey)
	must(t, err)
	for _, tt := range []struct {
		name     string
		off, on  func(testing.TB)
		complain string
	}{
		{"sealed", s.Seal, s.Unseal, "sealed"},
		{"stopped", s.Kill, s.Restart, "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.off(t)
			wantAway(t, k, it)
			err := sing(t, k, keys.DEKKey, it)
			wantText(t, err.Error(), tt.complain, "has been away since")
			tt.on(t)
			wantBack(t, k, it)
		})
	}
	after, err := k.Versions(t.Context(), keys.DEKKey)
	must(t, err)
	if before != after {
		t.Errorf("%+v became %+v", before, after)
	}
	wantText(t, log.String(), "vault is away", "vault answers again")
}

const halfMinute = 30 * time.Second

// TestSlow: with a Vault that takes half a minute no call waits longer than its own deadline or the timeout of a try,
// and once that is plain no call waits at all.
func TestSlow(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	c := withToken(p.URL, s.Root, s.inst)
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	p.Set(transittest.Fault{Delay: halfMinute})

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.Unwrap(ctx, keys.DEKKey, []keys.UnwrapItem{it.UnwrapItem})
	wantError(t, err, keys.ErrKMSUnavailable, context.DeadlineExceeded)

	ctx, cancel = context.WithCancel(t.Context())
	seen := p.Count("/decrypt/")
	done := make(chan error, 1)
	go func() { _, err := k.Unwrap(ctx, keys.DEKKey, []keys.UnwrapItem{it.UnwrapItem}); done <- err }()
	eventually(t, "the request", func() bool { return p.Count("/decrypt/") > seen })
	cancel()
	err = <-done
	wantError(t, err, context.Canceled)
	if errors.Is(err, keys.ErrKMSUnavailable) {
		t.Errorf("a caller who went away says nothing about vault: %v", err)
	}

	k.timeout = 100 * time.Millisecond
	seen = p.Count("/decrypt/")
	wantError(t, sing(t, k, keys.DEKKey, it), keys.ErrKMSUnavailable)
	if n := p.Count("/decrypt/") - seen; n != 1 {
		t.Errorf("%d tries, each as long as a timeout", n)
	}
	for range 19 {
		wantError(t, sing(t, k, keys.DEKKey, it), keys.ErrKMSUnavailable)
	}
	// After five timeouts the breaker lets one look per rest, the shortest being 187 ms.
	if n := p.Count("/decrypt/") - seen; n < breakAfter || n >= 20 {
		t.Errorf("%d requests for 20 calls", n)
	}
	k.timeout = 20 * time.Second
	p.Set(transittest.Fault{})
	wantBack(t, k, it)
}

// TestDeadlinesOfCallers: where each try may go on for longer than its callers wait, their deadlines open the breaker,
// but only those that left Vault as long as the default timeout of a try would.
func TestDeadlinesOfCallers(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	for _, tt := range []struct {
		name  string
		takes time.Duration // from the request's coming to the deadline
		opens bool
	}{{"long", defaultTimeout + perItem, true}, {"short", 50 * time.Millisecond, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := new(hurried)
			p := transittest.NewProxy(t, s.URL)
			c := withToken(p.URL, s.Root, s.inst)
			began := time.Now()
			c.Now = func() time.Time { return began.Add(time.Duration(clock.ahead.Load())) } // however slow the machine is
			k := open(t, c)
			it := wrapSome(t, k, keys.DEKKey, 1)[0]
			p.Set(transittest.Fault{Delay: halfMinute, Match: func(*http.Request) bool {
				clock.forward(tt.takes)
				return true
			}})
			deks := keys.NewDEKs(k, s.inst, keys.DEKOptions{Timeout: 100 * time.Millisecond})
			defer deks.Close()
			call := func() error { return deks.Unwrap(t.Context(), []keys.DEKRef{{Wrapped: it.Wrapped}})[0].Err }
			if tt.opens {
				eventually(t, "the breaker to open", func() bool {
					err := call()
					wantError(t, err, keys.ErrKMSUnavailable)
					return strings.Contains(err.Error(), "has been away since") && strings.Contains(err.Error(), noAnswer)
				})
				return
			}
			for range 4 * breakAfter {
				wantError(t, call(), keys.ErrKMSUnavailable, context.DeadlineExceeded)
			}
		})
	}
}

func TestJudgeEndedCallers(t *testing.T) {
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		ample bool
		want  outcome
	}{
		{"short deadline", late, false, undecided},
		{"long deadline", late, true, away},
		{"left soon", gone, false, undecided},
		{"left after long", gone, true, undecided},
	} {
		if got := judge(tt.ctx, nil, tt.ctx.Err(), tt.ample); got.vault != tt.want || got.final {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if one, many := (request{}).ample(), (request{items: 10_000}).ample(); one != 3*time.Second || many != 8*time.Second {
		t.Errorf("%v, %v", one, many)
	}
}

// TestTriedAgain injects one fault, or a few, before an answer.
func TestTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, withToken(p.URL, s.Root, s.inst))
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	status := func(code int, header ...string) transittest.Fault {
		f := transittest.Fault{Status: code, Header: http.Header{}}
		if len(header) > 0 {
			f.Header.Set("Retry-After", header[0])
		}
		return f
	}
	for _, tt := range []struct {
		name  string
		fault transittest.Fault
		times int32
		tries int
		want  error
	}{
		{"502", status(502), 1, 2, nil},
		{"503", status(503), 2, 3, nil},
		{"503 too often", status(503), 3, 3, keys.ErrKMSUnavailable},
		{"429", status(429), 1, 2, nil},
		{"429, soon", status(429, "1"), 1, 2, nil},
		{"429, nonsense", status(429, "soon"), 1, 2, nil},
		{"429, in a minute", status(429, "60"), 1, 1, keys.ErrKMSUnavailable},
		{"412", status(412), 1, 2, nil},
		{"472", status(472), 1, 2, nil},
		{"473", status(473), 1, 2, nil},
		{"500", status(500), 1, 1, keys.ErrKMSUnavailable},
		{"405", status(405), 1, 1, keys.ErrKMSUnavailable},
		{"connection closed", transittest.Fault{Refuse: true}, 2, 3, nil},
		{"answer lost", transittest.Fault{Drop: true}, 2, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, sing(t, k, keys.DEKKey, it)) // resets the breaker
			var left atomic.Int32
			left.Store(tt.times)
			tt.fault.Match = func(*http.Request) bool { return left.Add(-1) >= 0 }
			p.Set(tt.fault)
			before := p.Count("/decrypt/")
			if err := sing(t, k, keys.DEKKey, it); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if n := p.Count("/decrypt/") - before; n != tt.tries {
				t.Errorf("%d tries, want %d", n, tt.tries)
			}
			p.Set(transittest.Fault{})
			if tt.want != nil {
				must(t, sing(t, k, keys.DEKKey, it))
			}
		})
	}
}

// TestCancelledBetweenTries: who goes away while the driver waits hears of that, not of Vault.
func TestCancelledBetweenTries(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	p := transittest.NewProxy(t, s.URL)
	k := open(t, withToken(p.URL, s.Root, s.inst))
	p.Set(transittest.Fault{Status: 429, Header: http.Header{"Retry-After": {"2"}}})
	ctx, cancel := context.WithCancel(t.Context())
	k.jitter = func() float64 { cancel(); return 0 } // asked for the pause between two tries
	_, err := k.Versions(ctx, keys.DEKKey)
	wantError(t, err, context.Canceled)
	if n := p.Count("/keys/"); n != 1 || errors.Is(err, keys.ErrKMSUnavailable) {
		t.Errorf("%d tries, %v", n, err)
	}
}

// TestQuota uses a real quota. It throttles, it does not count as being away.
func TestQuota(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	log := new(journal)
	c := withToken(s.URL, s.Root, s.inst)
	c.Logger = log.logger()
	k := open(t, c)
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	s.Do(t, "POST", "/v1/sys/quotas/rate-limit/low", map[string]any{"rate": 1, "interval": "1h", "path": "transit/"})
	var refused error
	for range 4 {
		if err := sing(t, k, keys.DEKKey, it); err != nil {
			refused = err
		}
	}
	wantError(t, refused, keys.ErrKMSUnavailable)
	wantText(t, refused.Error(), "429", "quota")
	s.Do(t, "DELETE", "/v1/sys/quotas/rate-limit/low", nil)
	must(t, sing(t, k, keys.DEKKey, it))
	if strings.Contains(log.String(), "vault is away") {
		t.Error("throttled is not away")
	}
}

// TestStandbyRedirects sends the whole request again to the server that a redirect names.
func TestStandbyRedirects(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", s.URL+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = fmt.Fprint(w, strings.Repeat("x", 10_000))
	}))
	t.Cleanup(standby.Close)
	k := open(t, withToken(standby.URL, s.Root, s.inst))
	for _, key := range bothKeys {
		for _, it := range wrapSome(t, k, key, 3) {
			must(t, sing(t, k, key, it))
		}
	}
	must(t, k.Rotate(t.Context(), keys.DEKKey))
	v, err := k.Versions(t.Context(), keys.DEKKey)
	must(t, err)
	if v.Latest != 2 {
		t.Errorf("%+v after one rotation", v)
	}
}

// TestKeyGone deletes a key under a running service: nothing makes it again.
func TestKeyGone(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	k := open(t, s.appRole(t, s.URL, "r", nil))
	it := wrapSome(t, k, keys.DEKKey, 1)[0]
	at := "/v1/transit/keys/" + vaultKey(s.inst, keys.DEKKey)
	s.Do(t, "POST", at+"/config", map[string]any{"deletion_allowed": true})
	s.Do(t, "DELETE", at, nil)
	ctx := t.Context()
	in := []keys.WrapItem{{Context: it.Context, Plaintext: it.plain}}
	for what, call := range map[string]func() error{
		"unwrap":   func() error { return sing(t, k, keys.DEKKey, it) },
		"wrap":     func() error { _, err := k.Wrap(ctx, keys.DEKKey, 0, in); return err },
		"rewrap":   func() error { _, err := k.Rewrap(ctx, keys.DEKKey, []keys.UnwrapItem{it.UnwrapItem}); return err },
		"versions": func() error { _, err := k.Versions(ctx, keys.DEKKey); return err },
		"settings": func() error { _, err := k.CheckSettings(ctx); return err },
	} {
		err := call()
		if !errors.Is(err, keys.ErrNoKey) || errors.Is(err, keys.ErrKMSUnavailable) {
			t.Errorf("%s: %v, want ErrNoKey", what, err)
			continue
		}
		wantText(t, err.Error(), "bring back")
	}
	if status, _, err := s.Try("GET", at, s.Root, nil); err != nil || status != http.StatusNotFound {
		t.Errorf("the key is there again: status %d, %v", status, err)
	}
	wantError(t, k.Create(ctx, keys.DEKKey), keys.ErrSettings) // the service may not make it
}
