package local

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// The keyring file, integers big-endian:
//
//	offset bytes
//	     0     4  "CRKR"
//	     4     1  format, 01
//	     5     1  00 not sealed, 01 sealed
//	     6    16  ring id, random
//	    22     8  serial, counts writes from 1
//	    30        not sealed: body
//	              sealed:     u32 argon2id passes ‖ u32 KiB ‖ u8 lanes ‖ salt (16) ‖ nonce (24)
//	                          ‖ XChaCha20-Poly1305(argon2id(passphrase), nonce, body, AD = all bytes before)
//	   end    32  SHA-256 of all bytes before
//
//	body = u8 n ‖ n keys, in the order of their codes:
//	    u8 code (1 root, 2 dek) ‖ u32 latest ‖ u32 minimum (0: never raised) ‖ u32 oldest available
//	    ‖ 32 bytes for each version from oldest available to latest
//
// The digest tells a torn file, which is healed from the mirror, from a wrong passphrase, which is not. Against
// somebody who writes to the file, only the seal helps. Every ring has exactly one body.
const (
	magic      = "CRKR"
	format     = 1
	headerSize = 30
	sealedSize = headerSize + 9 + saltSize + nonceSize // up to the ciphertext
	sumSize    = sha256.Size
	entrySize  = 13 // of a key, without its versions
	maxBody    = 1 + 2*(entrySize+maxVersions*keySize)
	maxFile    = sealedSize + maxBody + tagSize + sumSize

	codeRoot, codeDEK = 1, 2
)

// errTorn: the bytes are not what was written. Such a file may be healed from its mirror, any other fault may not.
var errTorn = errors.New("the file is torn or altered")

// envelope is a keyring file before its body is opened.
type envelope struct {
	id     [idSize]byte
	serial uint64
	sealed bool
	cost   Cost           // zero when not sealed
	salt   [saltSize]byte // zero when not sealed
	raw    []byte         // the file without its digest
	sum    [sumSize]byte
}

