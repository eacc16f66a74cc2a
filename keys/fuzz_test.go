package keys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Each target takes bytes for two things: as they come from the store, which no key ever sealed and so must not open,
// and as content sealed with the right key, which must open to what makes the same content again, or not at all.

func FuzzOpenRecord(f *testing.F) {
	dek, c := testKey(1), RecordContext{testInstance(1), SID{1}, "phone"}
	for _, suite := range []Suite{XChaCha20Poly1305, AES256GCM} {
		for _, n := range []int{0, 60, 61, 1100} {
			record, err := SealRecord(stream(9), dek, c, 1, 2, suite, secret.NewBytes(make([]byte, n)))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(record)
		}
	}
	f.Add([]byte("CR\x01\x01"))
	f.Add([]byte(nil))
	other := testKey(2)
	f.Fuzz(func(t *testing.T, in []byte) {
		header, parsed := ParseRecordHeader(in)
		if _, _, err := OpenRecord(other, c, in); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("opened under a key that sealed nothing: %v", err)
		}
		value, again, err := OpenRecord(dek, c, in)
		if err == nil && (parsed != nil || header != again) {
			t.Fatalf("opened, but its header is %+v, %v", header, parsed)
		}
		if err == nil {
			salt := bytes.NewReader(in[recordBound-saltSize : recordBound])
			back, err := SealRecord(salt, dek, c, header.DEKVersion, header.RecVersion, header.Suite, value)
			if err != nil || !bytes.Equal(back, in) {
				t.Fatalf("opens, but is not what SealRecord makes: %v", err)
			}
		}
		if class, size := pad(max(len(in), lengthSize)); size <= padme(lengthSize+MaxValue) {
			plain := append(bytes.Clone(in), make([]byte, size-len(in))...)
			if v, ok := unpad(class, plain); ok {
				if c, s := pad(lengthSize + len(v)); c != class || s != size {
					t.Fatal("unpadded what pad does not make")
				}
			}
		}
	})
}

func FuzzTokenRow(f *testing.F) {
	h, _ := unlocked(f, 1, testInstance(1))
	key, sid := h.TokenRowKey("tok"), sidAt(5, 7, 1)
	b := &h.buckets[5]
	row, err := h.SealTokenRow(stream(9), key, TokenRow{SID: sid, Field: "phone", Audience: "crm", Expiry: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Add(Marker{SubjectErased, 20_000}.Marshal())
	f.Add(append(sid[:], "\x00\x05phone\x00\x03crm\x00\x00\x00\x00\x00\x00\x00\x00\x05\x01"...))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if head, err := ParseTokenRow(in); err == nil && head.Gone && !bytes.Equal(head.Marker.Marshal(), in) {
			t.Fatal("a marker that Marshal does not make")
		}
		if got, err := h.OpenTokenRow(key, in); err == nil {
			if back, err := h.SealTokenRow(bytes.NewReader(in[tokenHeader+1:]), key, got); err != nil || !bytes.Equal(back, in) {
				t.Fatalf("opens, but is not what SealTokenRow makes: %v", err)
			}
		}
		nonce := make([]byte, 24)
		head := binary.BigEndian.AppendUint64([]byte{0, 5}, 1)
		sealed, err := seal(bytes.NewReader(nonce), &b.token, h.tokenPlace(key[:], 5, b), head, in)
		if err != nil {
			return
		}
		if got, err := h.OpenTokenRow(key, sealed); err == nil {
			if back, err := h.SealTokenRow(bytes.NewReader(nonce), key, got); err != nil || !bytes.Equal(back, sealed) {
				t.Fatalf("content opens, but is not what SealTokenRow makes: %v", err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzKeyRow(f *testing.F) {
	h, _ := unlocked(f, 1, testInstance(1))
	sid := sidAt(5, 7, 1)
	b := &h.buckets[5]
	row, err := h.SealKeyRow(stream(9), sid, KeyRow{SK: testKey(1), DEKVersion: 1, Wrapped: "test:v1:AAAA"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Add(append(make([]byte, keySize+4+16), "\x00\x04t:v1"...))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if got, err := h.OpenKeyRow(sid, in); err == nil {
			if back, err := h.SealKeyRow(bytes.NewReader(in[9:]), sid, got); err != nil || !bytes.Equal(back, in) {
				t.Fatalf("opens, but is not what SealKeyRow makes: %v", err)
			}
		}
		nonce := make([]byte, 24)
		head := binary.BigEndian.AppendUint64(nil, 1)
		sealed, err := seal(bytes.NewReader(nonce), &b.subject, h.keyRowPlace(sid, b), head, in)
		if err != nil {
			return
		}
		if got, err := h.OpenKeyRow(sid, sealed); err == nil {
			if back, err := h.SealKeyRow(bytes.NewReader(nonce), sid, got); err != nil || !bytes.Equal(back, sealed) {
				t.Fatalf("content opens, but is not what SealKeyRow makes: %v", err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzRoot(f *testing.F) {
	value, err := Root{1, 2, 3, "test:v1:AAAA"}.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add(Generation{3, 2, 1}.Marshal())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := UnmarshalRoot(in); err == nil {
			if back, err := r.Marshal(); err != nil || !bytes.Equal(back, in) {
				t.Fatalf("a root row that Marshal does not make: %v", err)
			}
		}
		if g, err := UnmarshalGeneration(in); err == nil && !bytes.Equal(g.Marshal(), in) {
			t.Fatal("a generation row that Marshal does not make")
		}
	})
}
