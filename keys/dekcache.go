package keys

import (
	"sync"
	"time"
)

// dekDigest names a cached data key: the first 16 bytes of a SHA-256. Finding two of one digest takes 2^64 work, by one
// who can write key rows and so has the bucket keys.
type dekDigest [16]byte

// dekCache keeps data keys until they are too old or too many. The oldest goes first: a ring needs no bookkeeping on a
// hit, and as every key has the same time to live, the ring's order is also the order in which they expire.
type dekCache struct {
	ttl    int64
	shards []dekShard // a power of two
}

type dekShard struct {
	mu    sync.Mutex
	slots []dekSlot // made at the first put; never grown, which would leave copies of keys behind
	size  int
	head  int // the oldest
	count int // from head, removed ones included
	at    map[dekDigest]int32
}

type dekSlot struct {
	digest  dekDigest
	key     [keySize]byte
	expires int64 // ns on the clock of DEKs.now
	live    bool
}

const maxShards = 64

func newDEKCache(entries int, ttl time.Duration) *dekCache {
	n := 1
	// Small caches have few shards, so that uneven filling does not evict much too early.
	for n < maxShards && entries/(2*n) >= 256 {
		n *= 2
	}
	c := &dekCache{ttl: int64(ttl), shards: make([]dekShard, n)}
	for i := range c.shards {
		c.shards[i].size = entries / n
	}
	return c
}

func (c *dekCache) shard(d dekDigest) *dekShard { return &c.shards[int(d[0])&(len(c.shards)-1)] }

// get copies the key to dst, 32 bytes, and reports whether it was there.
func (c *dekCache) get(d dekDigest, now int64, dst []byte) bool {
	s := c.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.at[d]
	if !ok {
		return false
	}
	if s.slots[i].expires <= now {
		s.expire(now)
		return false
	}
	copy(dst, s.slots[i].key[:])
	return true
}

// put keeps a copy of key for the time to live from now on.
func (c *dekCache) put(d dekDigest, now int64, key []byte) {
	s := c.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots, s.at = make([]dekSlot, s.size), make(map[dekDigest]int32)
	}
	s.expire(now)
	s.remove(d)
	if s.count == len(s.slots) {
		s.drop()
	}
	i := (s.head + s.count) % len(s.slots)
	s.count++
	s.slots[i] = dekSlot{digest: d, key: [keySize]byte(key), expires: now + c.ttl, live: true}
	s.at[d] = int32(i)
}

func (c *dekCache) remove(d dekDigest) {
	s := c.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(d)
}

func (c *dekCache) expire(now int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.expire(now)
		s.mu.Unlock()
	}
}

func (c *dekCache) purge() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for s.count > 0 {
			s.drop()
		}
		s.mu.Unlock()
	}
}

func (c *dekCache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.at)
		s.mu.Unlock()
	}
	return n
}

func (s *dekShard) remove(d dekDigest) {
	if i, ok := s.at[d]; ok {
		s.slots[i] = dekSlot{}
		delete(s.at, d)
	}
}

// expire drops what is too old, from the oldest on.
func (s *dekShard) expire(now int64) {
	for s.count > 0 && (!s.slots[s.head].live || s.slots[s.head].expires <= now) {
		s.drop()
	}
}

// drop overwrites the oldest slot.
func (s *dekShard) drop() {
	slot := &s.slots[s.head]
	if slot.live {
		delete(s.at, slot.digest)
	}
	*slot = dekSlot{}
	s.head = (s.head + 1) % len(s.slots)
	s.count--
}
