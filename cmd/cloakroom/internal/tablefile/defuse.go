package tablefile

import (
	"strings"
	"unicode/utf8"
)

// formulaStarts begin a formula, or lead up to one, in a cell that a spreadsheet opens: those of OWASP's page on CSV
// injection with their full-width forms, which some spreadsheets take for the same.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

// Defuse puts an apostrophe before a cell that a spreadsheet would take for a formula, and returns any other as it is.
func Defuse(cell string) string {
	first, _ := utf8.DecodeRuneInString(cell)
	if cell != "" && strings.ContainsRune(formulaStarts, first) {
		return "'" + cell
	}
	return cell
}
