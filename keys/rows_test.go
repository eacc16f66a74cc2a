package keys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func TestRowsRoundTrip(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	rapid.Check(t, func(t *rapid.T) {
		bytesOf := func(n int, name string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name) }
		rand := stream(rapid.Byte().Draw(t, "seed"))
		sid := SID(bytesOf(16, "sid"))
		field := rapid.StringN(0, 60, MaxField).Draw(t, "field")
		key := [16]byte(bytesOf(16, "row key"))
		sk := secret.NewBytes(bytesOf(keySize, "sk"))
		check := func(sort string, same bool, err error) {
			if err != nil || !same {
				t.Fatalf("%s: same %v, %v", sort, same, err)
			}
		}

		kr := KeyRow{SK: sk, DEKVersion: rapid.Uint32().Draw(t, "dek version"), KID: KID(bytesOf(16, "kid")),
			Wrapped: Wrapped(rapid.StringN(1, 80, MaxWrapped).Draw(t, "wrapped"))}
		value, err := h.SealKeyRow(rand, sid, kr)
		check("seal key row", true, err)
		kb, err := h.OpenKeyRow(sid, value)
		check("key row", kb.SK.Equal(kr.SK) && kb.DEKVersion == kr.DEKVersion && kb.KID == kr.KID && kb.Wrapped == kr.Wrapped, err)

		body := secret.NewBytes(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body"))
		value, err = h.SealBody(rand, sk, sid, body)
		check("seal body", true, err)
		bb, err := h.OpenBody(sk, sid, value)
		check("body", bb.Equal(body), err)

		value, err = h.SealValue(rand, sk, sid, field, body.Reveal())
		check("seal value", true, err)
		vb, err := h.OpenValue(sk, sid, field, value)
		check("value", bytes.Equal(vb, body.Reveal()), err)

		tr := TokenRow{SID: sid, Field: field, Audience: rapid.StringN(0, 60, MaxAudience).Draw(t, "audience"),
			Format: rapid.Byte().Draw(t, "format"), Expiry: rapid.Uint64().Draw(t, "expiry"), Flags: rapid.Byte().Draw(t, "flags")}
		value, err = h.SealTokenRow(rand, key, tr)
		check("seal token row", true, err)
		tb, err := h.OpenTokenRow(key, value)
		check("token row", tb == tr, err)
		head, err := ParseTokenRow(value)
		check("token head", head == TokenHead{Bucket: sid.Bucket(), Generation: 1}, err)

		m := Marker{MarkerState(rapid.IntRange(int(SubjectErased), int(TokenUsed)).Draw(t, "state")), rapid.Uint32().Draw(t, "day")}
		head, err = ParseTokenRow(m.Marshal())
		check("marker", head == TokenHead{Gone: true, Marker: m}, err)

		x := sid.Partition(h.Log2P())
		ir := IndexRow{P: [32]byte(bytesOf(32, "p")), SIDs: make([]SID, rapid.IntRange(0, 5).Draw(t, "sids"))}
		for i := range ir.SIDs {
			ir.SIDs[i] = sidAt(uint16(i), x, byte(i))
		}
		ik := h.IndexRowKey(x, ir.P)
		value, err = h.SealIndexRow(rand, ik, ir)
		check("seal index row", true, err)
		ib, err := h.OpenIndexRow(ik, value)
		check("index row", ib.P == ir.P && slices.Equal(ib.SIDs, ir.SIDs), err)

		dr := IdempotencyRow{Expiry: tr.Expiry, Digest: ir.P, Pointers: body.Reveal()}
		value, err = h.SealIdempotencyRow(rand, key, dr)
		check("seal idempotency row", true, err)
		db, err := h.OpenIdempotencyRow(key, value)
		check("idempotency row", db.Expiry == dr.Expiry && db.Digest == dr.Digest && bytes.Equal(db.Pointers, dr.Pointers), err)
		ih, err := ParseIdempotencyRow(value)
		check("idempotency head", ih == IdempotencyHead{dr.Expiry, 1}, err)
	})
}

