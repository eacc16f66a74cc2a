package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func TestUnwrapOnceThenFromMemory(t *testing.T) {
	defer goleak.VerifyNone(t)
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{})
	defer d.Close()
	checkKeys(t, d.Unwrap(t.Context(), refs(0, 50)), 0)
	again := d.Unwrap(t.Context(), refs(0, 50))
	checkKeys(t, again, 0)
	if kms.count() != 1 || d.Len() != 50 {
		t.Errorf("%d calls, %d kept", kms.count(), d.Len())
	}
	for _, k := range kms.given {
		if !k.Equal(secret.NewBytes(make([]byte, keySize))) {
			t.Fatal("what the key service gave is not wiped")
		}
	}
	// What a caller got is its own: wiping it harms nobody.
	for _, o := range again {
		o.Key.Wipe()
	}
	checkKeys(t, d.Unwrap(t.Context(), refs(0, 50)), 0)
	if len(d.Unwrap(t.Context(), nil)) != 0 {
		t.Error("an outcome of nothing")
	}
}

// A kept key is found by all of its reference, never by a part.
func TestCacheKeyIsTheWholeReference(t *testing.T) {
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{})
	defer d.Close()
	a, b := refs(1, 1)[0], refs(2, 1)[0]
	checkKeys(t, d.Unwrap(t.Context(), []DEKRef{a, b}), 1)
	for i, o := range d.Unwrap(t.Context(), []DEKRef{{a.KID, b.Wrapped}, {b.KID, a.Wrapped}, {a.KID, ""}, {a.KID, Wrapped(strings.Repeat("w", MaxWrapped+1))}}) {
		if !errors.Is(o.Err, ErrUnwrap) || o.Key.Len() != 0 {
			t.Errorf("mixed reference %d: %v", i, o.Err)
		}
	}
	for w := range kms.asked {
		if len(w) == 0 || len(w) > MaxWrapped {
			t.Errorf("the key service was asked for %d bytes", len(w))
		}
	}
}

func TestTTLCountsFromTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &fakeKMS{}
		var mu sync.Mutex
		now := time.Unix(1_700_000_000, 0)
		d := NewDEKs(kms, testInstance(1), DEKOptions{TTL: time.Minute, Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}})
		defer d.Close()
		// Real time does not pass in here, so that the sweeper stays out of it.
		for _, step := range []struct {
			after time.Duration
			calls int
		}{{0, 1}, {40 * time.Second, 1}, {19 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}, {time.Hour, 3}} {
			mu.Lock()
			now = now.Add(step.after)
			mu.Unlock()
			checkKeys(t, []DEKOutcome{unwrapOne(d, 1)}, 1)
			if kms.count() != step.calls {
				t.Fatalf("%s on: %d calls, want %d", step.after, kms.count(), step.calls)
			}
		}
	})
}

func TestSweepWipesWithoutBeingAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDEKs(&fakeKMS{}, testInstance(1), DEKOptions{TTL: time.Minute, Entries: 100})
		defer d.Close()
		checkKeys(t, d.Unwrap(t.Context(), refs(0, 10)), 0)
		time.Sleep(76 * time.Second) // in the bubble's time
		synctest.Wait()
		if d.Len() != 0 {
			t.Errorf("%d kept", d.Len())
		}
		checkWiped(t, d, nil)
	})
}

// checkWiped fails when a slot holds a key that is none of live.
func checkWiped(t *testing.T, d *DEKs, live map[dekDigest]bool) {
	t.Helper()
	found := 0
	for i := range d.cache.shards {
		s := &d.cache.shards[i]
		s.mu.Lock()
		for _, slot := range s.slots {
			if slot.live && live[slot.digest] {
				found++
			} else if slot != (dekSlot{}) {
				t.Errorf("a slot is not wiped")
			}
		}
		s.mu.Unlock()
	}
	if found != len(live) {
		t.Errorf("%d of %d keys are there", found, len(live))
	}
}

