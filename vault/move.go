package vault

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// While the keys of a store move from one key service to another both are needed, and new keys are wrapped by the
// latter. This row says so, from the start of the move to its end, also while nobody works on it:
//
//	01 ‖ job (16) ‖ LP(scheme moved from) ‖ LP(scheme moved to) ‖ kid ‖ LP(wrapped)
//
// The last two are a check key of the key service moved to.
var rowMove = []byte("dek/move")

type move struct {
	job      jobID
	from, to string
	check    check
}

func (m *move) marshal() []byte {
	out := append([]byte{1}, m.job[:]...)
	out = appendLP(appendLP(out, m.from), m.to)
	return m.check.append(out)
}

func (m *move) String() string {
	return fmt.Sprintf("its keys are being moved from %s to %s (%s), and each has a part of them", keyServiceOf(m.from).name, keyServiceOf(m.to).name, m.job)
}

// readMove returns nil when no keys are being moved.
func readMove(tx store.ReadTx) (*move, error) {
	row, err := tx.Get(store.Meta, rowMove)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseMove(row)
}

func parseMove(row []byte) (*move, error) {
	var version uint8
	var from, to cryptobyte.String
	m := new(move)
	s := cryptobyte.String(row)
	if !s.ReadUint8(&version) || version != 1 || !s.CopyBytes(m.job[:]) || !s.ReadUint16LengthPrefixed(&from) ||
		!s.ReadUint16LengthPrefixed(&to) || !m.check.parse(&s) || !s.Empty() {
		return nil, fmt.Errorf("move row: %w", ErrCorrupt)
	}
	m.from, m.to = string(from), string(to)
	return m, nil
}

// checkScheme is asked by each transaction that writes a new subject: a data key that was wrapped before a move began
// must not come into the store while, or after, the others leave.
func checkScheme(tx store.ReadTx, wrapped keys.Wrapped) error {
	rows, err := tx.GetMulti(store.Meta, [][]byte{rowMove, rowCheck})
	if err != nil {
		return err
	}
	var scheme string
	if rows[0] != nil {
		m, err := parseMove(rows[0])
		if err != nil {
			return err
		}
		scheme = m.to
	} else {
		c, err := parseCheck(rows[1])
		if err != nil {
			return err
		}
		scheme = c.wrapped.Scheme()
	}
	if wrapped.Scheme() != scheme {
		return store.ErrConflict
	}
	return nil
}