// cell is a sealed value and how the place it stands in opens what it finds there.
type cell struct {
	name  string
	value []byte
	open  func(value []byte) error
}

// cells seals one of everything, and its neighbours: other subjects, fields, tokens, generations, instances. All
// installations have the same keys, so that only what is bound tells them apart.
func cells(t *testing.T) []cell {
	var out []cell
	rand := stream(200)
	bytesErr := func(_ []byte, err error) error { return err }
	for _, inst := range []byte{1, 2} {
		for _, generation := range []uint64{1, 2} {
			h, _ := unlocked(t, 1, testInstance(inst))
			for i := range h.buckets {
				h.buckets[i].generation = generation
			}
			for i := range h.partitions {
				h.partitions[i].generation = generation
			}
			at := fmt.Sprintf("instance %d, generation %d: ", inst, generation)
			add := func(name string, value []byte, open func([]byte) error) {
				out = append(out, cell{name: at + name, value: value, open: open})
			}
			// Two of one bucket and partition, one of another partition, one of another bucket.
			sids := []SID{sidAt(5, 7, 1), sidAt(5, 7, 2), sidAt(5, 8, 1), sidAt(6, 7, 1)}
			for i, sid := range sids {
				who := fmt.Sprintf("subject %d ", i)
				sealed := must[[]byte](t)
				add(who+"key row", sealed(h.SealKeyRow(rand, sid, KeyRow{SK: testKey(1), DEKVersion: 1, Wrapped: "w:v1:abc"})),
					func(v []byte) error { _, err := h.OpenKeyRow(sid, v); return err })
				for _, token := range []string{"tok_a", "tok_b"} {
					key := h.TokenRowKey(fmt.Sprint(token, i))
					add(who+token, sealed(h.SealTokenRow(rand, key, TokenRow{SID: sid, Field: "phone", Audience: "crm"})),
						func(v []byte) error { _, err := h.OpenTokenRow(key, v); return err })
				}
				p := h.IndexInput("phone", 1, fmt.Sprint("+861380013800", i))
				ik := h.IndexRowKey(sid.Partition(6), p)
				add(who+"index row", sealed(h.SealIndexRow(rand, ik, IndexRow{P: p, SIDs: []SID{sid}})),
					func(v []byte) error { _, err := h.OpenIndexRow(ik, v); return err })
				dk := h.IdempotencyRowKey("credential", fmt.Sprint(i))
				add(who+"idempotency row", sealed(h.SealIdempotencyRow(rand, dk, IdempotencyRow{Expiry: 9, Pointers: []byte("pointers")})),
					func(v []byte) error { _, err := h.OpenIdempotencyRow(dk, v); return err })
				if generation > 1 {
					continue // what follows has none
				}
				add(who+"body", sealed(h.SealBody(rand, testKey(1), sid, secret.NewBytes([]byte("body")))),
					func(v []byte) error { _, err := h.OpenBody(testKey(1), sid, v); return err })
				for _, field := range []string{"", "phone", "phonetic"} {
					add(who+"value of "+field, sealed(h.SealValue(rand, testKey(1), sid, field, []byte("record"))),
						func(v []byte) error { return bytesErr(h.OpenValue(testKey(1), sid, field, v)) })
					c := RecordContext{testInstance(inst), sid, field}
					for _, suite := range []Suite{XChaCha20Poly1305, AES256GCM} {
						// Versions are the record's own to tell and its reader's to compare, so each place wants another.
						version := uint64(suite)
						add(fmt.Sprintf("%srecord of %s, suite %d", who, field, suite),
							sealed(SealRecord(rand, testKey(1), c, 1, version, suite, secret.NewBytes([]byte("value")))),
							func(v []byte) error {
								_, header, err := OpenRecord(testKey(1), c, v)
								if err == nil && header.RecVersion != version {
									return ErrCorrupt
								}
								return err
							})
					}
				}
			}
		}
	}
	return out
}

