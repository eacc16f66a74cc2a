package keys

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestColdCallersShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{})
		defer d.Close()
		var done sync.WaitGroup
		for i := range 1000 {
			done.Go(func() { // each key is wanted by two
				if o := unwrapOne(d, i/2); o.Err != nil {
					t.Error(o.Err)
				} else if _, want := ref(i / 2); !o.Key.Equal(want) {
					t.Errorf("caller %d has another's key", i)
				}
			})
		}
		synctest.Wait()
		close(kms.release)
		done.Wait()
		synctest.Wait()
		if n := kms.count(); n > 6 {
			t.Errorf("%d calls of %v items", n, kms.sizes)
		}
		for w, n := range kms.asked {
			if n != 1 {
				t.Fatalf("%s was asked for %d times", w, n)
			}
		}
		if len(kms.asked) != 500 || len(d.pending) != 0 || d.workers != 0 {
			t.Errorf("%d asked for, %d pending, %d workers", len(kms.asked), len(d.pending), d.workers)
		}
	})
}

// A cold burst costs a handful of calls, whatever the key service takes for each.
func TestBurstIsAHandfulOfCalls(t *testing.T) {
	for _, each := range []int{1, 10, 100} {
		synctest.Test(t, func(t *testing.T) {
			kms := &fakeKMS{latency: 5 * time.Millisecond}
			d := NewDEKs(kms, testInstance(1), DEKOptions{})
			defer d.Close()
			began := time.Now()
			var done sync.WaitGroup
			out := make([][]DEKOutcome, 1000/each)
			for i := range out {
				done.Go(func() { out[i] = d.Unwrap(t.Context(), refs(i*each, each)) })
			}
			done.Wait()
			for i := range out {
				checkKeys(t, out[i], i*each)
			}
			if n := kms.count(); n > 8 || time.Since(began) > 3*kms.latency {
				t.Errorf("%d at a time: batches %v in %s", each, kms.batches(), time.Since(began))
			}
		})
	}
}

// A further call begins with as many keys as are under way, or when some have waited for long enough.
func TestFurtherCallsWaitForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{})
		defer d.Close()
		var done sync.WaitGroup
		ask := func(i, n int, want ...int) {
			t.Helper()
			done.Go(func() { d.Unwrap(t.Context(), refs(i, n)) })
			wantBatches(t, kms, want...)
		}
		ask(0, 2, 2)
		ask(2, 1, 2)
		time.Sleep(patience / 2)
		ask(3, 1, 2, 2)
		ask(4, 1, 2, 2)
		time.Sleep(patience/2 - time.Microsecond)
		wantBatches(t, kms, 2, 2)
		time.Sleep(time.Microsecond) // since the first that had to wait
		wantBatches(t, kms, 2, 2, 1) // all of these hang
		ask(100, 900, 2, 2, 1, 500)
		ask(1000, 500, 2, 2, 1, 500) // there are no more workers
		close(kms.release)
		done.Wait()
	})
}

// An eighth of a full batch is worth a call of its own, however much is under way.
func TestLargePartsDoNotWaitForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{})
		defer d.Close()
		var done sync.WaitGroup
		at := 0
		for _, step := range []struct {
			n    int
			want []int
		}{{300, []int{300}}, {62, []int{300}}, {1, []int{300, 63}}} {
			done.Go(func() { d.Unwrap(t.Context(), refs(at, step.n)) })
			wantBatches(t, kms, step.want...)
			at += step.n
		}
		close(kms.release)
		done.Wait()
	})
}

// A worker that was started takes all that is there: until it has come, others would find nothing.
func TestOneWorkerIsSummonedForABatch(t *testing.T) {
	d := NewDEKs(&fakeKMS{}, testInstance(1), DEKOptions{MaxBatch: 10})
	defer d.Close()
	d.mu.Lock() // which keeps workers from coming
	defer d.mu.Unlock()
	for _, step := range []struct{ queued, workers int }{{1, 1}, {5, 1}, {10, 1}, {11, 2}, {25, 3}} {
		for len(d.queue) < step.queued {
			d.queue = append(d.queue, new(flight))
		}
		d.depart(false)
		if d.workers != step.workers {
			t.Errorf("%d workers for %d", d.workers, step.queued)
		}
	}
}

// One caller who misses many keys has them asked for side by side.
func TestManyKeysTakeSeveralWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{latency: 5 * time.Millisecond}
		d := NewDEKs(kms, testInstance(1), DEKOptions{})
		defer d.Close()
		began := time.Now()
		checkKeys(t, d.Unwrap(t.Context(), refs(0, 2000)), 0)
		if time.Since(began) != kms.latency || kms.count() != 4 {
			t.Errorf("batches %v in %s", kms.batches(), time.Since(began))
		}
	})
}

