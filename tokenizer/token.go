package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// ErrMalformed: the text is not a token, or was mistyped. No store needs to be asked.
var ErrMalformed = errors.New("malformed token")

const (
	tokenPrefix = "tok_"
	randomLen   = 22 // base62 characters of 128 bits
	checkLen    = 6  // base62 characters of a CRC-32
	maxField    = 32
	maxToken    = len(tokenPrefix) + maxField + 1 + randomLen + checkLen

	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base62Block = 839299365868340224 // 62^10, the largest power of 62 whose products fit the 128-bit steps below
	blockLen    = 10
)

// NewToken returns a fresh opaque token for a field:
//
//	tok_<field>_ ‖ 22 base62 characters (128 bits of random) ‖ 6 base62 characters (IEEE CRC-32 of all before)
//
// Both numbers are big-endian, padded with 0; the alphabet is 0-9A-Za-z. The checksum lets a mistyped token be told
// from an unknown one, and secret scanners recognise a leaked one. random must be cryptographically secure; its
// error is returned wrapped.
func NewToken(random io.Reader, field string) (secret.Text, error) {
	if !ValidField(field) {
		return secret.Text{}, errors.New("new token: not a field name")
	}
	buf := make([]byte, 16+maxToken)
	if _, err := io.ReadFull(random, buf[:16]); err != nil {
		return secret.Text{}, fmt.Errorf("new token: %w", err)
	}
	hi, lo := binary.BigEndian.Uint64(buf), binary.BigEndian.Uint64(buf[8:])
	out := append(buf[16:16], tokenPrefix...)
	out = append(out, field...)
	out = append(out, '_')
	out = appendRandom(out, hi, lo)
	out = appendCheck(out, crc32.ChecksumIEEE(out))
	token := secret.NewText(string(out))
	clear(buf)
	return token, nil
}

// ParseToken returns the field that an opaque token names, or ErrMalformed. It says nothing of whether the token
// was ever handed out. Exactly the texts that NewToken can return are accepted.
func ParseToken(s string) (field string, err error) {
	if len(s) > maxToken || len(s) < len(tokenPrefix)+1+1+randomLen+checkLen {
		return "", ErrMalformed
	}
	// A field may hold underscores, so the parts are counted from the right.
	check := len(s) - checkLen
	random := check - randomLen
	if s[:len(tokenPrefix)] != tokenPrefix || s[random-1] != '_' {
		return "", ErrMalformed
	}
	field = s[len(tokenPrefix) : random-1]
	if !ValidField(field) || !validRandom(s[random:check]) {
		return "", ErrMalformed
	}
	buf := make([]byte, maxToken)
	n := copy(buf, s[:check])
	want := appendCheck(buf[:n], crc32.ChecksumIEEE(buf[:n]))
	if string(want[n:]) != s[check:] {
		return "", ErrMalformed
	}
	return field, nil
}

// ValidField reports whether name is a field's name: `[a-z][a-z0-9_]{0,31}`.
func ValidField(name string) bool {
	if name == "" || len(name) > maxField || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// appendRandom appends a 128-bit number as 22 base62 digits: blocks of 2, 10 and 10, split off by long division.
func appendRandom(out []byte, hi, lo uint64) []byte {
	hi, lo, low := divBlock(hi, lo)
	_, high, middle := divBlock(hi, lo)
	out = appendDigits(out, high, randomLen-2*blockLen)
	out = appendDigits(out, middle, blockLen)
	return appendDigits(out, low, blockLen)
}

func divBlock(hi, lo uint64) (quotientHi, quotientLo, rest uint64) {
	quotientHi, rest = hi/base62Block, hi%base62Block
	quotientLo, rest = bits.Div64(rest, lo, base62Block)
	return quotientHi, quotientLo, rest
}

func appendCheck(out []byte, sum uint32) []byte { return appendDigits(out, uint64(sum), checkLen) }

func appendDigits(out []byte, v uint64, n int) []byte {
	var digits [blockLen]byte
	for i := n - 1; i >= 0; i-- {
		digits[i] = base62[v%62]
		v /= 62
	}
	return append(out, digits[:n]...)
}

// validRandom reports whether s is base62 and below 2^128: 22 digits reach further than 128 bits, and a number has
// one spelling only.
func validRandom(s string) bool {
	var hi, lo uint64
	for i := range len(s) {
		digit, ok := base62Value(s[i])
		if !ok {
			return false
		}
		over, top := bits.Mul64(hi, 62)
		carry, low := bits.Mul64(lo, 62)
		low, c := bits.Add64(low, digit, 0)
		top, c = bits.Add64(top, carry, c)
		if over != 0 || c != 0 {
			return false
		}
		hi, lo = top, low
	}
	return true
}

func base62Value(c byte) (uint64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0'), true
	case c >= 'A' && c <= 'Z':
		return uint64(c-'A') + 10, true
	case c >= 'a' && c <= 'z':
		return uint64(c-'a') + 36, true
	}
	return 0, false
}
