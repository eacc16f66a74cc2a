package vault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestStartWithTheKeyServiceItHas: each way in which the key service is not the store's own, or not as it should be, is
// refused with what to do, and nothing is written.
func TestStartWithTheKeyServiceItHas(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "u1", "phone", "13800138000")
	stranger, err := vaulttest.OtherKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.(interface{ Close() error }).Close() })
	refuseDEK := func(why error) func(keys.KeyName, []keys.UnwrapItem, []keys.Outcome) error {
		return func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
			if key != keys.DEKKey {
				return nil
			}
			if errors.Is(why, keys.ErrUnwrap) {
				out[0] = keys.Outcome{Err: why}
				return nil
			}
			return why
		}
	}
	for _, c := range []struct {
		name string
		kms  keys.KMS
		want error
		says string
	}{
		{"another kind", stranger, vault.ErrOtherService, "wrapped by the keyring file; start with --kms local"},
		{"unsafe settings", &bentKMS{KMS: in.Keyring, settings: func() ([]string, error) {
			return nil, fmt.Errorf("%w: dek is exportable", keys.ErrSettings)
		}}, keys.ErrSettings, "exportable"},
		{"a key missing", &bentKMS{KMS: in.Keyring, settings: func() ([]string, error) { return nil, keys.ErrNoKey }}, vault.ErrWrongKeys, "bring back"},
		{"away when asked for settings", &bentKMS{KMS: in.Keyring, settings: func() ([]string, error) {
			return nil, fmt.Errorf("%w: sealed", keys.ErrKMSUnavailable)
		}}, keys.ErrKMSUnavailable, "the keyring file does not answer; see that the keyring file is in its place"},
		{"dek deleted", &bentKMS{KMS: in.Keyring, unwrap: refuseDEK(keys.ErrNoKey)}, vault.ErrWrongDEK, "deleted, made anew"},
		{"dek made anew", &bentKMS{KMS: in.Keyring, unwrap: refuseDEK(keys.ErrUnwrap)}, vault.ErrWrongDEK, "deleted, made anew"},
		{"away when asked for the dek", &bentKMS{KMS: in.Keyring, unwrap: refuseDEK(keys.ErrKMSUnavailable)}, keys.ErrKMSUnavailable, "then start again"},
	} {
		before := dump(t, in.Store)
		u, err := vault.Unlock(bg, in.Store, keys.NewServices(c.kms))
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v that says %q", c.name, err, c.want, c.says)
		}
		if u != nil {
			u.Wipe()
		}
		if !sameRows(before, dump(t, in.Store)) {
			t.Errorf("%s: the store changed", c.name)
		}
	}
	u, err := vault.Unlock(bg, in.Store, keys.NewServices(&bentKMS{KMS: in.Keyring, settings: func() ([]string, error) { return []string{"too much"}, nil }}))
	if err != nil || len(u.Warnings) != 1 || u.Warnings[0] != "too much" {
		t.Fatalf("warnings: %+v, %v", u, err)
	}
	u.Wipe()
}

// TestInitHoldsKeysToTheirSettings: keys that were there and are not safe get no installation.
func TestInitHoldsKeysToTheirSettings(t *testing.T) {
	t.Parallel()
	st, ring := emptyParts(t, t.TempDir())
	unsafe := &bentKMS{KMS: ring, settings: func() ([]string, error) { return nil, keys.ErrSettings }}
	if err := vault.Init(bg, st, unsafe, initConfig()); !errors.Is(err, keys.ErrSettings) || len(dump(t, st)) != 0 {
		t.Errorf("init: %v, %d rows", err, len(dump(t, st)))
	}
	c := initConfig()
	c.Instance = keys.InstanceID{1, 2, 3}
	if err := vault.Init(bg, st, ring, c); err != nil {
		t.Fatal(err)
	}
	if got, there, err := vault.Instance(bg, st); got != c.Instance || !there || err != nil {
		t.Errorf("the instance is %v, %t, %v; it was given as %v", got, there, err, c.Instance)
	}
}

