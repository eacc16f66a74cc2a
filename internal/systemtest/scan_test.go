package systemtest

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// scanner finds many texts in many spellings at once. Each spelling is kept under its first six bytes; a bitmap says
// for most places that nothing begins there.
type scanner struct {
	forms  map[string]string // spelling -> what it is a spelling of
	heads  map[uint64][]string
	bitmap []uint64
}

const (
	headBytes = 6
	// Shorter spellings stand in random bytes by chance: six bytes as they are for a name of two hanzi, eight where a
	// spelling multiplies the tries.
	shortestRaw, shortestForm = headBytes, 8
	bitmapBits                = 24
)

func newScanner() *scanner {
	return &scanner{forms: map[string]string{}, heads: map[uint64][]string{}, bitmap: make([]uint64, 1<<bitmapBits/64)}
}

func slot(head uint64) uint64 { return head * 0x9e3779b97f4a7c15 >> (64 - bitmapBits) }

// add looks for text from now on. what names it in findings.
func (s *scanner) add(what, text string) {
	for form, spelling := range spellings(text) {
		shortest := shortestForm
		if form == "as it is" {
			shortest = shortestRaw
		}
		if len(spelling) < shortest {
			continue
		}
		if _, there := s.forms[spelling]; there {
			continue
		}
		s.forms[spelling] = what + ", " + form
		head := headOf(spelling)
		s.heads[head] = append(s.heads[head], spelling)
		s.bitmap[slot(head)/64] |= 1 << (slot(head) % 64)
	}
}

func headOf(spelling string) uint64 {
	var b [8]byte
	copy(b[:headBytes], spelling)
	return binary.LittleEndian.Uint64(b[:])
}

// find returns what stands in data, each thing once, and how often in all.
func (s *scanner) find(data []byte) (found []string, hits int) {
	var window uint64
	for i, c := range data {
		window = window>>8 | uint64(c)<<(8*(headBytes-1))
		if i < headBytes-1 {
			continue
		}
		at := slot(window)
		if s.bitmap[at/64]&(1<<(at%64)) == 0 {
			continue
		}
		rest := data[i-headBytes+1:]
		for _, spelling := range s.heads[window] {
			if len(spelling) <= len(rest) && string(rest[:len(spelling)]) == spelling {
				hits++
				if what := s.forms[spelling]; !slices.Contains(found, what) {
					found = append(found, what)
				}
			}
		}
	}
	return found, hits
}

// spellings lists how a text may stand in a file, by the name of the spelling.
func spellings(text string) map[string]string {
	raw := []byte(text)
	out := map[string]string{
		"as it is":       text,
		"hex":            hex.EncodeToString(raw),
		"hex upper":      strings.ToUpper(hex.EncodeToString(raw)),
		"url path":       url.PathEscape(text),
		"url query":      url.QueryEscape(text),
		"url lower":      strings.ToLower(url.PathEscape(text)),
		"escaped":        escapedText(text, "%04x"),
		"escaped upper":  escapedText(text, "%04X"),
		"quoted bytes":   strings.Trim(fmt.Sprintf("%+q", text), `"`),
		"reversed":       reversed(text),
		"without spaces": strings.ReplaceAll(text, " ", ""),
		"in upper case":  strings.ToUpper(text),
		"in lower case":  strings.ToLower(text),
	}
	var little, big []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		little = binary.LittleEndian.AppendUint16(little, unit)
		big = binary.BigEndian.AppendUint16(big, unit)
	}
	out["utf-16, little"], out["utf-16, big"] = string(little), string(big)
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for before := range 3 {
			// What stands before and behind the text shares characters with it; those are left out.
			encoded := encoding.EncodeToString(append(make([]byte, before), raw...))
			from, to := (before*8+5)/6, (before+len(raw))*8/6
			out[fmt.Sprintf("%s behind %d", name, before)] = encoded[min(from, to):to]
		}
	}
	return out
}

// escapedText spells what is not ASCII as JSON may.
func escapedText(text, digits string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		if unit < 0x80 {
			b.WriteByte(byte(unit))
		} else {
			fmt.Fprintf(&b, `\u`+digits, unit)
		}
	}
	return b.String()
}

func reversed(text string) string {
	runes := []rune(text)
	slices.Reverse(runes)
	return string(runes)
}

// Without this test a scan that finds nothing would prove nothing.
func TestScannerFindsWhatIsPlanted(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	haystack := make([]byte, 64<<10)
	for i := range haystack {
		haystack[i] = byte(random.Uint32())
	}
	texts := []string{"13800138000", "+8613800138000", "唐佳兰", "山西省太原市小店区沧浪谷巷597号（A座）104", "tangjialan70@example.com", "王𠮷安娜"}
	s := newScanner()
	for _, text := range texts {
		s.add(text, text)
	}
	s.add("other", "nobody@example.org")
	if found, _ := s.find(haystack); len(found) > 0 {
		t.Fatalf("found in random bytes: %q", found)
	}
	for _, text := range texts {
		for form, spelling := range spellings(text) {
			if len(spelling) < shortestForm {
				continue
			}
			for _, at := range []int{0, 1, 4095, random.IntN(len(haystack) - 1000), len(haystack) - len(spelling)} {
				planted := slices.Clone(haystack)
				copy(planted[at:], spelling)
				found, hits := s.find(planted)
				if hits == 0 || !slices.ContainsFunc(found, func(what string) bool { return strings.HasPrefix(what, text) }) {
					t.Errorf("%s, %s at %d: found %q", text, form, at, found)
				}
			}
		}
		for before := range 3 {
			note := base64.StdEncoding.EncodeToString([]byte("xyz"[:before] + text + "ZZ"))
			if found, _ := s.find([]byte(note)); len(found) == 0 {
				t.Errorf("%s is not found in %s", text, note)
			}
		}
	}
	if found, _ := s.find([]byte("唐佳")); len(found) > 0 {
		t.Errorf("half a name is found as %q", found)
	}
	if found, _ := s.find(nil); len(found) > 0 {
		t.Errorf("found in nothing: %q", found)
	}
}
