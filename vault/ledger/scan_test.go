package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"testing"
)

// file returns the bytes of a ledger of n entries and the offset behind each.
func file(t testing.TB, n int) (content []byte, ends []int) {
	t.Helper()
	p := path(t)
	l := mustOpen(t, p)
	entries := after(Head{}, n)
	mustAppend(t, l, entries...)
	mustClose(t, l)
	at := int(headerBytes)
	for _, e := range entries {
		at += fixedBytes + len(e.Tombstone) + ed25519.SignatureSize
		ends = append(ends, at)
	}
	content = read(t, p)
	if len(content) != at {
		t.Fatalf("%d bytes, want %d", len(content), at)
	}
	return content, ends
}

// check reads content as a file.
func check(content []byte) (scanned, error) {
	return scan(bytes.NewReader(content), int64(len(content)), testPublic(), func(Entry, int64) error { return nil })
}

func TestEveryChangedByteIsFound(t *testing.T) {
	content, ends := file(t, 4)
	for i := range content {
		var want uint64
		for ; i >= int(headerBytes) && int(want) < len(ends); want++ {
			if i < ends[want] {
				want++
				break
			}
		}
		for _, flip := range []byte{0x01, 0x10, 0x80} {
			bad := bytes.Clone(content)
			bad[i] ^= flip
			s, err := check(bad)
			if i >= len(magic) && i < int(headerBytes) {
				if err != nil || s.instance == [16]byte{1, 2} {
					t.Fatalf("byte %d of the instance: %v", i, err)
				}
				continue
			}
			var damage *CorruptError
			if !errors.As(err, &damage) || damage.Seq != want {
				t.Fatalf("byte %d (entry %d) flipped by %#x: %v", i, want, flip, err)
			}
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	content, ends := file(t, 4)
	header, body := content[:headerBytes], content[headerBytes:]
	cut := func(i int) []byte { // entry i, from 0
		start := int(headerBytes)
		if i > 0 {
			start = ends[i-1]
		}
		return content[start:ends[i]]
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	resigned := bytes.Clone(cut(1))
	resigned[fixedBytes] ^= 1
	hash := Entry{2, [32]byte(resigned[8:40]), resigned[fixedBytes : len(resigned)-64]}.Hash()
	copy(resigned[len(resigned)-64:], ed25519.Sign(testKey(), hash[:]))
	skipping := Entry{3, [32]byte(cut(1)[8:40]), []byte("x")}
	hash = skipping.Hash()
	skipped := append(skipping.appendTo(nil), ed25519.Sign(testKey(), hash[:])...)
	for _, test := range []struct {
		name    string
		content []byte
		seq     uint64
	}{
		{"first removed", join(header, cut(1), cut(2), cut(3)), 1},
		{"middle removed", join(header, cut(0), cut(2), cut(3)), 2},
		{"swapped", join(header, cut(0), cut(2), cut(1), cut(3)), 2},
		{"doubled", join(header, cut(0), cut(0), cut(1)), 2},
		{"changed and signed anew", join(header, cut(0), resigned, cut(2)), 3},
		{"number left out, but signed", join(header, cut(0), skipped), 2},
		{"signatures swapped", join(header, cut(0)[:len(cut(0))-64], cut(1)[len(cut(1))-64:], cut(1)), 1},
		{"header twice", join(header, header, body), 1},
		{"no header", body, 0},
		{"another version", join([]byte("CRLEDGR\x02"), content[8:]), 0},
		{"a text", []byte("hello, world, this is a text"), 0},
		{"a short text", []byte("hello"), 0},
		{"garbage behind", join(content, bytes.Repeat([]byte("x"), 500)), 5},
		{"one zero entry within", join(header, make([]byte, 107), body), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := check(test.content)
			var damage *CorruptError
			if !errors.As(err, &damage) || damage.Seq != test.seq {
				t.Errorf("got %v, want entry %d", err, test.seq)
			}
			p := path(t)
			write(t, p, test.content)
			if l, err := Open(p, testKey(), testOptions()); err == nil {
				_ = l.Close()
				t.Error("opened")
			}
			if !bytes.Equal(read(t, p), test.content) {
				t.Error("Open changed a file that it refused")
			}
		})
	}
}

func TestTornEndIsCut(t *testing.T) {
	content, ends := file(t, 3)
	zeros := make([]byte, 5000)
	try := func(t *testing.T, content []byte, seq uint64, end int) {
		t.Helper()
		s, err := check(content)
		if err != nil || s.head.Seq != seq || s.end != int64(end) {
			t.Fatalf("of %d bytes: head %d, end %d, %v; want %d, %d", len(content), s.head.Seq, s.end, err, seq, end)
		}
	}
	for size := range len(content) {
		var seq uint64
		end := int(headerBytes)
		for _, e := range ends {
			if size >= e {
				seq, end = seq+1, e
			}
		}
		if size < int(headerBytes) {
			end = 0
		}
		try(t, content[:size], seq, end)
		if size > int(headerBytes) {
			// A hole behind a piece; one that ends in zeros itself may be taken a little short, never long.
			try(t, append(bytes.Clone(content[:size]), zeros...), seq, end)
		}
	}
	try(t, nil, 0, 0)
	try(t, zeros[:headerBytes], 0, 0)

	p := path(t)
	write(t, p, content[:len(content)-1])
	l := mustOpen(t, p)
	if l.Recovered() != int64(len(content)-1-ends[1]) || l.Head().Seq != 2 {
		t.Errorf("recovered %d, head %d", l.Recovered(), l.Head().Seq)
	}
	mustAppend(t, l, after(l.Head(), 2)...)
	if report, err := Scan(p, testPublic(), nil); err != nil || report.Head.Seq != 4 || report.Torn != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, header := range [][]byte{nil, content[:5], content[:headerBytes-1], zeros[:headerBytes]} {
		p := path(t)
		write(t, p, header)
		mustAppend(t, mustOpen(t, p), after(Head{}, 1)...)
		if got := scanAll(t, p); len(got) != 1 {
			t.Errorf("after a torn header of %d bytes: %d entries", len(header), len(got))
		}
	}
}

// A length that was damaged makes the last entry look torn. It must not be cut off.
func TestDamagedLengthIsNotTakenForATornEnd(t *testing.T) {
	content, ends := file(t, 3)
	for i, start := range []int{int(headerBytes), ends[0], ends[1]} {
		for _, length := range []uint16{0, 1, 40, 300, 1000, 4096, 4097, 65535} {
			bad := bytes.Clone(content)
			binary.BigEndian.PutUint16(bad[start+40:], length)
			var damage *CorruptError
			if _, err := check(bad); !errors.As(err, &damage) || damage.Seq != uint64(i+1) {
				t.Errorf("entry %d with length %d: %v", i+1, length, err)
			}
		}
	}
}

func FuzzScan(f *testing.F) {
	content, ends := file(f, 2)
	f.Add(content)
	f.Add(content[:ends[0]+50])
	f.Add(content[:10])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := check(b)
		if err == nil && s.end > int64(len(b)) {
			t.Fatal("beyond the end")
		}
	})
}
