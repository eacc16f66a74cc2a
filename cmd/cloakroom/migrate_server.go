package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

const (
	// answerWithin bounds one call to the server.
	answerWithin = 30 * time.Second
	// holdAtMost bounds all calls that are made while rows are locked, together: the application waits for these rows.
	holdAtMost = 30 * time.Second
	// waitAtMost is how long a server that does not answer is waited for, without a lock.
	waitAtMost   = time.Minute
	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
	// openBytes bounds the values of one detokenize call, in bytes: its answer is read whole.
	openBytes = 8 << 20
)

// tableServer is what migrate-table and restore-table need of the Cloakroom server.
type tableServer struct {
	// put stores rows and returns what became of each, in their order.
	put func(ctx context.Context, rows []wire.ImportRow) ([]wire.ImportResult, error)
	// open returns the values behind tokens, up to client.MaxItems, in their order.
	open func(ctx context.Context, tokens []wire.Plain) ([]wire.Revealed, error)
	// inspect tells the state of tokens, up to client.MaxItems, in their order.
	inspect func(ctx context.Context, tokens []wire.Plain) ([]wire.TokenState, error)
	// tokens returns a subject's tokens by field, none where the subject is not there.
	tokens func(ctx context.Context, subject string) (map[string]wire.Plain, error)
	alive  func(ctx context.Context) error

	say    func(string) // tells that something is waited for
	sleep  func(ctx context.Context, d time.Duration) error
	atMost time.Duration
	hold   time.Duration // what is done while rows are locked is given up after so long
}

// tableServer joins the client with the purpose that values are read for. Its calls are not repeated one by one, as
// rows are locked meanwhile: the whole batch is, and the locks are let go in between. What other sources stored is
// left alone, unless overwrite.
func (p *program) tableServer(cl *client.Client, purpose, reason string, overwrite bool) *tableServer {
	s := &tableServer{sleep: pauseFor, atMost: waitAtMost, hold: holdAtMost}
	var options []client.Option
	if !overwrite {
		options = append(options, client.SameSource())
	}
	s.put = func(ctx context.Context, rows []wire.ImportRow) ([]wire.ImportResult, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errSlow)
		defer cancel()
		out := make([]wire.ImportResult, 0, len(rows))
		next := 0
		end, err := cl.Import(ctx, func() (wire.ImportRow, error) {
			if next == len(rows) {
				return wire.ImportRow{}, io.EOF
			}
			next++
			return rows[next-1], nil
		}, func(r wire.ImportResult) error {
			out = append(out, r)
			return nil
		}, options...)
		if err == nil && end.Error != nil {
			err = itemError{*end.Error}
		}
		return out, slow(ctx, err)
	}
	s.open = func(ctx context.Context, tokens []wire.Plain) ([]wire.Revealed, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errSlow)
		defer cancel()
		out, err := cl.Detokenize(ctx, wire.Detokenize{Purpose: purpose, Reason: reason, View: "full", Tokens: tokens})
		return out, slow(ctx, err)
	}
	s.inspect = func(ctx context.Context, tokens []wire.Plain) ([]wire.TokenState, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errSlow)
		defer cancel()
		out, err := cl.Inspect(ctx, tokens)
		return out, slow(ctx, err)
	}
	s.tokens = func(ctx context.Context, subject string) (map[string]wire.Plain, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errSlow)
		defer cancel()
		got, err := cl.GetSubject(ctx, subject, client.Read{Purpose: purpose, View: "masked"})
		if errors.Is(err, client.Code(wire.SubjectNotFound)) || errors.Is(err, client.Code(wire.SubjectErased)) {
			return nil, nil
		}
		out := map[string]wire.Plain{}
		for name, f := range got.Fields {
			out[name] = f.Token
		}
		return out, slow(ctx, err)
	}
	s.alive = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		return cl.Health(ctx)
	}
	s.say = func(text string) { _, _ = fmt.Fprintln(p.err, text) }
	return s
}

// errSlow: there is a connection and no answer, or the answers to one batch take too long together.
var errSlow = errors.New("the Cloakroom server did not do its part of a batch within " + holdAtMost.String() + "; a smaller --batch asks less of it")

