package main

import (
	"fmt"
	"testing"
)

func TestDistinct(t *testing.T) {
	for _, n := range []int{0, 1, distinctKept - 1, 300_000} {
		d := newDistinct()
		for range 2 {
			for i := range n {
				d.add(fmt.Sprint(i))
			}
		}
		got, exact := d.count()
		if exact != (n < distinctKept) || exact && got != int64(n) || got < int64(n)*97/100 || got > int64(n)*103/100 {
			t.Errorf("%d strings are counted as %d, exactly: %t", n, got, exact)
		}
		if len(d.kept) > distinctKept {
			t.Errorf("%d hashes are kept", len(d.kept))
		}
	}
}
