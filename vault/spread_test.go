package vault

import (
	"errors"
	"sync/atomic"
	"testing"
)

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 1000} {
		var calls atomic.Int64
		if err := spread(n, func(i int) error { calls.Add(1 << 32); calls.Add(int64(i)); return nil }); err != nil || calls.Load() != int64(n)<<32+int64(n)*int64(n-1)/2 {
			t.Errorf("%d: %d calls, %v", n, calls.Load()>>32, err)
		}
	}
	bad := errors.New("bad")
	if err := spread(1000, func(i int) error {
		if i == 500 {
			return bad
		}
		return nil
	}); err != bad {
		t.Errorf("%v", err)
	}
	defer func() {
		if p := recover(); p != "thrown" {
			t.Errorf("the caller sees %v", p)
		}
	}()
	_ = spread(1000, func(i int) error {
		if i == 500 {
			panic("thrown")
		}
		return nil
	})
	t.Error("a panic was lost")
}
