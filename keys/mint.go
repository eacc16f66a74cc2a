package keys

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

const (
	minRest = 100 * time.Millisecond // after a first failure
	maxRest = 5 * time.Second
)

// mint makes data keys: for the pool, and for callers who find it empty. Like those who miss a key in the cache, these
// share calls: one joins a refill that is under way, and who comes while calls are under way is served by the next
// one together with others. Orders come before the pool.
type mint struct {
	kms  Wrapper
	inst InstanceID
	opt  DEKOptions
	now  func() int64
	base context.Context // ends calls under way

	wg sync.WaitGroup // of calls under way
	mu sync.Mutex

	closed bool
	pool   pool
	orders []*order // with keys that no call makes yet, oldest first
	queued int      // how many keys that is
	calls  []*call  // under way
	coming int      // keys that they should bring

	timer *time.Timer // calls hurry; set when timed
	timed bool
	rest  time.Duration // how long the pool is not refilled after the last failure; 0 after a success
	nap   *time.Timer   // ends resting
	// resting holds back refills only: an order tries at once, since its caller would rather know.
	resting bool
}

// order is a call of New that waits. Its fields belong to mint.mu until done is closed.
type order struct {
	lacks  int // keys still to come
	queued int // those of them that no call makes yet
	made   []NewDEK
	err    error
	over   bool
	done   chan struct{} // closed when over
}

// call is one request to the key service. What it makes beyond its claims goes to the pool.
type call struct {
	n      int
	spare  int // keys that nobody has claimed
	claims []claim
	born   int64
	stale  bool // the pool was emptied since: what comes is dropped
}

// claim is a part of an order that a call makes.
type claim struct {
	order *order
	n     int
}

func newMint(base context.Context, kms Wrapper, inst InstanceID, opt DEKOptions, now func() int64) *mint {
	m := &mint{kms: kms, inst: inst, opt: opt, now: now, base: base, pool: newPool(opt.Pool, now())}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(false)
	return m
}

// take returns n keys, from the pool as far as it goes.
func (m *mint) take(ctx context.Context, n int) ([]NewDEK, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, errClosed
	}
	now := m.now()
	made := m.pool.take(n, now)
	if len(made) == n {
		m.begin(false)
		m.mu.Unlock()
		return made, nil
	}
	m.pool.dry(now)
	o := &order{lacks: n - len(made), made: slices.Grow(made, n-len(made)), done: make(chan struct{})}
	left := o.lacks
	for _, c := range m.calls {
		left -= c.claim(o, left)
	}
	m.queue(o, left)
	m.begin(false)
	m.mu.Unlock()
	select {
	case <-o.done:
	case <-ctx.Done():
		m.mu.Lock()
		m.refuse(o, fmt.Errorf("%w: %w", ErrKMSUnavailable, context.Cause(ctx)))
		m.mu.Unlock()
	}
	return o.made, o.err
}

// claim gives up to n of the spare keys to o, and returns how many.
func (c *call) claim(o *order, n int) int {
	n = min(n, c.spare)
	if n > 0 {
		c.claims = append(c.claims, claim{o, n})
		c.spare -= n
	}
	return n
}

// queue leaves n keys of o to the next calls.
func (m *mint) queue(o *order, n int) {
	if n == 0 {
		return
	}
	if o.queued == 0 {
		m.orders = append(m.orders, o)
	}
	o.queued += n
	m.queued += n
}

// begin starts the calls that are due, under m.mu.
func (m *mint) begin(hurried bool) {
	if m.closed {
		return
	}
	for len(m.calls) < m.opt.Workers {
		n := m.due(hurried)
		if n == 0 {
			break
		}
		c := &call{n: n, spare: n, born: m.now()}
		for c.spare > 0 && len(m.orders) > 0 {
			o := m.orders[0]
			k := c.claim(o, o.queued)
			m.queued -= k
			if o.queued -= k; o.queued == 0 {
				m.orders = slices.Delete(m.orders, 0, 1)
			}
		}
		m.calls = append(m.calls, c)
		m.coming += n
		m.wg.Go(func() {
			made, err := m.wrapFresh(n)
			m.bring(c, made, err)
		})
	}
	if m.queued > 0 && len(m.calls) < m.opt.Workers && !m.timed {
		m.timed = true
		m.timer = time.AfterFunc(patience, m.hurry)
	}
}

// due returns how many keys the next call should make; 0 when it should wait, or nothing lacks.
func (m *mint) due(hurried bool) int {
	if m.queued > 0 {
		if m.queued >= m.coming || hurried || m.queued*enough >= m.opt.MaxBatch {
			return min(m.queued, m.opt.MaxBatch)
		}
		return 0
	}
	if len(m.calls) > 0 || m.resting {
		return 0
	}
	return min(m.pool.lacks(), m.opt.MaxBatch)
}

// hurry is called when an order has waited for company as long as patience allows.
func (m *mint) hurry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.timed = false
	m.begin(true)
}

