package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// CorruptError: the files are not what was written. Index is the first entry that does not fit, File where it
// stands or should stand (the base name); Index is meaningless when File is the checkpoint.
type CorruptError struct {
	File   string
	Index  uint64
	Reason string
}

func (e *CorruptError) Error() string {
	if e.File == checkpointName {
		return fmt.Sprintf("audit: %s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("audit: %s: entry %d: %s", e.File, e.Index, e.Reason)
}

var (
	errIndex = errors.New("another entry stands in its place")
	errPrev  = errors.New("does not follow from the entry before it")
)

// genesis is what the first entry names as the hash before it.
func genesis(origin string) [32]byte {
	return sha256.Sum256([]byte("cloakroom/audit/1\x00" + origin))
}

// chain follows entries. head is that of the entries it has seen.
type chain struct {
	head Head
	hash hash.Hash
	sum  [32]byte // of link, which would allocate one each time
}

func newChain(head Head) *chain { return &chain{head: head, hash: sha256.New()} }

// add takes the next line, without its line feed, as it is.
func (c *chain) add(line []byte) {
	c.head.Hash = c.link(c.head.Hash, line)
	c.head.Size++
}

func (c *chain) link(prev [32]byte, line []byte) [32]byte {
	c.hash.Reset()
	c.sum = prev
	c.hash.Write(c.sum[:])
	c.hash.Write(line)
	c.hash.Sum(c.sum[:0])
	return c.sum
}

// verify parses the next line and adds it if it follows.
func (c *chain) verify(line []byte) (entry, error) {
	e, err := parseLine(line)
	if err != nil {
		return entry{}, err
	}
	if e.index != c.head.Size {
		return e, errIndex
	}
	if e.prev != c.head.Hash {
		return e, errPrev
	}
	c.add(line)
	return e, nil
}

// errTorn: the file ends within a line, or a line has a hole that a crash left. Entries never contain zero bytes.
var errTorn = errors.New("torn line")

// lines reads a segment.
type lines struct {
	r     *bufio.Reader
	long  []byte
	Start int64 // offset of the line that next returned last
	end   int64
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 256<<10)} }

// next returns a line without its line feed, valid until the next call; io.EOF at the end; errTorn when what
// follows is no line and no entry of anybody.
func (l *lines) next() ([]byte, error) {
	l.Start = l.end
	l.long = l.long[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.end += int64(len(part))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			l.long = append(l.long, part...)
			if len(l.long) > maxLine {
				if bytes.IndexByte(l.long, 0) >= 0 {
					return nil, errTorn
				}
				return nil, errSyntax
			}
			continue
		case err == io.EOF && len(l.long)+len(part) == 0:
			return nil, io.EOF
		case err == io.EOF:
			return nil, errTorn
		case err != nil:
			return nil, err
		}
		line := part[:len(part)-1]
		if len(l.long) > 0 {
			l.long = append(l.long, line...)
			line = l.long
		}
		if bytes.IndexByte(line, 0) >= 0 {
			return nil, errTorn
		}
		return line, nil
	}
}