// TestStoreFromBeforeTheCheckRow: a store that has none gets one at its start, with the right dek key only.
func TestStoreFromBeforeTheCheckRow(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	token := put(t, in, "u1", "phone", "13800138000")["phone"]
	row := row{store.Meta, []byte("dek/check"), nil}
	write(t, in.Store, row)
	start := func(kms keys.KMS) (*vaulttest.Installation, error) {
		services := keys.NewServices(kms)
		u, err := vault.Unlock(bg, in.Store, services)
		if err != nil {
			return nil, err
		}
		t.Cleanup(u.Wipe)
		return join(in, func(c *vault.Config) { c.Unlocked, c.KMS = u, services })
	}
	refusing := &bentKMS{KMS: in.Keyring, unwrap: func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
		if key == keys.DEKKey {
			out[0] = keys.Outcome{Err: keys.ErrUnwrap}
		}
		return nil
	}}
	before := dump(t, in.Store)
	if _, err := start(refusing); !errors.Is(err, vault.ErrWrongDEK) {
		t.Errorf("with another dek key: %v", err)
	}
	if !sameRows(before, dump(t, in.Store)) {
		t.Error("a start that was refused wrote something")
	}
	v, err := start(in.Keyring)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Vault.Close()
	if got, err := reveal(t, v, token); err != nil || got != "13800138000" {
		t.Errorf("a token: %v", err)
	}
	put(t, v, "u2", "phone", "13800138000")
	if _, err := vault.Unlock(bg, in.Store, keys.NewServices(refusing)); !errors.Is(err, vault.ErrWrongDEK) {
		t.Errorf("the row that was added does not notice another dek key: %v", err)
	}
}

// TestDamagedRowsSayNothingOfTheKey: a store without a check row starts beside rows that are damaged.
func TestDamagedRowsSayNothingOfTheKey(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	token := put(t, in, "u1", "phone", "13800138000")["phone"]
	put(t, in, "u2", "phone", "13800138000")
	put(t, in, "u3", "phone", "13800138000")
	spoil := func(at int, id string, last byte) {
		sid := vault.HierarchyOf(in.Unlocked).SID(id)
		for _, r := range dump(t, in.Store, store.Subjects) {
			if string(r.key) == string(sid[:])+string(last) {
				r.value[at] ^= 1
				write(t, in.Store, r)
			}
		}
	}
	spoil(40, "u2", 'k')
	spoil(40, "u3", 's') // a body is none of the key service's business
	write(t, in.Store, row{store.Meta, []byte("dek/check"), nil})
	start := func(kms keys.KMS) error {
		services := keys.NewServices(kms)
		u, err := vault.Unlock(bg, in.Store, services)
		if err != nil {
			return err
		}
		defer u.Wipe()
		v, err := join(in, func(c *vault.Config) { c.Unlocked, c.KMS = u, services })
		if err != nil {
			return err
		}
		defer v.Vault.Close()
		if _, err := reveal(t, v, token); err != nil {
			return err
		}
		return nil
	}
	refusing := &bentKMS{KMS: in.Keyring, unwrap: func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
		for i := range out {
			if key == keys.DEKKey {
				out[i] = keys.Outcome{Err: keys.ErrUnwrap}
			}
		}
		return nil
	}}
	if err := start(refusing); !errors.Is(err, vault.ErrWrongDEK) {
		t.Errorf("with another dek key: %v", err)
	}
	if err := start(in.Keyring); err != nil {
		t.Errorf("with the right one: %v", err)
	}
	spoil(40, "u1", 'k')
	spoil(40, "u3", 'k')
	write(t, in.Store, row{store.Meta, []byte("dek/check"), nil})
	if _, err := vault.Unlock(bg, in.Store, in.KMS); err != nil {
		t.Errorf("with no row that opens: %v", err)
	}
	if err := start(in.Keyring); !errors.Is(err, vault.ErrCorrupt) { // the token's, not the start's
		t.Errorf("with no row that opens: %v", err)
	}
}

// TestLeaveUnsafeKeys: keys whose settings became unsafe for good are refused by a start and can still be left.
func TestLeaveUnsafeKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := vaulttest.Open(t, dir, vaulttest.Options{})
	tokens := somePeople(t, in, 5)
	shut(t, in)
	broken := fmt.Errorf("%w: dek is exportable", keys.ErrSettings)
	unsafe := func(leaving bool) vaulttest.Options {
		return vaulttest.Options{Leaving: leaving, Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS {
			return &bentKMS{KMS: k, settings: func() ([]string, error) { return []string{"too much"}, broken }}
		}}
	}
	if _, err := vaulttest.Start(dir, unsafe(false)); !errors.Is(err, keys.ErrSettings) {
		t.Fatalf("a start: %v", err)
	}
	for name, settings := range map[string]error{"missing": keys.ErrNoKey, "away": keys.ErrKMSUnavailable, "broken otherwise": errFull} {
		opt := unsafe(true)
		opt.KMS = func(k keys.KMS) keys.KMS {
			return &bentKMS{KMS: k, settings: func() ([]string, error) { return nil, settings }}
		}
		if _, err := vaulttest.Start(dir, opt); !errors.Is(err, settings) {
			t.Errorf("leaving, with a key service that is %s: %v", name, err)
		}
	}
	in = vaulttest.Open(t, dir, unsafe(true))
	if w := in.Unlocked.Warnings; len(w) != 2 || w[0] != "too much" || !strings.Contains(w[1], "exportable") {
		t.Errorf("warnings: %q", w)
	}
	move(t, in, toVault())
	if !withoutScheme(t, in, "local") {
		t.Error("keys of the one left are in the store")
	}
	shut(t, in)
	in = vaulttest.Open(t, dir, unsafe(false)) // nothing needs it any more
	everybody(t, in, tokens)
	shut(t, in)
	in, err := only(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	everybody(t, in, tokens)
	shut(t, in)
}

