package tokenizer

import (
	"strings"
	"testing"
)

func TestEmail(t *testing.T) {
	local64 := strings.Repeat("a", 64)
	label63 := strings.Repeat("b", 63)
	runCases(t, kindOf(t, "email"), []valueCase{
		{name: "plain", value: "zhangsan@example.com", want: "zhangsan@example.com", masked: "z*******@example.com"},
		{name: "upper case", value: "ZhangSan@Example.COM", want: "zhangsan@example.com", masked: "Z*******@example.com"},
		{name: "spaces around", value: " z1@example.com ", want: "z1@example.com", masked: "z*******@example.com"},
		{name: "full-width", value: "ｚｓ＠ｅｘａｍｐｌｅ．ｃｏｍ", want: "zs@example.com", masked: "z*******@example.com"},
		{name: "tag", value: "zhang+shop@example.com", want: "zhang+shop@example.com", masked: "z*******@example.com"},
		{name: "dots", value: "zhang.san@example.com", want: "zhang.san@example.com", masked: "z*******@example.com"},
		{name: "long local is not told", value: local64 + "@example.com", want: local64 + "@example.com", masked: "a*******@example.com"},
		{name: "one character is hidden", value: "z@example.com", want: "z@example.com", masked: "*******@example.com"},
		{name: "international", value: "张三@例子.中国", want: "张三@xn--fsqu00a.xn--fiqs8s", masked: "张*******@xn--fsqu00a.xn--fiqs8s"},
		{name: "international ascii", value: "张三@xn--fsqu00a.xn--fiqs8s", want: "张三@xn--fsqu00a.xn--fiqs8s", masked: "张*******@xn--fsqu00a.xn--fiqs8s"},
		{name: "ideographic full stop", value: "张三@例子。中国", want: "张三@xn--fsqu00a.xn--fiqs8s", masked: "张*******@xn--fsqu00a.xn--fiqs8s"},
		{name: "numbers", value: "10001@qq.com", want: "10001@qq.com", masked: "1*******@qq.com"},
		{name: "subdomain", value: "a.b@mail.example.com.cn", want: "a.b@mail.example.com.cn", masked: "a*******@mail.example.com.cn"},
		{name: "signs", value: "o'brien_{x}!#$%&*/=?^`|~-@example.com", want: "o'brien_{x}!#$%&*/=?^`|~-@example.com", masked: "o*******@example.com"},
		{name: "hyphens in the domain", value: "ab@my-host.example.com", want: "ab@my-host.example.com", masked: "a*******@my-host.example.com"},
		{name: "digits in the domain", value: "ab@163.com", want: "ab@163.com", masked: "a*******@163.com"},
		{name: "accent apart", value: "Jose\u0301@example.com", want: "josé@example.com", masked: "J*******@example.com"},
		{name: "turkish", value: "İx@example.com", want: "ix@example.com", masked: "İ*******@example.com"},
		{name: "soft hyphen", value: "zhang\u00adsan@example.com", want: "zhangsan@example.com", masked: "z*******@example.com"},
		{name: "label of 63", value: "ab@" + label63 + ".com", want: "ab@" + label63 + ".com", masked: "a*******@" + label63 + ".com"},

		{name: "no dot", value: "a@b", rule: "domain"},
		{name: "display name", value: "Zhang <z@example.com>", rule: "syntax"},
		{name: "angle brackets", value: "<z@example.com>", rule: "syntax"},
		{name: "double dot", value: "a..b@example.com", rule: "syntax"},
		{name: "leading dot", value: ".ab@example.com", rule: "syntax"},
		{name: "trailing dot", value: "ab.@example.com", rule: "syntax"},
		{name: "two addresses", value: "a@example.com,b@example.com", rule: "syntax"},
		{name: "two addresses, semicolon", value: "a@example.com;b@example.com", rule: "syntax"},
		{name: "two addresses, space", value: "a@example.com b@example.com", rule: "syntax"},
		{name: "two at", value: "a@b@example.com", rule: "syntax"},
		{name: "no at", value: "zhangsan.example.com", rule: "syntax"},
		{name: "no local", value: "@example.com", rule: "syntax"},
		{name: "no domain", value: "zhangsan@", rule: "syntax"},
		{name: "quoted", value: `"zhang san"@example.com`, rule: "syntax"},
		{name: "comment", value: "zhang(san)@example.com", rule: "syntax"},
		{name: "group", value: "friends:a@example.com;", rule: "syntax"},
		{name: "encoded word", value: "=?utf-8?q?a?= <a@example.com>", rule: "syntax"},
		{name: "address literal", value: "ab@[192.0.2.1]", rule: "syntax"},
		{name: "ip address", value: "ab@192.0.2.1", rule: "domain"},
		{name: "65 octets", value: local64 + "a@example.com", rule: "local_part"},
		{name: "65 octets of hanzi", value: strings.Repeat("张", 22) + "@example.com", rule: "local_part"},
		{name: "65 octets by lower case", value: strings.Repeat("Ⱥ", 22) + "@example.com", rule: "local_part"},
		{name: "255 octets", value: local64 + "@" + label63 + "." + label63 + "." + strings.Repeat("c", 62), rule: "too_long"},
		{name: "label of 64", value: "ab@" + label63 + "b.com", rule: "domain"},
		{name: "domain ends with a dot", value: "ab@example.com.", rule: "syntax"},
		{name: "domain begins with a dot", value: "ab@.example.com", rule: "syntax"},
		{name: "domain begins with a hyphen", value: "ab@-example.com", rule: "domain"},
		{name: "domain underscore", value: "ab@my_host.com", rule: "domain"},
		{name: "broken punycode", value: "ab@xn--a.com", rule: "domain"},
		{name: "line break", value: "ab@example.com\r\nBcc: c@example.com", rule: "control"},
		{name: "empty", value: "", rule: "empty"},
	})
}