func TestNothingOpensInAnotherPlace(t *testing.T) {
	all := cells(t)
	for i, to := range all {
		for j, from := range all {
			err := to.open(from.value)
			if i == j && err != nil {
				t.Fatalf("%s does not open: %v", to.name, err)
			}
			if i != j && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrGeneration) {
				t.Fatalf("%s in the place of %s: %v", from.name, to.name, err)
			}
		}
	}
}

// A row of another generation is refused even when its head is made to name the right one.
func TestGenerationIsBound(t *testing.T) {
	inst := testInstance(1)
	old, _ := unlocked(t, 1, inst)
	h, _ := unlocked(t, 1, inst)
	sid := sidAt(5, 7, 1)
	h.buckets[5].generation, h.buckets[IdempotencyBucket].generation, h.partitions[7].generation = 2, 2, 2
	key, p := h.TokenRowKey("tok"), [32]byte{1}
	ik := h.IndexRowKey(7, p)
	rand := stream(3)
	for _, tc := range []struct {
		name  string
		value []byte
		head  int // where the generation stands
		open  func([]byte) error
	}{
		{"key row", must[[]byte](t)(old.SealKeyRow(rand, sid, KeyRow{SK: testKey(1), Wrapped: "w"})), 0,
			func(v []byte) error { _, err := h.OpenKeyRow(sid, v); return err }},
		{"token row", must[[]byte](t)(old.SealTokenRow(rand, key, TokenRow{SID: sid})), 2,
			func(v []byte) error { _, err := h.OpenTokenRow(key, v); return err }},
		{"index row", must[[]byte](t)(old.SealIndexRow(rand, ik, IndexRow{P: p, SIDs: []SID{sid}})), 0,
			func(v []byte) error { _, err := h.OpenIndexRow(ik, v); return err }},
		{"idempotency row", must[[]byte](t)(old.SealIdempotencyRow(rand, key, IdempotencyRow{})), 8,
			func(v []byte) error { _, err := h.OpenIdempotencyRow(key, v); return err }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.open(tc.value); !errors.Is(err, ErrGeneration) {
				t.Errorf("as it is: %v", err)
			}
			binary.BigEndian.PutUint64(tc.value[tc.head:], 2)
			if err := tc.open(tc.value); !errors.Is(err, ErrCorrupt) {
				t.Errorf("renamed: %v", err)
			}
		})
	}
}

func TestNothingAlteredOpens(t *testing.T) {
	for _, c := range cells(t) {
		if !strings.HasPrefix(c.name, "instance 1, generation 1: subject 0") {
			continue
		}
		refused := func(what string, v []byte) {
			if err := c.open(v); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrGeneration) {
				t.Errorf("%s, %s: %v", c.name, what, err)
			} else if strings.Contains(err.Error(), "phone") || strings.Contains(err.Error(), "crm") {
				t.Errorf("%s: the error tells too much: %v", c.name, err)
			}
		}
		for i := range c.value {
			for _, bit := range []byte{0x01, 0x80, 0xFF} {
				v := bytes.Clone(c.value)
				v[i] ^= bit
				refused(fmt.Sprintf("byte %d ^ %02x", i, bit), v)
			}
		}
		for n := range c.value {
			refused(fmt.Sprintf("cut to %d", n), c.value[:n:n])
			refused(fmt.Sprintf("first %d cut", n+1), c.value[n+1:])
		}
		refused("a byte more", append(bytes.Clone(c.value), 0))
		refused("twice", append(bytes.Clone(c.value), c.value...))
	}
}

