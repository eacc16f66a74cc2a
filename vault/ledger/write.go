package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"io"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

// stride is how many entries lie between two offsets kept in memory: 8 bytes for each 64 erasures.
const stride = 64

// signed is an entry on its way to the file. An entry that the ledger had when the call came has no signature.
type signed struct {
	Entry
	hash      [32]byte
	signature []byte
}

// request is a call that waits; without entries it only asks whether the ledger can be written.
type request struct {
	entries []signed
	err     error
}

// writer is the end of the ledger.
type writer struct {
	file    *appendfile.File
	head    Head    // durable
	offsets []int64 // behind the entries 0, stride, 2*stride, ...
	buf     []byte
}

// begin writes the header of a new ledger.
func (w *writer) begin(instance [16]byte) error {
	if err := w.file.Begin(); err != nil {
		return err
	}
	if err := w.file.Stage(append([]byte(magic), instance[:]...)); err != nil {
		return err
	}
	return w.file.Commit()
}

// note keeps the offset behind e if it is one of those kept.
func (w *writer) note(e Entry, end int64) error {
	if len(w.offsets) == 0 {
		w.offsets = append(w.offsets, headerBytes)
	}
	if e.Seq%stride == 0 {
		w.offsets = append(w.offsets, end)
	}
	return nil
}

// commit answers a group.
func (l *Ledger) commit(requests []*request) {
	// Calls that overlap may arrive in another order than their entries.
	slices.SortStableFunc(requests, func(a, b *request) int { return compareFirst(a.entries, b.entries) })
	err := unavailable(l.write(requests))
	if err != nil {
		for _, r := range requests {
			r.err = err
		}
	}
	l.mu.Lock()
	l.head = l.writer.head
	l.mu.Unlock()
	if !l.health.Set(l.writer.file.Mark(), err) {
		return
	}
	if err != nil {
		l.opt.Logger.Error("erasure ledger cannot be written", "error", err)
	} else {
		l.opt.Logger.Info("erasure ledger can be written again", "seq", l.writer.head.Seq)
	}
}

func compareFirst(a, b []signed) int {
	switch {
	case len(a) == 0 || len(b) == 0:
		return len(a) - len(b)
	case a[0].Seq < b[0].Seq:
		return -1
	case a[0].Seq > b[0].Seq:
		return 1
	}
	return 0
}

func (l *Ledger) write(requests []*request) error {
	w := &l.writer
	if err := w.file.Begin(); err != nil {
		return err
	}
	g := gathering{writer: w, head: w.head}
	for _, r := range requests {
		if err := g.take(r); err != nil {
			return err
		}
	}
	if len(g.fresh) == 0 {
		return nil
	}
	w.buf = w.buf[:0]
	for _, e := range g.fresh {
		w.buf = e.appendTo(w.buf)
		w.buf = append(w.buf, e.signature...)
	}
	end := w.file.Size()
	if err := w.file.Stage(w.buf); err != nil {
		return err
	}
	if err := w.file.Commit(); err != nil {
		return err
	}
	for _, e := range g.fresh {
		end += int64(fixedBytes + len(e.Tombstone) + ed25519.SignatureSize)
		if err := w.note(e.Entry, end); err != nil {
			return err
		}
	}
	w.head = g.head
	return nil
}

// gathering is what a group adds.
type gathering struct {
	*writer
	head  Head // with what it adds
	fresh []signed
}

// take adds the entries of r that are new. The outcome of the call, as far as its entries decide it, goes into r; an
// error that concerns the file is returned.
func (g *gathering) take(r *request) error {
	head, had := g.head, len(g.fresh)
	for _, e := range r.entries {
		switch {
		case e.Seq <= g.head.Seq:
			hash, err := g.hashOf(e.Seq)
			if err != nil {
				return err
			}
			if hash != e.hash {
				r.err = ErrDiverged
			}
		case e.Seq > g.head.Seq+1:
			r.err = ErrGap
		case e.Prev != g.head.Hash:
			r.err = ErrDiverged
		default:
			g.fresh = append(g.fresh, e)
			g.head = Head{e.Seq, e.hash}
		}
		if r.err != nil {
			g.head, g.fresh = head, g.fresh[:had]
			return nil
		}
	}
	return nil
}

// hashOf returns the hash of an entry up to the head.
func (g *gathering) hashOf(seq uint64) ([32]byte, error) {
	if seq == g.head.Seq {
		return g.head.Hash, nil
	}
	if seq > g.writer.head.Seq {
		return g.fresh[seq-g.writer.head.Seq-1].hash, nil
	}
	if seq == g.writer.head.Seq {
		return g.writer.head.Hash, nil
	}
	// The next entry names it.
	b, err := g.read(seq + 1)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(b[8:40]), nil
}

// read returns the bytes of a durable entry.
func (w *writer) read(seq uint64) ([]byte, error) {
	i := int((seq - 1) / stride)
	off := w.offsets[i]
	end := w.file.Size()
	if i+1 < len(w.offsets) {
		end = w.offsets[i+1]
	}
	b := make([]byte, end-off)
	if _, err := w.file.ReadAt(b, off); err != nil {
		return nil, err
	}
	for skip := (seq - 1) % stride; len(b) >= fixedBytes; skip-- {
		n := fixedBytes + int(binary.BigEndian.Uint16(b[40:])) + ed25519.SignatureSize
		if n > len(b) {
			break
		}
		if skip == 0 {
			if binary.BigEndian.Uint64(b) != seq {
				break
			}
			return b[:n], nil
		}
		b = b[n:]
	}
	return nil, &CorruptError{seq, "changed on disk"}
}

// checkFile is asked before the ledger goes on after a failure. Of the file that was open all along only the end can
// have been touched by the failure.
func (l *Ledger) checkFile(r io.ReaderAt, size int64, replaced bool) error {
	w := &l.writer
	if replaced {
		s, err := scan(r, size, l.public(), func(Entry, int64) error { return nil })
		if err != nil {
			return err
		}
		if s.instance != l.opt.Instance {
			return ErrForeign
		}
		if s.head != w.head || s.end != size {
			return &CorruptError{s.head.Seq, "not the entries that were written"}
		}
		return nil
	}
	header := make([]byte, headerBytes)
	if _, err := r.ReadAt(header, 0); err != nil {
		return err
	}
	if !bytes.Equal(header, append([]byte(magic), l.opt.Instance[:]...)) {
		return &CorruptError{0, "changed on disk"}
	}
	if w.head.Seq == 0 {
		return nil
	}
	b, err := w.read(w.head.Seq)
	if err != nil {
		return err
	}
	e, err := Unmarshal(b[:len(b)-ed25519.SignatureSize])
	if err != nil || e.Head() != w.head || !ed25519.Verify(l.public(), w.head.Hash[:], b[len(b)-ed25519.SignatureSize:]) {
		return &CorruptError{w.head.Seq, "not the entry that was written"}
	}
	return nil
}
