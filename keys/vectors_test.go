package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// What follows computes the formats of docs/design.md a second time, slowly and from the definitions alone: HMAC from
// RFC 2104 and HKDF-Expand from RFC 5869. It shares no code with what it checks.

func slowHMAC(key []byte, parts ...any) []byte {
	pad := func(x byte) []byte {
		b := bytes.Repeat([]byte{x}, 64)
		for i := range key {
			b[i] ^= key[i]
		}
		return b
	}
	inner := sha256.Sum256(slowJoin(pad(0x36), slowJoin(parts...)))
	outer := sha256.Sum256(append(pad(0x5c), inner[:]...))
	return outer[:]
}

func slowHKDF(key, info []byte, n int) []byte {
	var out, last []byte
	for i := byte(1); len(out) < n; i++ {
		last = slowHMAC(key, last, info, i)
		out = append(out, last...)
	}
	return out[:n]
}

// slowJoin writes strings and bytes as they are and integers big-endian; a slowLP has its length before it.
func slowJoin(parts ...any) []byte {
	var out []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, p...)
		case []byte:
			out = append(out, p...)
		case slowLP:
			out = append(out, byte(len(p)>>8), byte(len(p)))
			out = append(out, p...)
		case uint64:
			out = append(out, slowInt(p, 8)...)
		case uint32:
			out = append(out, slowInt(uint64(p), 4)...)
		case uint16:
			out = append(out, slowInt(uint64(p), 2)...)
		case byte:
			out = append(out, p)
		default:
			panic(fmt.Sprintf("no bytes for a %T", p))
		}
	}
	return out
}

type slowLP string

func slowInt(v uint64, n int) []byte {
	out := make([]byte, n)
	for i := n - 1; i >= 0; i-- {
		out[i], v = byte(v), v>>8
	}
	return out
}

func slowWrap(key []byte, label string, nonce, plain []byte, place ...any) []byte {
	aead, err := chacha20poly1305.NewX(slowHKDF(key, []byte("cloakroom/"+label), 32))
	if err != nil {
		panic(err)
	}
	return slowJoin(byte(1), nonce, aead.Seal(nil, nonce, plain, slowJoin(append([]any{"cloakroom/" + label}, place...)...)))
}

func slowRecord(dek []byte, suite byte, salt, inst, sid []byte, field, value string) []byte {
	head := slowJoin("CR", byte(1), suite, uint32(7), uint64(9), byte(1), byte(0), salt)
	data := slowJoin("cloakroom/field/1\x00", head, inst, slowLP("default"), sid, slowLP(field))
	plain := make([]byte, 64)
	copy(plain, slowJoin(uint32(len(value)), value))
	var aead cipher.AEAD
	var err error
	k := slowHKDF(dek, data, 88)
	nonce, commitment := k[32:56], k[56:88]
	if suite == 2 {
		nonce, commitment = k[32:44], k[44:76]
		var block cipher.Block
		if block, err = aes.NewCipher(k[:32]); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	} else {
		aead, err = chacha20poly1305.NewX(k[:32])
	}
	if err != nil {
		panic(err)
	}
	return slowJoin(head, commitment, aead.Seal(nil, nonce, plain, data))
}

