package main

import "strconv"

// regions are real: province, city and district, in the ways they are written.
func regions() []string {
	return words(`北京市海淀区 北京市朝阳区 北京市西城区 北京市丰台区 上海市浦东新区 上海市徐汇区 上海市静安区 上海市闵行区
		天津市南开区 天津市滨海新区 重庆市渝中区 重庆市江北区 广东省广州市天河区 广东省广州市越秀区 广东省深圳市南山区
		广东省深圳市福田区 广东省佛山市顺德区 广东省东莞市南城街道 广东省中山市石岐街道 江苏省南京市玄武区 江苏省苏州市姑苏区
		江苏省苏州市昆山市 江苏省无锡市滨湖区 浙江省杭州市西湖区 浙江省杭州市余杭区 浙江省宁波市鄞州区 浙江省温州市鹿城区
		四川省成都市武侯区 四川省成都市锦江区 四川省绵阳市涪城区 湖北省武汉市武昌区 湖北省武汉市洪山区 湖北省宜昌市西陵区
		湖南省长沙市岳麓区 湖南省株洲市天元区 山东省济南市历下区 山东省青岛市市南区 山东省烟台市芝罘区 河南省郑州市金水区
		河南省洛阳市涧西区 河北省石家庄市长安区 河北省唐山市路北区 陕西省西安市雁塔区 陕西省西安市碑林区 陕西省咸阳市秦都区
		福建省厦门市思明区 福建省福州市鼓楼区 福建省泉州市丰泽区 安徽省合肥市蜀山区 安徽省芜湖市镜湖区 江西省南昌市东湖区
		辽宁省大连市沙河口区 辽宁省沈阳市和平区 吉林省长春市朝阳区 吉林省延边朝鲜族自治州延吉市 黑龙江省哈尔滨市南岗区
		山西省太原市小店区 云南省昆明市五华区 云南省大理白族自治州大理市 贵州省贵阳市云岩区 广西壮族自治区南宁市青秀区
		广西壮族自治区桂林市七星区 海南省海口市龙华区 海南省三亚市吉阳区 甘肃省兰州市城关区 青海省西宁市城西区
		宁夏回族自治区银川市金凤区 内蒙古自治区呼和浩特市赛罕区 内蒙古自治区包头市昆都仑区 西藏自治区拉萨市城关区
		新疆维吾尔自治区乌鲁木齐市天山区`)
}

func xinjiang() []string {
	return words(`新疆维吾尔自治区乌鲁木齐市天山区 新疆维吾尔自治区乌鲁木齐市沙依巴克区 新疆维吾尔自治区喀什地区喀什市
		新疆维吾尔自治区伊犁哈萨克自治州伊宁市 新疆维吾尔自治区和田地区和田市 新疆维吾尔自治区阿克苏地区库车市`)
}

func (d *draw) mainlandAddress() string { return d.streetIn(pick(d, regions())) }

// streetIn puts an invented street, number and flat behind a region.
func (d *draw) streetIn(region string) string {
	street := pick(d, words(`云杉 青槐 白鹭 映月 听松 望星 晚枫 鹿鸣 竹影 荷香 锦帆 银杏 石桥 柳浪 梧桐 沧浪 拾光 远帆 棠溪 雁归`)) +
		pick(d, words("里 坊 湾 谷")) + pick(d, words("路 街 大道 巷 东路 西街"))
	number := strconv.Itoa(1 + d.IntN(899))
	if d.IntN(12) == 0 {
		number = fullWidth(number)
	}
	at := region + street + number + "号"
	flat := strconv.Itoa(1+d.IntN(28)) + "0" + strconv.Itoa(1+d.IntN(6))
	switch d.IntN(5) {
	case 0:
		return at
	case 1:
		return at + strconv.Itoa(1+d.IntN(30)) + "号楼" + strconv.Itoa(1+d.IntN(4)) + "单元" + flat + "室"
	case 2:
		return at + pick(d, words("云栖 晴川 嘉禾 和光 星河")) + pick(d, words("花园 家园 小区 公寓")) + strconv.Itoa(1+d.IntN(20)) + "栋" + flat
	case 3:
		return at + "（" + pick(d, words("A B C D")) + "座）" + flat
	default:
		return at + strconv.Itoa(1+d.IntN(12)) + "-" + flat
	}
}
