package ledger

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	magic       = "CRLEDGR\x01"
	headerBytes = int64(len(magic) + 16)

	// hole is how many zero bytes at the end of the file count as never written. A signature ends in so many
	// with a chance of one in 2^256.
	hole = 32
)

// CorruptError: the file is not what was written. Seq is the first entry that does not fit, 0 for the header.
type CorruptError struct {
	Seq    uint64
	Reason string
}

func (e *CorruptError) Error() string {
	if e.Seq == 0 {
		return "ledger: header: " + e.Reason
	}
	return fmt.Sprintf("ledger: entry %d: %s", e.Seq, e.Reason)
}

// Report is what Scan found.
type Report struct {
	Instance [16]byte // whose ledger it is
	Head     Head     // the last entry that verified
	Torn     int64    // bytes behind the last entry that are no entry: a write was under way, or a crash
}

// Scan verifies the ledger at path from its first byte to its last and hands each entry to fn (nil for none), in order,
// once its signature by key is verified. An error of fn ends the scan and is returned; damage is a CorruptError.
// The ledger may be open and written meanwhile.
func Scan(path string, key ed25519.PublicKey, fn func(Entry) error) (Report, error) {
	if len(key) != ed25519.PublicKeySize {
		return Report{}, errors.New("ledger: not an Ed25519 public key")
	}
	file, err := os.Open(path)
	if err != nil {
		return Report{}, fmt.Errorf("ledger: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Report{}, fmt.Errorf("ledger: %w", err)
	}
	s, err := scan(file, info.Size(), key, func(e Entry, _ int64) error {
		if fn == nil {
			return nil
		}
		return fn(e)
	})
	if err != nil {
		return Report{Instance: s.instance, Head: s.head}, err
	}
	return Report{s.instance, s.head, info.Size() - s.end}, nil
}

// scanned is the verified part of a file.
type scanned struct {
	instance [16]byte
	head     Head
	end      int64 // behind the last entry; 0 when not even the header is whole
}

// scan verifies the first size bytes of r. It ends without an error before a torn last entry. fn gets each entry with
// the offset behind it.
func scan(r io.ReaderAt, size int64, key ed25519.PublicKey, fn func(Entry, int64) error) (scanned, error) {
	var s scanned
	in := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 256<<10)
	header := make([]byte, min(size, headerBytes))
	if _, err := io.ReadFull(in, header); err != nil {
		return s, fmt.Errorf("ledger: %w", err)
	}
	if size < headerBytes || allZero(header) {
		// A crash while the file was made: there is nothing in it yet.
		if size <= headerBytes && (bytes.HasPrefix([]byte(magic), header) || bytes.HasPrefix(header, []byte(magic)) || allZero(header)) {
			return s, nil
		}
		return s, &CorruptError{0, "not an erasure ledger"}
	}
	if string(header[:len(magic)]) != magic {
		return s, &CorruptError{0, "not an erasure ledger of this version"}
	}
	s.instance, s.end = [16]byte(header[len(magic):]), headerBytes
	for s.end < size {
		b, err := in.Peek(int(min(maxEntry, size-s.end)))
		if err != nil {
			return s, fmt.Errorf("ledger: %w", err)
		}
		e, n, err := openEntry(b, s.head, key)
		if err != nil {
			torn, zeros := tornEntry(b, n, s.head, key), int64(0)
			if !torn {
				if zeros, err = trailingZeros(r, size); err != nil {
					return s, fmt.Errorf("ledger: %w", err)
				}
				torn = zeros >= hole && size-zeros < s.end+int64(max(n, 1))
			}
			if torn {
				return s, nil
			}
			return s, &CorruptError{s.head.Seq + 1, "does not verify"}
		}
		if _, err := in.Discard(n); err != nil {
			return s, fmt.Errorf("ledger: %w", err)
		}
		s.end += int64(n)
		s.head = e.Head()
		if err := fn(e, s.end); err != nil {
			return s, err
		}
	}
	return s, nil
}

var errEntry = errors.New("no entry")

// openEntry reads the entry that follows head at the start of b and its length in bytes, which may be beyond b when
// there is an error.
func openEntry(b []byte, head Head, key ed25519.PublicKey) (Entry, int, error) {
	if len(b) < fixedBytes {
		return Entry{}, fixedBytes, errEntry
	}
	unsigned := fixedBytes + int(binary.BigEndian.Uint16(b[40:]))
	n := unsigned + ed25519.SignatureSize
	if len(b) < n {
		return Entry{}, n, errEntry
	}
	e, err := Unmarshal(b[:unsigned])
	if err != nil {
		return Entry{}, n, err
	}
	hash := e.Hash()
	if e.Seq != head.Seq+1 || e.Prev != head.Hash || !ed25519.Verify(key, hash[:], b[unsigned:n]) {
		return Entry{}, n, errEntry
	}
	return e, n, nil
}

// tornEntry tells whether b, the rest of the file, is the beginning of an entry of n bytes that was not written to its
// end. A whole entry whose length was damaged looks just so, and must not be cut off; that there is one shows when
// another length makes its signature verify.
func tornEntry(b []byte, n int, head Head, key ed25519.PublicKey) bool {
	if n <= len(b) || n > maxEntry {
		return false
	}
	for length := 1; fixedBytes+length+ed25519.SignatureSize <= len(b); length++ {
		unsigned := append([]byte(nil), b[:fixedBytes+length]...)
		binary.BigEndian.PutUint16(unsigned[40:], uint16(length))
		hash := sha256.Sum256(unsigned)
		if ed25519.Verify(key, hash[:], b[len(unsigned):][:ed25519.SignatureSize]) {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// trailingZeros counts the zero bytes at the end of the first size bytes of r.
func trailingZeros(r io.ReaderAt, size int64) (int64, error) {
	b := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(end, int64(len(b)))
		if _, err := r.ReadAt(b[:n], end-n); err != nil {
			return 0, err
		}
		if rest := len(bytes.TrimRight(b[:n], "\x00")); rest > 0 {
			return size - (end - n + int64(rest)), nil
		}
		end -= n
	}
	return size, nil
}
