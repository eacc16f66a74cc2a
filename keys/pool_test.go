package keys

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func TestPoolServesWithoutWaiting(t *testing.T) {
	kms := &fakeKMS{hold: make(chan struct{})}
	inBubble(t, kms, DEKOptions{Pool: 1000}, func(t *testing.T, d *DEKs) {
		kms.hold <- struct{}{}
		wantBatches(t, kms, 64)
		if d.Len() != 0 {
			t.Errorf("%d keys that nobody has are in the cache", d.Len())
		}
		takeNew(t, d, kms, 32) // the half: nothing is asked for yet
		wantBatches(t, kms, 64)
		takeNew(t, d, kms, 1)
		wantBatches(t, kms, 64, 33)
		takeNew(t, d, kms, 31) // while the key service does not answer
		if d.Len() != 64 {
			t.Errorf("%d keys in the cache, want the 64 handed out", d.Len())
		}
		close(kms.hold)
	})
}

func TestNoPoolMakesNothingAhead(t *testing.T) {
	kms := &fakeKMS{}
	inBubble(t, kms, DEKOptions{Pool: -1}, func(t *testing.T, d *DEKs) {
		takeNew(t, d, kms, 3)
		time.Sleep(time.Hour)
		wantBatches(t, kms, 3)
	})
}

func TestPoolGrowsWhenItRunsDry(t *testing.T) {
	kms := &fakeKMS{}
	inBubble(t, kms, DEKOptions{Pool: 300}, func(t *testing.T, d *DEKs) {
		// Each time more than there is: the rest directly, then twice as many as before.
		want := []int{64}
		for _, target := range []int{64, 128, 256, 300, 300} {
			takeNew(t, d, kms, target+1)
			want = append(want, 1, min(2*target, 300))
			wantBatches(t, kms, want...)
		}
		takeNew(t, d, kms, 299)
		wantBatches(t, kms, append(want, 299)...)
	})
	kms = &fakeKMS{}
	inBubble(t, kms, DEKOptions{Pool: 10_000, MaxBatch: 50}, func(t *testing.T, d *DEKs) {
		wantBatches(t, kms, 50) // above the half: no more
		takeNew(t, d, kms, 30)
		wantBatches(t, kms, 50, 44)
		kms = nil
	})
}

// An idle server makes one small call each five minutes, and hands out nothing older.
func TestPoolIdle(t *testing.T) {
	kms := &fakeKMS{}
	inBubble(t, kms, DEKOptions{Pool: 2000}, func(t *testing.T, d *DEKs) {
		for range 6 { // a busy time first, so that the pool is large
			takeNew(t, d, kms, 2500)
		}
		synctest.Wait()
		busy := len(kms.batches())
		if kms.batches()[busy-1] != 500 {
			t.Fatalf("batches %v: the pool is not large", kms.batches())
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if got := kms.batches()[busy:]; fmt.Sprint(got) != "[64]" {
			t.Errorf("six minutes later %v, want 64 fresh ones", got)
		}
		time.Sleep(54 * time.Minute)
		synctest.Wait()
		if got := len(kms.batches()) - busy; got < 10 || got > 12 {
			t.Errorf("%d calls in an hour", got)
		}
		for range 100 {
			time.Sleep(17 * time.Second)
			takeNew(t, d, kms, 1)
		}
		for _, n := range kms.batches()[busy:] {
			if n > 64 {
				t.Errorf("an idle server made %d", n)
			}
		}
	})
}

// A key's age is looked at when it is handed out, too: the sweeper may be late.
func TestPoolAgeAtHandingOut(t *testing.T) {
	p := newPool(10, 0)
	p.put([]NewDEK{{KID: KID{1}, Key: testKey(1)}}, 0)
	p.put([]NewDEK{{KID: KID{2}, Key: testKey(2)}}, 1)
	old := p.ready[0].key.Key
	if made := p.take(2, int64(MaxDEKAge)); len(made) != 1 || made[0].KID != (KID{2}) {
		t.Errorf("%d keys", len(made))
	}
	if !old.Equal(secret.NewBytes(make([]byte, keySize))) {
		t.Error("the old one is not wiped")
	}
}

// A call that began earlier may end later. What it brings is older than what lies there already, and goes first.
func TestPoolStandsByAge(t *testing.T) {
	p := newPool(10, 0)
	for _, born := range []int64{20, 10, 30, 10, 0, 30} {
		p.put([]NewDEK{{KID: KID{byte(born)}, Key: testKey(1)}, {KID: KID{byte(born)}, Key: testKey(2)}}, born)
	}
	var got []int64
	for _, r := range p.ready {
		got = append(got, r.born)
	}
	if fmt.Sprint(got) != "[0 0 10 10 10 10 20 20 30 30]" {
		t.Errorf("born at %v", got)
	}
	if made := p.take(10, int64(MaxDEKAge)+10); len(made) != 4 || made[0].KID != (KID{20}) {
		t.Errorf("%d keys handed out, want the four that are young", len(made))
	}
	p.put([]NewDEK{{KID: KID{2}, Key: testKey(2)}}, 0)
	p.put([]NewDEK{{KID: KID{1}, Key: testKey(1)}}, 1)
	if made := p.take(1, int64(MaxDEKAge)); len(made) != 1 || made[0].KID != (KID{1}) {
		t.Errorf("%d keys", len(made))
	}
}

func TestPoolIsWiped(t *testing.T) {
	for name, wipe := range map[string]func(d *DEKs){
		"purge": func(d *DEKs) { d.Purge() },
		"close": func(d *DEKs) { d.Close() },
		"age":   func(*DEKs) { time.Sleep(6 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			kms := &fakeKMS{}
			inBubble(t, kms, DEKOptions{Pool: 100}, func(t *testing.T, d *DEKs) {
				wantBatches(t, kms, 64)
				kms.set(func() { kms.err = ErrKMSUnavailable }) // so that no others come
				wipe(d)
				synctest.Wait()
				wantAllWiped(t, kms)
			})
		})
	}
}

func TestRefillsBackOff(t *testing.T) {
	kms := &fakeKMS{err: ErrKMSUnavailable}
	inBubble(t, kms, DEKOptions{Pool: 100}, func(t *testing.T, d *DEKs) {
		time.Sleep(time.Minute)
		if n := kms.count(); n < 12 || n > 32 {
			t.Errorf("%d calls in a minute", n)
		}
		before := kms.count()
		began := time.Now()
		if _, err := d.New(t.Context(), 1); !errors.Is(err, ErrKMSUnavailable) {
			t.Errorf("an empty pool: %v", err)
		}
		if kms.count() != before+1 || time.Since(began) != 0 {
			t.Errorf("%d calls after %s: a caller is told at once", kms.count()-before, time.Since(began))
		}
		kms.set(func() { kms.err = nil })
		time.Sleep(maxRest)
		synctest.Wait()
		before = kms.count()
		takeNew(t, d, kms, 30)
		if kms.count() != before {
			t.Error("the pool has not come back by itself")
		}
		kms.set(func() { kms.err = ErrKMSUnavailable })
		takeNew(t, d, kms, 34) // what is there is handed out
		if _, err := d.New(t.Context(), 1); !errors.Is(err, ErrKMSUnavailable) {
			t.Errorf("empty again: %v", err)
		}
		kms.set(func() { kms.err = nil })
		takeNew(t, d, kms, 1) // which ends the rest, so that the refill follows
		synctest.Wait()
		before = kms.count()
		takeNew(t, d, kms, 30)
		if kms.count() != before {
			t.Error("an answer did not end the rest")
		}
	})
}
