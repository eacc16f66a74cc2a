package audit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

const (
	segmentPrefix = "entries-"
	segmentSuffix = ".jsonl"
	segmentDigits = 16
	segmentBytes  = 64 << 20
)

// segment is a file of entries.
type segment struct {
	name  string
	first uint64 // index of its first entry
}

func newSegment(first uint64) segment {
	return segment{fmt.Sprintf("%s%0*d%s", segmentPrefix, segmentDigits, first, segmentSuffix), first}
}

// listSegments returns the segments of a folder in order. Other files are passed over.
func listSegments(dir string) ([]segment, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, file := range found {
		digits, named := strings.CutPrefix(file.Name(), segmentPrefix)
		digits, ended := strings.CutSuffix(digits, segmentSuffix)
		if !named || !ended {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || newSegment(first).name != file.Name() {
			return nil, &CorruptError{file.Name(), 0, "no segment has such a name"}
		}
		segments = append(segments, segment{file.Name(), first})
	}
	sort.Slice(segments, func(i, j int) bool { return segments[i].first < segments[j].first })
	if len(segments) > 0 && segments[0].first != 0 {
		return nil, &CorruptError{newSegment(0).name, 0, "missing"}
	}
	return segments, nil
}

// lastLine returns the last line of the first size bytes of r, without its line feed.
func lastLine(r io.ReaderAt, size int64) ([]byte, error) {
	for window := int64(64 << 10); ; window *= 4 {
		start := max(0, size-window)
		b := make([]byte, size-start)
		if _, err := r.ReadAt(b, start); err != nil {
			return nil, err
		}
		if len(b) == 0 || b[len(b)-1] != '\n' {
			return nil, errTorn
		}
		b = b[:len(b)-1]
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 || start == 0 {
			return b[i+1:], nil
		}
		if len(b) > maxLine {
			return nil, errSyntax
		}
	}
}

// endOf returns the head after the last entry of a segment, going by that entry alone.
func endOf(dir string, s segment) (Head, error) {
	file, err := os.Open(filepath.Join(dir, s.name))
	if err != nil {
		return Head{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Head{}, err
	}
	line, err := lastLine(file, info.Size())
	if err != nil {
		return Head{}, err
	}
	e, err := parseLine(line)
	if err != nil {
		return Head{}, err
	}
	c := newChain(Head{e.index, e.prev})
	c.add(line)
	return c.head, nil
}
