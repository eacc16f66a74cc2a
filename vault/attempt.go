package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// turns lets one writer of this process at a time work on a bucket, so that callers who write to the same subject
// queue up instead of undoing each other's work. Writers of other processes are met by the comparison at commit.
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

// patience is how long an erasure queues behind writers, some of whom may be waiting for the key service.
const patience = 100 * time.Millisecond

// takeSoon is take for changes that need no key: they do not wait long for writers that do, and go on without a turn. The
// comparison at commit holds for them as for writers of other processes.
func (t *turns) takeSoon(ctx context.Context, sids ...keys.SID) (release func(), err error) {
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release, err = t.take(soon, sids...)
	if err != nil && ctx.Err() == nil {
		return func() {}, nil
	}
	return release, err
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