// parse reads the outside of a keyring file. Errors: errTorn, ErrDamaged.
func parse(file []byte) (envelope, error) {
	var e envelope
	if len(file) < headerSize+sumSize || len(file) > maxFile {
		return e, errTorn
	}
	e.raw = file[:len(file)-sumSize]
	e.sum = sha256.Sum256(e.raw)
	if e.sum != [sumSize]byte(file[len(e.raw):]) {
		return e, errTorn
	}
	if string(e.raw[:4]) != magic {
		return e, fmt.Errorf("%w: not a keyring file", ErrDamaged)
	}
	if e.raw[4] != format {
		return e, fmt.Errorf("%w: format %d is not known to this version of Cloakroom", ErrDamaged, e.raw[4])
	}
	e.id = [idSize]byte(e.raw[6:22])
	e.serial = binary.BigEndian.Uint64(e.raw[22:30])
	if e.serial == 0 {
		return e, fmt.Errorf("%w: serial 0", ErrDamaged)
	}
	switch e.raw[5] {
	case 0:
		return e, nil
	case 1:
		e.sealed = true
	default:
		return e, fmt.Errorf("%w: unknown kind of seal", ErrDamaged)
	}
	if len(e.raw) < sealedSize+tagSize {
		return e, fmt.Errorf("%w: sealed part too short", ErrDamaged)
	}
	e.cost = Cost{
		Time:   binary.BigEndian.Uint32(e.raw[30:34]),
		Memory: binary.BigEndian.Uint32(e.raw[34:38]),
		Lanes:  e.raw[38],
	}
	e.salt = [saltSize]byte(e.raw[39:55])
	if err := e.cost.check(); err != nil {
		return e, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return e, nil
}

// open reads the body. The caller has made sure that s fits. Errors: ErrPassphrase, ErrDamaged.
func (e envelope) open(s *seal) (*ring, error) {
	body := e.raw[headerSize:]
	if e.sealed {
		aead, err := chacha20poly1305.NewX(s.key.Reveal())
		if err != nil {
			return nil, fmt.Errorf("open keyring: %w", err)
		}
		body, err = aead.Open(nil, e.raw[sealedSize-nonceSize:sealedSize], e.raw[sealedSize:], e.raw[:sealedSize])
		if err != nil {
			return nil, fmt.Errorf("%w: it does not open the keyring; check for a typing error, a line end in the "+
				"passphrase file, or another installation's passphrase", ErrPassphrase)
		}
		defer clear(body)
	}
	r := &ring{id: e.id, serial: e.serial}
	if err := r.decode(body); err != nil {
		r.wipe()
		return nil, err
	}
	return r, nil
}

func (r *ring) decode(body []byte) error {
	if len(body) < 1 || len(body) > maxBody {
		return fmt.Errorf("%w: body length", ErrDamaged)
	}
	n, rest := int(body[0]), body[1:]
	last := byte(0)
	for range n {
		if len(rest) < entrySize {
			return fmt.Errorf("%w: body too short", ErrDamaged)
		}
		code := rest[0]
		if code <= last || code > codeDEK {
			return fmt.Errorf("%w: unknown or misplaced key", ErrDamaged)
		}
		last = code
		latest := binary.BigEndian.Uint32(rest[1:5])
		minimum := binary.BigEndian.Uint32(rest[5:9])
		available := binary.BigEndian.Uint32(rest[9:13])
		rest = rest[entrySize:]
		if available < 1 || available > max(minimum, 1) || max(minimum, 1) > latest || latest > maxVersion {
			return fmt.Errorf("%w: versions contradict each other", ErrDamaged)
		}
		live := uint64(latest-available) + 1
		if live > maxVersions || uint64(len(rest)) < live*keySize {
			return fmt.Errorf("%w: body too short", ErrDamaged)
		}
		k := &key{latest: int(latest), minimum: int(minimum), available: int(available)}
		for range live {
			m := make([]byte, keySize)
			copy(m, rest)
			k.material = append(k.material, secret.NewBytes(m))
			rest = rest[keySize:]
		}
		if code == codeRoot {
			r.root = k
		} else {
			r.dek = k
		}
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: bytes after the body", ErrDamaged)
	}
	return nil
}

// encode writes the file. The caller wipes what it gets.
func (r *ring) encode(s *seal, random io.Reader) ([]byte, error) {
	// Room for all from the start: growing would leave copies of keys behind.
	body := make([]byte, 0, r.bodySize())
	defer func() { clear(body) }()
	body = append(body, byte(len(r.keys())))
	body = r.root.append(body, codeRoot)
	body = r.dek.append(body, codeDEK)

	file := make([]byte, 0, sealedSize+len(body)+tagSize+sumSize)
	file = append(file, magic...)
	file = append(file, format, 0)
	file = append(file, r.id[:]...)
	file = binary.BigEndian.AppendUint64(file, r.serial)
	if s == nil {
		file = append(file, body...)
	} else {
		file[5] = 1
		file = binary.BigEndian.AppendUint32(file, s.cost.Time)
		file = binary.BigEndian.AppendUint32(file, s.cost.Memory)
		file = append(file, s.cost.Lanes)
		file = append(file, s.salt[:]...)
		nonce := make([]byte, nonceSize)
		if _, err := io.ReadFull(random, nonce); err != nil {
			return nil, fmt.Errorf("seal keyring: random: %w", err)
		}
		file = append(file, nonce...)
		aead, err := chacha20poly1305.NewX(s.key.Reveal())
		if err != nil {
			return nil, fmt.Errorf("seal keyring: %w", err)
		}
		file = aead.Seal(file, nonce, body, file[:sealedSize])
	}
	sum := sha256.Sum256(file)
	return append(file, sum[:]...), nil
}

func (r *ring) bodySize() int {
	n := 1
	for _, k := range r.keys() {
		n += entrySize + len(k.material)*keySize
	}
	return n
}

func (k *key) append(body []byte, code byte) []byte {
	if k == nil {
		return body
	}
	body = append(body, code)
	body = binary.BigEndian.AppendUint32(body, uint32(k.latest))
	body = binary.BigEndian.AppendUint32(body, uint32(k.minimum))
	body = binary.BigEndian.AppendUint32(body, uint32(k.available))
	for _, m := range k.material {
		body = append(body, m.Reveal()...)
	}
	return body
}
