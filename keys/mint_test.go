package keys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// inBubble runs test with the bubble's clock and a DEKs that is closed at the end.
func inBubble(t *testing.T, kms *fakeKMS, opt DEKOptions, test func(t *testing.T, d *DEKs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		// A channel of the bubble's own, so that waiting for it lets the bubble's time pass.
		if kms.hold != nil {
			kms.hold = make(chan struct{})
		}
		d := NewDEKs(kms, testInstance(1), opt)
		defer d.Close()
		synctest.Wait()
		test(t, d)
	})
}

// takeNew makes n keys, which must be sound, and at most as old as a pooled key may be.
func takeNew(t *testing.T, d *DEKs, kms *fakeKMS, n int) []NewDEK {
	t.Helper()
	made, err := d.New(t.Context(), n)
	if err != nil || len(made) != n {
		t.Fatalf("%d keys of %d: %v", len(made), n, err)
	}
	checkNew(t, kms, made)
	return made
}

func checkNew(t *testing.T, kms *fakeKMS, made []NewDEK) {
	t.Helper()
	for _, m := range made {
		if m.Wrapped != fakeWrapped(DEKContext(testInstance(1), m.KID), m.Key.Reveal()) || m.Key.Equal(secret.NewBytes(make([]byte, keySize))) {
			t.Fatal("not a fresh wrapped key")
		}
		kms.mu.Lock()
		born, known := kms.born[m.KID]
		delete(kms.born, m.KID)
		kms.mu.Unlock()
		if !known {
			t.Fatal("a key was handed out twice, or never made")
		}
		if old := time.Since(born); old >= MaxDEKAge {
			t.Fatalf("a key handed out after %s", old)
		}
	}
}

func wantBatches(t *testing.T, kms *fakeKMS, want ...int) {
	t.Helper()
	synctest.Wait()
	if got := kms.batches(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("batches %v, want %v", got, want)
	}
}

// wantAllWiped fails unless every key that the key service was ever handed is zero by now.
func wantAllWiped(t *testing.T, kms *fakeKMS) {
	t.Helper()
	kms.mu.Lock()
	defer kms.mu.Unlock()
	for _, k := range kms.wrapped {
		if !k.Equal(secret.NewBytes(make([]byte, keySize))) {
			t.Fatal("a key that nobody has is not wiped")
		}
	}
}

// What was asked for before a purge may be wrapped by a key service that is not to be used any more.
func TestPurgeDropsWhatIsUnderWay(t *testing.T) {
	for _, tc := range []struct {
		name   string
		pool   int
		n      int   // one call of New is under way with this
		first  []int // batches
		lands  int   // calls that end before the purge
		second []int // batches after it
	}{
		{"a refill alone", 100, 0, []int{64}, 0, []int{64}},
		{"a refill that is waited for", 100, 2, []int{64}, 0, []int{2, 64}},
		{"an order", 0, 3, []int{3}, 0, []int{3}},
		{"an order of which a part has come", 0, 100, []int{50, 50}, 1, []int{50, 50}},
		{"an order that took a part from the pool", 4, 6, []int{4, 2}, 1, []int{6, 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kms := &fakeKMS{hold: make(chan struct{})}
			inBubble(t, kms, DEKOptions{Pool: tc.pool, MaxBatch: max(50, tc.pool)}, func(t *testing.T, d *DEKs) {
				if tc.pool == 4 {
					kms.hold <- struct{}{}
					synctest.Wait()
				}
				var made []NewDEK
				var err error
				var done sync.WaitGroup
				if tc.n > 0 {
					done.Go(func() { made, err = d.New(t.Context(), tc.n) })
				}
				wantBatches(t, kms, tc.first...)
				if tc.pool != 4 {
					for range tc.lands {
						kms.hold <- struct{}{}
						synctest.Wait()
					}
				}
				time.Sleep(time.Second)
				purged := time.Now()
				d.Purge()
				close(kms.hold)
				done.Wait()
				wantBatches(t, kms, append(tc.first, tc.second...)...)
				if err != nil || len(made) != tc.n {
					t.Fatalf("%d keys, %v", len(made), err)
				}
				made = append(made, takeNew(t, d, kms, 1)...)
				for _, m := range made[:tc.n] {
					if kms.born[m.KID].Before(purged) {
						t.Error("a key from before the purge")
					}
				}
				wiped, dropped := 0, 0
				for _, n := range tc.first {
					dropped += n
				}
				for _, k := range kms.wrapped {
					if k.Equal(secret.NewBytes(make([]byte, keySize))) {
						wiped++
					}
				}
				if wiped != dropped {
					t.Errorf("%d keys are wiped, want the %d from before", wiped, dropped)
				}
			})
		})
	}
}

