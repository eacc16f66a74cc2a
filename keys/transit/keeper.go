package transit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
)

const (
	// A refused token is replaced at most once in this time.
	unknownSpacing = time.Second     // when Vault does not know it: callers wait
	deniedSpacing  = 5 * time.Second // when it lacks a permission: callers do not wait

	longestRetry  = 10 * time.Second // between logins that fail while the old token still lives
	shortestRenew = 250 * time.Millisecond
	revokeTimeout = 2 * time.Second
)

// keeper holds the token that requests go with. It renews it when two thirds of its life are over, and gets another
// when renewing no longer lengthens it, so that no request meets an expired one. Who meets one all the same, because
// it was revoked, has it replaced: all at once by one login.
type keeper struct {
	source source
	ask    asker
	now    func() time.Time
	jitter func() float64
	log    *slog.Logger

	life  context.Context // ends with close
	end   context.CancelFunc
	tasks sync.WaitGroup
	wake  chan struct{} // a token was installed

	mu        sync.Mutex
	token     token
	attempted time.Time // end of the last fetch
	refused   bool      // it ended with ErrLogin: the source spaces what it presents itself
	running   *fetch
}

// reason is why a token is asked for.
type reason int

const (
	due     reason = iota // there is none, or it ends soon
	unknown               // Vault does not know it any more
	denied                // it lives and lacks a permission, which a fresh one may have
)

// fetch is one attempt to get a token, shared by all who want one.
type fetch struct {
	done chan struct{}
	err  error // set before done is closed
}

var errClosed = fmt.Errorf("%w: closed", keys.ErrKMSUnavailable)

func newKeeper(s source, ask asker, now func() time.Time, jitter func() float64, log *slog.Logger) *keeper {
	k := &keeper{source: s, ask: ask, now: now, jitter: jitter, log: log, wake: make(chan struct{}, 1)}
	k.life, k.end = context.WithCancel(context.Background())
	return k
}

// start gets the first token and keeps it from then on.
func (k *keeper) start(ctx context.Context) error {
	k.mu.Lock()
	f := k.begin(0, due)
	k.mu.Unlock()
	if err := k.wait(ctx, f); err != nil {
		return err
	}
	k.tasks.Go(k.run)
	return nil
}

// close ends renewing and revokes the token if a login made it.
func (k *keeper) close() {
	k.mu.Lock() // against a fetch that is about to begin
	k.end()
	k.mu.Unlock()
	k.tasks.Wait()
	k.mu.Lock()
	last := k.token
	k.token = token{generation: last.generation}
	k.mu.Unlock()
	if last.ours {
		k.revoke(last)
	}
}

func (k *keeper) revoke(last token) {
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
	defer cancel()
	if err := k.ask(ctx, last.text, http.MethodPut, "auth/token/revoke-self", nil, nil); err != nil {
		k.log.Info("the vault token was not revoked; it ends by itself", "left", last.ends.Sub(k.now()), "err", err)
	}
}

// current returns the token to send requests with.
func (k *keeper) current() (token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.life.Err() != nil {
		return token{}, errClosed
	}
	return k.token, nil
}

// replace gets another token in place of the refused one, unless somebody has done so already.
func (k *keeper) replace(ctx context.Context, generation uint64, why reason) error {
	k.mu.Lock()
	if k.token.generation != generation {
		k.mu.Unlock()
		return nil
	}
	f := k.running
	if f == nil {
		spacing := unknownSpacing
		if why == denied {
			spacing = deniedSpacing
		}
		wait := max(k.attempted.Add(spacing).Sub(k.now()), 0)
		if wait > 0 && why == denied {
			k.mu.Unlock()
			return errors.New("a fresh login has not helped")
		}
		if k.refused {
			wait = 0
		}
		f = k.begin(wait, why)
	}
	k.mu.Unlock()
	return k.wait(ctx, f)
}

func (k *keeper) wait(ctx context.Context, f *fetch) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ended(ctx)
	}
}

