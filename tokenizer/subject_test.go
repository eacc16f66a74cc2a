package tokenizer

import (
	"strings"
	"testing"
)

func TestValidSubjectID(t *testing.T) {
	for id, want := range map[string]bool{
		"u1": true, "0": true, "...": true, "a.b_c:d-E9": true, "crm:42": true, strings.Repeat("a", 128): true,
		"": false, ".": false, "..": false, "a b": false, "a/b": false, "a@b": false, "+86": false, "张三": false,
		"a\x00": false, "a\n": false, "%2e": false, strings.Repeat("a", 129): false,
	} {
		if ValidSubjectID(id) != want {
			t.Errorf("ValidSubjectID(%q) = %v", id, !want)
		}
	}
}

func TestIdentifyingID(t *testing.T) {
	for id, want := range map[string]bool{
		"13800138000":        true,
		"+8613800138000":     true,
		"008613800138000":    true,
		"8613800138000":      true,
		"16012345678":        true, // a segment that the library does not know
		"11010519491231002X": true,
		"11010519491231002x": true,
		"440524188001010014": true,
		"110101200002290018": true, // 29 February of a leap year
		"zhang@example.com":  true,
		"@":                  true,

		"12345678901":         false, // no mobile number begins with 12
		"1380013800":          false,
		"138001380001":        false,
		"18613800138000":      false,
		"0013800138000":       false,
		"u13800138000":        false,
		"110105194912310021":  false, // wrong check character
		"110101199002300014":  false, // 30 February, right check character
		"110101199002290012":  false, // 29 February of a common year
		"110101199004310013":  false, // 31 April
		"110101199013010012":  false, // month 13
		"110101199000010013":  false, // month 0
		"11010119900100001X":  false, // day 0
		"010105194912310018":  false, // region 0
		"110101179912310010":  false, // born 1799
		"11010121000101001X":  false, // born 2100
		"1101051949123100X2":  false,
		"1747283645172836451": false, // a snowflake id
		"174728364517283645":  false,
		"42":                  false,
		"":                    false,
		"crm:42":              false,
	} {
		if IdentifyingID(id) != want {
			t.Errorf("IdentifyingID(%q) = %v", id, !want)
		}
	}
}

// Every check character but one must fail, and each must be right for some number.
func TestResidentIDCheckCharacter(t *testing.T) {
	weights := [...]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2} // GB 11643-1999, annex A
	seen := map[byte]bool{}
	for sequence := 100; sequence < 1000; sequence++ {
		body := "11010519491231" + string([]byte{byte('0' + sequence/100), byte('0' + sequence/10%10), byte('0' + sequence%10)})
		sum := 0
		for i, w := range weights {
			sum += w * int(body[i]-'0')
		}
		want := "10X98765432"[sum%11]
		seen[want] = true
		for _, c := range []byte("0123456789X") {
			if got := validResidentID(body + string(c)); got != (c == want) {
				t.Fatalf("%s%c: %v", body, c, got)
			}
		}
	}
	if len(seen) != 11 {
		t.Errorf("only %d check characters were met", len(seen))
	}
}
