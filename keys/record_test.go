package keys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := RecordContext{testInstance(rapid.Byte().Draw(t, "instance")), SID{rapid.Byte().Draw(t, "sid")}, rapid.StringN(0, 60, MaxField).Draw(t, "field")}
		dek := testKey(rapid.Byte().Draw(t, "dek"))
		want := RecordHeader{Suite: Suite(rapid.IntRange(1, 2).Draw(t, "suite")), DEKVersion: rapid.Uint32().Draw(t, "dek version"), RecVersion: rapid.Uint64().Draw(t, "rec version")}
		n := rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(0, 3000)).Draw(t, "length")
		value := secret.NewBytes(bytes.Repeat([]byte{rapid.Byte().Draw(t, "value")}, n))
		want.Class, _ = pad(4 + n)
		record, err := SealRecord(stream(rapid.Byte().Draw(t, "seed")), dek, c, want.DEKVersion, want.RecVersion, want.Suite, value)
		if err != nil {
			t.Fatal(err)
		}
		back, header, err := OpenRecord(dek, c, record)
		if err != nil || !back.Equal(value) || header != want {
			t.Fatalf("opened wrongly: %+v, %v", header, err)
		}
		if header, err := ParseRecordHeader(record); err != nil || header != want {
			t.Fatalf("header %+v, %v", header, err)
		}
		if _, _, err := OpenRecord(testKey(dek.Reveal()[0]+1), c, record); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("under another key: %v", err)
		}
	})
}

func TestRecordLimits(t *testing.T) {
	dek, c := testKey(1), RecordContext{Field: "f"}
	for _, tc := range []struct {
		name  string
		dek   secret.Bytes
		field string
		suite Suite
		n     int
		want  error
	}{
		{"largest value", dek, "f", XChaCha20Poly1305, MaxValue, nil},
		{"a byte more", dek, "f", XChaCha20Poly1305, MaxValue + 1, ErrTooLarge},
		{"longest field", dek, strings.Repeat("f", MaxField), XChaCha20Poly1305, 1, nil},
		{"longer field", dek, strings.Repeat("f", MaxField+1), XChaCha20Poly1305, 1, ErrTooLarge},
		{"suite 0", dek, "f", 0, 1, ErrInvalid},
		{"suite 3", dek, "f", 3, 1, ErrInvalid},
		{"no key", secret.Bytes{}, "f", XChaCha20Poly1305, 1, ErrInvalid},
		{"short key", secret.NewBytes(make([]byte, 31)), "f", XChaCha20Poly1305, 1, ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := RecordContext{Field: tc.field}
			record, err := SealRecord(stream(1), tc.dek, c, 1, 1, tc.suite, secret.NewBytes(make([]byte, tc.n)))
			if !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if err != nil {
				return
			}
			if v, _, err := OpenRecord(tc.dek, c, record); err != nil || v.Len() != tc.n {
				t.Errorf("%d bytes, %v", v.Len(), err)
			}
		})
	}
	record := must[[]byte](t)(SealRecord(stream(1), dek, c, 1, 1, XChaCha20Poly1305, secret.Bytes{}))
	if _, _, err := OpenRecord(secret.Bytes{}, c, record); !errors.Is(err, ErrInvalid) {
		t.Errorf("opening without a key: %v", err)
	}
	if _, err := SealRecord(bytes.NewReader(nil), dek, c, 1, 1, XChaCha20Poly1305, secret.Bytes{}); err == nil {
		t.Error("no randomness: no error")
	}
}

// A record that its own key sealed still has to be the one that SealRecord would make.
func TestRecordIsStrict(t *testing.T) {
	dek, c := testKey(1), RecordContext{Field: "f"}
	craft := func(class PaddingClass, flags byte, plain []byte) []byte {
		record := append([]byte("CR\x01\x01"), make([]byte, 12)...)
		record = append(record, byte(class), flags)
		record = append(record, make([]byte, saltSize)...)
		data := c.data(record)
		k, err := recordKeys(dek, data, XChaCha20Poly1305)
		if err != nil {
			t.Fatal(err)
		}
		return k.aead.Seal(append(record, k.commitment...), k.nonce, plain, data)
	}
	plain := func(size int, length uint32, value string) []byte {
		b := make([]byte, size)
		binary.BigEndian.PutUint32(b, length)
		copy(b[4:], value)
		return b
	}
	for _, tc := range []struct {
		name   string
		record []byte
		good   bool
	}{
		{"as it should be", craft(1, 0, plain(64, 5, "value")), true},
		{"a byte behind the value", craft(1, 0, plain(64, 4, "value")), false},
		{"longer than its padding", craft(1, 0, plain(64, 61, "value")), false},
		{"longest in its padding", craft(1, 0, plain(64, 60, "value")), true},
		{"length beyond all", craft(1, 0, plain(64, math.MaxUint32, "value")), false},
		{"a class too large", craft(2, 0, plain(256, 5, "value")), false},
		{"a size of no class", craft(1, 0, plain(65, 5, "value")), false},
		{"Padmé", craft(4, 0, plain(1088, 1080, "value")), true},
		{"Padmé for what fits class 3", craft(4, 0, plain(1088, 1020, "value")), false},
		{"Padmé, a size too large", craft(4, 0, plain(1152, 1080, "value")), false},
		{"Padmé, a size that is none", craft(4, 0, plain(1089, 1085, "value")), false},
		{"class 0", craft(0, 0, plain(64, 5, "value")), false},
		{"class 5", craft(5, 0, plain(64, 5, "value")), false},
		{"flags", craft(1, 1, plain(64, 5, "value")), false},
		{"no plaintext at all", craft(1, 0, nil), false},
	} {
		if _, err := ParseRecordHeader(tc.record); tc.good && err != nil {
			t.Errorf("%s: header: %v", tc.name, err)
		}
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := OpenRecord(dek, c, tc.record)
			if tc.good && err != nil || !tc.good && !errors.Is(err, ErrCorrupt) {
				t.Error(err)
			}
		})
	}
}

