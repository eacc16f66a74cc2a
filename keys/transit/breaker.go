package transit

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
)

const (
	breakAfter  = 5 // failures in a row
	firstRest   = 250 * time.Millisecond
	longestRest = 2 * time.Second // so that service is back within seconds after Vault is
)

// breaker keeps callers from waiting for a Vault that is away. After some failures in a row it is open: calls fail at
// once, and after a rest one is let through to look. An answer, whatever it says, closes it.
type breaker struct {
	now    func() time.Time
	jitter func() float64
	log    *slog.Logger

	mu       sync.Mutex
	failures int // in a row, while closed
	open     bool
	since    time.Time // when it opened
	reason   string    // the last failure
	rest     time.Duration
	next     time.Time // when one may look
	looking  bool      // one does
}

// outcome is what a try says about Vault.
type outcome int

const (
	undecided outcome = iota // the caller went away, or Vault is there and busy
	answered
	away
)

// enter asks for leave to make a try. probe is for leave.
func (b *breaker) enter() (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return false, nil
	}
	if wait := b.next.Sub(b.now()); b.looking || wait > 0 {
		return false, fmt.Errorf("%w: vault has been away since %s: %s", keys.ErrKMSUnavailable,
			b.since.UTC().Format(time.RFC3339), b.reason)
	}
	b.looking = true
	return true, nil
}

// leave reports what became of a try. reason says why Vault counts as away.
func (b *breaker) leave(probe bool, o outcome, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.looking = false
	}
	switch {
	case o == answered:
		if b.open {
			b.log.Info("vault answers again", "away", b.now().Sub(b.since).Round(time.Millisecond))
		}
		b.open, b.failures = false, 0
	case o == undecided:
	case b.open:
		if probe { // tries that began before it opened say nothing new
			b.reason, b.rest = reason, min(2*b.rest, longestRest)
			b.schedule()
		}
	default:
		b.failures++
		if b.failures >= breakAfter {
			b.open, b.since, b.reason, b.rest = true, b.now(), reason, firstRest
			b.schedule()
			b.log.Warn("vault is away: calls fail at once until it answers", "reason", reason)
		}
	}
}

// schedule spreads the looks of several processes by half a rest.
func (b *breaker) schedule() {
	b.next = b.now().Add(time.Duration(float64(b.rest) * (0.75 + b.jitter()/2)))
}
