package keys

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func TestLoadIsTheInverseOfRows(t *testing.T) {
	for _, log2P := range []uint8{0, DefaultLog2P, MaxLog2P} {
		h, er, err := Generate(stream(1), testInstance(1), log2P)
		if err != nil {
			t.Fatal(err)
		}
		rows := must[Rows](t)(h.Rows(stream(2)))
		if k, g := len(rows.Keys), len(rows.Generations); k != bucketCount+1<<log2P+serviceCount || g != bucketCount+1<<log2P {
			t.Fatalf("%d key rows, %d generation rows", k, g)
		}
		back, err := Load(testInstance(1), log2P, Root{Epoch: 7}, er, rows)
		if err != nil {
			t.Fatal(err)
		}
		if back.Epoch() != 7 || back.Instance() != h.Instance() || back.Log2P() != log2P || back.Partitions() != 1<<log2P {
			t.Errorf("epoch %d, instance %s, %d partitions", back.Epoch(), back.Instance(), back.Partitions())
		}
		for i := range h.buckets {
			if h.buckets[i] != back.buckets[i] || back.BucketGeneration(uint16(i)) != 1 {
				t.Fatalf("bucket %d differs", i)
			}
		}
		for i := range h.partitions {
			a, b := h.partitions[i], back.partitions[i]
			if a.key != b.key || a.index != b.index || a.rows.key != b.rows.key || back.PartitionGeneration(uint16(i)) != 1 {
				t.Fatalf("partition %d differs", i)
			}
		}
		if h.service != back.service || h.idem != back.idem || h.er != back.er {
			t.Error("service keys differ")
		}
		if back.BucketGeneration(bucketCount) != 0 || back.PartitionGeneration(1<<log2P) != 0 {
			t.Error("a generation of what there is none of")
		}
	}
}

// All keys and subkeys are pairwise different: no label or key is used for two things.
func TestNoTwoKeysAreTheSame(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	seen := make(map[[keySize]byte]bool)
	see := func(keys ...[keySize]byte) {
		for _, k := range keys {
			if seen[k] || k == [keySize]byte{} {
				t.Fatal("a key stands twice, or is zero")
			}
			seen[k] = true
		}
	}
	see(h.er, h.idem, h.idemDigest.key)
	see(h.service[:]...)
	for _, b := range h.buckets[:Buckets] {
		see(b.key, b.subject, b.token)
	}
	see(h.buckets[IdempotencyBucket].key)
	for _, p := range h.partitions {
		see(p.key, p.index, p.rows.key)
	}
}