func TestMarkersAreStrict(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	good := Marker{FieldErased, 20_000}.Marshal()
	if want := []byte{0xFF, 2, 0, 0, 0x4e, 0x20}; !bytes.Equal(good, want) {
		t.Errorf("marker %x, want %x", good, want)
	}
	for name, v := range map[string][]byte{
		"empty": {}, "short": good[:5], "long": append(bytes.Clone(good), 0), "state 0": {0xFF, 0, 0, 0, 0, 1}, "state 6": {0xFF, 6, 0, 0, 0, 1},
		"bucket that is none": append([]byte{0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 60)...),
	} {
		if _, err := ParseTokenRow(v); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.OpenTokenRow([16]byte{}, good); !errors.Is(err, ErrInvalid) {
		t.Errorf("a marker opened as a row: %v", err)
	}
}

// Even what was sealed with the right key must have its format.
func TestSealedContentIsStrict(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	sid, key, rand := sidAt(5, 7, 1), [16]byte{9}, stream(4)
	b, part := &h.buckets[5], &h.partitions[7]
	u64 := binary.BigEndian.AppendUint64
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	sk, kid := make([]byte, keySize), make([]byte, 16)
	keyRow := func(plain []byte) error {
		v := must[[]byte](t)(seal(rand, &b.subject, h.keyRowPlace(sid, b), u64(nil, 1), plain))
		_, err := h.OpenKeyRow(sid, v)
		return err
	}
	tokenRow := func(plain []byte) error {
		v := must[[]byte](t)(seal(rand, &b.token, h.tokenPlace(key[:], 5, b), u64([]byte{0, 5}, 1), plain))
		_, err := h.OpenTokenRow(key, v)
		return err
	}
	ik := [17]byte{7}
	indexRow := func(plain []byte) error {
		v := must[[]byte](t)(seal(rand, &part.index, h.indexPlace(ik[:], 7, part), u64(nil, 1), plain))
		_, err := h.OpenIndexRow(ik, v)
		return err
	}
	idemRow := func(plain []byte) error {
		v := must[[]byte](t)(seal(rand, &h.idem, h.idempotencyPlace(key[:], 1), u64(u64(nil, 5), 1), plain))
		_, err := h.OpenIdempotencyRow(key, v)
		return err
	}
	other, p := sidAt(5, 8, 1), make([]byte, 32)
	stranger := sidAt(6, 7, 1)
	long := bytes.Repeat([]byte{'w'}, MaxAudience+1)
	for _, tc := range []struct {
		name string
		err  error
		good bool
	}{
		{"key row", keyRow(join(sk, []byte{0, 0, 0, 1}, kid, []byte{0, 1, 'w'})), true},
		{"key row without a wrapped key", keyRow(join(sk, []byte{0, 0, 0, 1}, kid, []byte{0, 0})), false},
		{"key row with a byte more", keyRow(join(sk, []byte{0, 0, 0, 1}, kid, []byte{0, 1, 'w', 0})), false},
		{"key row with a long wrapped key", keyRow(join(sk, []byte{0, 0, 0, 1}, kid, []byte{0x04, 0x01}, long)), false},
		{"key row, empty", keyRow(nil), false},
		{"token row", tokenRow(join(sid[:], []byte{0, 1, 'f', 0, 1, 'a', 0}, u64(nil, 5), []byte{1})), true},
		{"token row with a byte more", tokenRow(join(sid[:], []byte{0, 1, 'f', 0, 1, 'a', 0}, u64(nil, 5), []byte{1, 0})), false},
		{"token row that ends early", tokenRow(join(sid[:], []byte{0, 1, 'f', 0, 1, 'a', 0}, u64(nil, 5))), false},
		{"token row of another bucket", tokenRow(join(stranger[:], []byte{0, 1, 'f', 0, 1, 'a', 0}, u64(nil, 5), []byte{1})), false},
		{"token row with a long field", tokenRow(join(sid[:], []byte{1, 0}, long[:256], []byte{0, 0, 0}, u64(nil, 5), []byte{1})), false},
		{"token row with a long audience", tokenRow(join(sid[:], []byte{0, 0, 4, 1}, long, []byte{0}, u64(nil, 5), []byte{1})), false},
		{"index row", indexRow(join(p, []byte{0, 1}, sid[:])), true},
		{"index row of nobody", indexRow(join(p, []byte{0, 0})), true},
		{"index row that counts too many", indexRow(join(p, []byte{0, 2}, sid[:])), false},
		{"index row that counts too few", indexRow(join(p, []byte{0, 0}, sid[:])), false},
		{"index row with a byte more", indexRow(join(p, []byte{0, 1}, sid[:], []byte{0})), false},
		{"index row of another partition", indexRow(join(p, []byte{0, 1}, other[:])), false},
		{"index row, short", indexRow(p), false},
		{"idempotency row", idemRow(u64(p, 5)), true},
		{"idempotency row with another expiry inside", idemRow(u64(p, 6)), false},
		{"idempotency row, short", idemRow(u64(p, 5)[1:]), false},
		{"idempotency row, long", idemRow(append(u64(p, 5), make([]byte, 1+MaxPointers)...)), false},
	} {
		if tc.good && tc.err != nil || !tc.good && !errors.Is(tc.err, ErrCorrupt) {
			t.Errorf("%s: %v", tc.name, tc.err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	h, _ := unlocked(t, 1, testInstance(1))
	sid, rand := sidAt(5, 7, 1), stream(4)
	huge := make([]byte, MaxRow)
	text := func(n int) string { return strings.Repeat("x", n) }
	keyRow := func(r KeyRow) error { _, err := h.SealKeyRow(rand, sid, r); return err }
	tokenRow := func(r TokenRow) error { _, err := h.SealTokenRow(rand, [16]byte{}, r); return err }
	indexRow := func(x byte, sids ...SID) error {
		_, err := h.SealIndexRow(rand, [17]byte{x}, IndexRow{SIDs: sids})
		return err
	}
	last := func(_ []byte, err error) error { return err }
	for _, tc := range []struct {
		name string
		err  error
		want error
	}{
		{"short SK", keyRow(KeyRow{SK: secret.NewBytes(huge[:31]), Wrapped: "w"}), ErrInvalid},
		{"no SK", keyRow(KeyRow{Wrapped: "w"}), ErrInvalid},
		{"no wrapped key", keyRow(KeyRow{SK: testKey(1)}), ErrInvalid},
		{"long wrapped key", keyRow(KeyRow{SK: testKey(1), Wrapped: Wrapped(text(MaxWrapped + 1))}), ErrTooLarge},
		{"no randomness", last(h.SealKeyRow(bytes.NewReader(nil), sid, KeyRow{SK: testKey(1), Wrapped: "w"})), nil},
		{"body under a short key", last(h.SealBody(rand, secret.NewBytes(huge[:31]), sid, secret.Bytes{})), ErrInvalid},
		{"huge body", last(h.SealBody(rand, testKey(1), sid, secret.NewBytes(huge))), ErrTooLarge},
		{"huge record", last(h.SealValue(rand, testKey(1), sid, "f", huge)), ErrTooLarge},
		{"value row of a long field", last(h.SealValue(rand, testKey(1), sid, text(MaxField+1), nil)), ErrTooLarge},
		{"value row under no key", last(h.OpenValue(secret.Bytes{}, sid, "f", nil)), ErrInvalid},
		{"token row of a long field", tokenRow(TokenRow{Field: text(MaxField + 1)}), ErrTooLarge},
		{"token row of a long audience", tokenRow(TokenRow{Audience: text(MaxAudience + 1)}), ErrTooLarge},
		{"index row of no partition", indexRow(64), ErrInvalid},
		{"index row with a stranger", indexRow(7, sid, sidAt(5, 8, 1)), ErrInvalid},
		{"index row of too many", indexRow(7, slices.Repeat([]SID{sid}, MaxIndexSIDs+1)...), ErrTooLarge},
		{"long pointers", last(h.SealIdempotencyRow(rand, [16]byte{}, IdempotencyRow{Pointers: make([]byte, MaxPointers+1)})), ErrTooLarge},
	} {
		if tc.err == nil || tc.want != nil && !errors.Is(tc.err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, tc.err, tc.want)
		}
	}
	if err := indexRow(7, slices.Repeat([]SID{sid}, MaxIndexSIDs)...); err != nil {
		t.Errorf("index row of as many as there can be: %v", err)
	}
}
