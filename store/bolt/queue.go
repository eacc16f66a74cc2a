package bolt

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cloakroom-io/cloakroom/store"
)

// request is one Update on its way through the writer.
type request struct {
	ctx   context.Context
	probe bool          // has no callback; its group commits even if it changes nothing
	taken atomic.Bool   // by the writer, or by the caller whose ctx ended: whoever is first
	turn  chan *overlay // the caller may run its callback
	done  chan error    // the outcome of the group, or why there was no turn
	after bool          // others had changed rows in the group before; set before turn
}

func newRequest(ctx context.Context) *request {
	return &request{ctx: ctx, turn: make(chan *overlay, 1), done: make(chan error, 1)}
}

// queue holds the requests that wait for the writer, oldest first.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	err     atomic.Pointer[error] // why no request is taken any more; changed under mu
	wake    chan struct{}         // one token: something changed
}

func (q *queue) push(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.refusal(); err != nil {
		return err
	}
	q.waiting = append(q.waiting, r)
	q.poke()
	return nil
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves all waiting requests to the end of dst.
func (q *queue) take(dst []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	dst = append(dst, q.waiting...)
	clear(q.waiting)
	q.waiting = q.waiting[:0]
	return dst
}

// refuse answers err to every push from now on. That the store was closed is the last word.
func (q *queue) refuse(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old := q.refusal(); old == nil || old != store.ErrClosed {
		q.err.Store(&err)
	}
	q.poke()
}

// refusal returns the error of refuse, or nil.
func (q *queue) refusal() error {
	if err := q.err.Load(); err != nil {
		return *err
	}
	return nil
}
