package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// Report is what Verify found.
type Report struct {
	Entries      uint64 // that verify
	Head         Head   // after them
	Checkpointed uint64 // of them, signed for; the rest came after the last checkpoint and could be cut off unseen
	Torn         int64  // bytes behind the last entry that are no entry: a write was under way, or a crash
}

// Verify reads the whole log in the folder dir and compares it with its checkpoint. verifierKey is the text of
// VerifierKey, which has to come from elsewhere than the folder. It needs no open log and changes nothing; the log
// may be written meanwhile. Whatever was changed, removed, added or moved below the checkpoint is a CorruptError with
// the first entry concerned; the Report then has the number of Entries before it and nothing else.
func Verify(dir string, verifierKey string) (Report, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Report{}, fmt.Errorf("audit: verifier key: %w", err)
	}
	// Read first: entries that come later are behind it.
	signed, err := readCheckpoint(dir, verifier)
	if errors.Is(err, fs.ErrNotExist) {
		err = &CorruptError{checkpointName, 0, "missing"}
	}
	if err != nil {
		return Report{}, err
	}
	segments, err := listSegments(dir)
	if err != nil {
		return Report{}, err
	}
	v := &verification{chain: newChain(Head{0, genesis(verifier.Name())}), signed: signed}
	if err := v.run(dir, segments); err != nil {
		var damage *CorruptError
		if errors.As(err, &damage) {
			return Report{Entries: damage.Index}, err
		}
		return Report{}, err
	}
	return v.report(), nil
}

type verification struct {
	chain  *chain
	signed Head
	torn   int64
	before string  // file of the entry before
	after  segment // the next one; no name: there is none
}

func (v *verification) report() Report {
	head := v.chain.head
	return Report{head.Size, head, min(head.Size, v.signed.Size), v.torn}
}

func (v *verification) run(dir string, segments []segment) error {
	if v.signed.Size == 0 && v.signed != v.chain.head {
		return &CorruptError{checkpointName, 0, "does not begin as this log does"}
	}
	v.before = newSegment(0).name
	for i, s := range segments {
		if s.first != v.chain.head.Size {
			name := newSegment(v.chain.head.Size).name
			if s.first > v.chain.head.Size && i > 0 {
				name = segments[i-1].name
			}
			return &CorruptError{name, v.chain.head.Size, "missing"}
		}
		v.after = segment{}
		if i+1 < len(segments) {
			v.after = segments[i+1]
		}
		if err := v.file(dir, s); err != nil {
			return err
		}
	}
	if v.chain.head.Size < v.signed.Size {
		return &CorruptError{v.before, v.chain.head.Size, "missing, though the checkpoint signs for it"}
	}
	return nil
}

func (v *verification) file(dir string, s segment) error {
	file, err := os.Open(filepath.Join(dir, s.name))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer file.Close()
	l := newLines(file)
	for {
		line, err := l.next()
		at := v.chain.head.Size
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errTorn) && v.after.name == "" && at >= v.signed.Size:
			info, err := file.Stat()
			if err != nil {
				return fmt.Errorf("audit: %w", err)
			}
			v.torn = info.Size() - l.Start
			return nil
		case errors.Is(err, errTorn), errors.Is(err, errSyntax):
			return &CorruptError{s.name, at, err.Error()}
		case err != nil:
			return fmt.Errorf("audit: %w", err)
		}
		e, err := v.chain.verify(line)
		if errors.Is(err, errPrev) && at > 0 && v.intact(dir, e, line, l) {
			return &CorruptError{v.before, at - 1, "changed: the next entry does not follow from it"}
		}
		if err != nil {
			return &CorruptError{s.name, at, err.Error()}
		}
		v.before = s.name
		if v.chain.head.Size == v.signed.Size && v.chain.head != v.signed {
			return &CorruptError{s.name, at, "not the entry that the checkpoint signs for"}
		}
	}
}

// intact tells, of an entry e that does not follow from the one before, which of the two was changed: e is intact if
// what comes after it, the next entry or the checkpoint, follows from e with the hash that e itself names.
func (v *verification) intact(dir string, e entry, line []byte, l *lines) bool {
	sum := v.chain.link(e.prev, line)
	if e.index+1 == v.signed.Size {
		return sum == v.signed.Hash
	}
	next, err := l.next()
	if err == io.EOF && v.after.name != "" {
		file, err := os.Open(filepath.Join(dir, v.after.name))
		if err != nil {
			return false
		}
		defer file.Close()
		next, err = newLines(file).next()
		if err != nil {
			return false
		}
	} else if err != nil {
		return false
	}
	after, err := parseStart(next)
	return err == nil && after.index == e.index+1 && after.prev == sum
}
