package main

import (
	"container/heap"
	"hash/maphash"
	"math"
)

// distinctKept is how many hashes a distinct keeps: up to that it counts exactly, beyond it estimates with a standard
// error of 1/sqrt(distinctKept-2), 0.4 %.
const distinctKept = 1 << 16

// distinct counts different strings in bounded memory: it keeps the smallest hashes, and how close together they lie
// tells how many there are (Bar-Yossef et al., "Counting distinct elements in a data stream", RANDOM 2002).
type distinct struct {
	seed  maphash.Seed
	kept  map[uint64]struct{}
	order largestFirst
}

func newDistinct() *distinct {
	return &distinct{seed: maphash.MakeSeed(), kept: map[uint64]struct{}{}}
}

func (d *distinct) add(s string) {
	h := maphash.String(d.seed, s)
	if _, known := d.kept[h]; known || len(d.order) == distinctKept && h >= d.order[0] {
		return
	}
	d.kept[h] = struct{}{}
	heap.Push(&d.order, h)
	if len(d.order) > distinctKept {
		largest, _ := heap.Pop(&d.order).(uint64)
		delete(d.kept, largest)
	}
}

// count is exact, or an estimate.
func (d *distinct) count() (n int64, exact bool) {
	if len(d.order) < distinctKept {
		return int64(len(d.order)), true
	}
	return int64((distinctKept - 1) / (float64(d.order[0]) / math.MaxUint64)), false
}

// largestFirst is a heap.
type largestFirst []uint64

func (l largestFirst) Len() int           { return len(l) }
func (l largestFirst) Less(i, j int) bool { return l[i] > l[j] }
func (l largestFirst) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }

func (l *largestFirst) Push(x any) {
	if h, ok := x.(uint64); ok {
		*l = append(*l, h)
	}
}

func (l *largestFirst) Pop() any {
	last := len(*l) - 1
	h := (*l)[last]
	*l = (*l)[:last]
	return h
}
