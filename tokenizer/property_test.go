package tokenizer

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// anyValue draws a value that comes close to what kind accepts: pieces of good values, look-alikes and rubbish.
func anyValue(kind string) *rapid.Generator[string] {
	pieces := map[string][]string{
		"phone":   {"138", "0013", "8000", "+86", "0086", "86", "010", "12345678", "-", " ", "(", ")", ".", "+1", "202", "5550123", "转", " ext ", "8001", "O", "+54", "9", "11", "15", "+52"},
		"name":    {"张", "三", "欧阳", "·", "•", " ", "Z", "ang", "ß", "İ", "ﬁ", "ΐ", "\u0345", "'", "-", "1", "<", "𠮷", "\ue863"},
		"address": {"北京市", "北京", "海淀区", "广东省", "深圳市", "深圳", "南山区", "市辖区", "中国", "路", "1号", "－", "-", " ", "A", "（", "）", "㈱"},
		"email":   {"a", "Z", "@", ".", "example.com", "例子", "。", "中国", "+", "xn--", "-", "İ", "Ⱥ", "\"", "<", ">", " ", "1"},
		"text":    {"a", "é", "e\u0301", "文", "\n", "\t", " ", "²", "\u0958"},
	}[kind]
	pieces = append(pieces, "\u200b", "\u3000", "\ufe0f", "\u0301", "Ａ", "１", "\x00", "\xff", "\u034f", "\u1100", "\u1161", "ｶ", "ﾞ")
	return rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(pieces), rapid.SampledFrom(pieces), rapid.StringN(0, 3, 12)), 0, 12).Draw(t, "parts")
		return strings.Join(parts, "")
	})
}

func TestEveryKindHolds(t *testing.T) {
	for _, name := range NewKinds(Options{}).Names() {
		k, values := kindOf(t, name), anyValue(name)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { checkKind(t, k, values.Draw(t, "value")) })
		})
	}
}

// Every letter of Unicode, alone and after a plain one, is compared by a form that settles.
func TestEveryRuneSettles(t *testing.T) {
	kinds := []Kind{kindOf(t, "name"), kindOf(t, "address"), kindOf(t, "email"), kindOf(t, "text")}
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if r >= 0xd800 && r < 0xe000 || r >= 0x3400 && r < 0x9fff || r >= 0xac00 && r < 0xd7a4 || r >= 0x20000 && r < 0x2f800 || r >= 0x30000 {
			continue // surrogates, and large blocks that have neither case nor decomposition of interest
		}
		for _, k := range kinds {
			value := "a" + string(r)
			if k.Name() == "email" {
				value += "@example.com"
			}
			c, err := k.Canonical(value)
			if err != nil {
				continue
			}
			if again, err := k.Canonical(c.Text.Reveal()); err != nil || again.Text != c.Text {
				t.Errorf("%s: %U becomes %+q, then %+q, %v", k.Name(), r, c.Text.Reveal(), again.Text.Reveal(), err)
			}
		}
	}
}

// spell writes a string in another way that means the same: full-width forms, invisible characters, and what
// between puts between two characters.
func spell(t *rapid.T, s string, between []string) string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 {
			b.WriteString(rapid.SampledFrom(between).Draw(t, "between"))
		}
		if r > ' ' && r < 0x7f && rapid.Bool().Draw(t, "wide") {
			r += 0xfee0
		}
		b.WriteRune(r)
	}
	return b.String()
}

func mobileNumber() *rapid.Generator[string] { return rapid.StringMatching(`1[3-9][0-9]{9}`) }

