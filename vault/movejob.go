package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// MoveKeys is the kind of job that wraps all keys of the store anew, at another key service: options "from" and "to",
// each "local" or "transit". Its unit is people. Callers notice nothing of it but that each person's key is fetched once
// more.
//
// It can be cut short anywhere and goes on at the next start. Where it fails, because a key service will not open some
// key, both key services go on being needed, and the same job or the one in the other direction can be started. The one in
// the other direction takes the place of one that runs: it may wait for a key service that is lost.
const MoveKeys = "move-keys"

// turnsRound tells whether a move goes back where another, that runs, comes from.
func turnsRound(options, running map[string]string) bool {
	return options["from"] == running["to"] && options["to"] == running["from"]
}

func aboutMove(options map[string]string) string { return options["from"] + " to " + options["to"] }

// prepareMove refuses a move that could not come to its end, before anything is changed.
func (v *Vault) prepareMove(ctx context.Context, id jobID, options map[string]string) (func(store.Tx) error, error) {
	m := &move{job: id}
	from, known := schemeOf(options["from"])
	to, too := schemeOf(options["to"])
	if len(options) != 2 || !known || !too || from == to {
		return nil, ErrMalformed.saying(`move-keys has the options "from" and "to": "local" and "transit", or the other way round`)
	}
	m.from, m.to = from, to
	for _, scheme := range []string{from, to} {
		if !among(v.kms, scheme) {
			return nil, ErrConflict.saying("this server was not started with " + keyServiceOf(scheme).name + ": start it with the settings of both key services, then start this job again")
		}
	}
	var before []byte
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		before, err = m.allowed(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := v.prove(ctx, m); err != nil {
		return nil, err
	}
	return func(tx store.Tx) error {
		now, err := m.allowed(tx)
		if err != nil {
			return err
		}
		if !bytes.Equal(now, before) {
			return store.ErrConflict
		}
		return tx.Put(store.Meta, rowMove, m.marshal())
	}, nil
}

// allowed says whether the move may begin as things stand, and returns the row of one that failed before it.
func (m *move) allowed(tx store.ReadTx) (row []byte, err error) {
	root, err := readRoot(tx)
	if err != nil {
		return nil, err
	}
	old, err := readMove(tx)
	if err != nil {
		return nil, err
	}
	if old == nil {
		if in := root.Wrapped.Scheme(); in != m.from {
			return nil, ErrConflict.saying(fmt.Sprintf("the keys are not at %s but at %s", keyServiceOf(m.from).name, keyServiceOf(in).name))
		}
		return nil, nil
	}
	if old.from != m.from && old.from != m.to || old.to != m.from && old.to != m.to {
		return nil, ErrConflict.saying(old.String() + ": finish that move first, or turn it round")
	}
	return old.marshal(), nil
}

// prove makes the keys at the key service moved to where there are none, holds them to their settings, and sees that
// both give back what they are given.
func (v *Vault) prove(ctx context.Context, m *move) error {
	target, _ := v.kms.Of(m.to)
	name := keyServiceOf(m.to).name
	refuse := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, keys.ErrKMSUnavailable):
			return ErrKeyService.saying(name + " does not answer: " + bounded(err.Error())).because(err)
		default:
			return ErrConflict.saying(name + " cannot take the keys: " + bounded(err.Error())).because(err)
		}
	}
	for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		if err := target.Create(ctx, key); err != nil {
			return refuse(err)
		}
	}
	if checker, ok := target.(keys.SettingsChecker); ok {
		warnings, err := checker.CheckSettings(ctx)
		if err != nil {
			return refuse(err)
		}
		for _, w := range warnings {
			v.log.Warn("key service", "service", name, "warning", w)
		}
	}
	if _, err := newCheck(ctx, target, keys.RootKey, v.keys.Instance(), v.random); err != nil {
		return refuse(err)
	}
	c, err := newCheck(ctx, target, keys.DEKKey, v.keys.Instance(), v.random)
	if err != nil {
		return refuse(err)
	}
	m.check = *c
	return nil
}

// runMove is the work, from wherever the last process left it.
func (v *Vault) runMove(ctx context.Context, w *work) error {
	var m *move
	err := w.persist(ctx, func() error {
		return v.store.View(ctx, func(tx store.ReadTx) (err error) {
			m, err = readMove(tx)
			return err
		})
	})
	if err != nil {
		return jobError(err)
	}
	if m == nil || m.job != w.id {
		return v.moveGone(ctx, w)
	}
	// From here on new keys are wrapped by the key service moved to; those made ahead are of the other one. Until then
	// no new person can be stored (checkScheme), so nothing comes before it.
	if err := v.kms.Use(m.to); err != nil {
		return ErrConflict.saying("this server was not started with the settings of both key services").because(err)
	}
	v.deks.Purge()
	remark, err := v.movePeople(ctx, w, m)
	if err != nil {
		return err
	}
	return v.moveRoot(ctx, w, m, remark)
}

// moveGone says why the store knows nothing of a move whose job runs: AbandonMove ended it.
func (v *Vault) moveGone(ctx context.Context, w *work) error {
	var root keys.Root
	err := w.persist(ctx, func() (err error) {
		root, _, err = v.rootRow(ctx)
		return err
	})
	if err != nil {
		return jobError(err)
	}
	return ErrConflict.saying("the move was ended without its other key service; all keys are at " + keyServiceOf(root.Wrapped.Scheme()).name)
}

