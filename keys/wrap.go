package keys

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keySize      = 32
	wrapOverhead = 1 + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// Labels say what a wrap is for. Each key wraps with one subkey per label, so that a row of one sort never opens as another.
const (
	labelBucket    = "cloakroom/bk/1"
	labelPartition = "cloakroom/ixk/1"
	labelService   = "cloakroom/service/1"
	labelSubject   = "cloakroom/subject/1"
	labelBody      = "cloakroom/body/1"
	labelValue     = "cloakroom/value/1"
	labelToken     = "cloakroom/token/1"
	labelIndex     = "cloakroom/index/1"
	labelIdem      = "cloakroom/idem/1"
)

// place is where a wrapped value stands; all of it is associated data, so that it opens nowhere else.
type place struct {
	label string
	inst  InstanceID
	row   []byte
	// counted: n and generation follow. They stand wherever a key that has generations seals or is sealed.
	counted    bool
	n          uint16
	generation uint64
}

func (p place) data() []byte {
	b := make([]byte, 0, len(p.label)+len(p.inst)+len(p.row)+10)
	b = append(b, p.label...)
	b = append(b, p.inst[:]...)
	b = append(b, p.row...)
	if p.counted {
		b = binary.BigEndian.AppendUint16(b, p.n)
		b = binary.BigEndian.AppendUint64(b, p.generation)
	}
	return b
}

// seal returns head ‖ 01 ‖ nonce (24) ‖ XChaCha20-Poly1305(subkey, nonce, plaintext, place). The nonce is random, which
// 24 bytes allow (draft-irtf-cfrg-xchacha, section 1).
func seal(rand io.Reader, subkey *[keySize]byte, p place, head, plaintext []byte) ([]byte, error) {
	size := len(head) + wrapOverhead + len(plaintext)
	if size > MaxRow {
		return nil, ErrTooLarge
	}
	aead, err := chacha20poly1305.NewX(subkey[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(head)+1+chacha20poly1305.NonceSizeX, size)
	copy(out, head)
	out[len(head)] = rowFormat
	nonce := out[len(head)+1:]
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	return aead.Seal(out, nonce, plaintext, p.data()), nil
}

// open is the inverse of seal for what follows the head. Any failure is ErrCorrupt.
func open(subkey *[keySize]byte, p place, wrapped []byte) ([]byte, error) {
	if len(wrapped) < wrapOverhead || len(wrapped) > MaxRow || wrapped[0] != rowFormat {
		return nil, ErrCorrupt
	}
	aead, err := chacha20poly1305.NewX(subkey[:])
	if err != nil {
		return nil, err
	}
	nonce, sealed := wrapped[1:1+chacha20poly1305.NonceSizeX], wrapped[1+chacha20poly1305.NonceSizeX:]
	plaintext, err := aead.Open(nil, nonce, sealed, p.data())
	if err != nil {
		return nil, ErrCorrupt
	}
	return plaintext, nil
}
