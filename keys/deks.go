package keys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// DEKs unwraps data keys at the key service and keeps each for a short while. Callers that miss at the same time
// share batches: while a worker waits for the key service, what comes in gathers for the next batch, and what
// several callers want is asked for once. It makes new data keys too, some ahead of time, so that who needs one does
// not wait for the key service.
//
// A key is found by a digest of its context and its wrapped bytes, so by what the caller opened from the row: a key
// that is kept never stands in for a row that is gone.
type DEKs struct {
	kms  Wrapper
	inst InstanceID
	opt  DEKOptions
	born time.Time

	cache *dekCache
	mint  *mint
	stop  context.CancelFunc // ends running batches and the sweeper
	base  context.Context
	wg    sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	pending  map[dekDigest]*flight
	queue    []*flight // those of pending that no batch has taken yet, oldest first
	workers  int
	summoned int         // of workers: those that have not come to the queue yet
	flying   int         // keys that the key service is being asked for
	timer    *time.Timer // calls hurry; set when timed
	timed    bool
	purges   uint64 // counts Purge, so that what was asked before is not kept after
}

// DEKOptions are the settings of a DEKs. Zero values give the defaults.
type DEKOptions struct {
	Entries  int              // keys kept at most, about 130 bytes each; default 100,000
	TTL      time.Duration    // how long a key is used after the key service gave it; wiped at most a quarter later; default 60 s
	MaxBatch int              // items of one call to the key service; default 500
	Workers  int              // calls under way at once, for keys kept and for new ones each; default 4
	Timeout  time.Duration    // of one batch, whoever waits for it; default 10 s
	Now      func() time.Time // default time.Now
	Pool     int              // new keys made ahead at most, up to 10,000, each at most 5 minutes old; default 0: none
	Random   io.Reader        // of new keys, safe for concurrent use; default crypto/rand
}

// MaxNewDEKs is how many data keys New makes in one call.
const MaxNewDEKs = 10_000

// DEKRef names a wrapped data key, as a subject's key row holds it.
type DEKRef struct {
	KID     KID
	Wrapped Wrapped
}

// DEKOutcome is one data key's result: Key (32 bytes, a copy that the caller wipes), or Err.
type DEKOutcome struct {
	Key secret.Bytes
	Err error // is ErrUnwrap or ErrKMSUnavailable
}

// NewDEK is a data key that was just made. The caller wipes Key.
type NewDEK struct {
	KID     KID
	Key     secret.Bytes
	Wrapped Wrapped
}

// errClosed is told apart by nobody: to a caller a closed DEKs is a key service that can't be asked.
var errClosed = fmt.Errorf("%w: closed", ErrKMSUnavailable)

// NewDEKs starts a cache in front of kms. Close ends it.
func NewDEKs(kms Wrapper, inst InstanceID, opt DEKOptions) *DEKs {
	opt = opt.withDefaults()
	base, stop := context.WithCancel(context.Background())
	d := &DEKs{
		kms: kms, inst: inst, opt: opt, born: opt.Now(), base: base, stop: stop,
		cache:   newDEKCache(opt.Entries, opt.TTL),
		pending: make(map[dekDigest]*flight),
	}
	d.mint = newMint(base, kms, inst, opt, d.now)
	d.wg.Go(d.sweep)
	return d
}

