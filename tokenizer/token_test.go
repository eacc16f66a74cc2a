package tokenizer

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// tokenBy builds a token's text from its definition with big integers, to check the fast code against.
func tokenBy(field string, random *big.Int) string {
	return tokenSum("tok_" + field + "_" + base62By(random, 22))
}

// tokenSum appends the checksum.
func tokenSum(body string) string {
	return body + base62By(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), 6)
}

func base62By(v *big.Int, n int) string {
	v = new(big.Int).Set(v)
	out := make([]byte, n)
	for i := n - 1; i >= 0; i-- {
		var rest big.Int
		v.DivMod(v, big.NewInt(62), &rest)
		out[i] = base62[rest.Int64()]
	}
	return string(out)
}

func TestNewToken(t *testing.T) {
	for _, c := range []struct {
		name, field string
		random      []byte
	}{
		{"zeros", "phone", make([]byte, 16)},
		{"ones", "phone", bytes.Repeat([]byte{0xff}, 16)},
		{"high bit", "a", append([]byte{0x80}, make([]byte, 15)...)},
		{"underscores", "a_b_", bytes.Repeat([]byte{0x5a}, 16)},
		{"longest field", "a" + strings.Repeat("0", 31), bytes.Repeat([]byte{0x01}, 16)},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, err := NewToken(bytes.NewReader(c.random), c.field)
			if err != nil {
				t.Fatal(err)
			}
			if want := tokenBy(c.field, new(big.Int).SetBytes(c.random)); token.Reveal() != want {
				t.Errorf("token %s, want %s", token.Reveal(), want)
			}
			if field, err := ParseToken(token.Reveal()); err != nil || field != c.field {
				t.Errorf("ParseToken = %q, %v", field, err)
			}
			if out := fmt.Sprintf("%v %s %+v %#v", token, token, token, token); strings.Contains(out, "tok_") {
				t.Errorf("a token prints as %s", out)
			}
		})
	}
	// One literal, so that neither this test's arithmetic nor the alphabet can drift.
	token, _ := NewToken(bytes.NewReader([]byte("0123456789abcdef")), "phone")
	if want := "tok_phone_1Sw75eItjWvn5aWJbDTr2E1ZJB4W"; token.Reveal() != want {
		t.Errorf("token %s, want %s", token.Reveal(), want)
	}
}

func TestNewTokenFails(t *testing.T) {
	for _, field := range []string{"", "Phone", "1a", "_a", "a-b", "手机", strings.Repeat("a", 33)} {
		if token, err := NewToken(rand.Reader, field); err == nil || !token.Empty() {
			t.Errorf("field %q: no error", field)
		}
	}
	broken := errors.New("broken")
	if token, err := NewToken(iotest.ErrReader(broken), "phone"); !errors.Is(err, broken) || !token.Empty() {
		t.Errorf("broken reader: %v", err)
	}
	if token, err := NewToken(strings.NewReader("short"), "phone"); !errors.Is(err, io.ErrUnexpectedEOF) || !token.Empty() {
		t.Errorf("short reader: %v", err)
	}
}

func TestParseTokenMalformed(t *testing.T) {
	top := new(big.Int).Lsh(big.NewInt(1), 128)
	good := tokenBy("phone", new(big.Int).Sub(top, big.NewInt(1)))
	if _, err := ParseToken(good); err != nil {
		t.Fatalf("the largest token: %v", err)
	}
	cases := map[string]string{
		"empty":            "",
		"prefix alone":     "tok_",
		"2^128":            tokenBy("phone", top),
		"2^128 + 1":        tokenBy("phone", new(big.Int).Add(top, big.NewInt(1))),
		"all z":            tokenBy("phone", new(big.Int).Sub(new(big.Int).Exp(big.NewInt(62), big.NewInt(22), nil), big.NewInt(1))),
		"no field":         tokenBy("", big.NewInt(7)),
		"no underscore":    tokenSum("tok_phonex" + good[10:32]),
		"upper-case field": tokenBy("Phone", big.NewInt(7)),
		"digit field":      tokenBy("1", big.NewInt(7)),
		"field too long":   tokenBy(strings.Repeat("a", 33), big.NewInt(7)),
		"field with dash":  tokenBy("a-b", big.NewInt(7)),
		"other prefix":     "Tok_" + good[4:],
		"space before":     " " + good,
		"space after":      good + " ",
		"line after":       good + "\n",
		"cut":              good[:len(good)-1],
		"one more":         good + "0",
		"twice":            good + good,
		"very long":        strings.Repeat("tok_", 1<<16),
		"NUL":              strings.Replace(good, "_p", "\x00p", 1),
		"full-width":       strings.Replace(good, "t", "ｔ", 1),
	}
	for name, s := range cases {
		if field, err := ParseToken(s); err != ErrMalformed || field != "" {
			t.Errorf("%s: %q, %v", name, field, err)
		}
	}
}

// CRC-32 finds every single wrong character and every exchange of neighbours.
func TestParseTokenTypingErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := rapid.StringMatching(`[a-z][a-z0-9_]{0,31}`).Draw(t, "field")
		random := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "random")
		token, err := NewToken(bytes.NewReader(random), field)
		if err != nil {
			t.Fatal(err)
		}
		s := []byte(token.Reveal())
		if got, err := ParseToken(string(s)); err != nil || got != field {
			t.Fatalf("ParseToken(%q) = %q, %v", s, got, err)
		}
		i := rapid.IntRange(0, len(s)-2).Draw(t, "at")
		swapped := bytes.Clone(s)
		swapped[i], swapped[i+1] = s[i+1], s[i]
		if _, err := ParseToken(string(swapped)); err == nil && s[i] != s[i+1] {
			t.Errorf("%q is accepted for %q", swapped, s)
		}
		c := base62[rapid.IntRange(0, 61).Draw(t, "character")]
		if old := s[i]; old != c {
			s[i] = c
			if _, err := ParseToken(string(s)); err == nil {
				t.Errorf("character %d of a token may be %q for %q", i, c, old)
			}
		}
	})
}

func TestValidField(t *testing.T) {
	for field, want := range map[string]bool{
		"phone": true, "a": true, "a0_": true, "bank_card": true, strings.Repeat("a", 32): true,
		"": false, "A": false, "0a": false, "_a": false, "a b": false, "a.b": false, "é": false, strings.Repeat("a", 33): false,
	} {
		if ValidField(field) != want {
			t.Errorf("ValidField(%q) = %v", field, !want)
		}
	}
}
