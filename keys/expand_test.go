package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"

	"pgregory.net/rapid"
)

func TestExpandIsHKDF(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), keySize, keySize).Draw(t, "key")
		info := rapid.SliceOfN(rapid.Byte(), 0, 2*expandRoom).Draw(t, "info")
		n := rapid.IntRange(1, 255*sha256.Size).Draw(t, "n")
		want, err := hkdf.Expand(sha256.New, key, string(info), n)
		if err != nil {
			t.Fatal(err)
		}
		got, gotString := make([]byte, n), make([]byte, n)
		expand(got, key, info)
		expand(gotString, key, string(info))
		if !bytes.Equal(got, want) || !bytes.Equal(gotString, want) {
			t.Fatalf("%d bytes for info of %d differ from crypto/hkdf", n, len(info))
		}
	})
}

func BenchmarkExpand(b *testing.B) {
	key, info, out := make([]byte, keySize), make([]byte, 120), make([]byte, 88)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			expand(out, key, info)
		}
	})
	b.Run("crypto/hkdf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := hkdf.Expand(sha256.New, key, string(info), len(out)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