func TestLoadRefuses(t *testing.T) {
	inst := testInstance(1)
	h, er := unlocked(t, 1, inst)
	whole := must[Rows](t)(h.Rows(stream(2)))
	other, otherER := unlocked(t, 2, inst)
	foreign := must[Rows](t)(other.Rows(stream(3)))
	const service = bucketCount + 64 // the first of them
	flip := func(r *Row, at int) {
		r.Value = bytes.Clone(r.Value)
		r.Value[at] ^= 1
	}
	for _, tc := range []struct {
		name   string
		change func(r *Rows)
		says   string
	}{
		{"key row missing", func(r *Rows) { r.Keys = append(r.Keys[:17:17], r.Keys[18:]...) }, "keys row bucket 17 is missing"},
		{"service row missing", func(r *Rows) { r.Keys = r.Keys[:len(r.Keys)-1] }, "keys row service sign is missing"},
		{"generation row missing", func(r *Rows) { r.Generations = r.Generations[1:] }, "generations row bucket 0 is missing"},
		{"key row twice", func(r *Rows) { r.Keys = append(r.Keys, r.Keys[0]) }, "stands twice"},
		{"generation row twice", func(r *Rows) { r.Generations = append(r.Generations, r.Generations[0]) }, "stands twice"},
		{"key row extra", func(r *Rows) { r.Keys = append(r.Keys, Row{[]byte("sother"), r.Keys[0].Value}) }, `keys row "sother" is none of ours`},
		{"root row among them", func(r *Rows) { r.Keys = append(r.Keys, Row{RootRowKey(), nil}) }, `keys row "root" is none of ours`},
		{"generation row extra", func(r *Rows) {
			r.Generations = append(r.Generations, Row{[]byte{'b', 0x10, 1}, r.Generations[0].Value})
		}, "is none of ours"},
		{"key row altered", func(r *Rows) { flip(&r.Keys[5], 40) }, "keys row bucket 5:"},
		{"key row's format altered", func(r *Rows) { flip(&r.Keys[5], 0) }, "keys row bucket 5:"},
		{"partition row altered", func(r *Rows) { flip(&r.Keys[bucketCount+9], 72) }, "keys row partition 9:"},
		{"service row altered", func(r *Rows) { flip(&r.Keys[service], 30) }, "keys row service sid:"},
		{"key row shorter", func(r *Rows) { r.Keys[3].Value = r.Keys[3].Value[:60] }, "keys row bucket 3:"},
		{"key row longer", func(r *Rows) { r.Keys[3].Value = append(bytes.Clone(r.Keys[3].Value), 0) }, "keys row bucket 3:"},
		{"key row empty", func(r *Rows) { r.Keys[3].Value = nil }, "keys row bucket 3:"},
		{"a key of another length", func(r *Rows) {
			k := derive(er.Reveal(), labelService)
			p := place{label: labelService, inst: inst, row: serviceRowKey("sid")}
			r.Keys[service].Value = must[[]byte](t)(seal(stream(9), &k, p, nil, make([]byte, 31)))
		}, "keys row service sid:"},
		{"two buckets exchanged", func(r *Rows) { r.Keys[1].Value, r.Keys[2].Value = r.Keys[2].Value, r.Keys[1].Value }, "keys row bucket 1:"},
		{"two services exchanged", func(r *Rows) {
			r.Keys[service].Value, r.Keys[service+1].Value = r.Keys[service+1].Value, r.Keys[service].Value
		}, "keys row service sid:"},
		{"bucket and partition exchanged", func(r *Rows) {
			r.Keys[1].Value, r.Keys[bucketCount+1].Value = r.Keys[bucketCount+1].Value, r.Keys[1].Value
		}, "keys row bucket 1:"},
		{"a row of other keys", func(r *Rows) { r.Keys[4] = foreign.Keys[4] }, "keys row bucket 4:"},
		{"generation counted on", func(r *Rows) { r.Generations[6].Value = Generation{G: 2}.Marshal() }, "keys row bucket 6:"},
		{"generation zero", func(r *Rows) { r.Generations[6].Value = Generation{}.Marshal() }, "generations row bucket 6:"},
		{"generation of a later epoch", func(r *Rows) { r.Generations[6].Value = Generation{G: 1, ReplacedIn: 2}.Marshal() }, "generations row bucket 6:"},
		{"generation row longer", func(r *Rows) { r.Generations[6].Value = make([]byte, 25) }, "generations row bucket 6:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows := Rows{Keys: append([]Row(nil), whole.Keys...), Generations: append([]Row(nil), whole.Generations...)}
			tc.change(&rows)
			_, err := Load(inst, DefaultLog2P, Root{Epoch: 1}, er, rows)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want %q", err, tc.says)
			}
		})
	}
	for _, tc := range []struct {
		name  string
		inst  InstanceID
		log2P uint8
		er    secret.Bytes
		want  error
	}{
		{"another instance", testInstance(2), DefaultLog2P, er, ErrCorrupt},
		{"another epoch root", inst, DefaultLog2P, otherER, ErrCorrupt},
		{"fewer partitions", inst, DefaultLog2P - 1, er, ErrCorrupt},
		{"more partitions", inst, DefaultLog2P + 1, er, ErrCorrupt},
		{"more than there can be", inst, MaxLog2P + 1, er, ErrInvalid},
		{"a short epoch root", inst, DefaultLog2P, secret.NewBytes(make([]byte, 31)), ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Load(tc.inst, tc.log2P, Root{Epoch: 1}, tc.er, whole); !errors.Is(err, tc.want) {
				t.Errorf("%v; want %v", err, tc.want)
			}
		})
	}
}

func TestGenerateRefuses(t *testing.T) {
	if _, _, err := Generate(stream(1), testInstance(1), MaxLog2P+1); !errors.Is(err, ErrInvalid) {
		t.Errorf("too many partitions: %v", err)
	}
	if _, _, err := Generate(io.LimitReader(stream(1), 1000), testInstance(1), DefaultLog2P); err == nil {
		t.Error("randomness that ends: no error")
	}
	h, _ := unlocked(t, 1, testInstance(1))
	if _, err := h.Rows(io.LimitReader(stream(1), 1000)); err == nil {
		t.Error("randomness that ends: no error from Rows")
	}
}

func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h, _, err := Generate(rand.Reader, testInstance(1), MaxLog2P)
	if err != nil {
		t.Fatal(err)
	}
	for x := range h.partitions {
		h.IndexRowKey(uint16(x), [32]byte{})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 10<<20 {
		t.Errorf("%d bytes", grown)
	}
	runtime.KeepAlive(h)
}

func TestMACIsHMAC(t *testing.T) {
	key := [keySize]byte(testKey(7).Reveal())
	m := newMAC(&key)
	want := func(input []byte) [32]byte {
		h := hmac.New(sha256.New, key[:])
		h.Write(input)
		return [32]byte(h.Sum(nil))
	}
	// A long input between short ones: a state that is used again must keep nothing of it.
	for _, n := range []int{0, 1, 63, 64, scratch, scratch + 1, 70_000, 5, 0} {
		in := bytes.Repeat([]byte{byte(n)}, n)
		for range 3 {
			if m.with(func(b []byte) []byte { return append(b, in...) }) != want(in) {
				t.Errorf("%d bytes: another MAC", n)
			}
		}
		framed := append([]byte{0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}, in...)
		if m.framed(in) != want(framed) {
			t.Errorf("%d bytes, framed: another MAC", n)
		}
	}
}

