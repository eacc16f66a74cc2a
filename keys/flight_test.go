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

// A key that comes between a caller's look and its boarding is not asked for again.
func TestBoardLooksAgain(t *testing.T) {
	d := NewDEKs(&fakeKMS{}, testInstance(1), DEKOptions{})
	defer d.Close()
	want := refs(1, 1)
	digest, _ := d.digest(nil, want[0])
	looked := 0
	flights := d.board(want, []dekDigest{digest}, []int{0}, func(int) bool { looked++; return true })
	if looked != 1 || flights[0] != nil || len(d.pending) != 0 || len(d.queue) != 0 {
		t.Errorf("looked %d times, flight %v", looked, flights[0] != nil)
	}
}

func TestFlightsAreWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{release: make(chan struct{})}
		d := NewDEKs(kms, testInstance(1), DEKOptions{})
		defer d.Close()
		var done sync.WaitGroup
		for range 3 {
			done.Go(func() { unwrapOne(d, 1) })
		}
		synctest.Wait()
		digest, _ := d.digest(nil, refs(1, 1)[0])
		d.mu.Lock()
		f := d.pending[digest]
		d.mu.Unlock()
		close(kms.release)
		done.Wait()
		if !f.done || f.err != nil || f.key != [keySize]byte{} {
			t.Errorf("landed %v, %v, with a key left behind %v", f.done, f.err, f.key != [keySize]byte{})
		}
	})
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
