package tokenizer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"
)

func TestPhone(t *testing.T) {
	const mobile, mobileMask = "+8613800138000", "138****8000"
	runCases(t, kindOf(t, "phone"), []valueCase{
		{name: "mobile", value: "13800138000", want: mobile, masked: mobileMask},
		{name: "mobile with spaces", value: "138 0013 8000", want: mobile, masked: mobileMask},
		{name: "mobile with country code", value: "+86 138-0013-8000", want: mobile, masked: mobileMask},
		{name: "mobile with 0086", value: "008613800138000", want: mobile, masked: mobileMask},
		{name: "mobile full-width", value: "１３８００１３８０００", want: mobile, masked: mobileMask},
		{name: "mobile with 86", value: "8613800138000", want: mobile, masked: mobileMask},
		{name: "mobile full-width plus", value: "＋８６ １３８－００１３－８０００", want: mobile, masked: mobileMask},
		{name: "mobile dots", value: "138.0013.8000", want: mobile, masked: mobileMask},
		{name: "mobile en dashes", value: "138–0013–8000", want: mobile, masked: mobileMask},
		{name: "mobile parentheses", value: "(+86)13800138000", want: mobile, masked: mobileMask},
		{name: "mobile trunk zero", value: "013800138000", want: mobile, masked: mobileMask},
		{name: "mobile bidi marks", value: "\u202d138\u200b00138000\u202c", want: mobile, masked: mobileMask},
		{name: "mobile extension", value: "13800138000转1234", want: mobile + ";ext=1234", masked: mobileMask},
		{name: "mobile of a new segment", value: "16012345678", want: "+8616012345678", masked: "160****5678", warn: "unknown_segment"},
		{name: "mobile 154", value: "+86 154 1234 5678", want: "+8615412345678", masked: "154****5678", warn: "unknown_segment"},
		{name: "mobile 1749", value: "0086-17499999999", want: "+8617499999999", masked: "174****9999", warn: "unknown_segment"},
		{name: "mobile of a new segment, trunk zero", value: "016012345678", want: "+8616012345678", masked: "160****5678", warn: "unknown_segment"},
		{name: "mobile 1740", value: "17405000000", want: "+8617405000000", masked: "174****0000"},

		{name: "landline", value: "010-12345678", want: "+861012345678", masked: "010****5678"},
		{name: "landline parentheses", value: "(010) 12345678", want: "+861012345678", masked: "010****5678"},
		{name: "landline full-width parentheses", value: "（０１０）１２３４５６７８", want: "+861012345678", masked: "010****5678"},
		{name: "landline with country code", value: "+86 10 1234 5678", want: "+861012345678", masked: "010****5678"},
		{name: "landline with both codes", value: "+86 (0)755 86013388", want: "+8675586013388", masked: "0755****3388"},
		{name: "landline 021", value: "021-61234567", want: "+862161234567", masked: "021****4567"},
		{name: "landline of seven digits", value: "0476-8234567", want: "+864768234567", masked: "0476****567"},
		{name: "ext", value: "0755-86013388 ext 8001", want: "+8675586013388;ext=8001", masked: "0755****3388"},
		{name: "zhuan", value: "0755-86013388转8001", want: "+8675586013388;ext=8001", masked: "0755****3388"},
		{name: "ext with dot and case", value: "0755-86013388 Ext. 8001", want: "+8675586013388;ext=8001", masked: "0755****3388"},
		{name: "fenji", value: "0755-86013388 分机：8001", want: "+8675586013388;ext=8001", masked: "0755****3388"},
		{name: "ext of RFC 3966", value: "+8675586013388;ext=8001", want: "+8675586013388;ext=8001", masked: "0755****3388"},
		{name: "ext keeps zeros", value: "0755-86013388 ext 001", want: "+8675586013388;ext=001", masked: "0755****3388"},
		{name: "service line", value: "400-800-1234", want: "+864008001234", masked: "400****234"},

		{name: "hong kong", value: "+85251234567", want: "+85251234567", masked: "+852****4567"},
		{name: "united states", value: "+12025550123", want: "+12025550123", masked: "+1****0123"},
		{name: "united states written", value: "+1 (202) 555-0123", want: "+12025550123", masked: "+1****0123"},
		{name: "united states by 00", value: "0012025550123", want: "+12025550123", masked: "+1****0123"},
		{name: "macau", value: "+853 6612 3456", want: "+85366123456", masked: "+853****3456"},
		{name: "taiwan", value: "+886 912 345 678", want: "+886912345678", masked: "+886****5678"},
		{name: "italy keeps its zero", value: "+39 06 6982 1234", want: "+390669821234", masked: "+39****1234"},
		{name: "united kingdom", value: "+44 (0)20 7946 0958", want: "+442079460958", masked: "+44****0958"},

		{name: "ten digits", value: "1380013800", rule: "not_assigned"},
		{name: "mobile beginning with 12", value: "12345678901", rule: "not_assigned"},
		{name: "mobile beginning with 10", value: "10000000000", rule: "not_assigned"},
		{name: "police", value: "110", rule: "short_code"},
		{name: "police with country code", value: "+86110", rule: "short_code"},
		{name: "bank", value: "95588", rule: "short_code"},
		{name: "letters for digits", value: "13800138OOO", rule: "letters"},
		{name: "vanity", value: "1-800-FLOWERS", rule: "letters"},
		{name: "letters first", value: "tel13800138000", rule: "letters"},
		{name: "hanzi", value: "电话13800138000", rule: "letters"},
		{name: "cyrillic", value: "1380013800О", rule: "letters"},
		{name: "two numbers", value: "13800138000 13900139000", rule: "too_long"},
		{name: "two numbers with slash", value: "13800138000/13900139000", rule: "characters"},
		{name: "two numbers with comma", value: "13800138000、13900139000", rule: "characters"},
		{name: "two numbers with plus", value: "+8613800138000 +8613900139000", rule: "characters"},
		{name: "two landlines", value: "010-12345678 010-87654321", rule: "too_long"},
		{name: "two parentheses", value: "((010)12345678", rule: "characters"},
		{name: "open parenthesis", value: "(010 12345678", rule: "characters"},
		{name: "empty parentheses", value: "010()12345678", rule: "characters"},
		{name: "double plus", value: "++8613800138000", rule: "characters"},
		{name: "plus inside", value: "138+00138000", rule: "characters"},
		{name: "plus alone", value: "+", rule: "characters"},
		{name: "dash at the end", value: "13800138000-", rule: "characters"},
		{name: "dash at the beginning", value: "-13800138000", rule: "characters"},
		{name: "star", value: "*13800138000", rule: "characters"},
		{name: "arabic digits", value: "١٣٨٠٠١٣٨٠٠٠", rule: "characters"},
		{name: "a mask", value: "138****8000", rule: "characters"},
		{name: "mobile too long", value: "138001380001", rule: "not_assigned"},
		{name: "mobile too long with country code", value: "+86138001380001", rule: "not_assigned"},
		{name: "local landline", value: "86013388", rule: "not_assigned"},
		{name: "dashed extension", value: "0755-86013388-8001", rule: "not_assigned"},
		{name: "extension without digits", value: "0755-86013388 ext", rule: "extension"},
		{name: "extension with letters", value: "0755-86013388 ext 80O1", rule: "extension"},
		{name: "extension too long", value: "0755-86013388 ext 12345678", rule: "extension"},
		{name: "two extensions", value: "0755-86013388转8001转8002", rule: "extension"},
		{name: "extension alone", value: "转8001", rule: "characters"},
		{name: "no such country", value: "+999 1234 5678", rule: "country_code"},
		{name: "many digits", value: strings.Repeat("1", 30), rule: "too_long"},
		{name: "empty", value: "", rule: "empty"},
		{name: "long", value: strings.Repeat("1", 129), rule: "length"},
	})
}

