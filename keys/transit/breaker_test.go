package transit

import (
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
)

// clockwork is a breaker with a clock of its own.
type clockwork struct {
	*breaker
	at time.Time
}

func newClockwork() *clockwork {
	c := &clockwork{at: time.Unix(1_700_000_000, 0)}
	c.breaker = &breaker{now: func() time.Time { return c.at }, jitter: func() float64 { return 0.5 }, log: quiet()}
	return c
}

// try makes one try and reports whether it was let through.
func (c *clockwork) try(o outcome) bool {
	probe, err := c.enter()
	if err != nil {
		return false
	}
	c.leave(probe, o, "test")
	return true
}

func TestBreaker(t *testing.T) {
	c := newClockwork()
	pass := func(want bool, o outcome) {
		t.Helper()
		if got := c.try(o); got != want {
			t.Fatalf("let through: %t", got)
		}
	}
	for range 3 { // an answer in between starts the count anew
		for range breakAfter - 1 {
			pass(true, away)
		}
		pass(true, undecided)
		pass(true, answered)
	}
	for range breakAfter {
		pass(true, away)
	}
	pass(false, answered)
	for _, rest := range []time.Duration{firstRest, 2 * firstRest, 4 * firstRest, longestRest, longestRest, longestRest} {
		c.at = c.at.Add(rest - 1)
		pass(false, answered)
		c.at = c.at.Add(1)
		probe, err := c.enter()
		if err != nil || !probe {
			t.Fatalf("after %v: %t, %v", rest, probe, err)
		}
		pass(false, answered) // one looks at a time
		c.leave(probe, away, "test")
		pass(false, answered)
	}
	c.at = c.at.Add(longestRest)
	pass(true, undecided) // one who went away leaves the look to the next
	probe, err := c.enter()
	must(t, err)
	c.leave(false, away, "late") // began before it opened
	_, err = c.enter()
	wantError(t, err, keys.ErrKMSUnavailable)
	wantText(t, err.Error(), "2023-11-14T22:13:20Z", "test")
	c.leave(probe, answered, "")
	for range breakAfter - 1 {
		pass(true, away)
	}
	pass(true, answered)
}

// TestBreakerLetsOneLook of many who come at the same moment.
func TestBreakerLetsOneLook(t *testing.T) {
	c := newClockwork()
	for range breakAfter {
		c.try(away)
	}
	c.at = c.at.Add(time.Hour)
	var mu sync.Mutex
	let := 0
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := c.enter(); err == nil {
				mu.Lock()
				let++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if let != 1 {
		t.Errorf("%d look", let)
	}
}
