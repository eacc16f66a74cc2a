package tokenizer

import (
	_ "embed" // regions.txt
	"strings"
	"unicode/utf8"
)

// regionsText lists the divisions of the country down to the district or county (GB/T 2260), as its head describes.
//
//go:embed regions.txt
var regionsText string

// region is a province, a city or a district, with what may follow it in an address.
type region struct {
	name   string
	short  string // what people write for it when a part of it follows; empty when there is none
	within []*region
}

// regions finds where the region part of an address ends.
type regions struct {
	provinces []*region
	start     map[string]*region // cities and districts that an address may begin with
	longest   int                // runes of the longest name in start
}

// parseRegions reads the format of regions.txt: a province at the beginning of its line, then one line for each of
// its cities: a tab, the city, a tab, its districts with spaces between. An empty city holds what stands directly
// below the province.
func parseRegions(s string) regions {
	all := regions{start: map[string]*region{}}
	var province *region
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		rest, inside := strings.CutPrefix(line, "\t")
		if !inside {
			province = &region{name: line, short: shortProvince(line)}
			all.provinces = append(all.provinces, province)
			continue
		}
		city, districts, _ := strings.Cut(rest, "\t")
		all.add(province, city, strings.Fields(districts))
	}
	return all
}

func (all *regions) add(province *region, city string, districts []string) {
	below := make([]*region, len(districts))
	for i, name := range districts {
		below[i] = &region{name: name}
		all.begin(below[i])
		// The city is often left out before a county-level city. Names such as 城区 would fit many a street.
		if city == "" || utf8.RuneCountInString(name) > 2 {
			province.within = append(province.within, below[i])
		}
	}
	if city != "" {
		c := &region{name: city, within: below}
		if short, ok := strings.CutSuffix(city, "市"); ok {
			c.short = short
		}
		all.begin(c)
		province.within = append(province.within, c)
		return
	}
	if strings.HasSuffix(province.name, "市") {
		// Forms ask for a city even where the province is one: 北京市北京市海淀区, 北京市市辖区海淀区.
		province.within = append(province.within,
			&region{name: province.name, within: below}, &region{name: "市辖区", within: below})
	}
}

func (all *regions) begin(r *region) {
	if n := utf8.RuneCountInString(r.name); n > 2 {
		all.longest = max(all.longest, n)
		if old, ok := all.start[r.name]; ok {
			// Two places of one name: only the name itself is sure.
			if len(old.within)+len(r.within) > 0 {
				all.start[r.name] = &region{name: r.name, within: append(old.within[:len(old.within):len(old.within)], r.within...)}
			}
			return
		}
		all.start[r.name] = r
	}
}

func shortProvince(name string) string {
	for _, suffix := range [...]string{"特别行政区", "壮族自治区", "回族自治区", "维吾尔自治区", "自治区", "省", "市"} {
		if short, ok := strings.CutSuffix(name, suffix); ok {
			return short
		}
	}
	return ""
}

// match returns how many bytes of s, an address, are its region.
func (all regions) match(s string) int {
	lead := 0
	for _, country := range [...]string{"中华人民共和国", "中国"} {
		if strings.HasPrefix(s, country) {
			lead = separated(s, len(country))
			break
		}
	}
	rest := s[lead:]
	best := longestMatch(rest, all.provinces)
	runes := 0
	for end := range rest {
		if runes > all.longest {
			break
		}
		if r, ok := all.start[rest[:end]]; ok {
			best = max(best, matchOne(rest, r))
		}
		runes++
	}
	if r, ok := all.start[rest]; ok {
		best = max(best, matchOne(rest, r))
	}
	if best == 0 {
		return 0
	}
	return lead + best
}

func longestMatch(s string, of []*region) int {
	best := 0
	for _, r := range of {
		best = max(best, matchOne(s, r))
	}
	return best
}

// matchOne returns how much of s is r and a part of r. The short name of r counts only with a part after it: 河北大街
// is a street.
func matchOne(s string, r *region) int {
	if strings.HasPrefix(s, r.name) {
		next := separated(s, len(r.name))
		if part := longestMatch(s[next:], r.within); part > 0 {
			return next + part
		}
		return len(r.name)
	}
	if r.short != "" && strings.HasPrefix(s, r.short) {
		next := separated(s, len(r.short))
		if part := longestMatch(s[next:], r.within); part > 0 {
			return next + part
		}
	}
	return 0
}

// separated returns the position after i and the separators there.
func separated(s string, i int) int {
	for i < len(s) && strings.IndexByte(" -,/", s[i]) >= 0 {
		i++
	}
	return i
}
