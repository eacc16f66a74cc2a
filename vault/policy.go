package vault

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

var rowPolicyCurrent = []byte("current")

func policyRow(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'v'}, n) }

// currentPolicy returns the number of the policy in force.
func currentPolicy(tx store.ReadTx) (uint64, error) {
	row, err := tx.Get(store.Policy, rowPolicyCurrent)
	if err != nil {
		return 0, err
	}
	if len(row) != 9 || row[0] != 1 {
		return 0, fmt.Errorf("current policy: %w", ErrCorrupt)
	}
	return binary.BigEndian.Uint64(row[1:]), nil
}

// CurrentPolicy returns the text of the policy in force and its number.
func (v *Vault) CurrentPolicy(ctx context.Context, call Call) (version uint64, yaml []byte, err error) {
	rec := v.record(call, policy.ManagePolicy)
	p, err := v.admit(ctx, rec, call, policy.ManagePolicy)
	if err != nil {
		return 0, nil, err
	}
	if _, err := rec.commit(ctx); err != nil {
		return 0, nil, err
	}
	return p.version, p.Source(), nil
}
