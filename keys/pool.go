package keys

import (
	"slices"
	"time"
)

const (
	// MaxDEKAge is how old a key made ahead may be when it is handed out, counted from before the key service was asked.
	// Its version at the key service may be retired one day, and a key that lay here meanwhile would never open again.
	// Whoever retires a version therefore waits, from when new keys get a newer one, for MaxDEKAge and the longest time that
	// a change takes from asking New to its commit (calls of DEKOptions.Timeout are part of that), and counts rows then.
	MaxDEKAge = 5 * time.Minute
	// poolStart is how many keys are made ahead at first, and again when nobody takes any.
	poolStart = 64
	// poolCalm is how long the pool must stay above its half before it shrinks.
	poolCalm = time.Minute
)

// pool holds data keys made ahead, wrapped and never used, and how many of them there should be. That number doubles
// when the pool ran dry, up to max, and halves for each minute in which not half of it was taken. Its fields belong
// to mint.mu; times are those of DEKs.now.
type pool struct {
	max    int // 0: keys are never made ahead
	target int
	grown  bool     // target was raised, or the pool emptied, since the last keys came
	busy   int64    // when the pool was last seen below its half, or shrunk
	ready  []pooled // oldest first
}

type pooled struct {
	key  NewDEK
	born int64
}

func newPool(limit int, now int64) pool {
	return pool{max: limit, target: min(poolStart, limit), grown: true, busy: now}
}

// take hands out up to n keys, the oldest first, so that what stays is young.
func (p *pool) take(n int, now int64) []NewDEK {
	p.age(now)
	n = min(n, len(p.ready))
	made := make([]NewDEK, n)
	for i := range made {
		made[i] = p.ready[i].key
	}
	p.drop(n)
	if len(p.ready) < p.target/2 {
		p.busy = now
	}
	return made
}

// dry notes that more was wanted than was there.
func (p *pool) dry(now int64) {
	p.busy = now
	if !p.grown {
		p.grown, p.target = true, min(2*p.target, p.max)
	}
}

// put keeps keys that were asked for at born, and wipes what is above max.
func (p *pool) put(made []NewDEK, born int64) {
	if len(made) == 0 {
		return
	}
	p.grown = false
	fit := min(len(made), max(0, p.max-len(p.ready)))
	fresh := make([]pooled, fit)
	for i, m := range made[:fit] {
		fresh[i] = pooled{m, born}
	}
	wipeNew(made[fit:])
	at := len(p.ready) // a call may end after one that began later
	for at > 0 && p.ready[at-1].born > born {
		at--
	}
	p.ready = slices.Insert(p.ready, at, fresh...)
}

// lacks returns how many keys should be made ahead now: none before half of them are gone.
func (p *pool) lacks() int {
	if len(p.ready) >= (p.target+1)/2 {
		return 0
	}
	return p.target - len(p.ready)
}

// age wipes keys that are too old and shrinks a pool that is too large for what is taken.
func (p *pool) age(now int64) {
	n := 0
	for n < len(p.ready) && p.ready[n].born+int64(MaxDEKAge) <= now {
		p.ready[n].key.Key.Wipe()
		n++
	}
	p.drop(n)
	if now-p.busy >= int64(poolCalm) {
		p.busy, p.target = now, max(p.target/2, min(poolStart, p.max))
	}
}

// empty wipes all keys.
func (p *pool) empty() {
	for _, r := range p.ready {
		r.key.Key.Wipe()
	}
	p.drop(len(p.ready))
	p.grown = true
}

func (p *pool) drop(n int) {
	clear(p.ready[:n])
	if p.ready = p.ready[n:]; len(p.ready) == 0 {
		p.ready = nil
	}
}

func wipeNew(made []NewDEK) {
	for _, m := range made {
		m.Key.Wipe()
	}
}
