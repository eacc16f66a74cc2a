// Package bench measures a server over HTTP, and a yardstick beside it in the same minutes: an echo that does what any
// JSON service on the same stack has to do, and nothing else. What a machine, its load and this load generator cost
// weighs on both, so the ratio says more than either number.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// operation is one kind of request, made before the clock runs.
type operation struct {
	name   string
	method string
	url    func(n uint64) string // of the n-th request
	bodies [][]byte              // taken in turn; none = no body
	values int                   // that one answer holds, or that one request brings
	key    wire.Plain
	// check looks at a sample of the answers: the n-th one's body.
	check func(n uint64, body []byte) error
}

// checkEvery of the answers is decoded and compared; the status of each is looked at.
const checkEvery = 64

// measure sums up the rounds of one operation.
type measure struct {
	ops     int
	elapsed time.Duration
	micros  []uint32 // latency of each answer
}

func (m *measure) add(o measure) {
	m.ops += o.ops
	m.elapsed += o.elapsed
	m.micros = append(m.micros, o.micros...)
}

func (m *measure) perSecond() float64 { return float64(m.ops) / m.elapsed.Seconds() }

// percentile returns milliseconds. The measures have to be sorted.
func (m *measure) percentile(p float64) float64 {
	if len(m.micros) == 0 {
		return 0
	}
	return float64(m.micros[min(len(m.micros)-1, int(p*float64(len(m.micros))))]) / 1000
}

// generator sends requests from as many goroutines as connections.
type generator struct {
	http  *http.Client
	conns int
	next  atomic.Uint64 // numbers requests over all rounds, so that no new subject is put twice
}

func newGenerator(conns int) *generator {
	return &generator{conns: conns, http: &http.Client{
		Transport: &http.Transport{MaxIdleConns: 4 * conns, MaxIdleConnsPerHost: conns, DisableCompression: true},
	}}
}

// run sends o for d and returns what was answered. The first error ends it: a number with errors in it means nothing.
func (g *generator) run(ctx context.Context, o operation, d time.Duration) (measure, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	end := began.Add(d)
	parts := make([]measure, g.conns)
	var workers sync.WaitGroup
	for w := range g.conns {
		workers.Go(func() {
			var buf bytes.Buffer
			for ctx.Err() == nil && time.Now().Before(end) {
				n := g.next.Add(1)
				sent := time.Now()
				if err := g.once(ctx, o, n, &buf); err != nil {
					cancel(fmt.Errorf("%s: %w", o.name, err))
					return
				}
				parts[w].micros = append(parts[w].micros, uint32(min(time.Since(sent).Microseconds(), 1<<32-1)))
				parts[w].ops++
				if n%checkEvery == 0 && o.check != nil {
					if err := o.check(n, buf.Bytes()); err != nil {
						cancel(fmt.Errorf("%s: wrong answer: %w", o.name, err))
						return
					}
				}
			}
		})
	}
	workers.Wait()
	out := measure{elapsed: time.Since(began)}
	for _, p := range parts {
		out.ops += p.ops
		out.micros = append(out.micros, p.micros...)
	}
	return out, context.Cause(ctx)
}

// body returns the n-th request's, nil for none.
func (o *operation) body(n uint64) []byte {
	if len(o.bodies) == 0 {
		return nil
	}
	return o.bodies[n%uint64(len(o.bodies))]
}

func (g *generator) once(ctx context.Context, o operation, n uint64, buf *bytes.Buffer) error {
	var body io.Reader
	if b := o.body(n); b != nil {
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, o.method, o.url(n), body)
	if err != nil {
		return errors.New("the request cannot be made")
	}
	req.Header.Set("Authorization", "Bearer "+string(o.key))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	buf.Reset()
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return nil
}

func (m *measure) sort() { slices.Sort(m.micros) }
