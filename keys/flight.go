package keys

import (
	"context"
	"fmt"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// flight is a data key that is being asked for, and all who wait for it. Its fields belong to DEKs.mu.
type flight struct {
	digest  dekDigest
	item    UnwrapItem
	waiting int
	taken   bool          // a batch has it
	forget  bool          // do not keep the key
	landed  chan struct{} // closed when key or err is set
	done    bool          // likewise
	key     [keySize]byte
	err     error
}

// board returns a flight for each of the missing refs, joining those under way; nil where cached, asked under the lock,
// now says that the key has come, or when d is closed.
func (d *DEKs) board(refs []DEKRef, digests []dekDigest, missing []int, cached func(i int) bool) []*flight {
	flights := make([]*flight, len(missing))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return flights
	}
	for j, i := range missing {
		f := d.pending[digests[i]]
		if f == nil {
			// A flight that landed since the caller looked has left its key before it left pending.
			if cached(i) {
				continue
			}
			f = &flight{
				digest: digests[i],
				item:   UnwrapItem{Context: DEKContext(d.inst, refs[i].KID), Wrapped: refs[i].Wrapped},
				landed: make(chan struct{}),
			}
			d.pending[f.digest] = f
			d.queue = append(d.queue, f)
		}
		f.waiting++
		flights[j] = f
	}
	if len(d.queue) > 0 && d.workers < d.opt.Workers {
		d.workers++
		d.wg.Go(d.work)
	}
	return flights
}

// await waits for f, copies its key to dst and leaves it.
func (d *DEKs) await(ctx context.Context, f *flight, dst []byte) error {
	var err error
	select {
	case <-f.landed:
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrKMSUnavailable, context.Cause(ctx))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f.waiting--
	if f.done {
		if err = f.err; err == nil {
			copy(dst, f.key[:])
		}
		if f.waiting == 0 {
			clear(f.key[:])
		}
		return err
	}
	// The last one leaves before it was answered: when no batch has it yet, none needs to. It stays in the queue,
	// where take passes over it.
	if f.waiting == 0 && !f.taken {
		delete(d.pending, f.digest)
	}
	return err
}

// work asks for batch after batch until nothing is queued.
func (d *DEKs) work() {
	for {
		batch := d.take()
		if len(batch) == 0 {
			return
		}
		d.fly(batch)
	}
}

// take removes the next batch from the queue. An empty one means that the worker has signed off.
func (d *DEKs) take() []*flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	var batch []*flight
	for len(d.queue) > 0 && len(batch) < d.opt.MaxBatch {
		f := d.queue[0]
		d.queue[0] = nil
		d.queue = d.queue[1:]
		if f.waiting > 0 {
			f.taken = true
			batch = append(batch, f)
		}
	}
	if len(batch) == 0 {
		d.workers--
	}
	return batch
}

// fly asks the key service for a batch. Its time is its own: no caller's end cuts short what others wait for.
func (d *DEKs) fly(batch []*flight) {
	items := make([]UnwrapItem, len(batch))
	for i, f := range batch {
		items[i] = f.item
	}
	ctx, cancel := context.WithTimeout(d.base, d.opt.Timeout)
	defer cancel()
	outcomes, err := d.kms.Unwrap(ctx, DEKKey, items)
	if err != nil {
		err = fmt.Errorf("unwrapping data keys: %w", unavailable(err))
	} else if len(outcomes) != len(items) {
		err = fmt.Errorf("unwrapping data keys: %w: it answered another number of items", ErrKMSUnavailable)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range batch {
		switch {
		case err != nil:
			d.land(f, nil, err)
		case outcomes[i].Err != nil:
			d.land(f, nil, fmt.Errorf("unwrapping a data key: %w", unavailable(outcomes[i].Err)))
		default:
			d.land(f, &outcomes[i].Plaintext, nil)
		}
	}
	// What came beside an error, or beyond the items, is a key as well.
	for i := range outcomes {
		outcomes[i].Plaintext.Wipe()
	}
}

// land gives f its result and, under d.mu, keeps the key.
func (d *DEKs) land(f *flight, key *secret.Bytes, err error) {
	if err == nil && key.Len() != keySize {
		err = fmt.Errorf("unwrapping a data key: %w: it is not 32 bytes", ErrUnwrap)
	}
	if f.err = err; err == nil {
		if !f.forget {
			d.cache.put(f.digest, d.now(), key.Reveal())
		}
		if f.waiting > 0 {
			copy(f.key[:], key.Reveal())
		}
	}
	if d.pending[f.digest] == f {
		delete(d.pending, f.digest)
	}
	f.done = true
	close(f.landed)
}