func TestPhoneSpellingsAreEqual(t *testing.T) {
	k := kindOf(t, "phone")
	rapid.Check(t, func(t *rapid.T) {
		mobile := mobileNumber().Draw(t, "mobile")
		prefix := rapid.SampledFrom([]string{"", "+86", "0086", "86"}).Draw(t, "prefix")
		value := spell(t, prefix+mobile, []string{"", "", " ", "-", ".", "\u200b", "\u00a0", "－"})
		c, err := k.Canonical(value)
		if err != nil || c.Text.Reveal() != "+86"+mobile {
			t.Fatalf("%q becomes %q, %v", value, c.Text.Reveal(), err)
		}
		extension := rapid.StringMatching(`[0-9]{1,7}`).Draw(t, "extension")
		mark := rapid.SampledFrom([]string{"转", "轉", "ext", " EXT. ", "分机", " 转 ", ";ext=", " extension "}).Draw(t, "mark")
		with, err := k.Canonical(value + mark + extension)
		if err != nil || with.Text.Reveal() != "+86"+mobile+";ext="+extension {
			t.Fatalf("%q becomes %q, %v", value+mark+extension, with.Text.Reveal(), err)
		}
		if got := k.Mask(value+mark+extension, Masked); got != k.Mask(mobile, Masked) {
			t.Errorf("the extension changes the mask: %q", got)
		}
	})
}

func TestPhoneMasksHideDigits(t *testing.T) {
	k := kindOf(t, "phone")
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			mobileNumber(),
			rapid.StringMatching(`\+86(10|2[0-9])[2-9][0-9]{7}`),
			rapid.StringMatching(`0[3-9][0-9]{2}-[2-9][0-9]{6,7}`),
			rapid.StringMatching(`\+(852|853|65|1202|44|49|81|61|33|39|683|290)[0-9]{4,10}`),
			anyValue("phone"),
		).Draw(t, "value")
		c, err := k.Canonical(value)
		if err != nil {
			return
		}
		number, _, _ := strings.Cut(c.Text.Reveal(), ";")
		for view, hide := range map[View]int{Masked: 4, Waybill: 6} {
			mask := k.Mask(value, view)
			if stars := strings.Count(mask, "*"); stars != hide {
				t.Errorf("%s view of %q is %q", view, value, mask)
			}
			shown := strings.TrimLeft(mask, "+0")
			digits := len(shown) - strings.Count(shown, "*")
			total := len(number) - 1
			if !strings.HasPrefix(mask, "+") && strings.HasPrefix(number, "+86") {
				total -= 2
			}
			if tail := mask[strings.LastIndexByte(mask, '*')+1:]; !strings.HasSuffix(number, tail) {
				t.Errorf("%s view of %q ends in %q", view, value, tail)
			}
			// A short foreign number may have fewer digits than the view hides; then only the country is shown.
			if total-digits < hide && !strings.HasSuffix(mask, "*") {
				t.Errorf("%s view of %q shows %d of %d digits: %q", view, value, digits, total, mask)
			}
		}
	})
}

func TestNameSpellingsAreEqual(t *testing.T) {
	k := kindOf(t, "name")
	hanzi := []rune("张王李赵欧阳司马娜建国𠮷〇")
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOfN(rapid.SampledFrom(hanzi), 1, 6).Draw(t, "name"))
		value := spell(t, name, []string{"", " ", "\u3000", "\u200b", "\ufeff"})
		if c, err := k.Canonical(value); err != nil || c.Text.Reveal() != name {
			t.Fatalf("%q becomes %q, %v", value, c.Text.Reveal(), err)
		}
		latin := rapid.StringMatching(`[A-Za-z]{1,8}( [A-Za-z]{1,8}){0,2}`).Draw(t, "latin")
		spelled := spell(t, latin, []string{"", "\u200b", "\u2060"})
		c, err := k.Canonical(strings.ReplaceAll(spelled, " ", " \u3000 "))
		if err != nil || c.Text.Reveal() != strings.ToLower(latin) {
			t.Fatalf("%q becomes %q, %v", spelled, c.Text.Reveal(), err)
		}
	})
}

