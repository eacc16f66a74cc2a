package appendfile

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// ErrClosed: the Group was closed.
var ErrClosed = errors.New("closed")

// Group hands requests of many goroutines to one, all that wait at once.
type Group[T any] struct {
	commit func([]T)

	mu      sync.Mutex
	arrival sync.Cond
	waiting []T
	answers []chan struct{}
	closed  bool
	ended   chan struct{}
}

// NewGroup starts the goroutine that calls commit with the requests in the order of their arrival. commit notes
// each outcome in the request itself and must not keep the slice.
func NewGroup[T any](commit func([]T)) *Group[T] {
	g := &Group[T]{commit: commit, ended: make(chan struct{})}
	g.arrival.L = &g.mu
	go g.run()
	return g
}

// Do returns nil once commit has dealt with the request. A ctx that has ended keeps it from being queued; one that
// ends later changes nothing, because the outcome has to be known.
func (g *Group[T]) Do(ctx context.Context, request T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	answer := make(chan struct{})
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	g.waiting = append(g.waiting, request)
	g.answers = append(g.answers, answer)
	g.mu.Unlock()
	g.arrival.Signal()
	<-answer
	return nil
}

func (g *Group[T]) run() {
	defer close(g.ended)
	var requests []T
	var answers []chan struct{}
	for {
		// Callers that were just answered are about to come back; letting them run first makes fuller groups.
		runtime.Gosched()
		g.mu.Lock()
		for len(g.waiting) == 0 && !g.closed {
			g.arrival.Wait()
		}
		requests, g.waiting = g.waiting, requests[:0]
		answers, g.answers = g.answers, answers[:0]
		closed := g.closed
		g.mu.Unlock()
		if len(requests) > 0 {
			g.commit(requests)
		}
		for i, answer := range answers {
			close(answer)
			answers[i] = nil
		}
		clear(requests)
		if closed { // nothing can have come since
			return
		}
	}
}

// Close refuses new requests and returns when those that wait have been answered.
func (g *Group[T]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.arrival.Signal()
	<-g.ended
}
