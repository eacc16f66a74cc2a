package tokenizer

import (
	"bytes"
	"math/big"
	"testing"
)

func FuzzCanonical(f *testing.F) {
	kinds := NewKinds(Options{})
	for _, v := range benchValues {
		f.Add(v.kind, v.value)
	}
	for _, s := range []string{
		"", " ", "\x00", "\xff", "\u200b", "13800138OOO", "+86 (0)755 86013388 ext 8001", "110", "+54 9 11 2345 6789", "+52 1 55 1234 5678",
		"张 三", "买买提•吐尔逊", "王𠮷", "<b>", "Groß", "ΐ\u0345", "广东省东莞市南城街道", "a..b@example.com", "Ⱥ@xn--a.com", "\u0958\u0323",
	} {
		for _, name := range kinds.Names() {
			f.Add(name, s)
		}
	}
	f.Fuzz(func(t *testing.T, kind, value string) {
		k, ok := kinds.Lookup(kind)
		if !ok {
			for _, name := range kinds.Names() {
				k, _ = kinds.Lookup(name)
				checkKind(t, k, value)
			}
			return
		}
		checkKind(t, k, value)
	})
}

func FuzzParseToken(f *testing.F) {
	top := new(big.Int).Lsh(big.NewInt(1), 128)
	f.Add(tokenBy("phone", big.NewInt(0)))
	f.Add(tokenBy("a_b", new(big.Int).Sub(top, big.NewInt(1))))
	f.Add(tokenBy("phone", top))
	f.Add("tok_phone_")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		field, err := ParseToken(s)
		if err != nil {
			if err != ErrMalformed || field != "" {
				t.Fatalf("%q, %v", field, err)
			}
			return
		}
		// What is accepted is what NewToken would write for that number.
		random := new(big.Int)
		for _, c := range []byte(s[len(s)-28 : len(s)-6]) {
			random.Mul(random, big.NewInt(62)).Add(random, big.NewInt(int64(bytes.IndexByte([]byte(base62), c))))
		}
		again, err := NewToken(bytes.NewReader(random.FillBytes(make([]byte, 16))), field)
		if err != nil || again.Reveal() != s {
			t.Fatalf("%q is accepted, written %q, %v", s, again.Reveal(), err)
		}
	})
}