func TestEvictionWipes(t *testing.T) {
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{Entries: 10, MaxBatch: 1, Workers: 1})
	defer d.Close()
	for i := range 25 {
		checkKeys(t, []DEKOutcome{unwrapOne(d, i)}, i)
	}
	live := func(numbers ...int) map[dekDigest]bool {
		m := make(map[dekDigest]bool)
		for _, i := range numbers {
			digest, _ := d.digest(nil, refs(i, 1)[0])
			m[digest] = true
		}
		return m
	}
	checkWiped(t, d, live(15, 16, 17, 18, 19, 20, 21, 22, 23, 24))
	d.Forget(append(refs(16, 3), refs(20, 1)...)...)
	d.Forget(refs(16, 1)...)
	checkWiped(t, d, live(15, 19, 21, 22, 23, 24))
	for _, i := range []int{30, 31, 32} {
		checkKeys(t, []DEKOutcome{unwrapOne(d, i)}, i)
	}
	checkWiped(t, d, live(19, 21, 22, 23, 24, 30, 31, 32))
	checkKeys(t, []DEKOutcome{unwrapOne(d, 19)}, 19)
	if kms.count() != 28 {
		t.Errorf("%d calls, want 28", kms.count())
	}
	d.Purge()
	checkWiped(t, d, nil)
	checkKeys(t, []DEKOutcome{unwrapOne(d, 19)}, 19)
	d.Close()
	checkWiped(t, d, nil)
}

func TestOneBadItemSpoilsOnlyItself(t *testing.T) {
	want := refs(0, 6)
	broken := errors.New("broken")
	kms := &fakeKMS{
		bad: map[Wrapped]error{want[1].Wrapped: ErrUnwrap, want[3].Wrapped: ErrKMSUnavailable, want[4].Wrapped: broken},
		odd: map[Wrapped][]byte{want[5].Wrapped: make([]byte, 31)},
	}
	d := NewDEKs(kms, testInstance(1), DEKOptions{})
	defer d.Close()
	out := d.Unwrap(t.Context(), want)
	checkKeys(t, out[:1], 0)
	checkKeys(t, out[2:3], 2)
	for i, wantErr := range map[int]error{1: ErrUnwrap, 3: ErrKMSUnavailable, 4: ErrKMSUnavailable, 5: ErrUnwrap} {
		if !errors.Is(out[i].Err, wantErr) || out[i].Key.Len() != 0 {
			t.Errorf("item %d: %v, want %v", i, out[i].Err, wantErr)
		}
	}
	if d.Len() != 2 {
		t.Errorf("%d kept, want 2", d.Len())
	}
	kms.set(func() { kms.bad, kms.odd = nil, nil })
	checkKeys(t, d.Unwrap(t.Context(), want), 0)
	if kms.sizes[1] != 4 {
		t.Errorf("then asked for %d, want the 4 that failed", kms.sizes[1])
	}
}

func TestKeyServiceFailsAndRecovers(t *testing.T) {
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{})
	defer d.Close()
	checkKeys(t, d.Unwrap(t.Context(), refs(0, 2)), 0)
	for _, tc := range []struct {
		name  string
		err   error
		fewer bool
		want  error
	}{
		{"unavailable", ErrKMSUnavailable, false, ErrKMSUnavailable},
		{"another error", io.ErrUnexpectedEOF, false, io.ErrUnexpectedEOF},
		{"another error is unavailable, too", io.ErrUnexpectedEOF, false, ErrKMSUnavailable},
		{"no such key", ErrNoKey, false, ErrNoKey},
		{"too few answers", nil, true, ErrKMSUnavailable},
	} {
		kms.set(func() { kms.err, kms.fewer = tc.err, tc.fewer })
		out := d.Unwrap(t.Context(), refs(0, 5))
		checkKeys(t, out[:2], 0)
		for _, o := range out[2:] {
			if !errors.Is(o.Err, tc.want) || !errors.Is(o.Err, ErrKMSUnavailable) {
				t.Errorf("%s: %v", tc.name, o.Err)
			}
		}
		if _, err := d.New(t.Context(), 2); !errors.Is(err, tc.want) {
			t.Errorf("%s: new keys: %v", tc.name, err)
		}
	}
	kms.set(func() { kms.err, kms.fewer = nil, false })
	checkKeys(t, d.Unwrap(t.Context(), refs(0, 5)), 0)
}

// What was asked for before a purge is answered, but not kept after it: the person may have been erased meanwhile.
func TestForgettingReachesWhatIsUnderWay(t *testing.T) {
	for name, forget := range map[string]func(*DEKs){
		"forget": func(d *DEKs) { d.Forget(refs(1, 1)...) },
		"purge":  func(d *DEKs) { d.Purge() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := &fakeKMS{release: make(chan struct{})}
				d := NewDEKs(kms, testInstance(1), DEKOptions{})
				defer d.Close()
				var o DEKOutcome
				var done sync.WaitGroup
				done.Go(func() { o = unwrapOne(d, 1) })
				synctest.Wait()
				forget(d)
				close(kms.release)
				done.Wait()
				checkKeys(t, []DEKOutcome{o}, 1)
				if d.Len() != 0 {
					t.Error("it is kept")
				}
			})
		})
	}
}