// slow tells an answer that took too long from an interruption.
func slow(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return err
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// passing reports whether it is worth to wait and try the same again.
func passing(err error) bool {
	var reply *client.Error
	switch {
	case errors.Is(err, client.ErrUnreachable), errors.Is(err, client.ErrCut), errors.Is(err, errSlow), errors.Is(err, errKeyAway):
		return true
	case errors.As(err, &reply):
		return reply.Problem.Status == http.StatusServiceUnavailable || slices.Contains(passingCodes(), reply.Problem.Code)
	}
	return false
}

// passingCodes are those that stand for themselves where an import ends under way: there is no status any more.
func passingCodes() []wire.Code {
	return []wire.Code{wire.KeyServiceUnavailable, wire.AuditUnavailable, wire.StoreUnavailable, wire.ServerStopping, wire.RateLimited}
}

// errKeyAway: a person's key was not opened, which may be so for a moment.
var errKeyAway = errors.New("the key service did not open somebody's key")

// patiently does something again and again while the server is away, up to a limit. Nothing is locked while it waits.
func (s *tableServer) patiently(ctx context.Context, do func(context.Context) error) error {
	pause := firstPause
	var waited time.Duration
	said := false
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !passing(err) {
			return err
		}
		// A server that hangs has held the locks for as long as it may: that counts as waiting.
		if errors.Is(err, errSlow) {
			waited += s.hold
		}
		if !said {
			said = true
			s.say("The Cloakroom server is not there, or not ready (" + rootCause(err) + "). Trying again for " + s.atMost.String() + "; no row is locked meanwhile.")
		}
		for {
			if waited >= s.atMost {
				return fmt.Errorf("gave up after %s: %w", s.atMost, err)
			}
			if err := s.sleep(ctx, pause); err != nil {
				return err
			}
			waited += pause
			pause = min(2*pause, longestPause)
			// A batch is begun only when somebody is there: each try locks its rows.
			if s.alive(ctx) == nil {
				break
			}
		}
	}
}

// locked makes work on locked rows end in time, whatever the server does.
func (s *tableServer) locked(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.hold, errSlow)
	defer cancel()
	return slow(ctx, work(ctx))
}

// putRows stores rows, and holds the server to its promises: a result for each row, in order, for the same subject, with
// a token for each value.
func (s *tableServer) putRows(ctx context.Context, rows []wire.ImportRow) ([]wire.ImportResult, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	out, err := s.put(ctx, rows)
	if err != nil {
		return nil, err
	}
	if len(out) != len(rows) {
		return nil, errUnanswered
	}
	for i, r := range out {
		if r.Error != nil {
			if r.Error.Code == wire.UnknownField {
				return nil, fmt.Errorf("the policy has no field %s; set --map right, or add the field", printable(r.Error.Field))
			}
			continue
		}
		if r.Subject != rows[i].Subject {
			return nil, errors.New("the server answered for another subject than it was asked")
		}
		for field := range rows[i].Fields {
			if r.Tokens[field] == "" {
				return nil, errors.New("the server gave no token for field " + printable(field))
			}
		}
	}
	return out, nil
}

// inspectAll tells the states of any number of tokens: "active", why one is dead, or the code of its error.
func (s *tableServer) inspectAll(ctx context.Context, tokens []wire.Plain) ([]string, error) {
	var out []string
	for part := range slices.Chunk(tokens, client.MaxItems) {
		states, err := s.inspect(ctx, part)
		if err != nil {
			return nil, err
		}
		if len(states) != len(part) {
			return nil, errors.New("the server answered another number of items than it was asked")
		}
		for i, state := range states {
			switch {
			case state.Token != part[i]:
				return nil, errors.New("the server answered for another token than it was asked")
			case state.Error != nil:
				out = append(out, string(state.Error.Code))
			default:
				out = append(out, state.State)
			}
		}
	}
	return out, nil
}

// opened is a token's value, or why there is none.
type opened struct {
	value wire.Plain
	fault *wire.ItemError
}

// openAll opens any number of tokens, each for itself: one that does not open has a fault. sizes are the bytes that their
// values are expected to have, nil where that is not known. A value that is not shown in full counts as none.
func (s *tableServer) openAll(ctx context.Context, tokens []wire.Plain, sizes []int) ([]opened, error) {
	out := make([]opened, 0, len(tokens))
	for len(tokens) > 0 {
		n := min(len(tokens), client.MaxItems)
		if sizes != nil {
			n = fits(sizes[:n])
			sizes = sizes[n:]
		}
		part, err := s.open(ctx, tokens[:n])
		if err != nil {
			return nil, err
		}
		if len(part) != n {
			return nil, errors.New("the server answered another number of items than it was asked")
		}
		for i, r := range part {
			if r.Token != tokens[i] {
				return nil, errors.New("the server answered for another token than it was asked")
			}
			o := opened{fault: r.Error}
			switch {
			case r.Error != nil:
			case r.Value == nil || r.View != "full":
				o.fault = &wire.ItemError{Code: wire.Forbidden, Field: r.Field, Detail: "the policy does not show the value in full for this purpose"}
			default:
				o.value = *r.Value
			}
			out = append(out, o)
		}
		tokens = tokens[n:]
	}
	return out, nil
}

// fits returns how many of the values go into one call, at least one.
func fits(sizes []int) int {
	sum := 0
	for i, n := range sizes {
		if sum += n; sum > openBytes && i > 0 {
			return i
		}
	}
	return len(sizes)
}
