package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// maxPause bounds one wait, whatever the server asks for.
const maxPause = 10 * time.Second

// safeToRepeat: reading and PUT of the same bytes change nothing the second time; any other call needs the server's
// memory of an idempotency key.
func (r *request) safeToRepeat() bool { return r.repeatable || r.idempotencyKey != "" }

// pause is how long to wait before the next attempt: what the server asked for, doubled each time, with up to half on
// top by chance, so that clients that failed together do not come back together.
func (c *Client) pause(attempt int, after time.Duration) time.Duration {
	d := min(min(after, maxPause)<<min(attempt, 10), maxPause) // 10 s << 10 is far from overflow
	return min(d+time.Duration(c.jitter()*float64(d)/2), maxPause)
}

// sleep waits, and fails at once when ctx would end before.
func sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return context.DeadlineExceeded
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// retryAfter reads the header in its form of seconds (RFC 9110, section 10.2.3), the only one the server writes.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}
