package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Suite is the AEAD of a field record.
type Suite uint8

// The suites.
const (
	XChaCha20Poly1305 Suite = 1 // the default
	AES256GCM         Suite = 2 // NIST SP 800-38D
)

// RecordContext says whose value a record holds; a record opens in no other context.
type RecordContext struct {
	Inst  InstanceID
	SID   SID
	Field string // at most MaxField bytes; empty for the external id
}

// RecordHeader is what a record tells without a key, its first 18 bytes:
//
//	"CR" ‖ 01 ‖ u8 suite ‖ u32 dek version ‖ u64 rec version ‖ u8 padding class ‖ u8 flags
//
// Then follow salt (32), key commitment (32) and the ciphertext with its tag.
type RecordHeader struct {
	Suite      Suite
	DEKVersion uint32
	RecVersion uint64 // counts the field's changes, goes on after removal
	Class      PaddingClass
	Flags      uint8 // 0
}

const (
	saltSize         = 32
	commitmentSize   = 32
	recordBound      = 18 + saltSize // what stands before the commitment is associated data
	recordCiphertext = recordBound + commitmentSize
	tagSize          = 16 // of both suites
)

// ParseRecordHeader reads a record's header, or answers ErrCorrupt. It checks everything but the authenticity.
func ParseRecordHeader(record []byte) (RecordHeader, error) {
	in := reader{b: record}
	magic, format := in.take(2), in.u8()
	h := RecordHeader{Suite: Suite(in.u8()), DEKVersion: in.u32(), RecVersion: in.u64(), Class: PaddingClass(in.u8()), Flags: in.u8()}
	if in.bad || !bytes.Equal(magic, []byte("CR")) || format != rowFormat || h.Flags != 0 ||
		h.Suite != XChaCha20Poly1305 && h.Suite != AES256GCM ||
		!h.Class.fits(len(record)-recordCiphertext-tagSize) {
		return RecordHeader{}, fmt.Errorf("field record: %w", ErrCorrupt)
	}
	return h, nil
}

// SealRecord seals a field's value under its person's data key of 32 bytes. The key of the record, its nonce and a
// commitment to both come from HKDF over a random salt, so that no nonce is ever used twice with a key, and so
// that no record opens under two keys (Bellare and Hoang, "Efficient Schemes for Committing Authenticated
// Encryption", EUROCRYPT 2022).
func SealRecord(rand io.Reader, dek secret.Bytes, c RecordContext, dekVersion uint32, recVersion uint64, suite Suite, value secret.Bytes) ([]byte, error) {
	if suite != XChaCha20Poly1305 && suite != AES256GCM || dek.Len() != keySize {
		return nil, fmt.Errorf("field record: %w", ErrInvalid)
	}
	if value.Len() > MaxValue || len(c.Field) > MaxField {
		return nil, fmt.Errorf("field record: %w", ErrTooLarge)
	}
	class, size := pad(lengthSize + value.Len())
	record := make([]byte, 0, recordCiphertext+size+tagSize)
	record = append(record, 'C', 'R', rowFormat, byte(suite))
	record = binary.BigEndian.AppendUint32(record, dekVersion)
	record = binary.BigEndian.AppendUint64(record, recVersion)
	record = append(record, byte(class), 0)
	record = record[:recordBound]
	if _, err := io.ReadFull(rand, record[recordBound-saltSize:]); err != nil {
		return nil, fmt.Errorf("field record: reading randomness: %w", err)
	}
	data := c.data(record)
	k, err := recordKeys(dek, data, suite)
	if err != nil {
		return nil, fmt.Errorf("field record: %w", err)
	}
	defer clear(k.all)
	record = append(record, k.commitment...)
	// The plaintext is built where its ciphertext will stand, so that no copy of it is left behind.
	plain := record[recordCiphertext : recordCiphertext+size]
	binary.BigEndian.PutUint32(plain, uint32(value.Len()))
	copy(plain[lengthSize:], value.Reveal())
	return k.aead.Seal(record, k.nonce, plain, data), nil
}

// OpenRecord opens a record under the data key. Any failure is ErrCorrupt. The caller wipes the value.
func OpenRecord(dek secret.Bytes, c RecordContext, record []byte) (secret.Bytes, RecordHeader, error) {
	header, err := ParseRecordHeader(record)
	if err != nil {
		return secret.Bytes{}, RecordHeader{}, err
	}
	if dek.Len() != keySize || len(c.Field) > MaxField {
		return secret.Bytes{}, RecordHeader{}, fmt.Errorf("field record: %w", ErrInvalid)
	}
	data := c.data(record[:recordBound])
	k, err := recordKeys(dek, data, header.Suite)
	if err != nil {
		return secret.Bytes{}, RecordHeader{}, fmt.Errorf("field record: %w", err)
	}
	defer clear(k.all)
	if subtle.ConstantTimeCompare(k.commitment, record[recordBound:recordCiphertext]) != 1 {
		return secret.Bytes{}, RecordHeader{}, fmt.Errorf("field record: %w", ErrCorrupt)
	}
	plain, err := k.aead.Open(nil, k.nonce, record[recordCiphertext:], data)
	if err != nil {
		return secret.Bytes{}, RecordHeader{}, fmt.Errorf("field record: %w", ErrCorrupt)
	}
	value, ok := unpad(header.Class, plain)
	if !ok {
		clear(plain)
		return secret.Bytes{}, RecordHeader{}, fmt.Errorf("field record: %w", ErrCorrupt)
	}
	return secret.NewBytes(value), header, nil
}

// data returns "cloakroom/field/1\0" ‖ record[0:50] ‖ inst ‖ LP(tenant) ‖ sid ‖ LP(field).
func (c RecordContext) data(bound []byte) []byte {
	const label = "cloakroom/field/1\x00"
	b := make([]byte, 0, len(label)+recordBound+len(c.Inst)+2+len(Tenant)+len(c.SID)+2+len(c.Field))
	b = append(b, label...)
	b = append(b, bound...)
	b = append(b, c.Inst[:]...)
	b = appendLP(b, Tenant)
	b = append(b, c.SID[:]...)
	return appendLP(b, c.Field)
}

type recordKey struct {
	all               []byte // the bytes the others lie in
	aead              cipher.AEAD
	nonce, commitment []byte
}

// recordKeys expands the data key into key (32) ‖ nonce (24 or 12) ‖ commitment (32), by HKDF-Expand with SHA-256.
func recordKeys(dek secret.Bytes, data []byte, suite Suite) (recordKey, error) {
	nonceSize := chacha20poly1305.NonceSizeX
	if suite == AES256GCM {
		nonceSize = 12
	}
	all := make([]byte, keySize+nonceSize+commitmentSize)
	expand(all, dek.Reveal(), data)
	k := recordKey{all: all, nonce: all[keySize : keySize+nonceSize], commitment: all[keySize+nonceSize:]}
	var err error
	if suite == AES256GCM {
		var block cipher.Block
		if block, err = aes.NewCipher(all[:keySize]); err == nil {
			k.aead, err = cipher.NewGCM(block)
		}
	} else {
		k.aead, err = chacha20poly1305.NewX(all[:keySize])
	}
	return k, err
}
