package sample

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

func load(t *testing.T) []Customer {
	t.Helper()
	list, err := Customers()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestThousandCustomers(t *testing.T) {
	list := load(t)
	if len(list) != 1000 {
		t.Fatalf("%d customers", len(list))
	}
	for i, c := range list {
		if want := fmt.Sprintf("cust-%05d", i+1); c.ID != want {
			t.Errorf("customer %d has id %s, want %s", i, c.ID, want)
		}
		if slices.Contains([]string{c.Phone, c.Name, c.Address, c.Email}, "") {
			t.Errorf("%s has an empty value", c.ID)
		}
	}
}

// bare is a number without its spelling: digits alone, in ASCII, without the prefixes of mainland China.
func bare(phone string) string {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, norm.NFKC.String(phone))
	for _, prefix := range []string{"0086", "86"} {
		if rest := strings.TrimPrefix(digits, prefix); len(rest) == 11 {
			return rest
		}
	}
	return digits
}

// Nobody may be called, or written to, because of this file.
func TestNumbersAndMailReachNobody(t *testing.T) {
	unassigned := regexp.MustCompile(`^1(54|61|64)\d{8}$`)
	kept := regexp.MustCompile(`^(1\d{3}55501\d\d|442079460\d{3}|44(113|161)4960\d{3}|61[237]5550\d{4}|3319900\d{4}|493023125\d{3}|467017406(0[5-9]|[1-9]\d)|8527116\d{4})$`)
	reserved := []string{"example.com", "example.org", "example.net", "mail.example", "例子.example"}
	phones, mails := map[string]string{}, map[string]string{}
	for _, c := range load(t) {
		n := bare(c.Phone)
		if !unassigned.MatchString(n) && !kept.MatchString(n) {
			t.Errorf("%s has a number outside the ranges of the package comment", c.ID)
		}
		if other, taken := phones[n]; taken {
			t.Errorf("%s and %s share a number", c.ID, other)
		}
		phones[n] = c.ID
		_, domain, _ := strings.Cut(c.Email, "@")
		if !slices.Contains(reserved, domain) {
			t.Errorf("%s has mail at %s, which is not reserved", c.ID, domain)
		}
		if other, taken := mails[strings.ToLower(c.Email)]; taken {
			t.Errorf("%s and %s share an address for mail", c.ID, other)
		}
		mails[strings.ToLower(c.Email)] = c.ID
	}
}

// The sample is worth something only when it has what real tables have.
func TestVariety(t *testing.T) {
	compound := regexp.MustCompile(`^(欧阳|司马|上官|诸葛|皇甫|尉迟|慕容|令狐|夏侯|司徒|端木|东方)`)
	tests := []struct {
		name string
		has  func(Customer) bool
		min  int
	}{
		{"plain mainland mobile", func(c Customer) bool { return len(c.Phone) == 11 && c.Phone[0] == '1' }, 300},
		{"mobile with spaces", func(c Customer) bool { return len(c.Phone) == 13 && c.Phone[3] == ' ' }, 50},
		{"mobile with +86", func(c Customer) bool { return strings.HasPrefix(c.Phone, "+86") }, 50},
		{"mobile with 0086", func(c Customer) bool { return strings.HasPrefix(c.Phone, "0086") }, 10},
		{"full-width number", func(c Customer) bool { return strings.HasPrefix(c.Phone, "１") }, 10},
		{"number of another country", func(c Customer) bool { return c.Phone[0] == '+' && !strings.HasPrefix(c.Phone, "+86") }, 80},
		{"compound family name", func(c Customer) bool { return compound.MatchString(c.Name) }, 20},
		{"name with a dot", func(c Customer) bool { return strings.ContainsAny(c.Name, "·•・") }, 20},
		{"name with another dot", func(c Customer) bool { return strings.ContainsAny(c.Name, "•・") }, 5},
		{"hanzi name with a space", func(c Customer) bool { return c.Name[0] > 0x7f && strings.ContainsAny(c.Name, " \u3000") }, 5},
		{"character outside the basic plane", func(c Customer) bool { return strings.ContainsFunc(c.Name, func(r rune) bool { return r > 0xffff }) }, 3},
		{"Latin name", func(c Customer) bool { return c.Name[0] < 0x80 }, 80},
		{"apostrophe or hyphen in a name", func(c Customer) bool { return strings.ContainsAny(c.Name, "'-") }, 5},
		{"address of an autonomous region", func(c Customer) bool { return strings.Contains(c.Address, "自治区") }, 50},
		{"address without a city tier", func(c Customer) bool { return strings.HasPrefix(c.Address, "上海市浦东新区") }, 3},
		{"address without a district", func(c Customer) bool { return strings.HasPrefix(c.Address, "广东省东莞市") }, 3},
		{"full-width digits in an address", func(c Customer) bool {
			return strings.ContainsFunc(c.Address, func(r rune) bool { return r >= '０' && r <= '９' })
		}, 20},
		{"address with commas", func(c Customer) bool { return strings.Contains(c.Address, ", ") }, 80},
		{"hanzi before the at sign", func(c Customer) bool { return unicode.Is(unicode.Han, []rune(c.Email)[0]) }, 10},
		{"hanzi behind the at sign", func(c Customer) bool { return strings.Contains(c.Email, "@例子.") }, 20},
		{"mail with a plus", func(c Customer) bool { return strings.Contains(c.Email, "+") }, 10},
	}
	list := load(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			for _, c := range list {
				if tt.has(c) {
					n++
				}
			}
			if n < tt.min {
				t.Errorf("%d customers, want at least %d", n, tt.min)
			}
		})
	}
}

func TestRefusesATableThatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"other columns":     "id,name,phone,address,email\n",
		"too few columns":   "id,phone,name,address,email\ncust-00001,1,2,3\n",
		"an open quote":     "id,phone,name,address,email\n\"",
		"a column too many": "id,phone,name,address,email,age\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := read(strings.NewReader(text)); err == nil {
				t.Error("accepted")
			}
		})
	}
}
