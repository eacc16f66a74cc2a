// Package shell writes what people are told to run so that a POSIX shell reads it as it is meant: a path with a space in
// it, or with a $, stays one word.
package shell

import "strings"

// Quote returns s as one word for a shell: as it is where no shell takes any of its characters for something else, in
// single quotes otherwise (POSIX.1-2024, Shell Command Language, 2.2.2).
func Quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// special is true of all but what is known to be plain. A ~ is not: it is the home folder where it begins a word.
func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("%+,-./:=@_", r)
}