// stillMoves is asked by each transaction of a move, which another process may have turned round.
func (w *work) stillMoves(tx store.ReadTx) error {
	m, err := readMove(tx)
	if err == nil && (m == nil || m.job != w.id) {
		return errEnded
	}
	return err
}

// movePeople sweeps until one pass finds nobody whose key is elsewhere. It returns what it had to leave.
func (v *Vault) movePeople(ctx context.Context, w *work, m *move) (remark *Error, err error) {
	s := &sweep{v: v, w: w, to: m.to}
	err = w.persist(ctx, func() error {
		return v.store.View(ctx, func(tx store.ReadTx) (err error) {
			s.total, err = countPeople(tx)
			return err
		})
	})
	if err != nil {
		return nil, jobError(err)
	}
	for {
		if err := s.pass(ctx); err != nil {
			return nil, err
		}
		if s.moved > 0 || s.left > 0 {
			continue
		}
		if s.refused > 0 {
			return nil, s.failure()
		}
		all := max(s.total, s.done+s.damaged)
		w.progress(all-s.damaged, all) // people were erased meanwhile
		return s.remark(), nil
	}
}

// moveRoot ends the move: the epoch root is wrapped by the key service moved to and opened again from the store, then
// the other one is no longer needed. remark stays with the job.
func (v *Vault) moveRoot(ctx context.Context, w *work, m *move, remark *Error) error {
	target, _ := v.kms.Of(m.to)
	var before, after []byte
	var er secret.Bytes
	defer func() { er.Wipe() }()
	err := w.persist(ctx, func() error {
		root, row, err := v.rootRow(ctx)
		if err != nil {
			return err
		}
		er.Wipe()
		if er, err = unwrapRoot(ctx, v.kms, v.keys.Instance(), root); err != nil {
			return awayOrRefused(keyServiceOf(root.Wrapped.Scheme()).name, err)
		}
		before, after = row, row
		if root.Wrapped.Scheme() == m.to {
			return nil
		}
		if after, err = wrapRoot(ctx, target, v.keys.Instance(), root.Epoch, er); err != nil {
			return awayOrRefused(keyServiceOf(m.to).name, err)
		}
		return v.exchangeRoot(ctx, w, before, after)
	})
	if errors.Is(err, keys.ErrUnwrap) {
		return ErrKey.saying("a key service refuses to open the root key; everything else has moved, and both key services are still needed").because(err)
	}
	if err != nil {
		return jobError(err)
	}
	err = w.persist(ctx, func() error { return v.rootOpens(ctx, target, m.to, er) })
	if err != nil && ctx.Err() == nil {
		back := w.persist(ctx, func() error { return v.exchangeRoot(ctx, w, after, before) })
		return jobError(errors.Join(err, back))
	}
	if err != nil {
		return err
	}
	if err := w.persist(ctx, func() error { return w.announce(ctx, nil) }); err != nil {
		return jobError(err)
	}
	settled := func() {}
	err = w.persist(ctx, func() error {
		return v.store.Update(ctx, func(tx store.Tx) (err error) {
			if err := w.stillMoves(tx); err != nil {
				return err
			}
			if err := tx.Put(store.Meta, rowCheck, m.check.marshal()); err != nil {
				return err
			}
			if err := tx.Delete(store.Meta, rowMove); err != nil {
				return err
			}
			settled, err = w.end(tx, JobDone, remark)
			return err
		})
	})
	if err != nil {
		return jobError(err)
	}
	settled()
	return nil
}

func (v *Vault) rootRow(ctx context.Context) (root keys.Root, row []byte, err error) {
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		value, err := tx.Get(store.Keys, keys.RootRowKey())
		if err != nil {
			return err
		}
		row = bytes.Clone(value)
		root, err = keys.UnmarshalRoot(row)
		return err
	})
	return root, row, err
}

// exchangeRoot puts one root row in the other's place.
func (v *Vault) exchangeRoot(ctx context.Context, w *work, before, after []byte) error {
	return v.store.Update(ctx, func(tx store.Tx) error {
		if err := w.stillMoves(tx); err != nil {
			return err
		}
		now, err := tx.Get(store.Keys, keys.RootRowKey())
		if err != nil {
			return err
		}
		if bytes.Equal(now, after) {
			return nil
		}
		if !bytes.Equal(now, before) {
			return store.ErrConflict
		}
		return tx.Put(store.Keys, keys.RootRowKey(), after)
	})
}

// rootOpens reads the root row as the next start will and compares what it holds.
func (v *Vault) rootOpens(ctx context.Context, target keys.KMS, scheme string, er secret.Bytes) error {
	root, _, err := v.rootRow(ctx)
	if err != nil {
		return err
	}
	again, err := unwrapRoot(ctx, target, v.keys.Instance(), root)
	if err != nil {
		return awayOrRefused(keyServiceOf(scheme).name, err)
	}
	defer again.Wipe()
	if !again.Equal(er) {
		return errOtherKey
	}
	return nil
}

// awayOrRefused tells a key service that may come back from one that has answered.
func awayOrRefused(service string, err error) error {
	if errors.Is(err, keys.ErrUnwrap) || errors.Is(err, errOtherKey) {
		return err
	}
	return awayError{service, err}
}

// jobError is what a job fails with.
func jobError(err error) error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errOtherKey):
		return ErrKey.saying("a key service gave back another key than it was given; both key services are still needed").because(err)
	case errors.Is(err, keys.ErrUnwrap):
		return ErrKey.saying("a key service refuses to open what it has just wrapped; both key services are still needed").because(err)
	case errors.Is(err, errEnded):
		return err
	}
	return storeError(err)
}