func TestNameMasksHideTheRest(t *testing.T) {
	k := kindOf(t, "name")
	rapid.Check(t, func(t *rapid.T) {
		value := anyValue("name").Draw(t, "value")
		written, err := personName{}.written(value)
		if err != nil {
			return
		}
		mask := k.Mask(value, Masked)
		if mask == hidden {
			return
		}
		if utf8.RuneCountInString(mask) != utf8.RuneCountInString(written) {
			t.Fatalf("mask %q of %q", mask, written)
		}
		// Every character of the mask is the name's own or an asterisk, and no word stands there whole.
		own := []rune(written)
		for i, r := range []rune(mask) {
			if r != '*' && r != own[i] {
				t.Fatalf("mask %q of %q", mask, written)
			}
		}
		if strings.ContainsRune(mask, '·') {
			return
		}
		for _, word := range strings.Split(mask, " ") {
			shown := strings.TrimRight(word, "*")
			if shown == word || utf8.RuneCountInString(shown) > 2 || utf8.RuneCountInString(shown) == 2 && !allHan(shown) {
				t.Fatalf("mask %q of %q", mask, written)
			}
		}
	})
}

func TestAddressMasksShowOnlyRegions(t *testing.T) {
	k := kindOf(t, "address")
	names := map[string]bool{"": true, "中国": true, "市辖区": true}
	var walk func(r *region)
	walk = func(r *region) {
		names[r.name], names[r.short] = true, true
		for _, part := range r.within {
			walk(part)
		}
	}
	for _, p := range parseRegions(regionsText).provinces {
		walk(p)
	}
	// made reports whether s is nothing but names of regions and separators.
	var made func(s string) bool
	made = func(s string) bool {
		s = strings.TrimLeft(s, " -,/")
		if s == "" {
			return true
		}
		for end := range s + "." {
			if end > 0 && names[s[:end]] && made(s[end:]) {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(t *rapid.T) {
		value := anyValue("address").Draw(t, "value")
		c, err := k.Canonical(value)
		if err != nil {
			return
		}
		shown, ok := strings.CutSuffix(k.Mask(value, Masked), hidden)
		if !ok || !strings.HasPrefix(c.Text.Reveal(), shown) || !made(shown) {
			t.Fatalf("mask of %q shows %q", value, shown)
		}
	})
}

func TestEmailMasksHideTheLocalPart(t *testing.T) {
	k := kindOf(t, "email")
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[A-Za-z0-9_+]{1,20}(\.[a-z]{1,5})?`).Draw(t, "local")
		value := spell(t, local, []string{"", "\u200b", "\u00ad"}) + "@" + spell(t, "Example.com", []string{"", "\u2060"})
		c, err := k.Canonical(value)
		if err != nil || c.Text.Reveal() != strings.ToLower(local)+"@example.com" {
			t.Fatalf("%q becomes %q, %v", value, c.Text.Reveal(), err)
		}
		want := local[:1] + "*******@example.com"
		if len(local) == 1 {
			want = "*******@example.com"
		}
		if mask := k.Mask(value, Masked); mask != want {
			t.Fatalf("mask of %q is %q", value, mask)
		}
	})
}

func TestTextMasksShowTwoCharacters(t *testing.T) {
	k := kindOf(t, "text")
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.String(), anyValue("text")).Draw(t, "value")
		mask := k.Mask(value, Masked)
		if mask == hidden {
			return
		}
		c, err := k.Canonical(value)
		all := []rune(c.Text.Reveal())
		if err != nil || len(all) < 3 || mask != string(all[0])+"******"+string(all[len(all)-1]) {
			t.Fatalf("mask of %q is %q, %v", value, mask, err)
		}
	})
}

func TestIdentifyingIDProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mobile := mobileNumber().Draw(t, "mobile")
		for _, prefix := range []string{"", "+86", "0086", "86"} {
			if !IdentifyingID(prefix + mobile) {
				t.Errorf("%s%s is taken", prefix, mobile)
			}
		}
		if id := rapid.StringMatching(`[0-9]{1,10}|1[0-2][0-9]{9}|[0-9]{12}|[0-9]{19,30}`).Draw(t, "integer"); IdentifyingID(id) {
			t.Errorf("integer %s is refused", id)
		}
	})
}
