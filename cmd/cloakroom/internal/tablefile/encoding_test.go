package tablefile

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

func encoded(t *testing.T, text string, enc Encoding) string {
	t.Helper()
	var err error
	switch enc {
	case GB18030:
		text, err = simplifiedchinese.GB18030.NewEncoder().String(text)
	case UTF16LE:
		text, err = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().String(text)
	case UTF16BE:
		text, err = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewEncoder().String(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEncodings(t *testing.T) {
	const text = "编号,姓名,note\n1,张三,\"二\n行\"\n2,㐀𠀀,𝄞\n3,\"a\"\"b\",é\n"
	want := []string{"2/2 1|张三|二\n行", "3/4 2|㐀𠀀|𝄞", "4/5 3|a\"b|é"}
	// Its first character beyond ASCII lies behind what is looked at first.
	late := "编号,姓名,note\n"
	late = strings.NewReplacer("编号", "id", "姓名", "name").Replace(late) + strings.Repeat("0,a,b\n", 20_000) + "1,张三,李四\n"
	cases := []struct {
		name, mark string
		enc, asked Encoding
		text       string
		found      Encoding
	}{
		{"UTF-8", "", UTF8, Detect, text, UTF8},
		{"UTF-8 with its mark", "\xef\xbb\xbf", UTF8, Detect, text, UTF8},
		{"UTF-8 asked for", "", UTF8, UTF8, text, UTF8},
		{"GB18030", "", GB18030, Detect, text, GB18030},
		{"GB18030 with its mark", "\x84\x31\x95\x33", GB18030, Detect, text, GB18030},
		{"GB18030 asked for", "", GB18030, GB18030, text, GB18030},
		{"UTF-16 of Windows", "\xff\xfe", UTF16LE, Detect, text, UTF16LE},
		{"UTF-16, the other way", "\xfe\xff", UTF16BE, Detect, text, UTF16BE},
		{"UTF-16 asked for, the mark decides", "\xfe\xff", UTF16BE, UTF16LE, text, UTF16BE},
		{"UTF-16 without a mark", "", UTF16LE, UTF16LE, text, UTF16LE},
		{"UTF-8 late", "", UTF8, Detect, late, UTF8},
		{"GB18030 late", "", GB18030, Detect, late, GB18030},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			in := tc.mark + encoded(t, tc.text, tc.enc)
			r, err := NewReader(strings.NewReader(in), Options{Format: CSV, Encoding: tc.asked})
			if err != nil {
				t.Fatal(err)
			}
			got, rows := readAll(t, strings.NewReader(in), Options{Format: CSV, Encoding: tc.asked}, r.Columns()...)
			if tc.text == text && !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
			if last := got[len(got)-1]; tc.text == late && last != "20002/20002 1|张三|李四" {
				t.Errorf("got %q", last)
			}
			if at := rows[len(rows)-1].After; at.Offset != int64(len(in)) || at.Rows != int64(len(rows))+1 {
				t.Errorf("it ends at %+v of %d", at, len(in))
			}
			if err := r.Select(r.Columns()...); err != nil {
				t.Fatal(err)
			}
			for {
				if _, err := r.Next(); err != nil {
					break
				}
			}
			if r.Encoding() != tc.found {
				t.Errorf("found %q", r.Encoding())
			}
		})
	}
}

// A UTF-8 file with a broken byte would pass for GB18030 in most of its text.
func TestDetect(t *testing.T) {
	han := strings.Repeat("张三的手机号码", 20)
	cases := []struct {
		name, in string
		want     Encoding
		fails    bool
	}{
		{"UTF-8", han, UTF8, false},
		{"UTF-8 cut in a character", han[:len(han)-1], UTF8, false},
		{"UTF-8 with a broken byte", han + "\xff" + han, UTF8, false},
		{"GB18030", encoded(t, han, GB18030), GB18030, false},
		{"GB18030 cut in a character", encoded(t, han, GB18030)[:31], GB18030, false},
		{"two characters that could be either", encoded(t, "联通", GB18030) + encoded(t, "姓名", GB18030), GB18030, false},
		{"a little UTF-8 with a row in GB18030", "编号,姓名,备注\n1,李四,金\n2," + encoded(t, "王五", GB18030) + ",银\n", UTF8, false},
		{"a little UTF-8 with a broken byte", "姓名\n\xff\n", UTF8, false},
		{"a little GB18030", encoded(t, "姓名", GB18030), GB18030, false},
		{"GB18030 with a character that could be UTF-8", encoded(t, "姓名", GB18030) + "张", GB18030, false},
		{"Latin-1", "Jos\xe9, \xc5se", Detect, true},
		{"noise", "\xff\xff\xff\xff", Detect, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := detect([]byte(tc.in))
			if got != tc.want || (err != nil) != tc.fails {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// Short pieces of GB18030 are hardly ever taken for UTF-8: read wrongly they would be stored wrongly.
func TestDetectShortGB18030(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	const tries = 100_000
	wrong := 0
	for range tries {
		in := []byte("id,")
		for range 4 + random.IntN(20) { // the common ideographs of GB 2312
			in = append(in, byte(0xb0+random.IntN(0x28)), byte(0xa1+random.IntN(0x5e)))
		}
		if got, _ := detect(append(in, '\n')); got == UTF8 {
			wrong++
		}
	}
	if wrong > tries/10_000 {
		t.Errorf("%d of %d are taken for UTF-8", wrong, tries)
	}
}
