package keys

import (
	"context"
	"fmt"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// A call costs both sides about as much as twenty keys do, so that many small ones side by side are slower for everyone
// than a few large ones. The first call begins at once. A further one begins at once with as many keys as are under way
// already, or an eighth of a full batch; fewer wait for more, for a call under way to end, or until patience ends, which
// is short against what a call across a network takes.
const (
	patience = time.Millisecond
	enough   = 8
)

// flight is a data key that is being asked for, and all who wait for it. Its fields belong to DEKs.mu.
type flight struct {
	digest dekDigest
	item   UnwrapItem
	first  seat
	more   []seat
	taken  bool // a batch has it
	forget bool // do not keep the key
	landed bool
}

// seat is a place in a party's answer that a flight fills. The zero value is empty.
type seat struct {
	party *party
	at    int
}

// party is one call of DEKs.Unwrap that misses keys. Its fields belong to DEKs.mu until done is closed, then to the
// call: the flights write the answer where the caller wants it, and no copy of a key stays with them.
type party struct {
	out     []DEKOutcome
	keys    []byte // 32 bytes for each of out
	missing int
	done    chan struct{} // closed when nothing is missing
}

// keyAt is the i-th key of a buffer of keys.
func keyAt(keys []byte, i int) []byte { return keys[i*keySize : (i+1)*keySize : (i+1)*keySize] }

func (s seat) fill(key []byte, err error) {
	if s.party == nil {
		return
	}
	if err != nil {
		s.party.out[s.at].Err = err
	} else {
		dst := keyAt(s.party.keys, s.at)
		copy(dst, key)
		s.party.out[s.at].Key = secret.NewBytes(dst)
	}
	s.party.missing--
	if s.party.missing == 0 {
		close(s.party.done)
	}
}

// wanted reports whether anyone waits for f.
func (f *flight) wanted() bool { return f.first.party != nil || len(f.more) > 0 }

func (f *flight) join(s seat) {
	if f.first.party == nil {
		f.first = s
	} else {
		f.more = append(f.more, s)
	}
}

// leave empties the seats of p.
func (f *flight) leave(p *party) {
	if f.first.party == p {
		f.first = seat{}
	}
	stay := f.more[:0]
	for _, s := range f.more {
		if s.party != p {
			stay = append(stay, s)
		}
	}
	clear(f.more[len(stay):])
	f.more = stay
}

// board joins p to flights for the refs at the places absent, to those under way where there are, and returns the
// flights. It answers at once what it can: a key that has come since the caller looked, or that d is closed.
func (d *DEKs) board(p *party, refs []DEKRef, digests []dekDigest, absent []int) []*flight {
	flights := make([]*flight, 0, len(absent))
	// One allocation for all that may be new.
	fresh := make([]flight, len(absent))
	contexts := make([]byte, 0, dekContextSize*len(absent))
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	p.missing = len(absent)
	for _, i := range absent {
		if d.closed {
			seat{p, i}.fill(nil, errClosed)
			continue
		}
		f := d.pending[digests[i]]
		if f == nil {
			// A flight that landed since the caller looked has left its key before it left pending.
			if dst := keyAt(p.keys, i); d.cache.get(digests[i], now, dst) {
				seat{p, i}.fill(dst, nil)
				continue
			}
			f, fresh = &fresh[0], fresh[1:]
			start := len(contexts)
			contexts = appendDEKContext(contexts, d.inst, refs[i].KID)
			f.digest, f.item = digests[i], UnwrapItem{Context: contexts[start:len(contexts):len(contexts)], Wrapped: refs[i].Wrapped}
			d.pending[f.digest] = f
			d.queue = append(d.queue, f)
		}
		f.join(seat{p, i})
		flights = append(flights, f)
	}
	d.depart(false)
	return flights
}

// depart starts workers for what is queued and worth a call, under d.mu; hurried: for anything.
func (d *DEKs) depart(hurried bool) {
	if d.closed {
		return
	}
	// Each worker that was summoned and has not come yet will take a batch of it.
	left := len(d.queue) - d.summoned*d.opt.MaxBatch
	for left > 0 && d.workers < d.opt.Workers && (left >= d.flying || hurried || left*enough >= d.opt.MaxBatch) {
		d.workers++
		d.summoned++
		left -= d.opt.MaxBatch
		d.wg.Go(d.work)
	}
	if left > 0 && d.workers < d.opt.Workers && !d.timed {
		d.timed = true
		d.timer = time.AfterFunc(patience, d.hurry)
	}
}

// hurry is called when something has been queued for as long as patience allows.
func (d *DEKs) hurry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timed = false
	d.depart(true)
}

// await waits until p has all it misses. When ctx ends before, it leaves the flights that have not landed.
func (d *DEKs) await(ctx context.Context, p *party, flights []*flight) {
	select {
	case <-p.done:
		return
	case <-ctx.Done():
	}
	err := fmt.Errorf("%w: %w", ErrKMSUnavailable, context.Cause(ctx))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range flights {
		if f.landed {
			continue
		}
		f.leave(p)
		// The last one leaves before it was answered: when no batch has it yet, none needs to. It stays in the queue,
		// where take passes over it.
		if !f.wanted() && !f.taken && d.pending[f.digest] == f {
			delete(d.pending, f.digest)
		}
	}
	for i := range p.out {
		if p.out[i].Err == nil && p.out[i].Key.Len() == 0 {
			p.out[i].Err = err
		}
	}
}

// work asks for batch after batch until nothing is queued.
func (d *DEKs) work() {
	for first := true; ; first = false {
		batch := d.take(first)
		if len(batch) == 0 {
			return
		}
		d.fly(batch)
	}
}

// take removes the next batch from the queue. An empty one means that the worker has signed off.
func (d *DEKs) take(first bool) []*flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	if first {
		d.summoned--
	}
	batch := make([]*flight, 0, min(len(d.queue), d.opt.MaxBatch))
	for len(d.queue) > 0 && len(batch) < d.opt.MaxBatch {
		f := d.queue[0]
		d.queue[0] = nil
		d.queue = d.queue[1:]
		if f.wanted() {
			f.taken = true
			batch = append(batch, f)
		}
	}
	if len(batch) == 0 {
		d.workers--
	}
	d.flying += len(batch)
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
	// What comes beside an error, or beyond the items, is a key as well.
	defer wipe(outcomes)
	if err = answered(len(items), outcomes, err); err != nil {
		err = fmt.Errorf("unwrapping data keys: %w", unavailable(err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flying -= len(batch)
	now := d.now()
	for i, f := range batch {
		switch {
		case err != nil:
			d.land(f, nil, now, err)
		case outcomes[i].Err != nil:
			d.land(f, nil, now, fmt.Errorf("unwrapping a data key: %w", unavailable(outcomes[i].Err)))
		default:
			d.land(f, outcomes[i].Plaintext.Reveal(), now, nil)
		}
	}
}

// land gives all who wait for f its result and, under d.mu, keeps the key.
func (d *DEKs) land(f *flight, key []byte, now int64, err error) {
	if err == nil && len(key) != keySize {
		err = fmt.Errorf("unwrapping a data key: %w: it is not 32 bytes", ErrUnwrap)
	}
	if err == nil && !f.forget {
		d.cache.put(f.digest, now, key)
	}
	if d.pending[f.digest] == f {
		delete(d.pending, f.digest)
	}
	f.landed = true
	f.first.fill(key, err)
	for _, s := range f.more {
		s.fill(key, err)
	}
	f.first, f.more = seat{}, nil
}