func TestPhoneWaybill(t *testing.T) {
	k := kindOf(t, "phone")
	for value, want := range map[string]string{
		"13800138000":        "138******00",
		"+86 138 0013 8000":  "138******00",
		"13800138000转1234":   "138******00",
		"010-12345678":       "010******78",
		"0476-8234567":       "0476******7",
		"400-800-1234":       "400******4",
		"+85251234567":       "+852******67",
		"+12025550123":       "+1******23",
		"+6834000":           "+683******",
		"13800138OOO":        hidden,
		"110":                hidden,
		"":                   hidden,
		"13800138000 (home)": hidden,
	} {
		if got := k.Mask(value, Waybill); got != want {
			t.Errorf("waybill of %q is %q, want %q", value, got, want)
		}
	}
}

func TestPhoneDefaultRegion(t *testing.T) {
	us, _ := NewKinds(Options{DefaultRegion: "US"}).Lookup("phone")
	runCases(t, us, []valueCase{
		{name: "national", value: "(202) 555-0123", want: "+12025550123", masked: "+1****0123"},
		{name: "mainland with plus", value: "+8613800138000", want: "+8613800138000", masked: "138****8000"},
		{name: "mainland by 011", value: "011 86 13800138000", want: "+8613800138000", masked: "138****8000"},
		{name: "mainland without code", value: "13800138000", rule: "not_assigned"},
		{name: "mainland without plus", value: "8613800138000", rule: "not_assigned"},
	})
	none, _ := NewKinds(Options{DefaultRegion: "??"}).Lookup("phone")
	runCases(t, none, []valueCase{
		{name: "with code", value: "+12025550123", want: "+12025550123", masked: "+1****0123"},
		{name: "without code", value: "2025550123", rule: "country_code"},
		{name: "mobile without code", value: "13800138000", rule: "country_code"},
	})
}

// The table of segments is the library's, number by number.
func TestSegmentsMatchTheLibrary(t *testing.T) {
	country := int32(86)
	for segment := 13000; segment < 20000; segment++ {
		// A new value each time: the library is asked about blocks, not about single numbers.
		national := uint64(segment)*1_000_000 + 123_456
		want := phonenumbers.IsValidNumber(&phonenumbers.PhoneNumber{CountryCode: &country, NationalNumber: &national})
		if got := knownSegment(fmt.Sprint(national)); got != want {
			t.Errorf("segment %d: the table says %v, the library %v", segment, got, want)
		}
	}
}

// The short way for mainland mobile numbers must answer as the library would.
func TestMobileShortCutMatchesTheLibrary(t *testing.T) {
	for segment := 130; segment < 200; segment++ {
		for _, spelling := range []string{"%d00138000", "86%d00138000", "+86%d00138000", "0086%d00138000"} {
			value := fmt.Sprintf(spelling, segment)
			quick, err := phone{region: "CN"}.parse(value)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := phonenumbers.Parse(value, "CN")
			if err != nil {
				t.Fatal(err)
			}
			if want := phonenumbers.Format(parsed, phonenumbers.E164); quick.e164 != want {
				t.Errorf("%s: %s, library %s", value, quick.e164, want)
			}
		}
	}
}
