// Command generate writes the sample customers into customers.csv of the folder it is run in. The same program writes
// the same bytes each time; a test holds the file to that. What the values are, and why nobody is called by mistake,
// is told in package sample.
package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

const count = 1000

func main() {
	table, err := generate(count)
	if err == nil {
		err = os.WriteFile("customers.csv", table, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate returns a table of n customers below a line with the names of its columns.
func generate(n int) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{"id", "phone", "name", "address", "email"}}
	d := &draw{Rand: rand.New(rand.NewPCG(20, 26)), taken: map[string]bool{}}
	for i := range n {
		p := d.person()
		rows = append(rows, []string{fmt.Sprintf("cust-%05d", i+1), p.phone, p.name, p.address, p.email})
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type person struct{ phone, name, address, email string }

// draw makes choices, and remembers which numbers and mail addresses are taken.
type draw struct {
	*rand.Rand
	taken map[string]bool
}

// person is mostly from mainland China, sometimes from elsewhere.
func (d *draw) person() person {
	switch k := d.IntN(100); {
	case k < 84:
		return d.han()
	case k < 88:
		return d.uyghur()
	default:
		return d.foreigner(foreign()[k%len(foreign())])
	}
}

func pick[T any](d *draw, list []T) T { return list[d.IntN(len(list))] }

// words splits a list that is written as one text.
func words(s string) []string { return strings.Fields(s) }

// unique calls try until it gives what nobody has yet.
func (d *draw) unique(try func() string) string {
	for {
		if s := try(); !d.taken[s] {
			d.taken[s] = true
			return s
		}
	}
}

// digits draws n decimal digits.
func (d *draw) digits(n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(byte('0' + d.IntN(10)))
	}
	return b.String()
}

// mail makes an address under a reserved name (RFC 2606) from a name in Latin letters, with digits behind it in most.
func (d *draw) mail(name string) string {
	domain := pick(d, words("example.com example.com example.com example.org example.net mail.example 例子.example"))
	return d.unique(func() string {
		local := strings.ToLower(name)
		if d.IntN(4) > 0 {
			local += d.digits(2 + d.IntN(3))
		}
		if d.IntN(25) == 0 {
			local += "+news"
		}
		return local + "@" + domain
	})
}
