package bolt

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

// overlay is what a group has changed so far, over the bbolt transaction it will be written to. Only the caller
// whose turn it is, or else the writer, touches it.
type overlay struct {
	names   []store.Keyspace
	tx      *bbolt.Tx
	buckets []*bbolt.Bucket
	layers  []layer // one per keyspace
	log     []undo  // what the running callback did, oldest first
	arena   arena
	merged  []row // scratch of Scan; nil while a scan uses it
}

// layer is the changed rows of one keyspace, in the order of their first change.
type layer struct {
	at    map[string]int32 // key -> place in rows
	rows  []row
	order []int32 // the first len(order) rows, by key; sorted up to date when somebody asks
}

// row holds copies in the arena. A nil value marks a deleted row.
type row struct{ key, value []byte }

type undo struct {
	layer, row int32
	value      []byte // before
	fresh      bool   // the row was not in the layer before
}

func newOverlay(names []store.Keyspace) *overlay {
	return &overlay{names: names, layers: make([]layer, len(names)), buckets: make([]*bbolt.Bucket, len(names))}
}

// reset forgets all changes and keeps memory of a modest size for the next group.
func (o *overlay) reset() {
	const modest = 1 << 13
	o.tx = nil
	clear(o.buckets)
	for i := range o.layers {
		l := &o.layers[i]
		if len(l.rows) > modest {
			*l = layer{}
			continue
		}
		clear(l.at)
		clear(l.rows)
		l.rows, l.order = l.rows[:0], l.order[:0]
	}
	o.settle()
	if cap(o.merged) > modest {
		o.merged = nil
	}
	o.arena.reset()
}

// settle makes the changes of the running callback part of the group.
func (o *overlay) settle() {
	clear(o.log)
	o.log = o.log[:0]
}

// revert takes the changes of the running callback back.
func (o *overlay) revert() {
	for _, u := range slices.Backward(o.log) {
		l := &o.layers[u.layer]
		if !u.fresh {
			l.rows[u.row].value = u.value
			continue
		}
		// Fresh rows were appended, and come off in reverse.
		delete(l.at, string(l.rows[u.row].key))
		l.rows = l.rows[:u.row]
	}
	for i := range o.layers {
		l := &o.layers[i]
		if len(l.order) > len(l.rows) {
			l.order = slices.DeleteFunc(l.order, func(at int32) bool { return int(at) >= len(l.rows) })
		}
	}
	o.settle()
}

// empty reports whether the group has changed nothing.
func (o *overlay) empty() bool {
	for i := range o.layers {
		if len(o.layers[i].rows) > 0 {
			return false
		}
	}
	return true
}

func (o *overlay) bucket(ks int) *bbolt.Bucket {
	if o.buckets[ks] == nil {
		o.buckets[ks] = o.tx.Bucket([]byte(o.names[ks]))
	}
	return o.buckets[ks]
}

// get returns the changed value, nil when the row is deleted, and whether the overlay has the row at all.
func (o *overlay) get(ks int, key []byte) ([]byte, bool) {
	l := &o.layers[ks]
	at, ok := l.at[string(key)]
	if !ok {
		return nil, false
	}
	return l.rows[at].value, true
}

// set copies and keeps a change; a nil value deletes.
func (o *overlay) set(ks int, key, value []byte) {
	if value != nil {
		value = o.arena.copy(value)
	}
	l := &o.layers[ks]
	if at, ok := l.at[string(key)]; ok {
		o.log = append(o.log, undo{layer: int32(ks), row: at, value: l.rows[at].value})
		l.rows[at].value = value
		return
	}
	if l.at == nil {
		l.at = make(map[string]int32)
	}
	at := int32(len(l.rows))
	l.at[string(key)] = at
	l.rows = append(l.rows, row{o.arena.copy(key), value})
	o.log = append(o.log, undo{layer: int32(ks), row: at, fresh: true})
}

// sorted brings order up to date. Few new rows are inserted one by one, many are sorted together.
func (l *layer) sorted() []int32 {
	byKey := func(a, b int32) int { return bytes.Compare(l.rows[a].key, l.rows[b].key) }
	fresh := len(l.rows) - len(l.order)
	for at := len(l.order); at < len(l.rows); at++ {
		if fresh > 16 {
			l.order = append(l.order, int32(at))
			continue
		}
		i, _ := slices.BinarySearchFunc(l.order, int32(at), byKey)
		l.order = slices.Insert(l.order, i, int32(at))
	}
	if fresh > 16 {
		slices.SortFunc(l.order, byKey)
	}
	return l.order
}

// within appends the changed rows of from <= key < to to dst, by key.
func (o *overlay) within(dst []row, ks int, from, to []byte) []row {
	l := &o.layers[ks]
	order := l.sorted()
	i, _ := slices.BinarySearchFunc(order, from, func(at int32, from []byte) int {
		return bytes.Compare(l.rows[at].key, from)
	})
	for _, at := range order[i:] {
		if to != nil && bytes.Compare(l.rows[at].key, to) >= 0 {
			break
		}
		dst = append(dst, l.rows[at])
	}
	return dst
}

// apply writes the changes to the transaction, by key, so that neighbours find their page in the processor's cache, and
// tells touched of each. bbolt keeps the values themselves until the transaction ends.
func (o *overlay) apply(touched func()) error {
	for ks := range o.layers {
		l := &o.layers[ks]
		if len(l.rows) == 0 {
			continue
		}
		b := o.bucket(ks)
		for _, at := range l.sorted() {
			var err error
			if r := l.rows[at]; r.value == nil {
				err = b.Delete(r.key)
			} else {
				err = b.Put(r.key, r.value)
			}
			if err != nil {
				return err
			}
			touched()
		}
	}
	return nil
}

// arena hands out copies in large pieces, all given up at once.
type arena struct {
	chunks [][]byte
	full   int // chunks[:full] are used up
	used   int // bytes handed out
}

const (
	arenaChunk = 64 << 10
	arenaKeep  = 64 // chunks
)

func (a *arena) copy(b []byte) []byte {
	a.used += len(b)
	if len(b) > arenaChunk/4 {
		return bytes.Clone(b)
	}
	if a.full < len(a.chunks) && arenaChunk-len(a.chunks[a.full]) < len(b) {
		a.full++
	}
	if a.full == len(a.chunks) {
		a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
	}
	c := a.chunks[a.full]
	n := len(c)
	c = append(c, b...)
	a.chunks[a.full] = c
	return c[n:len(c):len(c)]
}

func (a *arena) reset() {
	if len(a.chunks) > arenaKeep {
		clear(a.chunks[arenaKeep:])
		a.chunks = a.chunks[:arenaKeep]
	}
	for i := range a.chunks {
		a.chunks[i] = a.chunks[i][:0]
	}
	a.full, a.used = 0, 0
}
