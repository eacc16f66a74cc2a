package tokenizer

import (
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	const haidian, haidianMask = "北京市海淀区中关村大街27号(A座)", "北京市海淀区********"
	same := func(name, value, masked string) valueCase {
		return valueCase{name: name, value: value, want: value, masked: masked}
	}
	runCases(t, kindOf(t, "address"), []valueCase{
		{name: "full-width", value: "北京市海淀区中关村大街２７号（Ａ座）", want: haidian, masked: haidianMask},
		{name: "half-width", value: "北京市海淀区中关村大街27号(A座)", want: haidian, masked: haidianMask},
		{name: "spaces", value: "北京市 海淀区 中关村大街 27号（A座）", want: haidian, masked: haidianMask},
		{name: "dashes", value: "北京市海淀区学院路１－２—３", want: "北京市海淀区学院路1-2-3", masked: haidianMask},
		same("no city tier", "上海市浦东新区世纪大道100号", "上海市浦东新区********"),
		same("no district", "广东省东莞市南城街道鸿福路1号", "广东省东莞市********"),
		same("no district, Zhongshan", "广东省中山市石岐街道1号", "广东省中山市********"),
		same("autonomous prefecture", "新疆维吾尔自治区伊犁哈萨克自治州伊宁市解放路1号", "新疆维吾尔自治区伊犁哈萨克自治州伊宁市********"),
		same("autonomous prefecture alone", "新疆维吾尔自治区伊犁哈萨克自治州解放路1号", "新疆维吾尔自治区伊犁哈萨克自治州********"),
		same("prefecture and autonomous county", "青海省海西蒙古族藏族自治州都兰县建设路1号", "青海省海西蒙古族藏族自治州都兰县********"),
		same("league and banner", "内蒙古自治区锡林郭勒盟正蓝旗上都镇1号", "内蒙古自治区锡林郭勒盟正蓝旗********"),
		same("county directly below the province", "海南省琼中黎族苗族自治县营根镇1号", "海南省琼中黎族苗族自治县********"),
		same("city directly below the province", "湖北省仙桃市沙嘴街道1号", "湖北省仙桃市********"),
		same("forest district", "湖北省神农架林区松柏镇1号", "湖北省神农架林区********"),
		same("three tiers", "江苏省苏州市昆山市玉山镇1号", "江苏省苏州市昆山市********"),
		same("city left out", "江苏省昆山市玉山镇1号", "江苏省昆山市********"),
		same("province left out", "深圳市南山区科技园1号", "深圳市南山区********"),
		same("short province", "北京海淀区中关村大街1号", "北京海淀区********"),
		same("short province and city", "广东深圳南山区科技园1号", "广东深圳南山区********"),
		same("city named as its province", "吉林省吉林市昌邑区1号", "吉林省吉林市昌邑区********"),
		same("short province that is a city", "吉林市昌邑区1号", "吉林市昌邑区********"),
		same("city repeated", "北京市北京市海淀区中关村1号", "北京市北京市海淀区********"),
		same("municipal districts", "北京市市辖区海淀区中关村1号", "北京市市辖区海淀区********"),
		same("county of Chongqing", "重庆市云阳县双江街道1号", "重庆市云阳县********"),
		same("country first", "中国北京市海淀区中关村1号", "中国北京市海淀区********"),
		same("country alone", "中国路1号", hidden),
		same("separators", "广东省-深圳市/南山区,科技园1号", "广东省-深圳市/南山区********"),
		same("region alone", "北京市海淀区", haidianMask),
		same("province alone", "广东省", "广东省********"),
		same("Hong Kong", "香港特别行政区九龙弥敦道1号", "香港特别行政区********"),
		same("Taiwan", "台湾省台北市信义路1号", "台湾省********"),
		same("estate ending as a district does", "北京市王府井小区3号楼", "北京市********"),
		same("street named as a province", "河北大街12号", hidden),
		same("street named as a city", "南京路100号", hidden),
		same("district unknown", "火星区奥林匹斯街1号", hidden),
		same("district of another city", "北京市南山区1号", "北京市********"),
		same("region not at the beginning", "张三收,北京市海淀区中关村1号", hidden),
		same("foreign", "12 Main Street, Springfield", hidden),
		{name: "foreign spaces", value: " 12  Main   Street ", want: "12 Main Street", masked: hidden},
		same("two hundred", "北京市海淀区"+strings.Repeat("长", 194), haidianMask),

		{name: "empty", value: "", rule: "empty"},
		{name: "spaces", value: "\u3000 ", rule: "empty"},
		{name: "two lines", value: "北京市\n海淀区", rule: "control"},
		{name: "windows lines", value: "北京市\r\n海淀区", rule: "control"},
		{name: "tab", value: "北京市\t海淀区", rule: "control"},
		{name: "line separator", value: "北京市\u2028海淀区", rule: "control"},
		{name: "paragraph separator", value: "北京市\u2029海淀区", rule: "control"},
		{name: "next line", value: "北京市\u0085海淀区", rule: "control"},
		{name: "NUL", value: "北京市\x00", rule: "control"},
		{name: "escape", value: "北京市\x1b[1m", rule: "control"},
		{name: "broken", value: "北京\xe5\xb8", rule: "utf8"},
		{name: "gbk", value: "\xb1\xb1\xbe\xa9", rule: "utf8"},
		{name: "two hundred and one", value: strings.Repeat("长", 201), rule: "too_long"},
		{name: "two hundred and one by folding", value: strings.Repeat("长", 198) + "㈱", rule: "too_long"},
		{name: "marks", value: "北京" + strings.Repeat("\u0301", 31), rule: "marks"},
		{name: "long", value: strings.Repeat("a", 2049), rule: "length"},
	})
}

// regions.txt is data that people edit.
func TestRegions(t *testing.T) {
	all := parseRegions(regionsText)
	if len(all.provinces) != 34 {
		t.Errorf("%d provinces, want 34", len(all.provinces))
	}
	var walk func(r *region)
	districts := 0
	walk = func(r *region) {
		districts++
		if !allHan(r.name) || strings.TrimSpace(r.name) != r.name {
			t.Errorf("region %q", r.name)
		}
		for _, part := range r.within {
			walk(part)
		}
	}
	for _, p := range all.provinces {
		if p.short == "" {
			t.Errorf("province %s has no short name", p.name)
		}
		walk(p)
	}
	if districts < 3000 {
		t.Errorf("only %d regions", districts)
	}
}
