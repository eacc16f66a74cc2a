package vault_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// abandon ends the move of a store that nobody serves, with the keyring there or the second one, which change may wrap.
func abandon(t *testing.T, dir string, second bool, change func(keys.KMS) keys.KMS) error {
	t.Helper()
	st, ring := emptyParts(t, dir)
	var kms keys.KMS = ring
	if second {
		other, err := vaulttest.OtherKeyring(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.(io.Closer).Close() }()
		kms = other
	}
	if change != nil {
		kms = change(kms)
	}
	before := dump(t, st)
	err := vault.AbandonMove(bg, st, keys.NewServices(kms))
	if err != nil && !sameRows(before, dump(t, st)) {
		t.Errorf("refused with %v, and the store changed", err)
	}
	if err := errors.Join(st.Close(), ring.Close()); err != nil {
		t.Fatal(err)
	}
	return err
}

// endsOf lists how the audit log says that a job ended.
func endsOf(t *testing.T, in *vaulttest.Installation, job string) (outcomes string) {
	t.Helper()
	for _, e := range entries(t, in.Log, 0) {
		for _, it := range e.Items {
			if it.View == "end "+job {
				outcomes += it.Outcome + " "
			}
		}
	}
	return outcomes
}

// TestMoveEndedBeforeAnybodyMoved: a move whose target is lost and has nothing is ended, and the next start needs the one
// key service only.
func TestMoveEndedBeforeAnybodyMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, _ := openLosing(t, dir, false, vaulttest.Options{})
	tokens := somePeople(t, in, 5)
	sid := vault.HierarchyOf(in.Unlocked).SID("u4")
	write(t, in.Store, row{store.Subjects, keys.SubjectKeyRow(sid), []byte("damaged")})
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, waits)
	shut(t, in)
	if _, err := only(dir, false); !errors.Is(err, vault.ErrOtherService) {
		t.Fatalf("a start before: %v", err)
	}
	if err := abandon(t, dir, true, nil); !errors.Is(err, vault.ErrOtherService) {
		t.Errorf("without the key service that has everything: %v", err)
	}
	if err := abandon(t, dir, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := abandon(t, dir, false, nil); !errors.Is(err, vault.ErrNoMove) {
		t.Errorf("a second time: %v", err)
	}
	in, err := only(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	j := awaitJob(t, in, id, ended)
	if j.State != vault.JobFailed || j.Err.Code != "conflict" || !strings.Contains(j.Err.Detail, "all keys are at the keyring file") {
		t.Errorf("the job ended %+v (%v)", j, j.Err)
	}
	if got := endsOf(t, in, id); got != "conflict " {
		t.Errorf("the log says that the job ended %q", got)
	}
	everybody(t, in, tokens[:4])
	put(t, in, "new", "phone", "13800138000")
	if s, err := in.KeyStatus(bg, operator); err != nil || s.Move != nil || s.KMS != "local-file" {
		t.Errorf("the status says %+v, %v", s, err)
	}
	shut(t, in)
}

// TestMoveEndedAfterAllMoved: the same with the key service moved from, once it has nothing left.
func TestMoveEndedAfterAllMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := new(noEndLog)
	in := vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring, Audit: func(a vault.AuditLog) vault.AuditLog { log.AuditLog = a; return log }})
	tokens := somePeople(t, in, 5)
	log.refuse.Store(true) // the job waits with its last step
	id := startJob(t, in, toVault())
	awaitJob(t, in, id, waits)
	shut(t, in)
	if _, err := only(dir, true); !errors.Is(err, vault.ErrOtherService) || !strings.Contains(err.Error(), "cloakroom keys move --from local --to transit") {
		t.Fatalf("a start before: %v", err)
	}
	if err := abandon(t, dir, false, nil); !errors.Is(err, vault.ErrOtherService) {
		t.Errorf("without the key service that has everything: %v", err)
	}
	if err := abandon(t, dir, true, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		in, err := only(dir, true)
		if err != nil {
			t.Fatal(err)
		}
		if j := awaitJob(t, in, id, ended); !strings.Contains(j.Err.Detail, "all keys are at HashiCorp Vault") || !withoutScheme(t, in, "local") {
			t.Errorf("the job ended %+v (%v)", j, j.Err)
		}
		everybody(t, in, tokens)
		put(t, in, "new", "phone", "13800138000")
		shut(t, in)
	}
}

// TestMoveNotEnded: a move is not ended while somebody needs the other key service, nor with the wrong one.
func TestMoveNotEnded(t *testing.T) {
	t.Parallel()
	dek := func(says error) func(keys.KMS) keys.KMS {
		return func(k keys.KMS) keys.KMS {
			return &bentKMS{KMS: k, unwrap: func(key keys.KeyName, _ []keys.UnwrapItem, out []keys.Outcome) error {
				if key == keys.DEKKey {
					out[0] = keys.Outcome{Err: says}
				}
				return nil
			}}
		}
	}
	root := func(says error) func(keys.KMS) keys.KMS {
		return func(k keys.KMS) keys.KMS {
			return &bentKMS{KMS: k, unwrap: func(keys.KeyName, []keys.UnwrapItem, []keys.Outcome) error { return says }}
		}
	}
	before := func(t *testing.T, dir string) {
		in, _ := openLosing(t, dir, false, vaulttest.Options{})
		somePeople(t, in, 5)
		awaitJob(t, in, startJob(t, in, toVault()), waits)
		shut(t, in)
	}
	for _, c := range []struct {
		name string
		move func(t *testing.T, dir string) // leaves a store that nobody serves
		kms  func(keys.KMS) keys.KMS
		want error
		says string
	}{
		{"some have moved", func(t *testing.T, dir string) {
			in, _ := openLosing(t, dir, true, vaulttest.Options{})
			somePeople(t, in, 300)
			awaitJob(t, in, startJob(t, in, toVault()), waits)
			shut(t, in)
		}, nil, vault.ErrMoved, "the keys of 250 people are not at the keyring file"},
		{"somebody new", func(t *testing.T, dir string) {
			from := new(awayKMS)
			in := vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring, KMS: func(k keys.KMS) keys.KMS { from.KMS = k; return from }})
			somePeople(t, in, 5)
			from.away.Store(true)
			awaitJob(t, in, startJob(t, in, toVault()), waits)
			put(t, in, "new", "phone", "13800138000")
			shut(t, in)
		}, nil, vault.ErrMoved, "the keys of 1 people"},
		{"no move", func(t *testing.T, dir string) { shut(t, vaulttest.Open(t, dir, vaulttest.Options{})) }, nil, vault.ErrNoMove, ""},
		{"empty store", func(*testing.T, string) {}, nil, vault.ErrNotInitialised, ""},
		{"another root key", before, root(keys.ErrUnwrap), vault.ErrWrongKeys, ""},
		{"no root key", before, root(keys.ErrNoKey), vault.ErrWrongKeys, ""},
		{"another dek key", before, dek(keys.ErrUnwrap), vault.ErrWrongDEK, ""},
		{"does not answer", before, root(keys.ErrKMSUnavailable), keys.ErrKMSUnavailable, "see that the keyring file is in its place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.move(t, dir)
			if err := abandon(t, dir, false, c.kms); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
}
