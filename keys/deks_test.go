package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

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
	given   []secret.Bytes
}

func (f *fakeKMS) Wrap(_ context.Context, key KeyName, version int, items []WrapItem) ([]Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.sizes = append(f.sizes, len(items))
	if f.err != nil {
		return nil, f.err
	}
	if key != DEKKey || version != 0 {
		return nil, ErrNoKey
	}
	out := make([]Outcome, 0, len(items))
	for _, it := range items {
		w := fakeWrapped(it.Context, it.Plaintext.Reveal())
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
	f.mu.Lock()
	f.calls++
	f.sizes = append(f.sizes, len(items))
	release, err := f.release, f.err
	f.mu.Unlock()
	if release != nil {
		select {
		case <-release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err != nil {
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
	d := NewDEKs(kms, testInstance(1), DEKOptions{Random: stream(1), MaxBatch: 40})
	defer d.Close()
	made := must[[]NewDEK](t)(d.New(t.Context(), 100))
	if fmt.Sprint(kms.sizes) != "[40 40 20]" {
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
