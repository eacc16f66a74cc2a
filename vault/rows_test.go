package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// refusedBefore is how many answers of an untouched store are refusals: three tokens of removed fields, three revoked
// ones, and the erased subject.
func refusedBefore(ks store.Keyspace) int {
	if ks == store.Tokens || ks == store.Idempotency {
		return 3 + 3
	}
	return 3 + 3 + 1
}

// TestNoRowLies: whatever is done to one row, or two, a read answers what is right, or an error.
func TestNoRowLies(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	w := fill(t, in)
	if refused, err := w.check(in, ""); err != nil || refused != refusedBefore("") {
		t.Fatalf("an untouched store: %d refused, %v", refused, err)
	}
	rows := dump(t, in.Store, store.Subjects, store.Tokens, store.Idempotency, store.Tombstones)
	bent := bentStore{in.Store, map[string][]byte{}}
	v := another(t, in, func(c *vault.Config) { c.Audit, c.Store = new(noLog), bent })
	try := func(what string, rows ...row) (noticed bool) {
		clear(bent.bent)
		for _, r := range rows {
			bent.bent[string(r.ks)+string(r.key)] = r.value
		}
		refused, err := w.check(v, rows[0].ks)
		if err != nil {
			t.Errorf("%s, %s row %.1q: %v", what, rows[0].ks, rows[0].key, err)
		}
		return refused > refusedBefore(rows[0].ks)
	}
	t.Run("flipped", func(t *testing.T) {
		// Every fourth byte of a head, the last byte, and some between are tried, others in each row.
		for n, r := range rows {
			for i := range r.value {
				if (i+n)%4 != 0 || i >= 24 && (i+4*n)%128 > 3 && i != len(r.value)-1 {
					continue
				}
				bad := bytes.Clone(r.value)
				bad[i] ^= 1 << ((i + n) % 8)
				noticed := try(fmt.Sprintf("byte %d", i), row{r.ks, r.key, bad})
				if !noticed && (r.ks == store.Subjects || r.ks == store.Tokens && r.value[0] != 0xFF || r.ks == store.Tombstones && r.key[0] == 'e') {
					t.Errorf("%s row %.1q, byte %d: changed, and nothing was refused", r.ks, r.key, i)
				}
			}
		}
	})
	t.Run("exchanged", func(t *testing.T) {
		for i, a := range rows {
			for _, b := range rows[:i] {
				if a.ks == b.ks {
					try(fmt.Sprintf("exchanged with %.1q", b.key), row{a.ks, a.key, b.value}, row{b.ks, b.key, a.value})
				}
			}
		}
	})
	t.Run("missing", func(t *testing.T) {
		for _, r := range rows {
			try("missing", row{r.ks, r.key, nil})
		}
	})
}

// TestNoOlderRow puts back what a row was before.
func TestNoOlderRow(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	tokens := put(t, in, "u1", "phone", "13800138000", "text", long("one"))
	older := dump(t, in.Store, store.Subjects)
	put(t, in, "u1", "text", long("two"))
	put(t, in, "u1", "phone", "13900139000")
	newer := dump(t, in.Store, store.Subjects)
	if len(older) != 3 || len(newer) != 3 {
		t.Fatalf("%d and %d rows, want key, body and one large value", len(older), len(newer))
	}
	for i, r := range older {
		v := bentVault(t, in, r)
		wrong := "13900139000"
		if r.key[16] == 'v' {
			wrong = long("two")
		}
		for _, field := range []string{"phone", "text"} {
			got, err := reveal(t, v, tokens[field])
			switch {
			case err == nil && got != "13900139000" && got != long("two"):
				t.Errorf("with an older row %q %s opens to its older value", r.key[16], field)
			case err == nil && r.key[16] != 'v', err != nil && err.Code != "data_corrupt", err == nil && got == wrong && field == "text":
				t.Errorf("with an older row %q %s answers %v", r.key[16], field, err)
			}
		}
		_, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
		wantCode(t, err, vault.ErrCorrupt)
		_, err = v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("text", "three")})
		wantCode(t, err, vault.ErrCorrupt)
		if bytes.Equal(r.value, newer[i].value) {
			t.Errorf("row %q is no older one", r.key[16])
		}
	}
	// A subject's rows from before a field was erased stay behind even when the field comes again.
	if _, err := in.EraseField(bg, vaulttest.Call("app", ""), "u1", "text"); err != nil {
		t.Fatal(err)
	}
	put(t, in, "u1", "text", long("four"))
	v := bentVault(t, in, newer[2])
	_, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: "u1"})
	wantCode(t, err, vault.ErrCorrupt)
}

