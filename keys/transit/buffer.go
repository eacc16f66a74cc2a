package transit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

const (
	maxAnswer = 64 << 20 // bytes read of an answer
	maxPooled = 1 << 20  // bytes of a buffer that is kept for the next request
)

// buffer holds the body of a request or of an answer, which may be full of plaintext keys. Whoever uses it holds it;
// the last one to release it wipes it.
//
// Counting is needed because a request's body may still be read by the connection after the answer has come.
type buffer struct {
	b     []byte
	holds atomic.Int32
	pool  *sync.Pool
}

// take returns an empty buffer with room for size bytes, held once.
func take(pool *sync.Pool, size int) *buffer {
	p, ok := pool.Get().(*buffer)
	if !ok {
		p = &buffer{pool: pool}
	}
	if cap(p.b) < size {
		p.b = make([]byte, 0, size)
	}
	p.holds.Store(1)
	return p
}

func (p *buffer) hold() { p.holds.Add(1) }

func (p *buffer) release() {
	if p == nil || p.holds.Add(-1) != 0 {
		return
	}
	clear(p.b)
	p.b = p.b[:0]
	if cap(p.b) <= maxPooled {
		p.pool.Put(p)
	}
}

// fill reads r to its end. It grows by hand, because append would leave plaintext behind.
func (p *buffer) fill(r io.Reader) error {
	for {
		if len(p.b) == cap(p.b) {
			grown := make([]byte, len(p.b), 2*cap(p.b)+512)
			copy(grown, p.b)
			clear(p.b)
			p.b = grown
		}
		n, err := r.Read(p.b[len(p.b):cap(p.b)])
		p.b = p.b[:len(p.b)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// bodyReader lends a buffer to a connection until that closes it.
type bodyReader struct {
	bytes.Reader
	lent   *buffer
	closed atomic.Bool
}

func lend(p *buffer) *bodyReader {
	p.hold()
	r := &bodyReader{lent: p}
	r.Reset(p.b)
	return r
}

func (r *bodyReader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.lent.release()
	}
	return nil
}

// limited refuses a body that is longer than any answer of Vault, instead of cutting it.
type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return 0, fmt.Errorf("an answer of more than %d MiB", maxAnswer>>20)
	}
	return n, err
}