// begin starts to get a token after a pause. It has its own goroutine, so that a caller who goes away does not end it
// for others. The caller holds the lock.
func (k *keeper) begin(pause time.Duration, why reason) *fetch {
	f := &fetch{done: make(chan struct{})}
	if k.life.Err() != nil {
		f.err = errClosed
		close(f.done)
		return f
	}
	k.running = f
	k.tasks.Go(func() {
		got, err := k.get(pause)
		k.mu.Lock()
		old := k.token
		k.refused = errors.Is(err, ErrLogin)
		if err == nil && why != due && got.text.Equal(old.text) {
			err = fmt.Errorf("%w: there is no other token than the one that was refused", ErrLogin)
		}
		if err == nil {
			k.install(got)
		}
		k.attempted, k.running = k.now(), nil
		k.mu.Unlock()
		f.err = err
		close(f.done)
		if err == nil && why == denied && old.ours { // many logins must not fill Vault with tokens
			k.revoke(old)
		}
	})
	return f
}

// get fetches, up to three times while Vault is away.
func (k *keeper) get(pause time.Duration) (token, error) {
	for try := 1; ; try++ {
		if !sleep(k.life, pause) {
			return token{}, errClosed
		}
		got, err := k.source.fetch(k.life)
		if err == nil || errors.Is(err, ErrLogin) || try == maxTries {
			return got, err
		}
		pause = k.spread(firstPause << try)
	}
}

// install makes got the token of all requests from now on. The caller holds the lock.
func (k *keeper) install(got token) {
	old := k.token
	got.generation = old.generation
	if !got.text.Equal(old.text) {
		got.generation++
		k.log.Info("got a vault token", "lives", lifetime(got.ttl), "renewable", got.renewable)
	}
	got.full = got.ttl
	k.extend(&got)
	k.token = got
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func lifetime(ttl time.Duration) string {
	if ttl == 0 {
		return "forever"
	}
	return ttl.String()
}

// extend sets the times of a token whose ttl begins now.
func (k *keeper) extend(t *token) {
	if t.ttl == 0 {
		t.due, t.ends = time.Time{}, time.Time{}
		return
	}
	now := k.now()
	t.ends = now.Add(t.ttl)
	t.due = now.Add(max(t.ttl*2/3-time.Duration(k.jitter()*float64(t.ttl)/20), shortestRenew))
}

// run renews or replaces the token whenever it is due.
func (k *keeper) run() {
	failed := 0
	for {
		present, err := k.current()
		if err != nil {
			return
		}
		var fires <-chan time.Time // never, for a token without end
		if !present.due.IsZero() {
			fires = time.After(present.due.Sub(k.now()))
		}
		select {
		case <-k.wake:
			failed = 0
			continue
		case <-k.life.Done():
			return
		case <-fires:
		}
		if err := k.keep(present); err == nil {
			failed = 0
			continue
		} else if k.life.Err() == nil {
			k.mu.Lock()
			rest := k.spread(min(firstRest<<min(failed, 10), longestRetry))
			left := k.token.ends.Sub(k.now()).Round(time.Millisecond)
			k.token.due = k.now().Add(rest)
			k.mu.Unlock()
			failed++
			k.log.Warn("the vault token could not be renewed or replaced", "left", left, "again in", rest, "err", err)
		}
	}
}

// keep lengthens the token's life, or gets another one.
func (k *keeper) keep(present token) error {
	if present.renewable {
		ttl, err := k.renew(present)
		if err == nil && ttl >= present.full/2 { // less: it has reached its maximum
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.token.generation == present.generation {
				k.token.ttl, k.token.full = ttl, max(k.token.full, ttl)
				k.extend(&k.token)
			}
			return nil
		}
	}
	k.mu.Lock()
	f := k.running
	if f == nil {
		f = k.begin(0, due)
	}
	k.mu.Unlock()
	return k.wait(k.life, f)
}

func (k *keeper) renew(t token) (time.Duration, error) {
	var out struct {
		Auth struct {
			Seconds int64 `json:"lease_duration"`
		} `json:"auth"`
	}
	err := k.ask(k.life, t.text, http.MethodPut, "auth/token/renew-self", map[string]string{}, &out)
	return seconds(max(out.Auth.Seconds, 0)), err
}

// spread lengthens or shortens d by up to half, so that many processes do not log in at the same moment.
func (k *keeper) spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.5 + k.jitter()))
}
