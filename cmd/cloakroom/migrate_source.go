package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

const (
	// sourceBytes is how long a source may be: see docs/api.md.
	sourceBytes = 256
	// heldRule is told of a row whose field another source stored.
	heldRule = "held"
)

// columnSource names a column as the source of values: "table:shop.public.users.phone". names are of the database, the
// schema where there is one, the table and the column; no host, which changes, and no user. Two columns never have
// one source, however odd their names: one with a dot or the like in it is quoted, and what is too long ends in a hash.
func columnSource(names ...string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = name
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return r == '.' || r == '"' || r == '\\' || r == '~' || r == utf8.RuneError || !unicode.IsPrint(r)
		}) {
			parts[i] = strconv.Quote(name)
		}
	}
	whole := "table:" + strings.Join(parts, ".")
	if len(whole) <= sourceBytes {
		return whole
	}
	sum := sha256.Sum256([]byte(whole))
	end := "~" + hex.EncodeToString(sum[:16])
	cut := sourceBytes - len(end)
	for !utf8.RuneStart(whole[cut]) {
		cut--
	}
	return whole[:cut] + end
}

// putFault is what a row's own error means for a table.
func putFault(e *wire.ItemError) rowFault {
	if e.Code == wire.Conflict && e.Rule == heldRule {
		return rowFault{e.Field, e.Code, e.Rule, "another table or column stored this field for that id, or the application did; use --prefix, another field, or --overwrite"}
	}
	return rowFault{e.Field, e.Code, e.Rule, e.Detail}
}
