package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Rules of names.
const (
	ruleDigits = "digits"
	ruleMarkup = "markup"
)

// personName is the name of a person, 1 to 50 characters of any script. Simplified and traditional characters are
// not folded into each other: two people may differ in nothing else.
type personName struct{}

var nameCleaning = cleaning{kind: "name", max: 512, form: norm.NFKC}

const maxName = 50

func (personName) Name() string  { return "name" }
func (personName) Views() []View { return []View{Full, Masked} }

func (personName) Rules() []Rule {
	return commonRules(
		Rule{Name: ruleDigits, Meaning: "holds a digit or a number"},
		Rule{Name: ruleMarkup, Meaning: "holds one of < > & { } [ ] \\ ` = \""},
		Rule{Name: ruleCharacters, Meaning: "holds a symbol, or no letter"},
		Rule{Name: ruleTooLong, Meaning: "longer than 50 characters"},
	)
}

func (n personName) Canonical(value string) (Canonical, error) {
	s, err := n.written(value)
	if err != nil {
		return Canonical{}, err
	}
	if s, err = n.fold(s); err != nil {
		return Canonical{}, err
	}
	return Canonical{Text: secret.NewText(s)}, nil
}

// fold drops the difference of case.
func (personName) fold(s string) (string, error) {
	if strings.ContainsFunc(s, cased) {
		var err error
		if s, err = nameCleaning.settle(s, cases.Fold().String); err != nil {
			return "", err
		}
	}
	if utf8.RuneCountInString(s) > maxName {
		return "", Invalid{"name", ruleTooLong}
	}
	return s, nil
}

// cased reports whether r may change by folding; hanzi do not.
func cased(r rune) bool { return !isHan(r) && r != '·' && r != ' ' }

// written returns the name as it is compared, but for case, and what its mask is made of.
func (n personName) written(value string) (string, error) {
	s, err := nameCleaning.clean(value)
	if err != nil {
		return "", err
	}
	s = strings.Map(func(r rune) rune {
		switch r {
		case '•', '‧', '・', '∙', '⋅':
			return '·'
		case '‘', '’', 'ʼ':
			return '\''
		}
		return plainDash(r)
	}, s)
	s = tighten(s, func(before, after rune) bool {
		return isHan(before) && isHan(after) || before == '·' || after == '·'
	})
	if rule := checkName(s); rule != "" {
		return "", Invalid{"name", rule}
	}
	return s, nil
}

func checkName(s string) (rule string) {
	letters, count := false, 0
	for _, r := range s {
		count++
		switch {
		case strings.ContainsRune("<>&{}[]\\`=\"", r):
			return ruleMarkup
		case r != '〇' && unicode.IsNumber(r):
			return ruleDigits
		case unicode.IsLetter(r) || isHan(r):
			letters = true
		case !unicode.IsMark(r) && !strings.ContainsRune(" ·'-.,()/་", r):
			return ruleCharacters
		}
	}
	switch {
	case !letters:
		return ruleCharacters
	case count > maxName:
		return ruleTooLong
	}
	return ""
}

// Mask keeps the surname of a name in hanzi, the first part of one with a dot, and the first letter of every
// other word. A word of one character is hidden whole.
func (n personName) Mask(value string, view View) string {
	if view == Full {
		return value
	}
	s, err := n.written(value)
	if err == nil {
		_, err = n.fold(s)
	}
	if err != nil || view != Masked {
		return hidden
	}
	var b strings.Builder
	if first, rest, ok := strings.Cut(s, "·"); ok && allHan(first) && strings.IndexFunc(rest, isHan) >= 0 {
		b.WriteString(first)
		b.WriteString("·")
		for _, r := range rest {
			if r == '·' {
				b.WriteRune(r)
			} else {
				b.WriteByte('*')
			}
		}
		return b.String()
	}
	for i, word := range strings.Split(s, " ") {
		if i > 0 {
			b.WriteByte(' ')
		}
		keep := surname(word)
		b.WriteString(word[:keep])
		b.WriteString(strings.Repeat("*", utf8.RuneCountInString(word[keep:])))
	}
	return b.String()
}

// surname returns how many bytes of word a mask keeps.
func surname(word string) int {
	first, size := utf8.DecodeRuneInString(word)
	switch {
	case size == len(word) || !unicode.IsLetter(first) && !isHan(first):
		return 0
	case !allHan(word):
		return size
	}
	_, second := utf8.DecodeRuneInString(word[size:])
	if both := size + second; both < len(word) && strings.Contains(compoundSurnames, " "+word[:both]+" ") {
		return both
	}
	return size
}

func allHan(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !isHan(r) }) < 0
}

// compoundSurnames are the surnames of two hanzi, simplified and, where it differs, traditional.
const compoundSurnames = " 欧阳 太史 端木 上官 司马 东方 独孤 南宫 万俟 闻人 夏侯 诸葛 尉迟 公羊 赫连 澹台 皇甫 宗政 濮阳 公冶 太叔 " +
	"申屠 公孙 慕容 仲孙 钟离 长孙 宇文 司徒 鲜于 司空 闾丘 子车 亓官 司寇 巫马 公西 颛孙 壤驷 公良 漆雕 乐正 宰父 谷梁 穀梁 拓跋 " +
	"夹谷 轩辕 令狐 段干 百里 呼延 东郭 南门 羊舌 微生 公户 公玉 公仪 梁丘 公仲 公上 公门 公山 公坚 左丘 公伯 西门 公祖 第五 公乘 " +
	"贯丘 公皙 南荣 东里 东宫 仲长 子书 子桑 即墨 达奚 褚师 贺兰 完颜 耶律 纳兰 叶赫 富察 爱新 钮祜 哈尔 淳于 单于 东门 北宫 左人 " +
	"歐陽 司馬 東方 獨孤 南宮 萬俟 聞人 諸葛 尉遲 赫連 澹臺 濮陽 公孫 仲孫 鍾離 鐘離 長孫 鮮于 閭丘 子車 巫馬 顓孫 壤駟 樂正 " +
	"夾谷 軒轅 東郭 南門 公戶 公儀 公門 公堅 西門 貫丘 公晳 南榮 東里 東宮 仲長 子書 即墨 達奚 褚師 賀蘭 完顏 納蘭 葉赫 單于 東門 北宮 "