func TestFramingIsUnambiguous(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	b := func(s ...string) (out [][]byte) {
		for _, x := range s {
			out = append(out, []byte(x))
		}
		return out
	}
	digests := make(map[[32]byte]string)
	for _, parts := range [][]string{nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"b", "a"}, {"a\x00\x00\x00\x00\x00\x00\x00\x01b"}} {
		d := h.IdempotencyDigest(b(parts...)...)
		if p, twice := digests[d]; twice {
			t.Errorf("%q and %q have one idempotency digest", p, parts)
		}
		digests[d] = strings.Join(parts, "|")
	}
	if h.AuditDigest("subject", []byte("x")) == h.AuditDigest("token", []byte("x")) {
		t.Error("the kind of an audit digest does not count")
	}
	if h.AuditDigest("a", []byte("bc")) == h.AuditDigest("ab", []byte("c")) {
		t.Error("the kind of an audit digest runs into its parts")
	}
	if h.IdempotencyRowKey("a", "bc") == h.IdempotencyRowKey("ab", "c") {
		t.Error("credential and key run together")
	}
	long := strings.Repeat("k", 0x10000)
	if h.IdempotencyRowKey("c", long) == h.IdempotencyRowKey("c", long+"k") || h.IdempotencyRowKey("c", long) == h.IdempotencyRowKey("c", "") {
		t.Error("long keys run together")
	}
	p := h.IndexInput("phone", 1, "x")
	if p == h.IndexInput("phone", 2, "x") || p == h.IndexInput("email", 1, "x") || p == h.IndexInput("phone", 1, "y") {
		t.Error("part of an index input does not count")
	}
	if h.IndexRowKey(1, p) == h.IndexRowKey(2, p) || h.IndexRowKey(1, p)[0] != 1 {
		t.Error("the partition of an index row key does not count")
	}
	var none [16]byte
	if k := h.IndexRowKey(64, p); k[0] != 64 || !bytes.Equal(k[1:], none[:]) {
		t.Error("a row key of a partition that is none")
	}
	if bytes.Equal(h.Signer("audit"), h.Signer("ledger")) || !bytes.Equal(h.Signer("audit"), h.Signer("audit")) {
		t.Error("signers are not one per purpose")
	}
}

// Whatever runs while the keys are wiped either uses them whole or says that they are gone.
func TestWipe(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	sid := sidAt(1, 2, 3)
	row := KeyRow{SK: testKey(4), DEKVersion: 1, Wrapped: "w"}
	sealed := must[[]byte](t)(h.SealKeyRow(stream(1), sid, row))
	key := h.TokenRowKey("tok")
	var begun, ended sync.WaitGroup
	for range 4 {
		begun.Add(1)
		ended.Go(func() {
			for first := true; ; first = false {
				back, err := h.OpenKeyRow(sid, sealed)
				k := h.TokenRowKey("tok")
				if first {
					begun.Done()
				}
				if k != key && k != [16]byte{} {
					t.Error("a token row key under keys half gone")
				}
				if errors.Is(err, ErrWiped) {
					return
				}
				if err != nil || !back.SK.Equal(row.SK) {
					t.Errorf("opened wrongly: %v", err)
					return
				}
			}
		})
	}
	begun.Wait()
	h.Wipe()
	h.Wipe()
	ended.Wait()

	zero := [keySize]byte{}
	if h.er != zero || h.service != [serviceCount][keySize]byte{} || h.idem != zero || h.sid.key != zero || h.sign.key != zero {
		t.Error("a key is left")
	}
	for i := range h.buckets {
		if b := h.buckets[i]; b.key != zero || b.subject != zero || b.token != zero {
			t.Fatalf("a key of bucket %d is left", i)
		}
	}
	for i := range h.partitions {
		if p := h.partitions[i]; p.key != zero || p.index != zero || p.rows.key != zero {
			t.Fatalf("a key of partition %d is left", i)
		}
	}
	if h.SID("x") != (SID{}) || h.Signer("audit") != nil || h.IndexInput("f", 1, "x") != [32]byte{} ||
		h.IdempotencyDigest() != [32]byte{} || h.AuditDigest("sid") != [16]byte{} || h.IdempotencyRowKey("c", "k") != [16]byte{} ||
		h.IndexRowKey(0, [32]byte{}) != [17]byte{} {
		t.Error("a digest under keys that are gone")
	}
	for name, call := range map[string]func() error{
		"rows":            func() error { _, err := h.Rows(stream(1)); return err },
		"seal key row":    func() error { _, err := h.SealKeyRow(stream(1), sid, row); return err },
		"seal token":      func() error { _, err := h.SealTokenRow(stream(1), key, TokenRow{SID: sid}); return err },
		"seal index":      func() error { _, err := h.SealIndexRow(stream(1), [17]byte{}, IndexRow{}); return err },
		"seal idempotent": func() error { _, err := h.SealIdempotencyRow(stream(1), key, IdempotencyRow{}); return err },
	} {
		if err := call(); !errors.Is(err, ErrWiped) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