func TestNewKeys(t *testing.T) {
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{Random: &oneByOne{r: stream(1)}, MaxBatch: 40})
	defer d.Close()
	made := must[[]NewDEK](t)(d.New(t.Context(), 100))
	if slices.Sort(kms.sizes); fmt.Sprint(kms.sizes) != "[20 40 40]" {
		t.Errorf("batches %v", kms.sizes)
	}
	kids := make(map[KID]bool)
	var want []DEKRef
	for _, m := range made {
		if kids[m.KID] || m.Key.Len() != keySize || m.Key.Equal(secret.NewBytes(make([]byte, keySize))) ||
			m.Wrapped != fakeWrapped(DEKContext(testInstance(1), m.KID), m.Key.Reveal()) {
			t.Fatal("not a fresh wrapped key")
		}
		kids[m.KID] = true
		want = append(want, DEKRef{m.KID, m.Wrapped})
	}
	for i, o := range d.Unwrap(t.Context(), want) {
		if o.Err != nil || !o.Key.Equal(made[i].Key) {
			t.Fatalf("key %d: %v", i, o.Err)
		}
	}
	if kms.count() != 3 {
		t.Errorf("%d calls: new keys are not kept", kms.count())
	}
	for _, n := range []int{-1, 0, MaxNewDEKs + 1} {
		if _, err := d.New(t.Context(), n); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d keys: %v", n, err)
		}
	}
	kms.set(func() { kms.bad = map[Wrapped]error{"*": ErrKMSUnavailable} })
	if made, err := d.New(t.Context(), 3); !errors.Is(err, ErrKMSUnavailable) || made != nil {
		t.Errorf("an item that failed: %v", err)
	}
	for _, n := range []int64{0, 40, 100} {
		short := NewDEKs(&fakeKMS{}, testInstance(1), DEKOptions{Random: io.LimitReader(stream(1), n)})
		if _, err := short.New(t.Context(), 3); err == nil {
			t.Errorf("randomness of %d bytes: no error", n)
		}
		short.Close()
	}
}

func TestClose(t *testing.T) {
	defer goleak.VerifyNone(t)
	kms := &fakeKMS{release: make(chan struct{})}
	d := NewDEKs(kms, testInstance(1), DEKOptions{Workers: 1, MaxBatch: 1})
	var done sync.WaitGroup
	for i := range 10 {
		done.Go(func() {
			if o := unwrapOne(d, i); !errors.Is(o.Err, ErrKMSUnavailable) {
				t.Errorf("who waits is told %v", o.Err)
			}
		})
	}
	d.Close()
	d.Close()
	done.Wait()
	if o := unwrapOne(d, 1); !errors.Is(o.Err, ErrKMSUnavailable) {
		t.Errorf("after it: %v", o.Err)
	}
	if _, err := d.New(t.Context(), 1); !errors.Is(err, ErrKMSUnavailable) {
		t.Errorf("new keys after it: %v", err)
	}
	checkWiped(t, d, nil)
}

// Everything at once, for the race detector: each answer is right or an error, whatever is evicted, forgotten or failing.
func TestManyCallersAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	kms := &fakeKMS{}
	d := NewDEKs(kms, testInstance(1), DEKOptions{Entries: 30, TTL: time.Millisecond, MaxBatch: 8, Workers: 3})
	var done sync.WaitGroup
	for w := range 8 {
		done.Go(func() {
			for i := range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%5)*100*time.Microsecond)
				from := (i*7 + w) % 40
				for j, o := range d.Unwrap(ctx, refs(from, 6)) {
					if _, want := ref(from + j); o.Err == nil && !o.Key.Equal(want) {
						t.Error("a wrong key")
					} else if o.Err != nil && !errors.Is(o.Err, ErrKMSUnavailable) {
						t.Error(o.Err)
					}
					o.Key.Wipe()
				}
				cancel()
				switch i % 10 {
				case 3:
					d.Forget(refs(from, 3)...)
				case 6:
					if _, err := d.New(t.Context(), 2); err != nil && !errors.Is(err, ErrKMSUnavailable) {
						t.Error(err)
					}
				case 8:
					kms.set(func() { kms.err = ErrKMSUnavailable })
				case 9:
					kms.set(func() { kms.err = nil })
					d.Purge()
				}
			}
		})
	}
	done.Wait()
	kms.set(func() { kms.err = nil })
	checkKeys(t, d.Unwrap(t.Context(), refs(0, 40)), 0)
	d.Close()
	checkWiped(t, d, nil)
	if len(d.pending) != 0 || d.workers != 0 {
		t.Errorf("%d pending, %d workers", len(d.pending), d.workers)
	}
}
