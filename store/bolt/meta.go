package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// meta is what this package needs of a bbolt meta page, in the byte order of the machine:
//
//	offset 16  u32 magic     0xED0CDAED
//	       20  u32 version   2
//	       24  u32 page size
//	       48  u64 freelist  page, or all ones when it is not kept
//	       56  u64 pages     in use, free ones included
//	       64  u64 txid
//	       72  u64 FNV-64a of the bytes 16 to 72
//
// Transaction n writes page n mod 2. The valid page with the higher txid counts.
type meta struct {
	pageSize uint32
	freelist uint64
	pages    uint64
	txid     uint64
}

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaStart   = 16
	metaEnd     = 80
	noFreelist  = ^uint64(0)

	newPage = 4096 // bytes, of every file made here, whatever the machine prefers
	minPage = 512
)

var errNoMeta = errors.New("no valid meta page")

func readMeta(r io.ReaderAt, offset int64) (meta, error) {
	var b [metaEnd]byte
	if _, err := r.ReadAt(b[:], offset); err != nil {
		return meta{}, fmt.Errorf("read meta page: %w", err)
	}
	e := binary.NativeEndian
	h := fnv.New64a()
	h.Write(b[metaStart : metaEnd-8])
	if e.Uint32(b[16:]) != metaMagic || e.Uint32(b[20:]) != metaVersion || e.Uint64(b[72:]) != h.Sum64() {
		return meta{}, errNoMeta
	}
	m := meta{
		pageSize: e.Uint32(b[24:]),
		freelist: e.Uint64(b[48:]),
		pages:    e.Uint64(b[56:]),
		txid:     e.Uint64(b[64:]),
	}
	if m.pageSize < minPage {
		return meta{}, errNoMeta
	}
	return m, nil
}

// newestMeta returns the meta page that counts. One torn page is no error: that is what the second is for.
func newestMeta(r io.ReaderAt, pageSize int) (meta, error) {
	m0, err0 := readMeta(r, 0)
	m1, err1 := readMeta(r, int64(pageSize))
	switch {
	case err0 != nil && err1 != nil:
		return meta{}, err0
	case err0 != nil || err1 == nil && m1.txid > m0.txid:
		return m1, nil
	}
	return m0, nil
}

// inspect narrows the mode of a file to its owner, and refuses one that was cut short: bbolt would read past its end
// through the mapping, which kills the process.
func inspect(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return err
		}
	}
	if info.Size() == 0 {
		return nil
	}
	page := newPage
	if m, err := readMeta(f, 0); err == nil {
		page = int(m.pageSize)
	}
	m, err := newestMeta(f, page)
	if err != nil {
		return err
	}
	// Another process may be growing the file; it does so before it writes the meta page that was just read.
	if info, err = f.Stat(); err != nil {
		return err
	}
	if uint64(info.Size())/uint64(m.pageSize) < m.pages {
		return fmt.Errorf("file is cut short: %d bytes for %d pages of %d", info.Size(), m.pages, m.pageSize)
	}
	return nil
}