// bring takes in what a call made, and what went wrong: there may be both.
func (m *mint) bring(c *call, made []NewDEK, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.stale {
		wipeNew(made)
		return
	}
	m.calls = slices.DeleteFunc(m.calls, func(other *call) bool { return other == c })
	m.coming -= c.n
	for _, cl := range c.claims {
		o := cl.order
		switch {
		case o.over:
		case len(made) < cl.n:
			m.refuse(o, err)
		default:
			o.made, made = append(o.made, made[:cl.n]...), made[cl.n:]
			if o.lacks -= cl.n; o.lacks == 0 {
				o.end()
			}
		}
	}
	m.pool.put(made, c.born)
	if err != nil {
		m.lieDown()
	} else {
		m.rest = 0
		m.wake()
	}
	m.begin(false)
}

func (o *order) end() {
	o.over = true
	close(o.done)
}

// refuse ends an order without keys, unless it has ended.
func (m *mint) refuse(o *order, err error) {
	if o.over {
		return
	}
	if o.queued > 0 {
		m.queued -= o.queued
		m.orders = slices.DeleteFunc(m.orders, func(other *order) bool { return other == o })
	}
	wipeNew(o.made)
	o.made, o.err = nil, err
	o.end()
}

// lieDown holds refills back: a key service in trouble is not helped by more calls that nobody waits for.
func (m *mint) lieDown() {
	m.wake()
	m.rest = min(max(2*m.rest, minRest), maxRest)
	m.resting = true
	m.nap = time.AfterFunc(m.jittered(m.rest), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.resting = false
		m.begin(false)
	})
}

func (m *mint) wake() {
	if m.nap != nil {
		m.nap.Stop()
	}
	m.resting = false
}

// jittered returns between half of t and t, so that servers that lost one key service do not return to it in step.
func (m *mint) jittered(t time.Duration) time.Duration {
	var b [1]byte
	if _, err := io.ReadFull(m.opt.Random, b[:]); err != nil {
		return t
	}
	return t/2 + t/2*time.Duration(b[0])/255
}

// sweep wipes what is too old and makes it anew.
func (m *mint) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool.age(m.now())
	m.begin(false)
}

// empty wipes the pool. What calls under way bring is dropped, and who waits for it is served by new ones.
func (m *mint) empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.abandon()
	m.begin(false)
}

// abandon lets go of all keys that are there or coming, also of those that an order has a part of, and queues again
// what orders lack by it.
func (m *mint) abandon() {
	m.pool.empty()
	for _, c := range m.calls {
		c.stale = true
		for _, cl := range c.claims {
			if !cl.order.over {
				m.queue(cl.order, cl.n)
			}
		}
	}
	m.calls, m.coming = nil, 0
	for _, o := range m.orders {
		n := len(o.made)
		wipeNew(o.made)
		o.made = o.made[:0]
		o.lacks += n
		m.queue(o, n)
	}
}

// close refuses all who wait and wipes the pool. It returns when no call is under way any more, for which base must
// have ended.
func (m *mint) close() {
	m.mu.Lock()
	m.closed = true
	m.abandon()
	for len(m.orders) > 0 {
		m.refuse(m.orders[0], errClosed)
	}
	m.wake()
	if m.timed {
		m.timer.Stop()
	}
	m.mu.Unlock()
	m.wg.Wait()
}

// wrapFresh asks the key service once to wrap n fresh keys and returns those that it wrapped, and an error when they are not n.
// Its time is its own, as that of an unwrapping batch.
func (m *mint) wrapFresh(n int) ([]NewDEK, error) {
	keys := make([]byte, keySize*n)
	contexts := make([]byte, 0, dekContextSize*n)
	made := make([]NewDEK, n)
	items := make([]WrapItem, n)
	if _, err := io.ReadFull(m.opt.Random, keys); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	for i := range made {
		if _, err := io.ReadFull(m.opt.Random, made[i].KID[:]); err != nil {
			clear(keys)
			return nil, fmt.Errorf("reading randomness: %w", err)
		}
		made[i].Key = secret.NewBytes(keyAt(keys, i))
		start := len(contexts)
		contexts = appendDEKContext(contexts, m.inst, made[i].KID)
		items[i] = WrapItem{Context: contexts[start:len(contexts):len(contexts)], Plaintext: made[i].Key}
	}
	ctx, cancel := context.WithTimeout(m.base, m.opt.Timeout)
	defer cancel()
	outcomes, err := m.kms.Wrap(ctx, DEKKey, 0, items)
	if err = answered(n, outcomes, err); err != nil {
		clear(keys)
		return nil, fmt.Errorf("wrapping data keys: %w", unavailable(err))
	}
	good := made[:0]
	for i, o := range outcomes {
		if bad := wrappedWell(o); bad != nil {
			made[i].Key.Wipe()
			err = bad
			continue
		}
		made[i].Wrapped = o.Wrapped
		good = append(good, made[i])
	}
	return good, err
}

func wrappedWell(o Outcome) error {
	if o.Err != nil {
		return fmt.Errorf("wrapping data keys: %w", unavailable(o.Err))
	}
	if len(o.Wrapped) == 0 || len(o.Wrapped) > MaxWrapped {
		return fmt.Errorf("wrapping data keys: %w: a wrapped key of a length that is none", ErrKMSUnavailable)
	}
	return nil
}
