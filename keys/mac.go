package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// mac computes HMAC-SHA256 under one key from any goroutine. It keeps states that have taken in the key already: for the
// short inputs here that is two of four compressions, and all of the allocations.
type mac struct {
	key  [keySize]byte
	pool *sync.Pool
}

type macState struct {
	hash hash.Hash
	in   []byte // input under construction
	sum  [sha256.Size]byte
}

// scratch is how much input a state keeps room for; longer ones are rare and go back to the collector.
const scratch = 1024

func newMAC(key *[keySize]byte) *mac {
	m := &mac{key: *key}
	m.pool = &sync.Pool{New: func() any {
		return &macState{hash: hmac.New(sha256.New, m.key[:]), in: make([]byte, 0, scratch)}
	}}
	return m
}

// with lends a state with empty input to fill, and returns the MAC of what it filled in.
func (m *mac) with(fill func(in []byte) []byte) [sha256.Size]byte {
	s := m.pool.Get().(*macState)
	s.in = fill(s.in)
	s.hash.Write(s.in)
	s.hash.Sum(s.sum[:0])
	out := s.sum
	s.hash.Reset()
	clear(s.in)
	clear(s.sum[:])
	if cap(s.in) > scratch {
		s.in = make([]byte, 0, scratch)
	}
	s.in = s.in[:0]
	m.pool.Put(s)
	return out
}

// framed returns the MAC of each part after its length as u64, which no other list of parts gives. Parts may be
// large and are not copied.
func (m *mac) framed(parts ...[]byte) [sha256.Size]byte {
	s := m.pool.Get().(*macState)
	for _, p := range parts {
		s.in = binary.BigEndian.AppendUint64(s.in[:0], uint64(len(p)))
		s.hash.Write(s.in)
		s.hash.Write(p)
	}
	s.hash.Sum(s.sum[:0])
	out := s.sum
	s.hash.Reset()
	clear(s.sum[:])
	s.in = s.in[:0]
	m.pool.Put(s)
	return out
}

// expand is HKDF-Expand for 32 bytes, which is the single HMAC of info ‖ 01 (RFC 5869, section 2.3).
func (m *mac) expand(info string) [keySize]byte {
	return m.with(func(in []byte) []byte { return append(append(in, info...), 1) })
}

// wipe drops the key and the states that hold it. No other call may be running.
func (m *mac) wipe() {
	clear(m.key[:])
	m.pool = nil
}
