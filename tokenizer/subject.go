package tokenizer

import (
	"strings"
	"time"
)

// ValidSubjectID reports whether id can name a subject: 1 to 128 of `A-Za-z0-9._:-`, not `.` or `..`.
func ValidSubjectID(id string) bool {
	if id == "" || len(id) > 128 || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !isDigit(c) && strings.IndexByte("._:-", c) < 0 {
			return false
		}
	}
	return true
}

// IdentifyingID reports whether id, meant to name a subject, itself tells who the person is: a mainland mobile
// number (11 digits, or with +86, 0086 or 86 before), an 18-character resident id, or anything with an @.
// Such an id would stand in logs and certificates and outlive the person's erasure. Other integers are fine.
func IdentifyingID(id string) bool {
	if strings.Contains(id, "@") {
		return true
	}
	for _, prefix := range [...]string{"", "+86", "0086", "86"} {
		if rest, ok := strings.CutPrefix(id, prefix); ok && mainlandMobile(rest) {
			return true
		}
	}
	return validResidentID(id)
}

// validResidentID reports whether id is an 18-character resident id: region, birth date, sequence and check
// character by ISO 7064 MOD 11-2 (GB 11643-1999). x may be lower case.
func validResidentID(id string) bool {
	if len(id) != 18 || id[0] == '0' {
		return false
	}
	sum := 0
	for i := range 17 {
		if !isDigit(id[i]) {
			return false
		}
		// MOD 11-2 doubles and adds; the last character counts once.
		sum = (sum + int(id[i]-'0')) * 2 % 11
	}
	last := 10
	switch c := id[17]; {
	case isDigit(c):
		last = int(c - '0')
	case c != 'X' && c != 'x':
		return false
	}
	if (sum+last)%11 != 1 {
		return false
	}
	year, month, day := number(id[6:10]), number(id[10:12]), number(id[12:14])
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	// time.Date turns 30 February into 1 or 2 March: a day that its month does not have changes the month. Years
	// outside this span mean that it is another kind of number.
	return year >= 1800 && year < 2100 && date.Month() == time.Month(month)
}

func number(digits string) int {
	n := 0
	for i := range len(digits) {
		n = n*10 + int(digits[i]-'0')
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
