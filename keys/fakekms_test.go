package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// fakeKMS fails, waits and counts on demand, which no real key service does. A wrapped key is the digest of its context
// and the key itself.
type fakeKMS struct {
	mu      sync.Mutex
	calls   int
	sizes   []int
	asked   map[Wrapped]int
	err     error              // of whole calls
	bad     map[Wrapped]error  // of single items
	odd     map[Wrapped][]byte // answered instead of the key
	fewer   bool               // answers an item less
	release chan struct{}      // when set, each Unwrap waits for a receive, its ctx, or close
	hold    chan struct{}      // likewise for each Wrap
	latency time.Duration      // of each call
	spoil   int                // so many items at the start of the next Wrap fail
	given   []secret.Bytes     // by Unwrap
	wrapped []secret.Bytes     // by Wrap: not copies
	born    map[KID]time.Time  // when Wrap was asked
}

// wait counts a call, and returns when it may be answered. Its error is that of the time when it was asked.
func (f *fakeKMS) wait(ctx context.Context, items int, gate *chan struct{}) error {
	f.mu.Lock()
	f.calls++
	f.sizes = append(f.sizes, items)
	release, err, latency := *gate, f.err, f.latency
	f.mu.Unlock()
	if release != nil {
		select {
		case <-release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if latency > 0 {
		time.Sleep(latency)
	}
	return err
}

func (f *fakeKMS) Wrap(ctx context.Context, key KeyName, version int, items []WrapItem) ([]Outcome, error) {
	asked := time.Now()
	f.mu.Lock()
	if f.born == nil {
		f.born = make(map[KID]time.Time)
	}
	for _, it := range items {
		f.wrapped = append(f.wrapped, it.Plaintext)
		f.born[KID(it.Context[dekContextSize-len(KID{}):])] = asked
	}
	f.mu.Unlock()
	if err := f.wait(ctx, len(items), &f.hold); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if key != DEKKey || version != 0 {
		return nil, ErrNoKey
	}
	out := make([]Outcome, 0, len(items))
	for _, it := range items {
		w := fakeWrapped(it.Context, it.Plaintext.Reveal())
		if f.spoil > 0 {
			f.spoil--
			out = append(out, Outcome{Err: ErrKMSUnavailable})
			continue
		}
		out = append(out, Outcome{Wrapped: w, Err: f.bad["*"]})
	}
	if f.fewer {
		out = out[1:]
	}
	return out, nil
}

func fakeWrapped(context, key []byte) Wrapped {
	sum := sha256.Sum256(context)
	return Wrapped("fake:v1:" + base64.StdEncoding.EncodeToString(append(sum[:8:8], key...)))
}

func (f *fakeKMS) Unwrap(ctx context.Context, key KeyName, items []UnwrapItem) ([]Outcome, error) {
	if err := f.wait(ctx, len(items), &f.release); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Outcome, 0, len(items))
	for _, it := range items {
		if f.asked == nil {
			f.asked = make(map[Wrapped]int)
		}
		f.asked[it.Wrapped]++
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(it.Wrapped), "fake:v1:"))
		sum := sha256.Sum256(it.Context)
		switch {
		case f.bad[it.Wrapped] != nil:
			out = append(out, Outcome{Err: f.bad[it.Wrapped]})
		case f.odd[it.Wrapped] != nil:
			out = append(out, Outcome{Plaintext: secret.NewBytes(f.odd[it.Wrapped])})
		case err != nil || len(raw) < 8 || !bytes.Equal(raw[:8], sum[:8]):
			out = append(out, Outcome{Err: ErrUnwrap})
		default:
			k := secret.NewBytes(raw[8:])
			f.given = append(f.given, k)
			out = append(out, Outcome{Plaintext: k})
		}
	}
	if f.fewer {
		out = out[1:]
	}
	return out, nil
}

func (f *fakeKMS) Rewrap(context.Context, KeyName, []UnwrapItem) ([]Outcome, error) {
	return nil, errors.ErrUnsupported
}

func (f *fakeKMS) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// batches returns the sizes of all calls so far.
func (f *fakeKMS) batches() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sizes)
}

func (f *fakeKMS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// ref returns the i-th data key, wrapped, and what it is.
func ref(i int) (DEKRef, secret.Bytes) {
	kid := KID{byte(i >> 16), byte(i >> 8), byte(i)}
	key := sha256.Sum256(kid[:])
	return DEKRef{kid, fakeWrapped(DEKContext(testInstance(1), kid), key[:])}, secret.NewBytes(key[:])
}

func refs(from, n int) []DEKRef {
	out := make([]DEKRef, n)
	for i := range out {
		out[i], _ = ref(from + i)
	}
	return out
}

// checkKeys fails unless out holds the keys from the given one on.
func checkKeys(t *testing.T, out []DEKOutcome, from int) {
	t.Helper()
	for i, o := range out {
		if _, want := ref(from + i); o.Err != nil || !o.Key.Equal(want) {
			t.Fatalf("key %d: equal %v, %v", from+i, o.Key.Equal(want), o.Err)
		}
	}
}

func unwrapOne(d *DEKs, i int) DEKOutcome { return d.Unwrap(context.Background(), refs(i, 1))[0] }
