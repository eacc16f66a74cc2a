package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

// stageBytes is how much of a group is gathered for one write.
const stageBytes = 1 << 20

// request is an event that waits, encoded from its time on; without a body it only asks whether the log can be
// written.
type request struct {
	body  []byte
	index uint64
	err   error
}

// writer is the end of the log.
type writer struct {
	file  *appendfile.File
	start Head // before the first entry of the file
	chain *chain
	buf   []byte
	syncs atomic.Uint64 // groups made durable
}

// commit answers a group.
func (l *Log) commit(requests []*request) {
	err := unavailable(l.write(requests))
	if err != nil {
		for _, r := range requests {
			r.index, r.err = 0, err
		}
	}
	w := &l.writer
	l.mu.Lock()
	l.head = w.chain.head
	l.mu.Unlock()
	if !l.health.Set(w.file.Mark(), err) {
		return
	}
	if err != nil {
		l.opt.Logger.Error("audit log cannot be written", "error", err)
	} else {
		l.opt.Logger.Info("audit log can be written again", "size", w.chain.head.Size)
	}
}

func (l *Log) write(requests []*request) error {
	w := &l.writer
	if err := w.file.Begin(); err != nil {
		return err
	}
	if w.file.Size() >= l.opt.segmentBytes {
		if err := l.roll(); err != nil {
			return err
		}
	}
	before := w.chain.head
	err := l.add(requests)
	if err != nil {
		w.chain.head = before
	}
	return err
}

// add writes the entries of a group and makes them durable.
func (l *Log) add(requests []*request) error {
	w := &l.writer
	w.buf = w.buf[:0]
	added := 0
	for _, r := range requests {
		if r.body == nil {
			continue
		}
		added++
		r.index = w.chain.head.Size
		at := len(w.buf)
		w.buf = appendStart(w.buf, r.index, w.chain.head.Hash)
		w.buf = append(w.buf, r.body...)
		w.chain.add(w.buf[at : len(w.buf)-1])
		if len(w.buf) >= stageBytes {
			if err := w.file.Stage(w.buf); err != nil {
				return err
			}
			w.buf = w.buf[:0]
		}
	}
	if added == 0 {
		return nil
	}
	if err := w.file.Stage(w.buf); err != nil {
		return err
	}
	if err := w.file.Commit(); err != nil {
		return err
	}
	w.syncs.Add(1)
	return nil
}

// roll goes on in a new segment. An empty file of its name is what an earlier try has left.
func (l *Log) roll() error {
	w := &l.writer
	next := newSegment(w.chain.head.Size)
	file, err := appendfile.Open(l.path(next), true)
	if err != nil {
		return err
	}
	if file.Size() != 0 {
		_ = file.Close()
		return fmt.Errorf("%s: entries that were never written by this log", next.name)
	}
	_ = w.file.Close() // all of it is synced
	l.adopt(file, w.chain.head)
	l.mu.Lock()
	// Scans hold the old slice.
	l.segments = append(l.segments[:len(l.segments):len(l.segments)], next)
	l.mu.Unlock()
	return nil
}

// adopt makes file the one that is written. start is the head before its first entry.
func (l *Log) adopt(file *appendfile.File, start Head) {
	w := &l.writer
	w.file, w.start = file, start
	file.SetCheck(l.checkFile)
}

// checkFile is asked before the log goes on after a failure. Of the file that was open all along only the end can
// have been touched by the failure.
func (l *Log) checkFile(r io.ReaderAt, size int64, replaced bool) error {
	w := &l.writer
	if size == 0 {
		return nil
	}
	name := newSegment(w.start.Size).name
	if replaced {
		c := newChain(w.start)
		if _, err := readSegment(context.Background(), io.NewSectionReader(r, 0, size), name, c, nil); err != nil {
			return err
		}
		if c.head != w.chain.head {
			return &CorruptError{name, c.head.Size - 1, "not the entries that were written"}
		}
		return nil
	}
	line, err := lastLine(r, size)
	if err != nil {
		return err
	}
	e, err := parseStart(line)
	if err != nil || w.chain.link(e.prev, bytes.Clone(line)) != w.chain.head.Hash {
		return &CorruptError{name, w.chain.head.Size - 1, "not the entry that was written"}
	}
	return nil
}
