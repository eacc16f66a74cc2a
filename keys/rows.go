package keys

import (
	"fmt"
	"io"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Row is a row of a keyspace.
type Row struct{ Key, Value []byte }

// Rows is a hierarchy at rest: all of keyspace keys but the root row, and all of keyspace generations.
type Rows struct{ Keys, Generations []Row }

// Rows wraps every key under the epoch root, with nonces from rand. The generation rows are those of a new
// installation: clean and in their first epoch. The order is always the same.
func (h *Hierarchy) Rows(rand io.Reader) (Rows, error) {
	if err := h.use(); err != nil {
		return Rows{}, err
	}
	defer h.done()
	wrappers := h.wrappers()
	defer wrappers.wipe()
	var out Rows
	err := h.each(func(s slot, key *[keySize]byte, generation *uint64) error {
		p := s.place(h.inst)
		if generation != nil {
			p.generation = *generation
			out.Generations = append(out.Generations, Row{s.row, Generation{G: *generation}.Marshal()})
		}
		value, err := seal(rand, wrappers[s.label], p, nil, key[:])
		if err != nil {
			return fmt.Errorf("keys row %s: %w", s.name, err)
		}
		out.Keys = append(out.Keys, Row{s.row, value})
		return nil
	})
	if err != nil {
		return Rows{}, err
	}
	return out, nil
}

// Load opens what Rows gave, under the epoch root er of 32 bytes, which it copies. Each row must be there exactly once
// and no other may; else the error is ErrCorrupt and names the row.
func Load(inst InstanceID, log2P uint8, root Root, er secret.Bytes, rows Rows) (*Hierarchy, error) {
	h, err := newHierarchy(inst, log2P, root.Epoch)
	if err != nil {
		return nil, err
	}
	if er.Len() != keySize {
		return nil, fmt.Errorf("epoch root: %w", ErrInvalid)
	}
	copy(h.er[:], er.Reveal())
	if err := h.load(rows); err != nil {
		h.discard()
		return nil, err
	}
	h.prepare()
	return h, nil
}

func (h *Hierarchy) load(rows Rows) error {
	wrapped, err := byKey("keys", rows.Keys)
	if err != nil {
		return err
	}
	counted, err := byKey("generations", rows.Generations)
	if err != nil {
		return err
	}
	wrappers := h.wrappers()
	defer wrappers.wipe()
	err = h.each(func(s slot, key *[keySize]byte, generation *uint64) error {
		p := s.place(h.inst)
		if generation != nil {
			value, ok := counted[string(s.row)]
			if !ok {
				return fmt.Errorf("generations row %s is missing: %w", s.name, ErrCorrupt)
			}
			delete(counted, string(s.row))
			g, err := UnmarshalGeneration(value)
			if err != nil || g.ReplacedIn > h.epoch {
				return fmt.Errorf("generations row %s: %w", s.name, ErrCorrupt)
			}
			*generation, p.generation = g.G, g.G
		}
		value, ok := wrapped[string(s.row)]
		if !ok {
			return fmt.Errorf("keys row %s is missing: %w", s.name, ErrCorrupt)
		}
		delete(wrapped, string(s.row))
		plain, err := open(wrappers[s.label], p, value)
		if err != nil || len(plain) != keySize {
			return fmt.Errorf("keys row %s: %w", s.name, ErrCorrupt)
		}
		copy(key[:], plain)
		clear(plain)
		return nil
	})
	if err != nil {
		return err
	}
	if err := none("keys", wrapped); err != nil {
		return err
	}
	return none("generations", counted)
}

// wrappers are the epoch root's subkeys, by label.
type wrappers map[string]*[keySize]byte

func (h *Hierarchy) wrappers() wrappers {
	w := make(wrappers)
	for _, label := range []string{labelBucket, labelPartition, labelService} {
		k := derive(h.er[:], label)
		w[label] = &k
	}
	return w
}

func (w wrappers) wipe() {
	for _, k := range w {
		clear(k[:])
	}
}

// discard overwrites what was opened before loading failed.
func (h *Hierarchy) discard() {
	clear(h.er[:])
	clear(h.service[:])
	clear(h.buckets)
	clear(h.partitions)
}

func byKey(keyspace string, rows []Row) (map[string][]byte, error) {
	m := make(map[string][]byte, len(rows))
	for _, r := range rows {
		if _, twice := m[string(r.Key)]; twice {
			return nil, fmt.Errorf("%s row %.32q stands twice: %w", keyspace, r.Key, ErrCorrupt)
		}
		m[string(r.Key)] = r.Value
	}
	return m, nil
}

func none(keyspace string, left map[string][]byte) error {
	for key := range left {
		return fmt.Errorf("%s row %.32q is none of ours: %w", keyspace, key, ErrCorrupt)
	}
	return nil
}

// slot is where a key of the hierarchy is kept.
type slot struct {
	name  string // for errors: bucket 17, partition 3, service sid
	label string
	row   []byte
	n     uint16
	// counted slots have a generation row of the same key.
	counted bool
}

func (s slot) place(inst InstanceID) place {
	return place{label: s.label, inst: inst, row: s.row, counted: s.counted, n: s.n}
}

// each visits every key. generation is nil for those that have none.
func (h *Hierarchy) each(fn func(s slot, key *[keySize]byte, generation *uint64) error) error {
	for i := range h.buckets {
		row := BucketRowKey(uint16(i))
		s := slot{fmt.Sprintf("bucket %d", i), labelBucket, row[:], uint16(i), true}
		if err := fn(s, &h.buckets[i].key, &h.buckets[i].generation); err != nil {
			return err
		}
	}
	for i := range h.partitions {
		row := PartitionRowKey(uint16(i))
		s := slot{fmt.Sprintf("partition %d", i), labelPartition, row[:], uint16(i), true}
		if err := fn(s, &h.partitions[i].key, &h.partitions[i].generation); err != nil {
			return err
		}
	}
	for i, name := range serviceNames() {
		s := slot{"service " + name, labelService, serviceRowKey(name), 0, false}
		if err := fn(s, &h.service[i], nil); err != nil {
			return err
		}
	}
	return nil
}
