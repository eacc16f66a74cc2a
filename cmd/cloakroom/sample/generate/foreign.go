package main

import (
	"fmt"
	"strconv"
	"strings"
)

// origin is where a foreign customer's name comes from, and the places such a customer may live in.
type origin struct {
	givens, families []string
	homes            []home
}

// home is a country's way to write an address, and a range of numbers that its regulator keeps for examples.
type home struct {
	cities  []string
	country string
	number  func(*draw) string
}

func foreign() []origin {
	us := home{strings.Split("Portland, OR|Austin, TX|Columbus, OH|Denver, CO", "|"), "USA", (*draw).american}
	uk := home{words("London Manchester Leeds"), "United Kingdom", (*draw).british}
	au := home{words("Sydney Melbourne Brisbane"), "Australia", (*draw).australian}
	fr := home{words("Paris Versailles"), "France", (*draw).french}
	de := home{words("Berlin"), "Germany", (*draw).german}
	se := home{words("Stockholm Malmö"), "Sweden", (*draw).swedish}
	hk := home{words("Kowloon Wanchai"), "Hong Kong", (*draw).hongkong}
	return []origin{
		{
			words("Emma Oliver Grace Henry Alice Jack Sophie Thomas Laura Peter Mary-Ann Colin"),
			words("Whitfield Harper Ashdown Brooks Carver O'Neill Fenwick Marsh Turner Holloway"),
			[]home{us, uk, au, hk},
		},
		{
			words("Aleksei Natalya Dmitri Olga Yevgeny Irina Sergei Tatyana"),
			words("Volkov Lebedeva Sokolov Morozova Belov Zaytseva Orlov"),
			[]home{de, se, us},
		},
		{
			words("Haruto Yui Sota Hina Kenji Akari Ren Sakura"),
			words("Sato Suzuki Takahashi Tanaka Watanabe Yamamoto Kobayashi"),
			[]home{us, au, hk},
		},
		{
			words("Fatima Omar Layla Yusuf Mariam Khalid Noor Hassan"),
			words("al-Zahrani Haddad Mansour al-Rashid Khoury Nasser Farouk"),
			[]home{fr, uk, de},
		},
		{
			words("Wing-Yan Ka-Ming Siu-Fong Chi-Keung Mei-Ling"),
			words("Chan Wong Leung Cheung Lam"),
			[]home{hk, us, uk},
		},
	}
}

func (d *draw) foreigner(o origin) person {
	given, family, at := pick(d, o.givens), pick(d, o.families), pick(d, o.homes)
	name := given + " " + family
	switch d.IntN(8) {
	case 0:
		name = strings.ToUpper(family) + " " + given
	case 1:
		name = given + "  " + family
	}
	street := pick(d, words("Larkmoor Tinderbrook Ashgrove Quillfield Merriden Wrenhollow Saltwick Elmcombe")) + " " +
		pick(d, words("Lane Road Street Court Terrace"))
	address := strconv.Itoa(1+d.IntN(240)) + " " + street + ", " + pick(d, at.cities) + ", " + at.country
	if d.IntN(3) == 0 {
		address = "Flat " + strconv.Itoa(1+d.IntN(40)) + ", " + address
	}
	letters := strings.NewReplacer("'", "", "-", "").Replace(given + "." + family)
	return person{
		phone:   d.unique(func() string { return at.number(d) }),
		name:    name,
		address: address,
		email:   d.mail(letters),
	}
}

// Numbers kept for examples; package sample names who keeps them. Each range has one spelling, so that two customers
// cannot get one number in two spellings.

func (d *draw) american() string {
	return "+1 " + pick(d, words("202 212 303 415 503 512 614")) + "-555-01" + d.digits(2)
}

func (d *draw) british() string {
	return "+44 " + pick(d, []string{"20 7946 0", "113 496 0", "161 496 0"}) + d.digits(3)
}

func (d *draw) australian() string { return "+61 " + pick(d, words("2 3 7")) + " 5550 " + d.digits(4) }

func (d *draw) french() string { return "+33 1 99 00 " + d.digits(2) + " " + d.digits(2) }

func (d *draw) german() string { return "+49 30 23125 " + d.digits(3) }

func (d *draw) swedish() string { return fmt.Sprintf("+46 70 1740 %d", 605+d.IntN(95)) }

func (d *draw) hongkong() string { return "+852 7116 " + d.digits(4) }
