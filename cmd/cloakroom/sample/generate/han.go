package main

import "strings"

// syllable is a character (or two, of a compound family name) and its reading.
type syllable struct{ hanzi, pinyin string }

// syllables reads a list such as "王 wang 李 li".
func syllables(s string) []syllable {
	w := words(s)
	out := make([]syllable, 0, len(w)/2)
	for i := 0; i+1 < len(w); i += 2 {
		out = append(out, syllable{w[i], w[i+1]})
	}
	return out
}

func families() []syllable {
	return syllables(`王 wang 李 li 张 zhang 刘 liu 陈 chen 杨 yang 黄 huang 赵 zhao 吴 wu 周 zhou 徐 xu 孙 sun 马 ma 朱 zhu
		胡 hu 郭 guo 何 he 林 lin 高 gao 罗 luo 郑 zheng 梁 liang 谢 xie 宋 song 唐 tang 许 xu 韩 han 冯 feng 邓 deng 曹 cao
		彭 peng 曾 zeng 肖 xiao 田 tian 董 dong 潘 pan 袁 yuan 蔡 cai 蒋 jiang 余 yu 于 yu 杜 du 叶 ye 程 cheng 魏 wei
		苏 su 吕 lv 丁 ding 任 ren 卢 lu 姚 yao 沈 shen 钟 zhong 姜 jiang 崔 cui 谭 tan 陆 lu 范 fan 汪 wang 廖 liao`)
}

func compounds() []syllable {
	return syllables(`欧阳 ouyang 司马 sima 上官 shangguan 诸葛 zhuge 皇甫 huangfu 尉迟 yuchi 慕容 murong 令狐 linghu
		夏侯 xiahou 司徒 situ 端木 duanmu 东方 dongfang`)
}

func givens() []syllable {
	return syllables(`伟 wei 芳 fang 娜 na 敏 min 静 jing 丽 li 强 qiang 磊 lei 军 jun 洋 yang 勇 yong 艳 yan 杰 jie 娟 juan
		涛 tao 明 ming 超 chao 兰 lan 霞 xia 平 ping 刚 gang 桂 gui 英 ying 华 hua 玉 yu 萍 ping 红 hong 鹏 peng 辉 hui
		玲 ling 斌 bin 琴 qin 宇 yu 浩 hao 凯 kai 悦 yue 欣 xin 怡 yi 梓 zi 涵 han 晨 chen 轩 xuan 思 si 雨 yu 佳 jia
		琪 qi 博 bo 文 wen 昊 hao 然 ran 子 zi 诗 shi 婷 ting 雪 xue 梅 mei 国 guo 建 jian 志 zhi 海 hai 云 yun 春 chun
		秋 qiu 冬 dong 晓 xiao 清 qing 若 ruo 兮 xi 安 an 宁 ning 乐 le 瑶 yao 𠮷 ji 喆 zhe`)
}

func (d *draw) han() person {
	family := pick(d, families())
	if d.IntN(22) == 0 {
		family = pick(d, compounds())
	}
	first, second := pick(d, givens()), pick(d, givens())
	if d.IntN(5) == 0 {
		second = syllable{}
	}
	given := first.hanzi + second.hanzi
	name := family.hanzi + given
	if d.IntN(30) == 0 {
		name = family.hanzi + pick(d, []string{" ", "\u3000"}) + given
	}
	reading := family.pinyin + first.pinyin + second.pinyin
	switch d.IntN(5) {
	case 0:
		reading = first.pinyin + second.pinyin + "." + family.pinyin
	case 1:
		reading = family.pinyin + "_" + first.pinyin + second.pinyin
	case 2:
		if d.IntN(3) == 0 {
			reading = family.hanzi + given
		}
	}
	return person{phone: d.mainlandPhone(), name: name, address: d.mainlandAddress(), email: d.mail(reading)}
}

func (d *draw) uyghur() person {
	names := syllables(`买买提 maimaiti 吐尔逊 tuerxun 阿依古丽 ayiguli 艾合买提 aihemaiti 阿卜杜拉 abudula 古丽娜尔 gulinaer
		玉素甫 yusufu 热依汗 reyihan 木合塔尔 muhetaer 帕提古丽 patiguli 阿迪力 adili 麦麦提江 maimaitijiang 努尔比亚 nuerbiya
		库尔班 kuerban 依明 yiming 迪丽拜尔 dilibaier 卡德尔 kadeer 萨依普 sayipu`)
	own, father := pick(d, names), pick(d, names)
	dot := pick(d, []string{"·", "·", "·", "•", "・"})
	return person{
		phone:   d.mainlandPhone(),
		name:    own.hanzi + dot + father.hanzi,
		address: d.streetIn(pick(d, xinjiang())),
		email:   d.mail(own.pinyin + "." + father.pinyin),
	}
}

// mainlandPhone draws a number of a segment that no operator has been given, spelled in one of the usual ways.
func (d *draw) mainlandPhone() string {
	n := d.unique(func() string { return pick(d, words("154 161 164")) + d.digits(8) })
	a, b, c := n[:3], n[3:7], n[7:]
	switch k := d.IntN(20); {
	case k < 10:
		return n
	case k < 13:
		return a + " " + b + " " + c
	case k < 14:
		return a + "-" + b + "-" + c
	case k < 16:
		return "+86 " + a + " " + b + " " + c
	case k < 17:
		return "+86" + n
	case k < 18:
		return "+86 " + a + "-" + b + "-" + c
	case k < 19:
		return "0086" + n
	default:
		return fullWidth(n)
	}
}

// fullWidth writes ASCII digits as an East Asian keyboard does in full-width mode.
func fullWidth(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + '０'
		}
		return r
	}, s)
}