// Many who find nothing make few calls, pool or not.
func TestCallersForNewKeysShareCalls(t *testing.T) {
	for _, tc := range []struct {
		name             string
		pool, n, callers int
		most             int
	}{
		{"no pool", 0, 1, 64, 6},
		{"an empty pool", 10, 1, 64, 7},
		{"a refill under way for all", 1000, 1, 64, 2}, // the other refills again
		{"a refill under way for some", 1000, 2, 64, 7},
		{"large orders", 1000, 100, 20, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kms := &fakeKMS{latency: 5 * time.Millisecond}
			inBubble(t, kms, DEKOptions{Pool: tc.pool}, func(t *testing.T, d *DEKs) {
				var done sync.WaitGroup
				out := make([][]NewDEK, tc.callers)
				began := time.Now()
				for i := range out {
					done.Go(func() {
						var err error
						if out[i], err = d.New(t.Context(), tc.n); err != nil || len(out[i]) != tc.n {
							t.Errorf("%d keys, %v", len(out[i]), err)
						}
					})
				}
				done.Wait()
				if n := kms.count(); n > tc.most || time.Since(began) > 4*kms.latency {
					t.Errorf("batches %v in %s, want at most %d", kms.batches(), time.Since(began), tc.most)
				}
				for _, made := range out {
					checkNew(t, kms, made)
				}
			})
		})
	}
}

// A call that hangs does not hold up those who come after it.
func TestHangingCallIsPassed(t *testing.T) {
	kms := &fakeKMS{hold: make(chan struct{})}
	inBubble(t, kms, DEKOptions{}, func(t *testing.T, d *DEKs) {
		var done sync.WaitGroup
		done.Go(func() {
			if _, err := d.New(t.Context(), 8); !errors.Is(err, ErrKMSUnavailable) {
				t.Errorf("who hangs is told %v", err)
			}
		})
		wantBatches(t, kms, 8)
		kms.set(func() { kms.hold = nil })
		began := time.Now()
		var made []NewDEK
		var err error
		done.Go(func() { made, err = d.New(t.Context(), 1) })
		wantBatches(t, kms, 8) // it waits for company, as far as patience goes
		time.Sleep(patience)
		wantBatches(t, kms, 8, 1)
		if err != nil || len(made) != 1 {
			t.Errorf("who came later has %d keys, %v", len(made), err)
		}
		done.Wait()
		if time.Since(began) > 10*time.Second {
			t.Errorf("the call hung for %s", time.Since(began))
		}
	})
}

func TestLeavingAnOrder(t *testing.T) {
	kms := &fakeKMS{hold: make(chan struct{})}
	inBubble(t, kms, DEKOptions{}, func(t *testing.T, d *DEKs) {
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("the caller left")
		var done sync.WaitGroup
		done.Go(func() {
			if made, err := d.New(ctx, 600); !errors.Is(err, ErrKMSUnavailable) || !errors.Is(err, reason) || made != nil {
				t.Errorf("who left has %d keys, %v", len(made), err)
			}
		})
		synctest.Wait()
		kms.hold <- struct{}{} // the first part comes
		synctest.Wait()
		cancel(reason)
		done.Wait()
		close(kms.hold)
		synctest.Wait()
		wantAllWiped(t, kms)
		if m := d.mint; m.queued != 0 || m.coming != 0 || len(m.calls) != 0 || len(m.orders) != 0 {
			t.Errorf("left behind: %d queued, %d coming, %d calls, %d orders", m.queued, m.coming, len(m.calls), len(m.orders))
		}
	})
}

