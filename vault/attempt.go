package vault

import (
	"context"
	"errors"
	"slices"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// turns lets one writer of this process at a time work on a bucket, so that callers who write to the same subject
// queue up instead of undoing each other's work. Writers of other processes are met by the comparison at commit. Who has
// a turn does not wait for the key service (keychain), so that nobody queues behind one that is slow.
type turns [keys.Buckets]chan struct{}

func newTurns() *turns {
	t := new(turns)
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

// take waits for the buckets of all sids, in ascending order so that no two callers wait for each other.
func (t *turns) take(ctx context.Context, sids ...keys.SID) (release func(), err error) {
	buckets := make([]uint16, len(sids))
	for i, sid := range sids {
		buckets[i] = sid.Bucket()
	}
	slices.Sort(buckets)
	buckets = slices.Compact(buckets)
	held := 0
	release = func() {
		for _, b := range buckets[:held] {
			<-t[b]
		}
	}
	for _, b := range buckets {
		select {
		case t[b] <- struct{}{}:
			held++
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
	return release, nil
}

// maxAttempts bounds how often a change begins again because another process was faster.
const maxAttempts = 32

// attempt runs a change until what it read still stood when it committed.
func attempt(ctx context.Context, try func() error) error {
	for range maxAttempts {
		err := try()
		if !errors.Is(err, store.ErrConflict) {
			return storeError(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return ErrStoreUnavailable.saying("others changed the same data again and again; try again")
}
