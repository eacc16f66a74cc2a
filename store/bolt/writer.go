package bolt

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

// A group ends at either bound. They keep the wait of its first caller and the memory of its overlay small.
const (
	maxGroup = 256      // callbacks
	maxBytes = 16 << 20 // keys and values copied; one callback may exceed it
)

// Update implements store.Store. An error of fn reaches the caller when the changes of others that fn has seen are
// durable; if they cannot be, the caller gets that error instead.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return notBegun(err)
	}
	r := newRequest(ctx)
	if err := s.queue.push(r); err != nil {
		return err
	}
	var o *overlay
	select {
	case o = <-r.turn:
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return notBegun(ctx.Err())
		}
		select {
		case o = <-r.turn:
		case err := <-r.done:
			return err
		}
	}
	err := s.run(o, fn)
	if err != nil && !r.after {
		return err
	}
	if failure := <-r.done; failure != nil {
		return failure
	}
	return err
}

// run calls fn and gives the overlay back to the writer, however fn ends.
func (s *Store) run(o *overlay, fn func(store.Tx) error) (err error) {
	w := &writeTx{s: s, o: o}
	keep := false
	defer func() {
		w.o = nil
		s.ran <- keep
	}()
	err = fn(w)
	keep = err == nil
	return err
}

// Ready returns nil when the last commit succeeded. After one that failed it commits a change of no consequence, and
// returns why that failed.
func (s *Store) Ready() error {
	if err := s.queue.refusal(); err != nil {
		return err
	}
	if s.unready.Load() == nil {
		return nil
	}
	r := newRequest(context.Background())
	r.probe = true
	if err := s.queue.push(r); err != nil {
		return err
	}
	return <-r.done
}

// write is the writer goroutine.
func (s *Store) write() {
	defer close(s.stopped)
	g := &group{s: s, o: newOverlay(store.Keyspaces())}
	for {
		g.waiting = s.queue.take(g.waiting)
		if err := s.queue.refusal(); err != nil {
			// Nothing is pushed after a refusal, so this take is the last.
			for _, r := range s.queue.take(g.waiting) {
				if r.taken.CompareAndSwap(false, true) {
					r.done <- err
				}
			}
			return
		}
		if len(g.waiting) == 0 {
			<-s.queue.wake
			continue
		}
		g.run()
	}
}

// group is the updates of one bbolt transaction.
type group struct {
	s       *Store
	o       *overlay
	waiting []*request // taken from the queue, for this group or the next
	members []*request
	probe   bool
}

// run does one group and answers its members.
func (g *group) run() {
	tx, err := g.s.begin()
	if err != nil {
		g.members = append(g.members, g.waiting...)
		g.waiting = g.waiting[:0]
		for _, r := range g.members {
			r.taken.Store(true)
		}
	} else {
		g.o.tx = tx
		g.gather()
		err = g.s.commitGroup(tx, g.o, g.probe)
		g.o.reset()
	}
	for _, r := range g.members {
		r.done <- err
	}
	clear(g.members)
	g.members, g.probe = g.members[:0], false
	if !g.s.broken {
		g.s.trim()
	}
}

// gather gives their turn to those who wait, until nobody does or the group is full.
func (g *group) gather() {
	next := 0
	for len(g.members) < maxGroup && g.o.arena.used < maxBytes {
		if next == len(g.waiting) {
			// Those whose last group was just answered are about to queue again: let them, or they would wait for
			// a commit that could have been theirs.
			runtime.Gosched()
			g.waiting, next = g.s.queue.take(g.waiting[:0]), 0
			if len(g.waiting) == 0 {
				break
			}
		}
		r := g.waiting[next]
		next++
		if !r.taken.CompareAndSwap(false, true) {
			continue
		}
		if err := r.ctx.Err(); err != nil {
			r.done <- notBegun(err)
			continue
		}
		g.members = append(g.members, r)
		if r.probe {
			g.probe = true
			continue
		}
		r.after = !g.o.empty()
		r.turn <- g.o
		if <-g.s.ran {
			g.o.settle()
		} else {
			g.o.revert()
		}
	}
	n := copy(g.waiting, g.waiting[next:])
	clear(g.waiting[n:])
	g.waiting = g.waiting[:n]
}

func (s *Store) begin() (*bbolt.Tx, error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, s.unavailable(err)
	}
	return tx, nil
}

// commitGroup writes the overlay and commits. It fails with ErrUnavailable when nothing was changed, else with
// ErrUnknown.
func (s *Store) commitGroup(tx *bbolt.Tx, o *overlay, probe bool) (err error) {
	if o.empty() && !probe {
		return tx.Rollback()
	}
	defer func() {
		// bbolt panics when it finds its pages inconsistent, and keeps its locks.
		if p := recover(); p != nil {
			s.broken = true
			err = s.fail(fmt.Errorf("panic in bbolt: %v", p))
		}
	}()
	id := uint64(tx.ID())
	if err := o.apply(func() { s.touched(tx, 0) }); err != nil {
		_ = tx.Rollback()
		return s.unavailable(err)
	}
	if probe {
		b := o.bucket(0)
		if err := b.SetSequence(b.Sequence() + 1); err != nil {
			_ = tx.Rollback()
			return s.unavailable(err)
		}
	}
	if err := s.commit(tx); err != nil {
		// bbolt does not tell how far it came, the file does.
		m, readErr := newestMeta(s.file, s.page)
		if readErr != nil || m.txid >= id {
			return s.fail(errors.Join(err, readErr))
		}
		return s.unavailable(err)
	}
	s.unready.Store(nil)
	return nil
}

// unavailable notes a failure that changed nothing.
func (s *Store) unavailable(cause error) error {
	err := fmt.Errorf("%w: %w", store.ErrUnavailable, cause)
	s.unready.Store(&err)
	// A failed attempt to map the grown file leaves bbolt without a mapping: only a new Open helps.
	if tx, beginErr := s.db.Begin(false); beginErr != nil {
		_ = s.fail(beginErr)
	} else {
		_ = tx.Rollback()
	}
	return err
}

// fail ends the store for good.
func (s *Store) fail(cause error) error {
	s.queue.refuse(store.ErrUnknown)
	select {
	case <-s.failed:
	default:
		close(s.failed)
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, cause)
}
