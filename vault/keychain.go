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
	fresh    []keys.NewDEK // for subjects that begin; the same ones at each try
	freshErr error
}

// change tries a change until what it read still stood when it committed.
func (v *Vault) change(ctx context.Context, sids []keys.SID, try func(*keychain) error) error {
	k := &keychain{v: v, sids: sids, old: map[keys.DEKRef]keys.DEKOutcome{}}
	defer k.close()
	return attempt(ctx, func() error { return try(k) })
}

func (k *keychain) close() {
	k.leave()
	for _, o := range k.old {
		o.Key.Wipe()
	}
	k.drop()
}

func (k *keychain) leave() {
	if k.release != nil {
		k.release()
		k.release = nil
	}
}

func (k *keychain) drop() {
	for _, d := range k.fresh {
		d.Key.Wipe()
	}
	k.fresh = nil
}

// ready comes between reading subjects and changing them. It answers store.ErrConflict when they changed before the turn
// was taken: at the next try it is held from the start.
func (k *keychain) ready(ctx context.Context, subjects []*subject, withKeys bool) error {
	if withKeys {
		if old, fresh := k.missing(subjects); len(old) > 0 || fresh > 0 {
			k.leave()
			k.fetch(ctx, old, fresh)
		}
	}
	if k.release != nil {
		return nil
	}
	var err error
	if k.release, err = k.v.turns.take(ctx, k.sids...); err != nil {
		return err
	}
	return k.v.asRead(ctx, subjects)
}

// missing tells which keys are not at hand. A key that could not be had is not asked for again.
func (k *keychain) missing(subjects []*subject) (old []keys.DEKRef, fresh int) {
	begin := 0
	for _, s := range subjects {
		if !s.exists() {
			begin++
		} else if _, ok := k.old[s.ref()]; !ok {
			old = append(old, s.ref())
		}
	}
	if len(k.fresh) > 0 && k.fresh[0].Wrapped.Scheme() != k.v.kms.Scheme() {
		k.drop() // a move of all keys began meanwhile
	}
	if k.freshErr == nil {
		fresh = max(0, begin-len(k.fresh))
	}
	return old, fresh
}

func (k *keychain) fetch(ctx context.Context, old []keys.DEKRef, fresh int) {
	for i, o := range k.v.deks.Unwrap(ctx, old) {
		k.old[old[i]] = o
	}
	if fresh == 0 {
		return
	}
	var made []keys.NewDEK
	made, k.freshErr = k.v.deks.New(ctx, fresh)
	k.fresh = append(k.fresh, made...)
}

// edits opens subjects for change, with the keys at hand: new ones for subjects that begin, the old ones elsewhere. A
// subject whose key could not be had gets an error in its place.
func (k *keychain) edits(ctx context.Context, subjects []*subject, ids []string) ([]*edit, []*Error, error) {
	if err := k.ready(ctx, subjects, true); err != nil {
		return nil, nil, err
	}
	out, errs := make([]*edit, len(subjects)), make([]*Error, len(subjects))
	begun := 0
	for i, s := range subjects {
		out[i] = &edit{subject: s}
		if s.exists() {
			had := k.old[s.ref()]
			s.dek, errs[i] = had.Key, keyError(had.Err)
			continue
		}
		if begun == len(k.fresh) {
			errs[i] = ErrKey.because(k.freshErr)
			continue
		}
		if err := out[i].begin(k.v, ids[i], k.fresh[begun]); err != nil {
			return nil, nil, err
		}
		begun++
	}
	return out, errs, nil
}

// asRead compares subjects with the store as it is now.
func (v *Vault) asRead(ctx context.Context, subjects []*subject) error {
	rows := make([][]byte, len(subjects))
	for i, s := range subjects {
		rows[i] = keys.SubjectKeyRow(s.sid)
	}
	return v.store.View(ctx, func(tx store.ReadTx) error {
		values, err := tx.GetMulti(store.Subjects, rows)
		if err != nil {
			return err
		}
		for i, s := range subjects {
			if (values[i] == nil) != (s.before == nil) || !bytes.Equal(values[i], s.before) {
				return store.ErrConflict
			}
		}
		return nil
	})
}