func (o DEKOptions) withDefaults() DEKOptions {
	if o.Entries <= 0 {
		o.Entries = 100_000
	}
	if o.TTL <= 0 {
		o.TTL = time.Minute
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = 500
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	o.Pool = min(max(o.Pool, 0), MaxNewDEKs)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	return o
}

// Unwrap returns the data keys of refs, in their order. A ctx that ends gives ErrKMSUnavailable, with the cause, for the
// keys that are still missing; others who wait for the same keys are not disturbed.
func (d *DEKs) Unwrap(ctx context.Context, refs []DEKRef) []DEKOutcome {
	out := make([]DEKOutcome, len(refs))
	digests := make([]dekDigest, len(refs))
	keys := make([]byte, keySize*len(refs))
	now := d.now()
	buf := make([]byte, 0, 256)
	var absent []int
	for i, r := range refs {
		if len(r.Wrapped) == 0 || len(r.Wrapped) > MaxWrapped {
			out[i].Err = fmt.Errorf("wrapped data key: %w", ErrUnwrap)
			continue
		}
		digests[i], buf = d.digest(buf, r)
		if key := keyAt(keys, i); d.cache.get(digests[i], now, key) {
			out[i].Key = secret.NewBytes(key)
		} else {
			absent = append(absent, i)
		}
	}
	if len(absent) > 0 {
		p := &party{out: out, keys: keys, done: make(chan struct{})}
		d.await(ctx, p, d.board(p, refs, digests, absent))
	}
	return out
}

// New returns n fresh data keys, never handed out before, and keeps them too. They come from the pool as far as it goes;
// the rest is wrapped now, in one call with what others want at the same time. It gives all of them or an error:
// ErrInvalid when n is below 1 or above MaxNewDEKs, ErrKMSUnavailable or another of the key service. A ctx that ends
// gives ErrKMSUnavailable, with the cause.
func (d *DEKs) New(ctx context.Context, n int) ([]NewDEK, error) {
	if n < 1 || n > MaxNewDEKs {
		return nil, fmt.Errorf("number of data keys: %w", ErrInvalid)
	}
	d.mu.Lock()
	purges := d.purges
	d.mu.Unlock()
	made, err := d.mint.take(ctx, n)
	if err != nil {
		return nil, err
	}
	d.keep(made, purges)
	return made, nil
}

// keep caches keys that were just made, unless the cache was purged meanwhile.
func (d *DEKs) keep(made []NewDEK, purges uint64) {
	now := d.now()
	buf := make([]byte, 0, 256)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.purges != purges {
		return
	}
	for _, m := range made {
		var digest dekDigest
		digest, buf = d.digest(buf, DEKRef{m.KID, m.Wrapped})
		d.cache.put(digest, now, m.Key.Reveal())
	}
}

// Forget wipes the kept copies of these keys, and does not keep the answer to a question about them that is under way.
func (d *DEKs) Forget(refs ...DEKRef) {
	buf := make([]byte, 0, 256)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range refs {
		var digest dekDigest
		digest, buf = d.digest(buf, r)
		if f := d.pending[digest]; f != nil {
			f.forget = true
		}
		d.cache.remove(digest)
	}
}

// Purge wipes all kept keys, likewise, and those made ahead: no later call of New gets a key that was wrapped before, and
// none that still waits.
func (d *DEKs) Purge() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.purges++
	for _, f := range d.pending {
		f.forget = true
	}
	d.mint.empty()
	d.cache.purge()
}

// Len returns the number of keys kept, those included whose time is over and that are about to be wiped.
func (d *DEKs) Len() int { return d.cache.len() }

// Close ends batches under way, answers all who wait, wipes all keys and returns when no goroutine is left. Later calls
// of Unwrap and New answer ErrKMSUnavailable.
func (d *DEKs) Close() {
	d.mu.Lock()
	d.closed = true
	for _, f := range d.queue {
		d.land(f, nil, 0, errClosed)
	}
	d.queue = nil
	if d.timed {
		d.timer.Stop()
	}
	d.mu.Unlock()
	d.stop()
	d.mint.close()
	d.wg.Wait()
	d.Purge()
}

// sweep wipes keys that nobody asked for again once their time is over.
func (d *DEKs) sweep() {
	tick := time.NewTicker(max(min(d.opt.TTL, MaxDEKAge)/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-d.base.Done():
			return
		case <-tick.C:
			d.cache.expire(d.now())
			d.mint.sweep()
		}
	}
}

// now counts from the start and not from 1970, so that setting the machine's clock back does not lengthen a key's life.
func (d *DEKs) now() int64 { return int64(d.opt.Now().Sub(d.born)) }

// digest names ref in the cache. The context has a fixed length, so that no other context and wrapped key give
// the same input. buf is room to build it in.
func (d *DEKs) digest(buf []byte, ref DEKRef) (dekDigest, []byte) {
	buf = append(appendDEKContext(buf[:0], d.inst, ref.KID), ref.Wrapped...)
	sum := sha256.Sum256(buf)
	return dekDigest(sum[:len(dekDigest{})]), buf
}

// unavailable makes every failure of the key service one that callers know.
func unavailable(err error) error {
	if errors.Is(err, ErrKMSUnavailable) || errors.Is(err, ErrUnwrap) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrKMSUnavailable, err)
}
