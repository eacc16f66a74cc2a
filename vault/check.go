package vault

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// A dek key that was deleted, or deleted and made anew, opens no person's key, and nobody would notice before the first
// read. So the store keeps one random key that stands for nobody, wrapped by the dek key, and each start opens it:
//
//	01 ‖ kid ‖ LP(wrapped)
//
// Its context at the key service is not that of a data key: it cannot take a person's key's place.
var rowCheck = []byte("dek/check")

// check is that key.
type check struct {
	kid     keys.KID
	wrapped keys.Wrapped
}

func checkContext(inst keys.InstanceID, kid keys.KID) []byte {
	out := append([]byte("cloakroom/check/1\x00"), inst[:]...)
	return append(out, kid[:]...)
}

func (c *check) marshal() []byte { return c.append([]byte{1}) }

func (c *check) append(out []byte) []byte {
	return appendLP(append(out, c.kid[:]...), string(c.wrapped))
}

func (c *check) parse(s *cryptobyte.String) bool {
	var wrapped cryptobyte.String
	ok := s.CopyBytes(c.kid[:]) && s.ReadUint16LengthPrefixed(&wrapped) && len(wrapped) > 0 && len(wrapped) <= keys.MaxWrapped
	c.wrapped = keys.Wrapped(wrapped)
	return ok
}

// readCheck returns nil when there is no such row, as in a store that was made before there was one.
func readCheck(tx store.ReadTx) (*check, error) {
	row, err := tx.Get(store.Meta, rowCheck)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseCheck(row)
}

func parseCheck(row []byte) (*check, error) {
	var version uint8
	c := new(check)
	s := cryptobyte.String(row)
	if !s.ReadUint8(&version) || version != 1 || !c.parse(&s) || !s.Empty() {
		return nil, fmt.Errorf("dek check row: %w", ErrCorrupt)
	}
	return c, nil
}

// newCheck wraps a fresh key and opens the result again: that key of the key service works both ways.
func newCheck(ctx context.Context, kms keys.Wrapper, name keys.KeyName, inst keys.InstanceID, random io.Reader) (*check, error) {
	key, err := random32(random)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	c := new(check)
	if _, err := io.ReadFull(random, c.kid[:]); err != nil {
		return nil, err
	}
	out, err := kms.Wrap(ctx, name, 0, []keys.WrapItem{{Context: checkContext(inst, c.kid), Plaintext: key}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("wrapping a test key: %w", err)
	}
	c.wrapped = out[0].Wrapped
	if len(c.wrapped) == 0 || len(c.wrapped) > keys.MaxWrapped {
		return nil, errors.New("the key service wrapped a test key to a length that is none")
	}
	out, err = kms.Unwrap(ctx, name, []keys.UnwrapItem{{Context: checkContext(inst, c.kid), Wrapped: c.wrapped}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("unwrapping a test key: %w", err)
	}
	defer out[0].Plaintext.Wipe()
	if !out[0].Plaintext.Equal(key) {
		return nil, errOtherKey
	}
	return c, nil
}

// open asks the key service for the key. What it gives is of no use to anybody.
func (c *check) open(ctx context.Context, kms keys.Wrapper, inst keys.InstanceID) error {
	out, err := kms.Unwrap(ctx, keys.DEKKey, []keys.UnwrapItem{{Context: checkContext(inst, c.kid), Wrapped: c.wrapped}})
	if err != nil {
		return err
	}
	out[0].Plaintext.Wipe()
	return out[0].Err
}

// addCheck gives a store that was made before there were check rows its own. The dek key must be the right one, so it
// is tried on people first.
func (v *Vault) addCheck(ctx context.Context) error {
	if err := v.tryPeople(ctx); err != nil {
		return err
	}
	c, err := newCheck(ctx, v.kms, keys.DEKKey, v.keys.Instance(), v.random)
	if err != nil {
		return err
	}
	err = v.store.Update(ctx, func(tx store.Tx) error {
		return tx.Create(store.Meta, rowCheck, c.marshal())
	})
	if errors.Is(err, store.ErrExists) {
		return nil // another start was faster
	}
	return err
}

// tryPeople opens the keys of a few people and refuses the dek key when it opens none of them. A damaged row says nothing
// about the key.
func (v *Vault) tryPeople(ctx context.Context) error {
	const few = 16
	var refs []keys.DEKRef
	err := v.store.View(ctx, func(tx store.ReadTx) error {
		refs = nil
		err := scanKeyRows(tx, nil, func(sid keys.SID, value []byte) error {
			row, err := v.keys.OpenKeyRow(sid, value)
			if damaged(err) {
				return nil
			}
			if err != nil {
				return err
			}
			row.SK.Wipe()
			if refs = append(refs, keys.DEKRef{KID: row.KID, Wrapped: row.Wrapped}); len(refs) == few {
				return errStop
			}
			return nil
		})
		if errors.Is(err, errStop) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	refused := 0
	var away error
	for _, out := range v.deks.Unwrap(ctx, refs) {
		out.Key.Wipe()
		if errors.Is(out.Err, keys.ErrUnwrap) || errors.Is(out.Err, keys.ErrNoKey) {
			refused++
		} else if out.Err != nil {
			away = startError(v.kms.Scheme(), out.Err)
		}
	}
	if len(refs) > 0 && refused == len(refs) {
		return ErrWrongDEK
	}
	return away
}