// A record whose length is none that its class can have is refused before any key is asked for.
func TestRecordHeaderKnowsItsLength(t *testing.T) {
	dek, c := testKey(1), RecordContext{Field: "f"}
	for _, tc := range []struct {
		class PaddingClass
		sizes []int
	}{
		{Pad64, []int{64}}, {Pad256, []int{256}}, {Pad1024, []int{1024}}, {PadMe, []int{1088, 1152, 2048, padme(lengthSize + MaxValue)}},
	} {
		record := must[[]byte](t)(SealRecord(stream(1), dek, c, 1, 1, XChaCha20Poly1305, secret.Bytes{}))
		record[16] = byte(tc.class)
		for _, size := range []int{-1, 0, 63, 64, 65, 255, 256, 1023, 1024, 1025, 1087, 1088, 1089, 1152, 2048, padme(lengthSize + MaxValue), padme(lengthSize+MaxValue) + 1<<18} {
			_, err := ParseRecordHeader(append(record[:recordCiphertext:recordCiphertext], make([]byte, size+tagSize)...))
			if good := slices.Contains(tc.sizes, size); good != (err == nil) {
				t.Errorf("class %d, %d bytes: %v", tc.class, size, err)
			}
		}
	}
}

// The commitment alone keeps a record shut: with it altered, nothing else is asked.
func TestRecordCommitment(t *testing.T) {
	dek, c := testKey(1), RecordContext{Field: "f"}
	record := must[[]byte](t)(SealRecord(stream(1), dek, c, 1, 1, XChaCha20Poly1305, secret.NewBytes([]byte("v"))))
	record[recordBound+31] ^= 1
	if _, _, err := OpenRecord(dek, c, record); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestPadding(t *testing.T) {
	for _, tc := range []struct {
		name  string
		value int
		class PaddingClass
		size  int
	}{
		{"nothing", 0, Pad64, 64},
		{"fills 64", 60, Pad64, 64},
		{"just above 64", 61, Pad256, 256},
		{"fills 256", 252, Pad256, 256},
		{"just above 256", 253, Pad1024, 1024},
		{"fills 1024", 1020, Pad1024, 1024},
		{"just above 1024", 1021, PadMe, 1088},
		{"fills its step", 1084, PadMe, 1088},
		{"next step", 1085, PadMe, 1152},
		{"64 KiB", 65536, PadMe, 67584},
		{"1 MiB", 1 << 20, PadMe, 1<<20 + 1<<15},
		{"largest", MaxValue, PadMe, MaxValue + 1<<18},
	} {
		if class, size := pad(lengthSize + tc.value); class != tc.class || size != tc.size {
			t.Errorf("%s: class %d, size %d; want %d, %d", tc.name, class, size, tc.class, tc.size)
		}
	}
	// The paper's own words, in floating point: E = floor(log2 L), S = floor(log2 E) + 1, the last E-S bits zero.
	for n := 2; n < 100_000; n++ {
		e := math.Floor(math.Log2(float64(n)))
		s := math.Floor(math.Log2(e)) + 1
		step := math.Exp2(e - s)
		want := int(math.Ceil(float64(n)/step) * step)
		got := padme(n)
		if got != want || float64(got) > 1.12*float64(n) || padme(got) != got {
			t.Fatalf("padme(%d) = %d, want %d; again %d", n, got, want, padme(got))
		}
		if mantissa := bits.Len(uint(got)) - bits.TrailingZeros(uint(got)); mantissa > int(s)+1 {
			t.Fatalf("padme(%d) = %d shows %d bits", n, got, mantissa)
		}
	}
}
