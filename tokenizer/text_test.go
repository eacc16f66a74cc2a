package tokenizer

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	full := strings.Repeat("文", 21845) + "x" // 64 KiB
	runCases(t, kindOf(t, "text"), []valueCase{
		{name: "word", value: "hello", want: "hello", masked: "h******o"},
		{name: "hanzi", value: "请放在门口", want: "请放在门口", masked: "请******口"},
		{name: "three", value: "abc", want: "abc", masked: "a******c"},
		{name: "two", value: "ab", want: "ab", masked: hidden},
		{name: "one", value: "文", want: "文", masked: hidden},
		{name: "lines", value: "one\ntwo\r\n\tthree", want: "one\ntwo\r\n\tthree", masked: "o******e"},
		{name: "surrounding lines", value: "\n\tabc\r\n", want: "abc", masked: "a******c"},
		{name: "line separator", value: "one\u2028two", want: "one\u2028two", masked: "o******o"},
		{name: "composed", value: "cafe\u0301", want: "café", masked: "c******é"},
		{name: "compatibility stays", value: "x² ㎡ Ａ", want: "x² ㎡ Ａ", masked: "x******Ａ"},
		{name: "case stays", value: "Hello", want: "Hello", masked: "H******o"},
		{name: "inner spaces stay", value: "a  b", want: "a  b", masked: "a******b"},
		{name: "zero width", value: "a\u200bb\u200bc", want: "abc", masked: "a******c"},
		{name: "emoji", value: "😀abc😀", want: "😀abc😀", masked: "😀******😀"},
		{name: "outside the basic plane", value: "𠮷a𠮷", want: "𠮷a𠮷", masked: "𠮷******𠮷"},
		{name: "markup", value: "<b>x</b>", want: "<b>x</b>", masked: "<******>"},
		{name: "64 KiB", value: full, want: full, masked: "文******x"},

		{name: "empty", value: "", rule: "empty"},
		{name: "lines only", value: "\n\r\n\t", rule: "empty"},
		{name: "invisible", value: "\u200b\u200c\u200d", rule: "empty"},
		{name: "NUL", value: "a\x00b", rule: "control"},
		{name: "vertical tab", value: "a\x0bb", rule: "control"},
		{name: "form feed", value: "a\x0cb", rule: "control"},
		{name: "escape", value: "a\x1bb", rule: "control"},
		{name: "next line", value: "a\u0085b", rule: "control"},
		{name: "broken", value: "a\x80b", rule: "utf8"},
		{name: "above Unicode", value: "\xf4\x90\x80\x80", rule: "utf8"},
		{name: "marks", value: "a" + strings.Repeat("\u0323", 31), rule: "marks"},
		{name: "above 64 KiB", value: full + "x", rule: "length"},
		{name: "above 64 KiB by normalising", value: strings.Repeat("\u0958", 20000), rule: "length"},
	})
}
