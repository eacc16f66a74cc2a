package transit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
)

const (
	maxTries   = 3
	firstPause = 50 * time.Millisecond // before the second try; twice that before the third
	maxPause   = 2 * time.Second       // a longer Retry-After is left to the caller
)

const noAnswer = "no answer in time"

// errDenied: the token lives, or is fresh, and Vault still answers 403.
var errDenied = errors.New("vault denies it")

// call sends r until Vault answers 2xx, 400, 404 or another status that says something about r itself. What may pass
// is tried again, unless r must be sent once. A refused token is replaced: once when it lacks a permission, a few times
// when Vault does not know it, since a fresh one may be revoked too.
//
// Errors: keys.ErrKMSUnavailable, with errDenied where Vault answers 403; the error of ctx when that has ended; what
// r.denied says.
func (t *Transit) call(ctx context.Context, r request) (*answer, error) {
	healed := 0
	var last error
	for try := 1; ; try++ {
		if try == 1 && ctx.Err() != nil {
			return nil, unsent(ended(ctx))
		}
		token, err := t.keeper.current()
		if err != nil {
			return nil, unsent(err)
		}
		probe, err := t.breaker.enter()
		if err != nil {
			return nil, cmp.Or(last, unsent(err))
		}
		began := t.now()
		a, err := t.send(ctx, token.text, r)
		v := judge(ctx, a, err, t.now().Sub(began) >= r.ample())
		t.breaker.leave(probe, v.vault, v.reason)
		if v.final {
			return a, nil
		}
		forbidden, why := a != nil && a.status == http.StatusForbidden, denied
		if forbidden && a.invalidToken() {
			why = unknown
		}
		a.release()
		if ctx.Err() != nil {
			return nil, ended(ctx)
		}
		last = fmt.Errorf("%w: %s %s: %s", keys.ErrKMSUnavailable, r.method, r.path, v.reason)
		if notSent(err) {
			last = unsent(last)
		}
		switch {
		case forbidden:
			if err := t.heal(ctx, r, token, why, healed, v.reason); err != nil {
				return nil, err
			}
			healed++
		case !v.again || r.once || try >= maxTries:
			return nil, last
		case !t.pause(ctx, try, v.retryAfter):
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, ended(ctx)
			}
			return nil, last
		}
	}
}

// heal makes a second try after a 403 worth while, or says why there is none.
func (t *Transit) heal(ctx context.Context, r request, refused token, why reason, healed int, text string) error {
	if r.denied != nil && why == denied {
		if err := r.denied(ctx, refused.text); err != nil {
			return err
		}
	}
	forbidden := fmt.Errorf("%w: %w: %s %s: %s", keys.ErrKMSUnavailable, errDenied, r.method, r.path, text)
	if r.once {
		return forbidden
	}
	switch {
	case healed > 0 && why == denied:
		t.log.Warn("vault denies a request with a fresh token too: its policy lacks this path", "method", r.method, "path", r.path)
		return forbidden
	case healed == maxTries:
		t.log.Warn("vault does not know the tokens that it gives", "method", r.method, "path", r.path)
		return forbidden
	}
	err := t.keeper.replace(ctx, refused.generation, why)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ended(ctx)
	default:
		return fmt.Errorf("%w; %w", forbidden, err)
	}
}

// verdict is what a try means.
type verdict struct {
	final      bool // an answer for the caller
	again      bool // a second try may help
	vault      outcome
	reason     string
	retryAfter time.Duration
}

// ample is how long a caller must have let a try go on so that the end of its own deadline counts against Vault. Where the
// timeout of a try is set above the deadlines of all callers, nothing else would ever open the breaker.
func (r request) ample() time.Duration { return defaultTimeout + time.Duration(r.items)*perItem }

// judge says what a try means; ample: that it went on for long.
func judge(ctx context.Context, a *answer, err error, ample bool) verdict {
	if err != nil {
		var certificate *tls.CertificateVerificationError
		var timeout net.Error
		switch {
		case ample && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return verdict{vault: away, reason: noAnswer}
		case ctx.Err() != nil:
			return verdict{vault: undecided}
		case errors.As(err, &timeout) && timeout.Timeout(): // a second try would make the caller wait as long again
			return verdict{vault: away, reason: noAnswer}
		default:
			return verdict{vault: away, again: !errors.As(err, &certificate), reason: cause(err)}
		}
	}
	reason := fmt.Sprintf("status %d", a.status)
	if a.text != "" {
		reason += ": " + a.text
	}
	v := verdict{vault: answered, reason: reason, retryAfter: a.retryAfter}
	switch a.status {
	case http.StatusForbidden:
	case http.StatusTooManyRequests:
		v.vault, v.again = undecided, true
	case http.StatusPreconditionFailed, 472, 473, // a standby that is behind, or serves no requests
		http.StatusBadGateway, http.StatusServiceUnavailable:
		v.vault, v.again = away, true
	case http.StatusInternalServerError:
		v.final = bytes.Contains(a.body.b, []byte(`"batch_results"`)) // each item failed inside Vault
		if !v.final {
			v.vault = away
		}
	default:
		v.final = a.status < 500
		if !v.final {
			v.vault = away
		}
	}
	return v
}

// pause waits before the next try and reports whether it makes sense: not when ctx would end meanwhile.
func (t *Transit) pause(ctx context.Context, try int, retryAfter time.Duration) bool {
	wait := time.Duration(float64(firstPause<<(try-1)) * (0.5 + t.jitter()))
	wait = max(wait, retryAfter)
	if deadline, ok := ctx.Deadline(); wait > maxPause || (ok && time.Until(deadline) <= wait) {
		return false
	}
	return sleep(ctx, wait)
}

// sleep reports whether all of d went by before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended is the error of a call whose ctx has ended. A deadline says as much about Vault as about the caller.
func ended(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", keys.ErrKMSUnavailable, err)
	}
	return fmt.Errorf("vault transit: %w", ctx.Err())
}

// errNotSent: no connection was made, so that Vault can't have done anything.
var errNotSent = errors.New("not sent")

func unsent(err error) error { return fmt.Errorf("%w (%w)", err, errNotSent) }

// notSent reports whether a try failed before anything went out.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// refused makes an error of an answer with which the caller can do nothing.
func refused(r request, a *answer) error {
	text := a.text
	if text == "" {
		text = "no reason given"
	}
	return fmt.Errorf("%w: %s %s: status %d: %s", keys.ErrKMSUnavailable, r.method, r.path, a.status, text)
}
