package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cloakroom-io/cloakroom/client"
)

// How long a row may wait for its answer. A server that died while nothing was being written to it is not noticed by
// the connection alone: net/http waits for the body's next bytes before it tells, and those wait for answers.
const (
	askAfter    = 5 * time.Second
	giveUpAfter = time.Minute
)

// importWatch looks after an import whose answers stay away.
type importWatch struct {
	alive       func(context.Context) error // asks the server; only client.ErrUnreachable counts
	ask, giveUp time.Duration
	waiting     atomic.Pointer[time.Time] // since when the first row without an answer waits; nil = none does
	now         func() time.Time
}

func newImportWatch(alive func(context.Context) error, now func() time.Time) *importWatch {
	return &importWatch{alive: alive, ask: askAfter, giveUp: giveUpAfter, now: now}
}

// begins notes that a row waits, answered that it does no more.
func (w *importWatch) begins() {
	now := w.now()
	w.waiting.Store(&now)
}

func (w *importWatch) answered() { w.waiting.Store(nil) }

// run ends with an error when the server is gone or silent for too long, and without one at the end of the import.
func (w *importWatch) run(ctx context.Context, end <-chan struct{}) error {
	tick := time.NewTicker(w.ask)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-tick.C:
		}
		since := w.waiting.Load()
		if since == nil || w.now().Sub(*since) < w.ask {
			continue
		}
		if w.now().Sub(*since) >= w.giveUp {
			return fmt.Errorf("the server has not answered for %s", w.giveUp)
		}
		asking, cancel := context.WithTimeout(ctx, w.giveUp)
		err := w.alive(asking)
		cancel()
		if errors.Is(err, client.ErrUnreachable) && w.waiting.Load() == since {
			return err
		}
	}
}
