package bolt

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/cloakroom-io/cloakroom/store"
)

var (
	errEnded     = errors.New("store/bolt: transaction used after its callback returned")
	errKeySize   = fmt.Errorf("store/bolt: a key has 1 to %d bytes", store.MaxKey)
	errValueSize = fmt.Errorf("store/bolt: a value has at most %d bytes", store.MaxValue)
)

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > store.MaxKey {
		return errKeySize
	}
	return nil
}

// keyspace returns the place of ks among the keyspaces.
func (s *Store) keyspace(ks store.Keyspace) (int, error) {
	i, ok := s.spaces[ks]
	if !ok {
		return 0, fmt.Errorf("store/bolt: no keyspace %q", string(ks))
	}
	return i, nil
}

// readTx implements store.ReadTx on a bbolt snapshot.
type readTx struct {
	s       *Store
	tx      *bbolt.Tx // nil after the callback
	buckets []*bbolt.Bucket
}

func (r *readTx) end() {
	_ = r.tx.Rollback()
	r.tx = nil
}

func (r *readTx) bucket(ks store.Keyspace) (*bbolt.Bucket, error) {
	if r.tx == nil {
		return nil, errEnded
	}
	i, err := r.s.keyspace(ks)
	if err != nil {
		return nil, err
	}
	if r.buckets == nil {
		r.buckets = make([]*bbolt.Bucket, len(r.s.spaces))
	}
	if r.buckets[i] == nil {
		r.buckets[i] = r.tx.Bucket([]byte(ks))
	}
	return r.buckets[i], nil
}

func (r *readTx) Get(ks store.Keyspace, key []byte) ([]byte, error) {
	b, err := r.bucket(ks)
	if err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	v := b.Get(key)
	r.s.touched(r.tx, len(v))
	if v == nil {
		return nil, store.ErrNotFound
	}
	return v, nil
}

func (r *readTx) GetMulti(ks store.Keyspace, keys [][]byte) ([][]byte, error) {
	b, err := r.bucket(ks)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
		values[i] = b.Get(key)
		r.s.touched(r.tx, len(values[i]))
	}
	return values, nil
}

func (r *readTx) Scan(ks store.Keyspace, from, to []byte, fn func(key, value []byte) error) error {
	b, err := r.bucket(ks)
	if err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.Seek(from); k != nil && before(k, to); k, v = c.Next() {
		r.s.touched(r.tx, len(v))
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

func before(key, to []byte) bool { return to == nil || bytes.Compare(key, to) < 0 }

// writeTx implements store.Tx on the overlay of a group.
type writeTx struct {
	s *Store
	o *overlay // nil after the callback
}

// open returns the place of ks, and an error after the callback.
func (w *writeTx) open(ks store.Keyspace) (int, error) {
	if w.o == nil {
		return 0, errEnded
	}
	return w.s.keyspace(ks)
}

// value returns the value at key, nil where there is no row.
func (w *writeTx) value(ks int, key []byte) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if v, ok := w.o.get(ks, key); ok {
		return v, nil
	}
	v := w.o.bucket(ks).Get(key)
	w.s.touched(w.o.tx, len(v))
	return v, nil
}

func (w *writeTx) Get(ks store.Keyspace, key []byte) ([]byte, error) {
	i, err := w.open(ks)
	if err != nil {
		return nil, err
	}
	v, err := w.value(i, key)
	if err == nil && v == nil {
		err = store.ErrNotFound
	}
	return v, err
}

func (w *writeTx) GetMulti(ks store.Keyspace, keys [][]byte) ([][]byte, error) {
	i, err := w.open(ks)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for n, key := range keys {
		if values[n], err = w.value(i, key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Scan shows the rows as they are when it begins. What fn changes meanwhile is for the next one.
func (w *writeTx) Scan(ks store.Keyspace, from, to []byte, fn func(key, value []byte) error) error {
	i, err := w.open(ks)
	if err != nil {
		return err
	}
	o := w.o
	changed := o.within(o.merged[:0], i, from, to)
	o.merged = nil // a scan inside fn takes its own
	defer func() { o.merged = changed[:0] }()

	c := o.bucket(i).Cursor()
	k, v := c.Seek(from)
	for rest := changed; ; {
		if k != nil && !before(k, to) {
			k = nil
		}
		order := -1 // of the stored row against the changed one
		switch {
		case k == nil && len(rest) == 0:
			return nil
		case k == nil:
			order = 1
		case len(rest) > 0:
			order = bytes.Compare(k, rest[0].key)
		}
		key, value := k, v
		if order >= 0 {
			key, value = rest[0].key, rest[0].value
			rest = rest[1:]
		}
		if order <= 0 {
			w.s.touched(o.tx, len(v))
			k, v = c.Next()
		}
		if value == nil {
			continue
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
}

func (w *writeTx) Put(ks store.Keyspace, key, value []byte) error {
	i, err := w.open(ks)
	if err != nil {
		return err
	}
	return w.put(i, key, value)
}

func (w *writeTx) put(ks int, key, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > store.MaxValue {
		return errValueSize
	}
	if value == nil {
		value = []byte{}
	}
	w.o.set(ks, key, value)
	return nil
}

func (w *writeTx) Create(ks store.Keyspace, key, value []byte) error {
	i, err := w.open(ks)
	if err != nil {
		return err
	}
	there, err := w.value(i, key)
	if err != nil {
		return err
	}
	if there != nil {
		return store.ErrExists
	}
	return w.put(i, key, value)
}

func (w *writeTx) Delete(ks store.Keyspace, key []byte) error {
	i, err := w.open(ks)
	if err != nil {
		return err
	}
	there, err := w.value(i, key)
	if err != nil || there == nil {
		return err
	}
	w.o.set(i, key, nil)
	return nil
}
