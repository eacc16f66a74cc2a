package tokenizer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"testing"
)

var benchValues = []struct{ name, kind, value string }{
	{"phone/mobile", "phone", "13800138000"},
	{"phone/spelled", "phone", "+86 138-0013-8000"},
	{"phone/fullwidth", "phone", "１３８００１３８０００"},
	{"phone/landline", "phone", "0755-86013388 ext 8001"},
	{"phone/foreign", "phone", "+12025550123"},
	{"name/hanzi", "name", "张三"},
	{"name/latin", "name", "ZHANG San"},
	{"address", "address", "北京市海淀区中关村大街２７号（Ａ座）"},
	{"email", "email", "ZhangSan@Example.com"},
	{"email/idn", "email", "张三@例子.中国"},
	{"text", "text", "请放在门口"},
}

func BenchmarkCanonical(b *testing.B) {
	for _, v := range benchValues {
		k := kindOf(b, v.kind)
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Canonical(v.value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMask(b *testing.B) {
	for _, v := range benchValues {
		k := kindOf(b, v.kind)
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = k.Mask(v.value, Masked)
			}
		})
	}
}

// BenchmarkIndexAndMask is what a write of one field asks for: normalise, MAC for the index, mask.
func BenchmarkIndexAndMask(b *testing.B) {
	key := make([]byte, 32)
	for _, v := range benchValues {
		k := kindOf(b, v.kind)
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, _ := k.Canonical(v.value)
				mac := hmac.New(sha256.New, key)
				_, _ = io.WriteString(mac, c.Text.Reveal())
				_ = mac.Sum(nil)
				_ = k.Mask(v.value, Masked)
			}
		})
	}
}

func BenchmarkNewToken(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewToken(rand.Reader, "phone"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseToken(b *testing.B) {
	token, err := NewToken(rand.Reader, "phone")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseToken(token.Reveal()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewKinds(b *testing.B) {
	for b.Loop() {
		_ = NewKinds(Options{})
	}
}