// Who waits for keys of several batches and leaves has those that came.
func TestLeavingKeepsWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{Workers: 1, MaxBatch: 3})
		defer d.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var out []DEKOutcome
		var done sync.WaitGroup
		done.Go(func() { out = d.Unwrap(ctx, append(refs(0, 8), refs(6, 1)...)) })
		synctest.Wait()
		kms.release <- struct{}{}
		synctest.Wait()
		cancel()
		done.Wait()
		checkKeys(t, out[:3], 0)
		for i, o := range out[3:] {
			if !errors.Is(o.Err, ErrKMSUnavailable) || o.Key.Len() != 0 {
				t.Errorf("item %d: %v", i+3, o.Err)
			}
		}
		if len(d.pending) != 3 {
			t.Errorf("%d pending, want those under way", len(d.pending))
		}
		close(kms.release)
		synctest.Wait()
		if len(d.pending) != 0 || d.workers != 0 || d.flying != 0 || d.summoned != 0 {
			t.Errorf("%d pending, %d workers, %d flying, %d summoned", len(d.pending), d.workers, d.flying, d.summoned)
		}
	})
}

// A key that comes between a caller's look and its boarding is not asked for again.
func TestBoardLooksAgain(t *testing.T) {
	d := NewDEKs(&fakeKMS{}, testInstance(1), DEKOptions{})
	defer d.Close()
	want := refs(1, 1)
	digest, _ := d.digest(nil, want[0])
	_, key := ref(1)
	d.cache.put(digest, d.now(), key.Reveal())
	p := &party{out: make([]DEKOutcome, 1), keys: make([]byte, keySize), done: make(chan struct{})}
	flights := d.board(p, want, []dekDigest{digest}, []int{0})
	<-p.done
	checkKeys(t, p.out, 1)
	if len(flights) != 0 || len(d.pending) != 0 || len(d.queue) != 0 {
		t.Errorf("%d flights, %d pending, %d queued", len(flights), len(d.pending), len(d.queue))
	}
}

func TestBatchesAreBounded(t *testing.T) {
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{MaxBatch: 7, Workers: 2})
	defer d.Close()
	double := append(refs(0, 50), refs(0, 50)...)
	out := d.Unwrap(t.Context(), double)
	checkKeys(t, out[:50], 0)
	checkKeys(t, out[50:], 0)
	sum := 0
	for _, n := range kms.sizes {
		sum += n
		if n > 7 {
			t.Errorf("a batch of %d", n)
		}
	}
	if sum != 50 {
		t.Errorf("%d items, want 50", sum)
	}
}

func TestOneWorkerHasOneBatchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{Workers: 1})
		defer d.Close()
		var done sync.WaitGroup
		for i := range 20 {
			done.Go(func() { unwrapOne(d, i) })
			synctest.Wait()
		}
		if kms.count() != 1 || kms.sizes[0] != 1 {
			t.Errorf("batches %v under way", kms.sizes)
		}
		kms.release <- struct{}{}
		synctest.Wait()
		if kms.count() != 2 || kms.sizes[1] != 19 {
			t.Errorf("batches %v, want the rest in one", kms.sizes)
		}
		close(kms.release)
		done.Wait()
	})
}

func TestLeavingDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{Workers: 1})
		defer d.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("the caller left")
		var leaver, stayer, queued []DEKOutcome
		var done sync.WaitGroup
		done.Go(func() { leaver = d.Unwrap(ctx, refs(1, 1)) })
		synctest.Wait()
		done.Go(func() { stayer = d.Unwrap(t.Context(), refs(1, 1)) })
		done.Go(func() { queued = d.Unwrap(ctx, refs(2, 2)) })
		synctest.Wait()
		cancel(reason)
		synctest.Wait()
		for _, o := range append(leaver, queued...) {
			if !errors.Is(o.Err, ErrKMSUnavailable) || !errors.Is(o.Err, reason) || o.Key.Len() != 0 {
				t.Errorf("who left has %v", o.Err)
			}
		}
		close(kms.release)
		done.Wait()
		checkKeys(t, stayer, 1)
		synctest.Wait()
		if kms.count() != 1 {
			t.Errorf("batches %v: asked for what nobody waits for", kms.sizes)
		}
		if len(d.pending) != 0 || d.workers != 0 {
			t.Errorf("%d pending, %d workers", len(d.pending), d.workers)
		}
		checkKeys(t, d.Unwrap(t.Context(), refs(2, 2)), 2)
		if out := d.Unwrap(ctx, refs(1, 3)); out[0].Err != nil || out[2].Err != nil {
			t.Error("what is in memory needs no time")
		}
	})
}

func TestEveryoneLeftAfterTheBatchSetOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{})
		defer d.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if o := d.Unwrap(ctx, refs(1, 1))[0]; !errors.Is(o.Err, context.DeadlineExceeded) || !errors.Is(o.Err, ErrKMSUnavailable) {
			t.Error(o.Err)
		}
		close(kms.release)
		synctest.Wait()
		checkKeys(t, []DEKOutcome{unwrapOne(d, 1)}, 1)
		if kms.count() != 1 {
			t.Errorf("%d calls: the answer was thrown away", kms.count())
		}
	})
}

func TestBatchHasItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{Timeout: 3 * time.Second})
		defer d.Close()
		began := time.Now()
		o := unwrapOne(d, 1) // with a ctx that never ends
		if !errors.Is(o.Err, ErrKMSUnavailable) || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s", o.Err, time.Since(began))
		}
		kms.set(func() { kms.release = nil })
		checkKeys(t, []DEKOutcome{unwrapOne(d, 1)}, 1)
	})
}
