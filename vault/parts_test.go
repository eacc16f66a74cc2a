package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/ledger"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// another joins the parts of an installation anew, with cold caches, and lets change exchange some.
func another(t testing.TB, in *vaulttest.Installation, change func(*vault.Config)) *vaulttest.Installation {
	t.Helper()
	out, err := join(in, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Vault.Close)
	return out
}

func join(in *vaulttest.Installation, change func(*vault.Config)) (*vaulttest.Installation, error) {
	c := vault.Config{Store: in.Store, KMS: in.KMS, Unlocked: in.Unlocked, Audit: in.Log, Ledger: in.Ledger}
	if change != nil {
		change(&c)
	}
	v, err := vault.New(bg, c)
	out := *in
	out.Vault, out.Store = v, c.Store
	return &out, err
}

// clock is a clock that stands until it is moved.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(time.Now().UnixMilli())
	return c
}

func (c *clock) now() time.Time        { return time.UnixMilli(c.ms.Load()) }
func (c *clock) move(by time.Duration) { c.ms.Add(by.Milliseconds()) }

// awayKMS is a key service that can be away.
type awayKMS struct {
	keys.KMS
	away atomic.Bool
}

func (k *awayKMS) answer() error {
	if k.away.Load() {
		return fmt.Errorf("%w: away", keys.ErrKMSUnavailable)
	}
	return nil
}

func (k *awayKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if err := k.answer(); err != nil {
		return nil, err
	}
	return k.KMS.Wrap(ctx, key, version, items)
}

func (k *awayKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if err := k.answer(); err != nil {
		return nil, err
	}
	return k.KMS.Unwrap(ctx, key, items)
}

func (k *awayKMS) Create(ctx context.Context, key keys.KeyName) error {
	if err := k.answer(); err != nil {
		return err
	}
	return k.KMS.Create(ctx, key)
}

func (k *awayKMS) Versions(ctx context.Context, key keys.KeyName) (keys.Versions, error) {
	if err := k.answer(); err != nil {
		return keys.Versions{}, err
	}
	return k.KMS.Versions(ctx, key)
}

var errFull = errors.New("no space left")

// fullLog is an audit log on a disk that can be full.
type fullLog struct {
	vault.AuditLog
	full atomic.Bool
}

func (l *fullLog) Append(ctx context.Context, e *audit.Event) (uint64, error) {
	if l.full.Load() {
		return 0, fmt.Errorf("%w: %w", audit.ErrUnavailable, errFull)
	}
	return l.AuditLog.Append(ctx, e)
}

// fullLedger is an erasure ledger whose next appends can fail, though Ready does not tell.
type fullLedger struct {
	vault.ErasureLedger
	fail    atomic.Int32
	unready atomic.Bool
}

func (l *fullLedger) Append(ctx context.Context, entries []ledger.Entry) error {
	if l.fail.Add(-1) >= 0 {
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, errFull)
	}
	return l.ErasureLedger.Append(ctx, entries)
}

func (l *fullLedger) Ready() error {
	if l.unready.Load() {
		return errFull
	}
	return l.ErasureLedger.Ready()
}

// row is a row of a store.
type row struct {
	ks         store.Keyspace
	key, value []byte
}

// dump copies rows, of all keyspaces when none is named.
func dump(t testing.TB, st store.Store, spaces ...store.Keyspace) []row {
	t.Helper()
	if len(spaces) == 0 {
		spaces = store.Keyspaces()
	}
	var rows []row
	err := st.View(bg, func(tx store.ReadTx) error {
		rows = nil
		for _, ks := range spaces {
			err := tx.Scan(ks, nil, nil, func(key, value []byte) error {
				rows = append(rows, row{ks, bytes.Clone(key), bytes.Clone(value)})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func sameRows(a, b []row) bool {
	return slices.EqualFunc(a, b, func(a, b row) bool {
		return a.ks == b.ks && bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value)
	})
}

// write puts rows as they are; a nil value deletes.
func write(t testing.TB, st store.Store, rows ...row) {
	t.Helper()
	err := st.Update(bg, func(tx store.Tx) error {
		for _, r := range rows {
			if r.value == nil {
				if err := tx.Delete(r.ks, r.key); err != nil {
					return err
				}
			} else if err := tx.Put(r.ks, r.key, r.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entries reads the audit log from an index on.
func entries(t testing.TB, log *audit.Log, from uint64) []audit.Event {
	t.Helper()
	var out []audit.Event
	if err := log.Scan(bg, from, func(r audit.Record) error { out = append(out, r.Event); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// mint tokenizes one item as the app.
func mint(t testing.TB, v *vaulttest.Installation, item vault.TokenizeItem) secret.Text {
	t.Helper()
	out, err := v.Tokenize(bg, vaulttest.Call("app", ""), []vault.TokenizeItem{item})
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	return out[0].Token
}

func erase(t testing.TB, v *vaulttest.Installation, subject string) []byte {
	t.Helper()
	certificate, err := v.Erase(bg, vaulttest.Call("officer", ""), subject)
	if err != nil {
		t.Fatalf("erase %s: %v", subject, err)
	}
	return certificate
}

// code is the code of what one token answers, "" for a value.
func code(t testing.TB, v *vaulttest.Installation, token secret.Text) string {
	t.Helper()
	if _, err := reveal(t, v, token); err != nil {
		return err.Code
	}
	return ""
}

// idempotent gives a call an idempotency key; request tells requests apart.
func idempotent(call vault.Call, key, request string) vault.Call {
	call.Idempotency = &vault.Idempotency{Key: key, Request: [][]byte{[]byte("PUT"), []byte(request)}}
	return call
}

// long is a value that gets a row of its own.
func long(seed string) string { return strings.Repeat(seed+" ", 1+1500/(len(seed)+1)) }