// TestTombstoneRows: a tombstone speaks for its own subject alone.
func TestTombstoneRows(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	for _, id := range []string{"u1", "u2"} {
		put(t, in, id, "phone", "13800138000")
		erase(t, in, id)
	}
	var rows []row
	for _, r := range dump(t, in.Store, store.Tombstones) {
		if r.key[0] == 's' {
			rows = append(rows, r)
		}
	}
	a, b := rows[0], rows[1]
	v := bentVault(t, in, row{a.ks, a.key, b.value}, row{b.ks, b.key, a.value})
	for _, id := range []string{"u1", "u2"} {
		_, err := v.Get(bg, vaulttest.Call("app", "service"), vault.GetRequest{Subject: id})
		wantCode(t, err, vault.ErrCorrupt)
	}
}

// TestIndexRows: index rows are read by writes alone so far; what was done to one shows there and stops the write.
func TestIndexRows(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, in, "u1", "phone", "13800138000")
	r := dump(t, in.Store, store.Index)[0]
	for i := range r.value {
		if i > 12 && i%29 != 0 && i != len(r.value)-1 {
			continue
		}
		bad := bytes.Clone(r.value)
		bad[i] ^= 0x10
		write(t, in.Store, row{r.ks, r.key, bad})
		before := dump(t, in.Store, store.Subjects, store.Index, store.Tokens, store.Tombstones)
		_, err := in.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("phone", "13900139000")})
		wantCode(t, err, vault.ErrCorrupt)
		_, err = in.Erase(bg, vaulttest.Call("app", ""), "u1")
		wantCode(t, err, vault.ErrCorrupt)
		if !sameRows(before, dump(t, in.Store, store.Subjects, store.Index, store.Tokens, store.Tombstones)) {
			t.Fatalf("byte %d: a write that was stopped changed the store", i)
		}
	}
	write(t, in.Store, r)
	erase(t, in, "u1")
}

// TestPolicyRows: which policy is in force is told by a row that is refused when it was changed. The text itself is
// not sealed; a changed one is refused, or parses, and then no value is shown otherwise than it is.
func TestPolicyRows(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	tokens := put(t, in, "u1", "phone", "13800138000", "name", "张三")
	rows := dump(t, in.Store, store.Policy)
	for _, r := range rows {
		for i := range r.value {
			if i > 12 && i%59 != 0 {
				continue
			}
			bad := bytes.Clone(r.value)
			bad[i] ^= 1 << (i % 8)
			v := bentVault(t, in, row{r.ks, r.key, bad})
			got, err := reveal(t, v, tokens["phone"])
			if err == nil && (got != "13800138000" || string(r.key) == "current") {
				t.Errorf("policy row %.1q, byte %d: opens to another value, or at all", r.key, i)
			}
		}
		if got, err := reveal(t, bentVault(t, in, row{r.ks, r.key, nil}), tokens["phone"]); err == nil || got != "" {
			t.Errorf("without policy row %.1q a token opens", r.key)
		}
	}
	if len(rows) != 2 {
		t.Fatalf("%d policy rows", len(rows))
	}
	v := bentVault(t, in, row{rows[0].ks, rows[0].key, rows[1].value}, row{rows[1].ks, rows[1].key, rows[0].value})
	if _, err := reveal(t, v, tokens["phone"]); err == nil {
		t.Error("with its two rows exchanged the policy still grants")
	}
}

