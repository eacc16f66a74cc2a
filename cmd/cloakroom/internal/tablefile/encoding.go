package tablefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Encoding is how a file writes its characters.
type Encoding string

const (
	// Detect finds out: by the mark at the file's start, else UTF-8 when the first 64 KiB with a character beyond ASCII
	// are UTF-8, else GB18030 when they are that.
	Detect  Encoding = ""
	UTF8    Encoding = "utf-8"
	GB18030 Encoding = "gb18030" // GBK and GB 2312 are parts of it
	UTF16LE Encoding = "utf-16le"
	UTF16BE Encoding = "utf-16be"
)

// ParseEncoding reads an encoding's name.
func ParseEncoding(name string) (Encoding, bool) {
	switch strings.ToLower(name) {
	case "utf-8", "utf8":
		return UTF8, true
	case "gb18030", "gbk", "gb2312", "cp936":
		return GB18030, true
	case "utf-16le", "utf-16":
		// Without a mark "utf-16" is what Windows writes; with one the mark decides.
		return UTF16LE, true
	case "utf-16be":
		return UTF16BE, true
	}
	return Detect, false
}

// headSize is how much of a file is looked at to tell its encoding.
const headSize = 64 << 10

// marked tells the encoding by the byte order mark, and the mark's length.
func marked(head []byte) (Encoding, int) {
	for _, m := range []struct {
		mark string
		enc  Encoding
	}{{"\xef\xbb\xbf", UTF8}, {"\x84\x31\x95\x33", GB18030}, {"\xff\xfe", UTF16LE}, {"\xfe\xff", UTF16BE}} {
		if bytes.HasPrefix(head, []byte(m.mark)) {
			return m.enc, len(m.mark)
		}
	}
	return Detect, 0
}

var errEncodingUnknown = errors.New("the text is neither UTF-8 nor GB18030; say what it is with --encoding, or export it as UTF-8; " +
	"where it is UTF-8 but for a few rows, --encoding utf-8 makes them errors of those rows only")

// chooseEncoding settles what a file's first bytes tell of its encoding, given what was asked for. skip is the length of
// the mark. Detect as the answer means that all is ASCII so far.
func chooseEncoding(head []byte, asked Encoding) (enc Encoding, skip int, err error) {
	mark, skip := marked(head)
	switch {
	case mark != Detect && asked != Detect && mark != asked && !(isUTF16(mark) && isUTF16(asked)):
		return Detect, 0, fmt.Errorf("the file begins with the mark of %s, but the encoding asked for is %s", mark, asked)
	case mark != Detect:
		return mark, skip, nil
	case asked != Detect:
		return asked, 0, nil
	case 4*bytes.Count(head, []byte{0}) > len(head):
		return Detect, 0, errors.New("the text looks like UTF-16 without its mark; say so with --encoding utf-16le, or export it as UTF-8")
	case isASCII(head):
		return Detect, 0, nil
	}
	enc, err = detect(head)
	return enc, 0, err
}

func isUTF16(e Encoding) bool { return e == UTF16LE || e == UTF16BE }

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// detect tells UTF-8 from GB18030. The sample may end in the middle of a character.
//
// A few broken bytes must not turn a UTF-8 file into GB18030, as which most of it would pass: UTF-8 it is as long as
// its whole characters outnumber the broken bytes by far. GB18030 read as UTF-8 has few whole characters, and those nearly
// all of two bytes. So in a small sample more of three or four bytes than broken ones are proof enough.
func detect(sample []byte) (Encoding, error) {
	whole, long, broken := 0, 0, 0
	for i := 0; i < len(sample); {
		r, n := utf8.DecodeRune(sample[i:])
		switch {
		case r == utf8.RuneError && n == 1 && !utf8.FullRune(sample[i:]):
			i = len(sample)
			continue
		case r == utf8.RuneError && n == 1:
			broken++
		case n > 1:
			whole++
			if n > 2 {
				long++
			}
		}
		i += n
	}
	if broken == 0 || whole > 8*broken || long > broken {
		return UTF8, nil
	}
	text := make([]byte, 3*len(sample)+utf8.UTFMax)
	n, _, err := simplifiedchinese.GB18030.NewDecoder().Transform(text, sample, false)
	if err != nil && !errors.Is(err, transform.ErrShortSrc) || bytes.ContainsRune(text[:n], utf8.RuneError) {
		return Detect, errEncodingUnknown
	}
	return GB18030, nil
}

// decoded puts a decoder for UTF-16 before r; other encodings are decoded record by record.
func decoded(r io.Reader, enc Encoding) io.Reader {
	switch enc {
	case UTF16LE:
		return transform.NewReader(r, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder())
	case UTF16BE:
		return transform.NewReader(r, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder())
	}
	return r
}

// widthOf counts how many bytes of the file a piece of the decoded stream stands for: UTF-16 has two for each character
// of up to three bytes in UTF-8 and four for one of four. The piece may begin and end inside a character.
func widthOf(enc Encoding) func([]byte) int64 {
	if !isUTF16(enc) {
		return func(b []byte) int64 { return int64(len(b)) }
	}
	return func(b []byte) int64 {
		n := 0
		for _, c := range b {
			if c&0xc0 != 0x80 {
				n += 2
			}
			if c >= 0xf0 {
				n += 2
			}
		}
		return int64(n)
	}
}

// toUTF8 decodes one record; ok is false when it is not of the encoding.
func toUTF8(rec []byte, enc Encoding) (out []byte, ok bool) {
	switch enc {
	case GB18030:
		if isASCII(rec) {
			return rec, true
		}
		out, err := simplifiedchinese.GB18030.NewDecoder().Bytes(rec)
		return out, err == nil && !bytes.ContainsRune(out, utf8.RuneError)
	case UTF16LE, UTF16BE:
		return rec, !bytes.ContainsRune(rec, utf8.RuneError)
	default:
		return rec, utf8.Valid(rec)
	}
}
