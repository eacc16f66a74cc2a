package vault

import (
	"bytes"
	"context"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// keychain is what a change holds while it is tried, once or again: the data keys that it needs, and the turn of its
// subjects. Keys are fetched before the turn is taken, and where more are needed it is given back first: nobody waits for
// the key service while others wait for the turn.
type keychain struct {
	v       *Vault
	sids    []keys.SID
	release func() // nil: the turn is not held

	old      map[keys.DEKRef]keys.DEKOutcome
	fresh    map[keys.SID]keys.NewDEK // for subjects that begin; the same ones at each try
	freshErr error
}

// change tries a change until what it read still stood when it committed.
func (v *Vault) change(ctx context.Context, sids []keys.SID, try func(*keychain) error) error {
	k := &keychain{v: v, sids: sids, old: map[keys.DEKRef]keys.DEKOutcome{}, fresh: map[keys.SID]keys.NewDEK{}}
	defer k.close()
	return attempt(ctx, func() error { return try(k) })
}

func (k *keychain) close() {
	k.leave()
	for _, o := range k.old {
		o.Key.Wipe()
	}
	for _, d := range k.fresh {
		d.Key.Wipe()
	}
}

func (k *keychain) leave() {
	if k.release != nil {
		k.release()
		k.release = nil
	}
}

// ready comes between reading subjects and changing them. It answers store.ErrConflict when they changed before the turn
// was taken: at the next try it is held from the start.
func (k *keychain) ready(ctx context.Context, subjects []*subject, withKeys bool) error {
	if withKeys {
		k.supply(ctx, subjects)
	}
	changed, err := k.enter(ctx, subjects)
	if len(changed) > 0 {
		return store.ErrConflict
	}
	return err
}

// supply fetches the keys of subjects that are not at hand, giving the turn back before.
func (k *keychain) supply(ctx context.Context, subjects []*subject) {
	if old, begin := k.missing(subjects); len(old) > 0 || len(begin) > 0 {
		k.leave()
		k.fetch(ctx, old, begin)
	}
}

// enter takes the turn unless it is held, and returns the places of the subjects that changed before it was taken.
func (k *keychain) enter(ctx context.Context, subjects []*subject) (changed []int, err error) {
	if k.release != nil {
		return nil, nil
	}
	if k.release, err = k.v.turns.take(ctx, k.sids...); err != nil {
		return nil, err
	}
	return k.v.changed(ctx, subjects)
}

// missing tells which keys are not at hand. A key that could not be had is not asked for again.
func (k *keychain) missing(subjects []*subject) (old []keys.DEKRef, begin []keys.SID) {
	for sid, d := range k.fresh {
		if d.Wrapped.Scheme() != k.v.kms.Scheme() { // a move of all keys began meanwhile
			d.Key.Wipe()
			delete(k.fresh, sid)
		}
	}
	for _, s := range subjects {
		if s.exists() {
			if _, ok := k.old[s.ref()]; !ok {
				old = append(old, s.ref())
			}
		} else if _, ok := k.fresh[s.sid]; !ok && k.freshErr == nil {
			begin = append(begin, s.sid)
		}
	}
	return old, begin
}

func (k *keychain) fetch(ctx context.Context, old []keys.DEKRef, begin []keys.SID) {
	for i, o := range k.v.deks.Unwrap(ctx, old) {
		k.old[old[i]] = o
	}
	if len(begin) == 0 {
		return
	}
	var made []keys.NewDEK
	made, k.freshErr = k.v.deks.New(ctx, len(begin))
	for i, d := range made {
		k.fresh[begin[i]] = d
	}
}

// edits opens subjects for change, with the keys at hand: new ones for subjects that begin, the old ones elsewhere. A
// subject whose key could not be had gets an error in its place.
func (k *keychain) edits(ctx context.Context, subjects []*subject, ids []string) ([]*edit, []*Error, error) {
	if err := k.ready(ctx, subjects, true); err != nil {
		return nil, nil, err
	}
	out, errs := make([]*edit, len(subjects)), make([]*Error, len(subjects))
	for i, s := range subjects {
		var err error
		if out[i], errs[i], err = k.edit(s, ids[i]); err != nil {
			return nil, nil, err
		}
	}
	return out, errs, nil
}

// edit opens one subject for change, with the key at hand.
func (k *keychain) edit(s *subject, id string) (*edit, *Error, error) {
	e := &edit{subject: s}
	if s.exists() {
		had := k.old[s.ref()]
		s.dek = had.Key
		return e, keyError(had.Err), nil
	}
	dek, ok := k.fresh[s.sid]
	if !ok {
		return e, ErrKey.because(k.freshErr), nil
	}
	return e, nil, e.begin(k.v, id, dek)
}

// changed returns the places of the subjects that are no longer as they were read.
func (v *Vault) changed(ctx context.Context, subjects []*subject) (places []int, err error) {
	rows := make([][]byte, len(subjects))
	for i, s := range subjects {
		rows[i] = keys.SubjectKeyRow(s.sid)
	}
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		values, err := tx.GetMulti(store.Subjects, rows)
		if err != nil {
			return err
		}
		places = places[:0]
		for i, s := range subjects {
			if (values[i] == nil) != (s.before == nil) || !bytes.Equal(values[i], s.before) {
				places = append(places, i)
			}
		}
		return nil
	})
	return places, err
}
