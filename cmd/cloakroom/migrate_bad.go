package main

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// maxBad bounds the bad rows of one run, and with them its memory: 30 bytes or so are kept for each.
const maxBad = 1 << 20

// badRows are the rows that a run leaves as they are. Each has a line in a file, without a value, and is counted once.
type badRows struct {
	path   string // of the file; made with the first bad row
	force  bool   // write over one that is there
	file   *os.File
	out    *tablefile.Writer
	line   []tablefile.Cell // reused
	totals importTotals     // Rows = Failed
	seen   map[uint64]struct{}
	seed   maphash.Seed
}

// findBadFile settles where bad rows go: given, which must not be there unless force; or else a name made of the table's
// that is free.
func findBadFile(given, table string, force bool) (*badRows, error) {
	b := &badRows{path: given, force: force, line: make([]tablefile.Cell, 5), seen: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	if given != "" {
		if taken(given) && !force {
			return nil, fmt.Errorf("%s is there already; nothing was done: give another name, or --force to write over it", printable(given))
		}
		return b, nil
	}
	// A table's name may hold anything, also what leads to another folder.
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == 0 {
			return '_'
		}
		return r
	}, table)
	b.path = "./" + name + errorsSuffix
	for n := 2; !force && taken(b.path); n++ {
		b.path = "./" + name + "." + strconv.Itoa(n) + errorsSuffix
	}
	return b, nil
}

func taken(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// has reports whether the row was found bad by this run.
func (b *badRows) has(key string) bool {
	_, ok := b.seen[maphash.String(b.seed, key)]
	return ok
}

// add notes a bad row by its key, which goes into the file only where it tells nobody.
func (b *badRows) add(key string, fault rowFault) error {
	h := maphash.String(b.seed, key)
	if _, again := b.seen[h]; again {
		return nil
	}
	if len(b.seen) == maxBad {
		return fmt.Errorf("more than %d rows are bad; look at %s, and at --key, --prefix and --map", maxBad, printable(b.path))
	}
	if err := b.open(); err != nil {
		return err
	}
	b.seen[h] = struct{}{}
	b.totals.failed(fault)
	if !showsNobody(key) {
		key = ""
	}
	for i, text := range []string{key, fault.field, string(fault.code), fault.rule, fault.meaning} {
		b.line[i].Text = text
	}
	return b.out.Write(b.line)
}

// showsNobody reports whether a key may stand in a file or a message: it has the form of an id and is nobody's number.
func showsNobody(key string) bool {
	return tokenizer.ValidSubjectID(key) && !tokenizer.IdentifyingID(key)
}

func (b *badRows) open() error {
	if b.file != nil {
		return nil
	}
	if b.force {
		if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := makeOutput(b.path)
	if err != nil {
		return err
	}
	b.file = f
	b.out = tablefile.NewWriter(f, tablefile.CSV, []string{"key", "field", "code", "rule", "meaning"})
	return b.out.Header()
}

// flush hands the lines to the file.
func (b *badRows) flush() error {
	if b.out == nil {
		return nil
	}
	return b.out.Flush()
}

func (b *badRows) close() error {
	if b.file == nil {
		return nil
	}
	return errors.Join(b.out.Flush(), b.file.Sync(), b.file.Close())
}

// written is the file's path, or "" when no row is bad.
func (b *badRows) written() string {
	if b.file == nil {
		return ""
	}
	return b.path
}
