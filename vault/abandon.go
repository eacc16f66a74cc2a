package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// What AbandonMove can answer besides a start's errors.
var (
	ErrNoMove = errors.New("no keys are being moved")
	// ErrMoved: the key service that is to be done without has keys that nothing else opens.
	ErrMoved = errors.New("the move cannot be ended without it")
)

// AbandonMove ends a move of keys that has lost one of its two key services, which no start gets over. It asks the one
// that has the root, alone: its root and dek key must open, and everybody's key must be there, as it is before the first
// people have moved, or after the last. Else it is ErrMoved, which says how many people need the lost one. Nothing may
// serve the store meanwhile. The move's job is left to the next start, which has clock and audit log: there it fails, and
// says where the keys are.
func AbandonMove(ctx context.Context, st store.Store, services *keys.Services) error {
	s, err := readSealed(ctx, st)
	if err != nil {
		return err
	}
	if s.move == nil {
		return ErrNoMove
	}
	home := keyServiceOf(s.root.Wrapped.Scheme())
	at, ok := services.Of(home.scheme)
	if !ok {
		return fmt.Errorf("%w: its keys are wrapped by %s; %s", ErrOtherService, home.name, home.start)
	}
	if home.scheme == s.move.to {
		s.check = &s.move.check
	}
	var checks []*check
	if s.check != nil {
		checks = append(checks, s.check)
	}
	h, err := s.open(ctx, at, checks)
	if err != nil {
		return err
	}
	defer h.Wipe()
	return st.Update(ctx, func(tx store.Tx) error {
		now, err := readMove(tx)
		if err != nil {
			return err
		}
		if now == nil || now.job != s.move.job {
			return store.ErrConflict
		}
		elsewhere, err := countElsewhere(tx, h, home.scheme)
		if err != nil {
			return err
		}
		if elsewhere > 0 {
			return fmt.Errorf("%w: the keys of %d people are not at %s; bring the other key service back", ErrMoved, elsewhere, home.name)
		}
		if s.check != nil {
			if err := tx.Put(store.Meta, rowCheck, s.check.marshal()); err != nil {
				return err
			}
		}
		return tx.Delete(store.Meta, rowMove)
	})
}

// countElsewhere counts the people whose keys are not wrapped by the key service of a scheme. Damaged rows do not count:
// no key service opens them.
func countElsewhere(tx store.ReadTx, h *keys.Hierarchy, scheme string) (n int, err error) {
	err = scanKeyRows(tx, nil, func(sid keys.SID, value []byte) error {
		row, err := h.OpenKeyRow(sid, value)
		if damaged(err) {
			return nil
		}
		if err != nil {
			return err
		}
		row.SK.Wipe()
		if row.Wrapped.Scheme() != scheme {
			n++
		}
		return nil
	})
	return n, err
}