// TestStartAfterAMove: the store tells which key service it needs now.
func TestStartAfterAMove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring})
	move(t, in, toVault())
	c, err := vault.VerifyCertificate(eraseSomebody(t, in), in.CertificateKey())
	if err != nil || c.KMS != "vault-transit" {
		t.Errorf("a certificate names %q (%v)", c.KMS, err)
	}
	shut(t, in)
	if _, err := only(dir, false); !errors.Is(err, vault.ErrOtherService) || !strings.Contains(err.Error(), "wrapped by HashiCorp Vault; start with --kms transit and the Vault settings") {
		t.Errorf("with the old key service alone: %v", err)
	}
	in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring}) // the keyring stands first
	if in.KMS.Scheme() != "vault" {
		t.Errorf("new keys would be of %s", in.KMS.Scheme())
	}
}

func eraseSomebody(t testing.TB, in *vaulttest.Installation) []byte {
	t.Helper()
	put(t, in, "somebody", "phone", "13800138000")
	return erase(t, in, "somebody")
}

// TestStartDuringAMove: the key services are both asked, and a dek key that changed at either is noticed.
func TestStartDuringAMove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := &awayKMS{}
	in := vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
	somePeople(t, in, 3)
	from.away.Store(true)
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, func(j vault.Job) bool { return j.Err != nil })
	put(t, in, "new", "phone", "13800138000") // the key service moved to is there
	shut(t, in)
	refuse := func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
		if key == keys.DEKKey {
			out[0] = keys.Outcome{Err: keys.ErrUnwrap}
		}
		return nil
	}
	to := &bentKMS{unwrap: refuse}
	for name, opt := range map[string]vaulttest.Options{
		"moved from": {Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { return &bentKMS{KMS: k, unwrap: refuse} }},
		"moved to":   {Other: to.other},
	} {
		if _, err := vaulttest.Start(dir, opt); !errors.Is(err, vault.ErrWrongDEK) {
			t.Errorf("the dek key %s is another: %v", name, err)
		}
	}
	const wayOut = "cloakroom keys move --from transit --to local"
	for _, other := range []bool{false, true} { // the root is at the keyring: without that there is no way out
		if _, err := only(dir, other); !errors.Is(err, vault.ErrOtherService) || !strings.Contains(err.Error(), id) || strings.Contains(err.Error(), "lost for good") == other || !other && !strings.Contains(err.Error(), wayOut) {
			t.Errorf("one key service alone: %v", err)
		}
	}
	gone := &bentKMS{settings: func() ([]string, error) { return nil, fmt.Errorf("%w: gone", keys.ErrKMSUnavailable) }}
	for name, c := range map[string]struct {
		opt    vaulttest.Options
		wayOut bool
	}{
		"moved to":   {vaulttest.Options{Other: gone.other}, true},
		"moved from": {vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { a := &awayKMS{KMS: k}; a.away.Store(true); return a }}, false},
	} {
		if _, err := vaulttest.Start(dir, c.opt); !errors.Is(err, keys.ErrKMSUnavailable) || strings.Contains(err.Error(), "lost for good") != c.wayOut || c.wayOut && !strings.Contains(err.Error(), wayOut) {
			t.Errorf("the key service %s does not answer: %v", name, err)
		}
	}
	in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring})
	if j := awaitJob(t, in, id, ended); j.State != vault.JobDone || !withoutScheme(t, in, "local") {
		t.Errorf("the job ended %+v (%v)", j, j.Err)
	}
}

// TestPoolIsPurgedByAMove: keys that were made ahead at the key service moved from are not handed out after.
func TestPoolIsPurgedByAMove(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Other: vaulttest.OtherKeyring, Pool: 100})
	for i := range 10 {
		put(t, in, fmt.Sprintf("u%d", i), "phone", phoneOf(i))
	}
	move(t, in, toVault())
	from := in.Log.Size()
	for i := range 10 {
		put(t, in, fmt.Sprintf("v%d", i), "phone", phoneOf(i))
	}
	if n := in.Log.Size() - from; n != 10 {
		t.Errorf("ten new people took %d entries of the log: some of them were tried again", n)
	}
	if !withoutScheme(t, in, "local") {
		t.Error("keys of the key service moved from came into the store")
	}
}
