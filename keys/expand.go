package keys

import "crypto/sha256"

const (
	blockSize = sha256.BlockSize

	// expandRoom is the info that expand takes without allocating: the associated data of a record fits.
	expandRoom = 384
)

// expand fills out (at most 255 x 32 bytes) with HKDF-Expand of SHA-256 under a key of 32 bytes (RFC 5869, section 2.3).
//
// crypto/hkdf gives the same bytes, which a test holds it to. This one is here because every value that is shown costs
// two expansions: with HMAC (RFC 2104) written out over one buffer on the stack they take less than half of the time,
// and none of the 26 allocations.
func expand[T string | []byte](out []byte, key []byte, info T) {
	var outer [blockSize + sha256.Size]byte
	var room [blockSize + sha256.Size + expandRoom + 1]byte
	in := room[:blockSize]
	copy(in, key)
	copy(outer[:], key)
	for i := range blockSize {
		in[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	var block [sha256.Size]byte
	for n := byte(1); len(out) > 0; n++ {
		in = in[:blockSize]
		if n > 1 {
			in = append(in, block[:]...)
		}
		in = append(append(in, info...), n)
		inner := sha256.Sum256(in)
		copy(outer[blockSize:], inner[:])
		block = sha256.Sum256(outer[:])
		out = out[copy(out, block[:]):]
	}
	clear(room[:])
	clear(in)
	clear(outer[:])
	clear(block[:])
}

// derive returns a key of 32 bytes for label.
func derive(key []byte, label string) (out [keySize]byte) {
	expand(out[:], key, label)
	return out
}
