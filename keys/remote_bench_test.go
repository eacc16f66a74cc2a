package keys

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// distantKMS answers as one across a network does, after a time that grows with the batch, and computes nothing, so
// that what remains to be measured is this package's own work.
type distantKMS struct {
	call, item time.Duration
	calls      atomic.Int64
	items      atomic.Int64
}

func (k *distantKMS) away(n int) {
	k.calls.Add(1)
	k.items.Add(int64(n))
	if wait := k.call + time.Duration(n)*k.item; wait > 0 {
		time.Sleep(wait)
	}
}

func (k *distantKMS) Wrap(_ context.Context, _ KeyName, _ int, items []WrapItem) ([]Outcome, error) {
	k.away(len(items))
	out := make([]Outcome, len(items))
	for i := range out {
		out[i].Wrapped = distantWrapped
	}
	return out, nil
}

func (k *distantKMS) Unwrap(_ context.Context, _ KeyName, items []UnwrapItem) ([]Outcome, error) {
	k.away(len(items))
	out := make([]Outcome, len(items))
	slab := make([]byte, keySize*len(items))
	for i := range out {
		key := slab[i*keySize : (i+1)*keySize : (i+1)*keySize]
		copy(key, items[i].Context[len(items[i].Context)-16:])
		out[i].Plaintext = secret.NewBytes(key)
	}
	return out, nil
}

func (k *distantKMS) Rewrap(ctx context.Context, key KeyName, items []UnwrapItem) ([]Outcome, error) {
	return k.Unwrap(ctx, key, items)
}

// distantWrapped has the length of what Transit gives for a data key.
const distantWrapped = Wrapped("vault:v1:0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567")

// BenchmarkUnwrapCold asks for keys that are never cached: callers at once, each for so many at a time, again and again.
func BenchmarkUnwrapCold(b *testing.B) {
	for _, bc := range []struct {
		callers, each int
		call, item    time.Duration
	}{
		{64, 100, 2 * time.Millisecond, 10 * time.Microsecond},
		{1000, 1, 2 * time.Millisecond, 10 * time.Microsecond},
		{64, 1, 2 * time.Millisecond, 10 * time.Microsecond},
		{4, 1, 2 * time.Millisecond, 10 * time.Microsecond},
		{8, 100, 0, 0}, // this package's own work
		{64, 1, 0, 0},
	} {
		b.Run(fmt.Sprintf("%dx%d/%s+%s", bc.callers, bc.each, bc.call, bc.item), func(b *testing.B) {
			kms := &distantKMS{call: bc.call, item: bc.item}
			d := NewDEKs(kms, testInstance(1), DEKOptions{})
			defer d.Close()
			var next atomic.Uint64
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var done sync.WaitGroup
			for range bc.callers {
				done.Go(func() {
					refs := make([]DEKRef, bc.each)
					for left.Add(-int64(bc.each)) > -int64(bc.each) {
						at := next.Add(uint64(bc.each))
						for i := range refs {
							binary.BigEndian.PutUint64(refs[i].KID[:], at+uint64(i))
							refs[i].Wrapped = distantWrapped
						}
						for _, o := range d.Unwrap(context.Background(), refs) {
							if o.Err != nil {
								b.Error(o.Err)
							}
						}
					}
				})
			}
			done.Wait()
			keys := float64(kms.items.Load())
			b.ReportMetric(keys/b.Elapsed().Seconds(), "keys/s")
			b.ReportMetric(keys/float64(kms.calls.Load()), "keys/call")
		})
	}
}

// BenchmarkNewKeys makes keys one at a time, as puts of new people do.
func BenchmarkNewKeys(b *testing.B) {
	for _, pool := range []int{0, 2000} {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("pool%d/%d", pool, callers), func(b *testing.B) {
				kms := &distantKMS{call: 2 * time.Millisecond, item: 10 * time.Microsecond}
				d := NewDEKs(kms, testInstance(1), DEKOptions{Pool: pool})
				defer d.Close()
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				var done sync.WaitGroup
				for range callers {
					done.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := d.New(context.Background(), 1); err != nil {
								b.Error(err)
							}
						}
					})
				}
				done.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "keys/s")
				b.ReportMetric(float64(kms.items.Load())/float64(kms.calls.Load()), "keys/call")
			})
		}
	}
}
