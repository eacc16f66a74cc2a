package transit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// counted is a source that gives a new token each time, and fails while told to.
type counted struct {
	n    atomic.Int64
	fail atomic.Pointer[error]
}

func (c *counted) fetch(context.Context) (token, error) {
	n := c.n.Add(1)
	if err := c.fail.Load(); err != nil {
		return token{}, *err
	}
	return token{text: secret.NewText(fmt.Sprintf("token-%d", n)), ttl: time.Hour, renewable: true}, nil
}

// TestKeeperRenewsOrReplaces: a renewal that gives less than half of the token's full life is its end coming near.
func TestKeeperRenewsOrReplaces(t *testing.T) {
	for _, tt := range []struct {
		name    string
		granted time.Duration
		err     error
		fetched int64 // beside the first
	}{
		{"full", time.Hour, nil, 0},
		{"half", time.Hour / 2, nil, 0},
		{"less than half", time.Hour/2 - time.Second, nil, 1},
		{"nothing", 0, nil, 1},
		{"refused", 0, ErrLogin, 1},
		{"away", 0, keys.ErrKMSUnavailable, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := new(counted)
			ask := func(_ context.Context, _ secret.Text, _, path string, _, out any) error {
				if tt.err != nil || !strings.HasSuffix(path, "renew-self") {
					return tt.err
				}
				return json.Unmarshal(fmt.Appendf(nil, `{"auth":{"lease_duration":%d}}`, tt.granted/time.Second), out)
			}
			k := newKeeper(c, ask, time.Now, func() float64 { return 0.5 }, quiet())
			defer k.close()
			must(t, k.start(t.Context()))
			first, err := k.current()
			must(t, err, k.keep(first))
			if n := c.n.Load() - 1; n != tt.fetched {
				t.Errorf("%d logins", n)
			}
			now, err := k.current()
			must(t, err)
			if replaced := now.generation > first.generation; replaced != (tt.fetched > 0) {
				t.Errorf("generation %d after %d", now.generation, first.generation)
			}
			if left := time.Until(now.ends); tt.fetched == 0 && (left > tt.granted || left < tt.granted-time.Minute) {
				t.Errorf("%v left of %v", left, tt.granted)
			}
		})
	}
}

// TestKeeperTriesAgain only where that helps, and gives up when it is closed.
func TestKeeperTriesAgain(t *testing.T) {
	for _, tt := range []struct {
		err   error
		tries int64
	}{{ErrLogin, 1}, {keys.ErrKMSUnavailable, maxTries}} {
		c := new(counted)
		c.fail.Store(&tt.err)
		k := newKeeper(c, nil, time.Now, func() float64 { return 0 }, quiet())
		if err := k.start(t.Context()); !errors.Is(err, tt.err) || c.n.Load() != tt.tries {
			t.Errorf("%v after %d tries", err, c.n.Load())
		}
		k.close()
		wantError(t, k.start(t.Context()), errClosed)
		wantError(t, k.replace(t.Context(), 0, unknown), errClosed)
		if _, err := k.current(); !errors.Is(err, errClosed) {
			t.Errorf("%v", err)
		}
	}
}

func TestLogSaysHowLongATokenLives(t *testing.T) {
	for _, tt := range []struct {
		ttl  time.Duration
		says string
	}{{0, "lives=forever"}, {90 * time.Minute, "lives=1h30m0s"}} {
		log := new(journal)
		k := newKeeper(nil, nil, time.Now, func() float64 { return 0 }, log.logger())
		k.install(token{text: secret.NewText("t"), ttl: tt.ttl})
		k.close()
		wantText(t, log.String(), tt.says)
	}
}

// TestKeeperSpacesLogins: while Vault is away, one a second. A refusal is known at once, since its source holds back
// what was refused.
func TestKeeperSpacesLogins(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want time.Duration // of four calls in turn
	}{{"away", keys.ErrKMSUnavailable, 4 * unknownSpacing}, {"refused", ErrLogin, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := new(counted)
				k := newKeeper(c, nil, time.Now, func() float64 { return -0.5 }, quiet()) // no pause between tries
				defer k.close()
				must(t, k.start(t.Context()))
				c.fail.Store(&tt.err)
				time.Sleep(time.Minute)
				wantError(t, k.replace(t.Context(), 1, unknown), tt.err)
				began := time.Now()
				for range 4 {
					wantError(t, k.replace(t.Context(), 1, unknown), tt.err)
				}
				if took := time.Since(began); took != tt.want {
					t.Errorf("%v, want %v", took, tt.want)
				}
			})
		})
	}
}
