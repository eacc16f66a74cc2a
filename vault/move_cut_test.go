package vault_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// countdown is a key service, or a store, that goes away at its n-th call and stays away.
type countdown struct {
	left atomic.Int64
	away atomic.Bool
}

func (c *countdown) spent() bool {
	if c.left.Add(-1) < 0 {
		c.away.Store(true)
	}
	return c.away.Load()
}

type countedKMS struct {
	keys.KMS
	c *countdown
}

func (k countedKMS) answer() error {
	if k.c.spent() {
		return fmt.Errorf("%w: gone", keys.ErrKMSUnavailable)
	}
	return nil
}

func (k countedKMS) Create(ctx context.Context, key keys.KeyName) error {
	if err := k.answer(); err != nil {
		return err
	}
	return k.KMS.Create(ctx, key)
}

func (k countedKMS) Versions(ctx context.Context, key keys.KeyName) (keys.Versions, error) {
	if err := k.answer(); err != nil {
		return keys.Versions{}, err
	}
	return k.KMS.Versions(ctx, key)
}

func (k countedKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if err := k.answer(); err != nil {
		return nil, err
	}
	return k.KMS.Wrap(ctx, key, version, items)
}

func (k countedKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if err := k.answer(); err != nil {
		return nil, err
	}
	return k.KMS.Unwrap(ctx, key, items)
}

type countedStore struct {
	store.Store
	c *countdown
}

func (s countedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.c.spent() {
		return store.ErrUnavailable
	}
	return s.Store.Update(ctx, fn)
}

// TestMoveCutShort lets a key service or the store go away at each call of a move, ends the process there, and starts
// again: the move is refused as a whole, or goes on to its end, and every person is there at each point.
func TestMoveCutShort(t *testing.T) {
	t.Parallel()
	const people = 251 // two chunks
	for _, c := range []struct {
		name string
		cut  func(o *vaulttest.Options, c *countdown)
	}{
		{"key service moved from", func(o *vaulttest.Options, c *countdown) {
			o.KMS = func(k keys.KMS) keys.KMS { return countedKMS{k, c} }
		}},
		{"key service moved to", func(o *vaulttest.Options, c *countdown) {
			o.Other = func(dir string) (keys.KMS, error) {
				k, err := vaulttest.OtherKeyring(dir)
				return closing{countedKMS{k, c}, k}, err
			}
		}},
		{"store", func(o *vaulttest.Options, c *countdown) {
			o.Store = func(s store.Store) store.Store { return countedStore{s, c} }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			refused, resumed, through := 0, 0, false
			for n := int64(0); !through && n < 100; n++ {
				dir := t.TempDir()
				count := new(countdown)
				count.left.Store(1 << 40)
				opt := vaulttest.Options{Other: vaulttest.OtherKeyring}
				c.cut(&opt, count)
				in := vaulttest.Open(t, dir, opt)
				tokens := somePeople(t, in, people)
				count.left.Store(n)
				j, err := in.StartJob(bg, operator, toVault())
				if err == nil {
					got := awaitJob(t, in, j.ID, func(j vault.Job) bool { return ended(j) || j.Err != nil || count.away.Load() })
					if got.State == vault.JobFailed {
						t.Fatalf("call %d: the job failed: %v", n, got.Err)
					}
					through = got.State == vault.JobDone && !count.away.Load()
				} else {
					refused++
				}
				shut(t, in)
				in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring})
				if err == nil {
					got := awaitJob(t, in, j.ID, ended)
					if got.State != vault.JobDone {
						t.Fatalf("call %d: started again, the job ended %+v", n, got)
					}
					resumed++
				} else if jobs, _, err := in.Jobs(bg, operator, vault.Page{}); err != nil || len(jobs) != 0 {
					t.Fatalf("call %d: a job that was refused is in the list: %+v, %v", n, jobs, err)
				}
				if moved := withoutScheme(t, in, "local"); moved != (err == nil) || withoutScheme(t, in, "vault") != (err != nil) {
					t.Fatalf("call %d: refused %v, moved %t", n, err, moved)
				}
				everybody(t, in, tokens)
				shut(t, in)
			}
			if !through || resumed < 3 {
				t.Errorf("%d refused, %d resumed, came through %t", refused, resumed, through)
			}
		})
	}
}

// closing closes what a wrapper stands before.
type closing struct {
	keys.KMS
	inner any
}

func (c closing) Close() error { return c.inner.(interface{ Close() error }).Close() }
