package local

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
)

func benchRing(b *testing.B) *Keyring {
	b.Helper()
	k, err := Open(filepath.Join(b.TempDir(), "k"),
		Options{Create: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = k.Close() })
	for _, name := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		if err := k.Create(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
	return k
}

func BenchmarkWrap(b *testing.B)   { bench(b, true) }
func BenchmarkUnwrap(b *testing.B) { bench(b, false) }

// bench reports time per item.
func bench(b *testing.B, wrap bool) {
	k := benchRing(b)
	for _, name := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		for _, size := range []int{1, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				items := make([]keys.WrapItem, size)
				for i := range items {
					items[i] = keys.WrapItem{Context: fmt.Appendf(nil, "cloakroom/dek/1 %032d", i), Plaintext: canaryKey()}
				}
				out, err := k.Wrap(b.Context(), name, 0, items)
				if err != nil {
					b.Fatal(err)
				}
				wrapped := make([]keys.UnwrapItem, size)
				for i := range out {
					wrapped[i] = keys.UnwrapItem{Context: items[i].Context, Wrapped: out[i].Wrapped}
				}
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					if wrap {
						_, err = k.Wrap(b.Context(), name, 0, items)
					} else {
						_, err = k.Unwrap(b.Context(), name, wrapped)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/item")
			})
		}
	}
}

func BenchmarkVersions(b *testing.B) { // the price of looking at the file
	k := benchRing(b)
	for b.Loop() {
		if _, err := k.Versions(b.Context(), keys.DEKKey); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRotate(b *testing.B) {
	k := benchRing(b)
	for n := 2; b.Loop(); n++ {
		if err := k.Rotate(b.Context(), keys.DEKKey); err != nil {
			b.Fatal(err)
		}
		if n%1000 == 0 {
			if err := k.RaiseMinima(b.Context(), keys.DEKKey, n); err != nil {
				b.Fatal(err)
			}
			if err := k.Trim(b.Context(), keys.DEKKey, n); err != nil {
				b.Fatal(err)
			}
		}
	}
}