// A single key that fails is somebody's, and the others of its call are not touched.
func TestSomeNewKeysFail(t *testing.T) {
	kms := &fakeKMS{hold: make(chan struct{})}
	inBubble(t, kms, DEKOptions{Pool: 10}, func(t *testing.T, d *DEKs) {
		errs, made := make([]error, 5), make([][]NewDEK, 5)
		var done sync.WaitGroup
		for i := range errs {
			done.Go(func() { made[i], errs[i] = d.New(t.Context(), 2) })
			synctest.Wait()
		}
		kms.set(func() { kms.spoil = 1 })
		kms.hold <- struct{}{}
		done.Wait()
		wantBatches(t, kms, 10)
		for i := range 4 {
			if errs[i] != nil {
				t.Errorf("caller %d: %v", i, errs[i])
			}
			checkNew(t, kms, made[i])
		}
		if !errors.Is(errs[4], ErrKMSUnavailable) || made[4] != nil {
			t.Errorf("the last one: %v", errs[4])
		}
		takeNew(t, d, kms, 1) // the ninth
		d.Close()
		if !kms.wrapped[0].Equal(secret.NewBytes(make([]byte, keySize))) {
			t.Error("the key that failed is not wiped")
		}
	})
	for name, kms := range map[string]*fakeKMS{"away": {err: ErrKMSUnavailable}, "too few answers": {fewer: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, kms, DEKOptions{}, func(t *testing.T, d *DEKs) {
				if _, err := d.New(t.Context(), 7); !errors.Is(err, ErrKMSUnavailable) {
					t.Error(err)
				}
				wantAllWiped(t, kms)
			})
		})
	}
}

func TestCloseAnswersOrders(t *testing.T) {
	kms := &fakeKMS{hold: make(chan struct{})}
	inBubble(t, kms, DEKOptions{Pool: 10}, func(t *testing.T, d *DEKs) {
		var done sync.WaitGroup
		for range 20 {
			done.Go(func() {
				if _, err := d.New(t.Context(), 3); !errors.Is(err, ErrKMSUnavailable) {
					t.Errorf("who waits is told %v", err)
				}
			})
		}
		synctest.Wait()
		d.Close()
		done.Wait()
		wantAllWiped(t, kms)
	})
}

// Everything at once, for the race detector: no key is handed out twice, whatever fails, leaves or is purged.
func TestManyCallersForNewKeys(t *testing.T) {
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{Pool: 100, MaxBatch: 20, Workers: 3, TTL: time.Millisecond})
	defer d.Close()
	var mu sync.Mutex
	seen := make(map[KID]bool)
	var done sync.WaitGroup
	for w := range 8 {
		done.Go(func() {
			for i := range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%5)*200*time.Microsecond)
				made, err := d.New(ctx, 1+(i*7+w)%45)
				cancel()
				if err != nil && (!errors.Is(err, ErrKMSUnavailable) || made != nil) {
					t.Error(err)
				}
				mu.Lock()
				for _, m := range made {
					if seen[m.KID] || m.Wrapped != fakeWrapped(DEKContext(testInstance(1), m.KID), m.Key.Reveal()) {
						t.Error("a key was handed out twice, or is none")
					}
					seen[m.KID] = true
				}
				mu.Unlock()
				wipeNew(made)
				switch i % 10 {
				case 3:
					d.Purge()
				case 5:
					kms.set(func() { kms.spoil = 3 })
				case 8:
					kms.set(func() { kms.err = ErrKMSUnavailable })
				case 9:
					kms.set(func() { kms.err = nil })
				}
			}
		})
	}
	done.Wait()
	kms.set(func() { kms.err, kms.spoil = nil, 0 })
	d.Purge() // a refill that was asked for before may fail still, and those who joined it
	takeNew(t, d, kms, 50)
	d.Close()
	if m := d.mint; len(m.orders) != 0 || m.queued != 0 || len(m.calls) != 0 || m.coming != 0 || len(m.pool.ready) != 0 {
		t.Errorf("%d orders, %d queued, %d calls, %d coming, %d ready", len(m.orders), m.queued, len(m.calls), m.coming, len(m.pool.ready))
	}
}
