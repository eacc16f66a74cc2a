package keys

import (
	"encoding/binary"
	"math/bits"
)

// PaddingClass is how a value's length is hidden. The plaintext of a record is u32 length ‖ value ‖ zeros, up to the
// size of the smallest class it fits.
type PaddingClass uint8

// The classes.
const (
	Pad64   PaddingClass = 1 // 64 bytes
	Pad256  PaddingClass = 2 // 256 bytes
	Pad1024 PaddingClass = 3 // 1024 bytes
	PadMe   PaddingClass = 4 // Padmé, above that
)

const lengthSize = 4

// pad returns the class of n bytes of plaintext, length included, and the size they take in it.
func pad(n int) (PaddingClass, int) {
	switch {
	case n <= 64:
		return Pad64, 64
	case n <= 256:
		return Pad256, 256
	case n <= 1024:
		return Pad1024, 1024
	default:
		return PadMe, padme(n)
	}
}

// padme rounds n up so that the result's floating-point mantissa is no longer than its exponent: at most 12% more, and
// O(log log n) bits told of n. Algorithm 1 of Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
// Communication with PURBs", PETS 2019. n is at least 2.
func padme(n int) int {
	e := bits.Len(uint(n)) - 1 // floor(log2 n)
	s := bits.Len(uint(e))     // floor(log2 e) + 1
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}

// fits reports whether size is one a plaintext of the class can have.
func (c PaddingClass) fits(size int) bool {
	switch c {
	case Pad64:
		return size == 64
	case Pad256:
		return size == 256
	case Pad1024:
		return size == 1024
	case PadMe:
		return size > 1024 && size <= padme(lengthSize+MaxValue) && padme(size) == size
	default:
		return false
	}
}

// unpad returns the value in plain, which fits the class. It reports false unless plain is what pad makes of that value.
func unpad(class PaddingClass, plain []byte) ([]byte, bool) {
	n := binary.BigEndian.Uint32(plain)
	if n > MaxValue || int(n) > len(plain)-lengthSize {
		return nil, false
	}
	end := lengthSize + int(n)
	if c, size := pad(end); c != class || size != len(plain) {
		return nil, false
	}
	var rest byte
	for _, b := range plain[end:] {
		rest |= b
	}
	return plain[lengthSize:end:end], rest == 0
}
