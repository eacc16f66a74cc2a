package keys

import "encoding/binary"

// reader takes a format apart. A read past the end marks it bad and gives zeros, so that a parser checks once, at its end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// lp reads LP(x) with x of at most limit bytes.
func (r *reader) lp(limit int) []byte {
	n := int(r.u16())
	if n > limit {
		r.bad, r.b = true, nil
		return nil
	}
	return r.take(n)
}

// done reports whether everything was read and nothing is left.
func (r *reader) done() bool { return !r.bad && len(r.b) == 0 }

// appendLP appends LP(x). Callers have held x to its limit; beyond 65535 bytes the length stays at that, which is still
// unambiguous where x ends the input.
func appendLP[T string | []byte](b []byte, x T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(min(len(x), 0xFFFF)))
	return append(b, x...)
}
