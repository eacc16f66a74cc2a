// Package sample holds 1,000 customers to try Cloakroom with. `cloakroom demo` tokenizes them.
//
// All of them are invented. Names are drawn by chance from lists of common family and given names; districts and
// cities are real, streets and house numbers are made up; e-mail addresses lie under names that RFC 2606 keeps free.
// A likeness to a living person is chance.
//
// Telephone numbers are such that nobody is called by mistake. Where a regulator keeps a range for films and
// examples, the number is from it: +1 NPA 555 0100 to 0199 (North American Numbering Plan), +44 20 7946 0, 113 496 0
// and 161 496 0 (Ofcom), +61 x 5550 (ACMA), +33 1 99 00 (ARCEP), +49 30 23125 (BNetzA), +46 70 1740 605 to 699 (PTS).
// Mainland China keeps no such range: its numbers begin with 154, 161 or 164, which no operator has been given, so
// the vault may take them with a warning that the segment is unknown. Hong Kong keeps none either: its numbers are of
// the pager range +852 7116.
//
// The spelling of a value varies as it does in real tables: spaces, dashes, country codes, full-width digits,
// hanzi, other dots in Uyghur names. Two customers never share a number or an address for mail.
package sample

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

//go:generate go run ./generate

//go:embed customers.csv
var customers string

// Customer is one row of customers.csv. Every value is set, as its owner would have written it.
type Customer struct {
	ID      string // cust-00001 and so on, fit to be a subject's id
	Phone   string
	Name    string
	Address string
	Email   string
}

// Customers returns all customers in the order of their ids.
func Customers() ([]Customer, error) { return read(strings.NewReader(customers)) }

// read takes a table whose first line is id,phone,name,address,email.
func read(from io.Reader) ([]Customer, error) {
	r := csv.NewReader(from)
	r.FieldsPerRecord = 5
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("sample customers: %w", err)
	}
	if len(rows) == 0 || strings.Join(rows[0], ",") != "id,phone,name,address,email" {
		return nil, errors.New("sample customers: the first line is not id,phone,name,address,email")
	}
	out := make([]Customer, 0, len(rows)-1)
	for _, row := range rows[1:] {
		out = append(out, Customer{ID: row[0], Phone: row[1], Name: row[2], Address: row[3], Email: row[4]})
	}
	return out, nil
}