// TestServiceRows: the rows of services are not sealed. A credential still opens only for who knows its secret, and
// never authenticates as another service.
func TestServiceRows(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	rows := dump(t, in.Store, store.Services)
	try := func(what string, bent ...row) {
		v := bentVault(t, in, bent...)
		for name, key := range in.Key {
			who, err := v.Authenticate(bg, key)
			if err == nil && (who.Service != name || who.Credential != key.Reveal()[3:13]) {
				t.Errorf("%s: the credential of %s authenticates as %s", what, name, who.Service)
			}
			if err != nil && !errors.Is(err, vault.ErrUnauthenticated) && !errors.Is(err, vault.ErrCorrupt) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	for i, r := range rows {
		for j := range r.value {
			bad := bytes.Clone(r.value)
			bad[j] ^= 1 << (j % 8)
			try(fmt.Sprintf("row %q, byte %d", r.key, j), row{r.ks, r.key, bad})
		}
		try(fmt.Sprintf("row %q missing", r.key), row{r.ks, r.key, nil})
		for _, o := range rows[:i] {
			try(fmt.Sprintf("rows %q and %q exchanged", r.key, o.key), row{r.ks, r.key, o.value}, row{o.ks, o.key, r.value})
		}
	}
}

// TestStartRows: rows that are read at start are refused there.
func TestStartRows(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	token := put(t, in, "u1", "phone", "13800138000")["phone"]
	put(t, in, "u2", "phone", "13800138000")
	erase(t, in, "u2")
	start := func(rows ...row) error {
		bent := bend(in.Store, rows...)
		unlocked, err := vault.Unlock(bg, bent, in.KMS)
		if err != nil {
			return err
		}
		defer unlocked.Wipe()
		v, err := join(in, func(c *vault.Config) { c.Store, c.Unlocked, c.Audit = bent, unlocked, new(noLog) })
		if err != nil {
			return err
		}
		defer v.Close()
		got, refused := reveal(t, v, token)
		if refused == nil && got == "13800138000" {
			return nil
		}
		return errors.Join(errors.New("started and lies or does not open"), refused)
	}
	find := func(ks store.Keyspace, key string) row {
		for _, r := range dump(t, in.Store, ks) {
			if string(r.key) == key {
				return r
			}
		}
		t.Fatalf("no %s row %q", ks, key)
		return row{}
	}
	flip := func(r row, i int) row {
		bad := bytes.Clone(r.value)
		bad[i] ^= 0x04
		return row{r.ks, r.key, bad}
	}
	root, instance, head := find(store.Keys, "root"), find(store.Meta, "instance"), find(store.Meta, "ledger/head")
	for i := range root.value {
		// The version at the key service (bytes 9 to 24) is what the last start saw, not sealed, and decides nothing.
		if i < 9 || i > 24 {
			if err := start(flip(root, i)); err == nil || strings.Contains(err.Error(), "started") {
				t.Errorf("root row, byte %d: %v", i, err)
			}
		}
	}
	for i := range 17 { // the partitions and the time follow
		if err := start(flip(instance, i)); err == nil || strings.Contains(err.Error(), "started") {
			t.Errorf("instance row, byte %d: %v", i, err)
		}
	}
	for name, rows := range map[string][]row{
		"partitions":                {flip(instance, 17)},
		"ledger head, number":       {flip(head, 8)},
		"ledger head, hash":         {flip(head, 9)},
		"ledger head missing":       {{head.ks, head.key, nil}},
		"meta rows exchanged":       {{head.ks, head.key, instance.value}, {instance.ks, instance.key, head.value}},
		"bucket key":                {flip(find(store.Keys, "b\x00\x07"), 30)},
		"bucket keys exchanged":     {{store.Keys, []byte("b\x00\x07"), find(store.Keys, "b\x00\x08").value}, {store.Keys, []byte("b\x00\x08"), find(store.Keys, "b\x00\x07").value}},
		"bucket key missing":        {{store.Keys, []byte("b\x0f\xff"), nil}},
		"partition key":             {flip(find(store.Keys, "x\x00\x07"), 30)},
		"service keys exchanged":    {{store.Keys, []byte("stok"), find(store.Keys, "ssid").value}, {store.Keys, []byte("ssid"), find(store.Keys, "stok").value}},
		"service key missing":       {{store.Keys, []byte("ssign"), nil}},
		"root row missing":          {{store.Keys, []byte("root"), nil}},
		"instance row missing":      {{instance.ks, instance.key, nil}},
		"generation":                {flip(find(store.Generations, "b\x00\x07"), 7)},
		"generation missing":        {{store.Generations, []byte("b\x00\x07"), nil}},
		"erased in the future":      {flip(find(store.Generations, "b\x00\x07"), 15)},
		"replaced in a later epoch": {flip(find(store.Generations, "x\x00\x07"), 23)},
	} {
		if err := start(rows...); err == nil || strings.Contains(err.Error(), "started") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := start(); err != nil {
		t.Errorf("the store as it is: %v", err)
	}
}