// The hexadecimal results below were computed once and stay: a change of one of them is a change of format.
func TestVectors(t *testing.T) {
	seq := func(from byte, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = from + byte(i)
		}
		return b
	}
	inst := InstanceID(seq(0x10, 16))
	h := must[*Hierarchy](t)(newHierarchy(inst, DefaultLog2P, 1))
	// Every key is a run of bytes that starts at its own number.
	service := func(i int) []byte { return seq(byte(0x20*(i+1)), 32) }
	for i := range h.service {
		copy(h.service[i][:], service(i))
	}
	bk, ixk, idem := seq(0x03, 32), seq(0x05, 32), seq(0x07, 32)
	sid := SID(seq(0x40, 16)) // bucket 0x404, partition 5
	copy(h.er[:], seq(0x01, 32))
	copy(h.buckets[0x404].key[:], bk)
	copy(h.partitions[5].key[:], ixk)
	copy(h.buckets[IdempotencyBucket].key[:], idem)
	h.buckets[0x404].generation, h.partitions[5].generation, h.buckets[IdempotencyBucket].generation = 3, 4, 5
	h.prepare()

	nonce, salt, key, kid := seq(0x80, 24), seq(0xA0, 32), seq(0xC0, 32), seq(0xE0, 16)
	dek, value := secret.NewBytes(key), secret.NewBytes([]byte("+8613800138000"))
	context := RecordContext{inst, sid, "phone"}
	p := h.IndexInput("phone", 2, "+8613800138000")
	rowKey := h.TokenRowKey("tok_phone_0123456789")
	indexKey, idemKey := h.IndexRowKey(5, p), h.IdempotencyRowKey("key_1", "order-17")
	with := func(b []byte) *bytes.Reader { return bytes.NewReader(b) }
	got := func(s []byte, err error) []byte { return must[[]byte](t)(s, err) }

	slowSID := slowHMAC(service(0), slowLP("default"), "customer-17")[:16]
	slowToken := slowHMAC(service(1), "tok_phone_0123456789")[:16]
	slowIdem := slowHMAC(service(2), slowLP("key_1"), slowLP("order-17"))[:16]
	slowP := slowHMAC(slowHKDF(service(4), []byte("cloakroom/field/1\x00phone"), 32), uint16(2), "+8613800138000")
	slowIndex := slowJoin(byte(5), slowHMAC(slowHKDF(ixk, []byte("cloakroom/key/1"), 32), slowP)[:16])
	subject := h.SID("customer-17")
	digest, audit := h.IdempotencyDigest([]byte("PUT"), []byte("{}")), h.AuditDigest("sid", sid[:])

	for _, tc := range []struct {
		name      string
		got, slow []byte
		want      string
	}{
		{"sid", subject[:], slowSID, "069f103c6831686d9b0a047d235e6a51"},
		{"token row key", rowKey[:], slowToken, "ba1a070dbb9533738da39c7e9525b669"},
		{"idempotency row key", idemKey[:], slowIdem, "99bae083a56eed4b746b9e155e5a7880"},
		{"p", p[:], slowP, "2e7e847c1d1990e159b0d5c28eb6ccb6ec0a6cb0329f84610da3ac705be83b81"},
		{"index row key", indexKey[:], slowIndex, "05dc934ea12f7de00ae57b4551c8201ba6"},
		{"idempotency digest", digest[:],
			slowHMAC(slowHKDF(service(2), []byte("cloakroom/digest/1"), 32), uint64(3), "PUT", uint64(2), "{}"), "e33896099ed66849079fd8367a86079ae9cdb9412d86dc19f0f6bf232cfba8b0"},
		{"audit digest", audit[:], slowHMAC(service(3), uint64(3), "sid", uint64(16), sid[:])[:16], "758b4e2fa8247fafa668b34c4e3147b5"},
		{"signing key", h.Signer("ledger"),
			ed25519.NewKeyFromSeed(slowHKDF(service(5), []byte("cloakroom/sign/ledger/1"), 32)),
			"3fc3749bec0315d3cff7a4d0e2be714e07982ef22b381eab6e18011f14ac03f70b034eb44ed76bf24c9af8e007a617affb5a3b164031a030b656cd09" +
				"58acfd35"},
		{"record, XChaCha20-Poly1305", got(SealRecord(with(salt), dek, context, 7, 9, XChaCha20Poly1305, value)),
			slowRecord(key, 1, salt, inst[:], sid[:], "phone", "+8613800138000"),
			"435201010000000700000000000000090100a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfdccf247c42dc496997e2" +
				"6266e1cae42cece736d2dbc19bd6a3c07a4254df9e121d14ca6d17172c717ee96c05f0a955d31ce6b3e88dab4d0a0a9ae433a35531ae307ddb1a7231" +
				"8bc5e51822b880526a7dad5ef2ab03e07f2339f43b406807990dfe08280388aa6e9ab627b4ccb8fc8126"},
		{"record, AES-256-GCM", got(SealRecord(with(salt), dek, context, 7, 9, AES256GCM, value)),
			slowRecord(key, 2, salt, inst[:], sid[:], "phone", "+8613800138000"),
			"435201020000000700000000000000090100a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf68c3a68472fc4ed13295" +
				"ddc0eee3ca4a5dad40ad8d206a8977435beaf5ecaf33d612b1bf347742c5ecb5545205b6b1496519448bac78cfabe02eb7d9dba2e503ac7ebf5e9570" +
				"246234a915e4d0e2acc2e15a7a3dbe4cd5999905d38929a240b558d7b93630819f19c5f9dce1549b08c2"},
		{"subject key row", got(h.SealKeyRow(with(nonce), sid, KeyRow{dek, 7, KID(kid), "test:v1:AAAA"})),
			slowJoin(uint64(3), slowWrap(bk, "subject/1", nonce, slowJoin(key, uint32(7), kid, slowLP("test:v1:AAAA")),
				inst[:], sid[:], "k", uint16(0x404), uint64(3))),
			"000000000000000301808182838485868788898a8b8c8d8e8f90919293949596970da92154e3b152c5b27571ce3ce142a7904a6de7d532001f67a3ee" +
				"30b3f175560c0981b4873dd9cedd2358a2586500049c533ebe16cb941828c7513507dd503e5e73257922eebd9c3be893d8a9fe61469459"},
		{"subject body row", got(h.SealBody(with(nonce), dek, sid, value)),
			slowWrap(key, "body/1", nonce, value.Reveal(), inst[:], sid[:], "s"),
			"01808182838485868788898a8b8c8d8e8f90919293949596975308b39b0c891d557aa046e5722a97a3ddd8ade1df74ef111829da007f6a"},
		{"large value row", got(h.SealValue(with(nonce), dek, sid, "cv", []byte("record"))),
			slowWrap(key, "value/1", nonce, []byte("record"), inst[:], sid[:], "vcv"), "01808182838485868788898a8b8c8d8e8f9091929394959697cc501b4a5bd066920ae4cdcdc8ee6d50f11ec227bd10"},
		{"token row", got(h.SealTokenRow(with(nonce), rowKey, TokenRow{sid, "phone", "crm", 1, 1_700_000_000_000, TokenSingleUse})),
			slowJoin(uint16(0x404), uint64(3), slowWrap(bk, "token/1", nonce,
				slowJoin(sid[:], slowLP("phone"), slowLP("crm"), byte(1), uint64(1_700_000_000_000), byte(1)),
				inst[:], slowToken, uint16(0x404), uint64(3))),
			"0404000000000000000301808182838485868788898a8b8c8d8e8f9091929394959697e6ad1790eb9e45de02869117a897140bf172aa349e92132381" +
				"215c680ee3d049d8506431be1d872eba5b80117949777bdbc4b642df88"},
		{"index row", got(h.SealIndexRow(with(nonce), indexKey, IndexRow{p, []SID{sid}})),
			slowJoin(uint64(4), slowWrap(ixk, "index/1", nonce, slowJoin(slowP, uint16(1), sid[:]),
				inst[:], slowIndex, uint16(5), uint64(4))),
			"000000000000000401808182838485868788898a8b8c8d8e8f9091929394959697f09eb535c31438791c42cce246697d356d0098aa4e1399d628ff95" +
				"53685d2e2be843bf097f36bd91f9a2bf844ab6f152f445ed6379e05416766e616ac56e733bb45b"},
		{"idempotency row", got(h.SealIdempotencyRow(with(nonce), idemKey, IdempotencyRow{99, digest, []byte("at")})),
			slowJoin(uint64(99), uint64(5), slowWrap(idem, "idem/1", nonce, slowJoin(digest[:], uint64(99), "at"),
				inst[:], slowIdem, uint16(4096), uint64(5))),
			"0000000000000063000000000000000501808182838485868788898a8b8c8d8e8f9091929394959697a7e917faa45f9ed85e8178d35282e218db7ca7" +
				"2a2af87f0deb83919e7af1126bba490b416b9591246cb0291c10edd337d169d5f5103e9ffa6d94"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !bytes.Equal(tc.got, tc.slow) {
				t.Errorf("computed from the definitions it is %x, not %x", tc.slow, tc.got)
			}
			if g := hex.EncodeToString(tc.got); g != tc.want {
				t.Errorf("got %s, want %s", g, tc.want)
			}
		})
	}

	// The hierarchy's own rows, against the definitions alone; their nonces are the randomness in the order of the rows.
	rows := must[Rows](t)(h.Rows(stream(5)))
	for i, r := range rows.Keys {
		nonce := r.Value[1:25]
		var want []byte
		switch {
		case i < bucketCount:
			want = slowWrap(seq(0x01, 32), "bk/1", nonce, h.buckets[i].key[:], inst[:], "b", uint16(i), uint16(i), h.buckets[i].generation)
		case i < bucketCount+64:
			x := i - bucketCount
			want = slowWrap(seq(0x01, 32), "ixk/1", nonce, h.partitions[x].key[:], inst[:], "x", uint16(x), uint16(x), h.partitions[x].generation)
		default:
			s := i - bucketCount - 64
			want = slowWrap(seq(0x01, 32), "service/1", nonce, service(s), inst[:], "s", serviceNames()[s])
		}
		if !bytes.Equal(r.Value, want) {
			t.Fatalf("keys row %q: %x, want %x", r.Key, r.Value, want)
		}
	}
}
