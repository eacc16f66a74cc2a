package tablefile

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrEmpty: there is nothing to read.
var ErrEmpty = errors.New("the file is empty")

// NotATable names what a file is by its first bytes, when that is no text, and says what to do. 16 bytes are enough.
func NotATable(head []byte) error {
	for _, m := range []struct{ magic, what, do string }{
		{"PK\x03\x04", "a zip archive or an Excel workbook (.xlsx)", "unpack it, or save it in Excel as CSV UTF-8"},
		{"PK\x05\x06", "an empty zip archive", "export the table as CSV"},
		{"\x1f\x8b", "compressed with gzip", "unpack it first: gzip -dc FILE | cloakroom import -"},
		{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)", "save it in Excel as CSV UTF-8"},
		{"BZh", "compressed with bzip2", "unpack it first: bzip2 -dc FILE | cloakroom import -"},
		{"\xfd7zXZ\x00", "compressed with xz", "unpack it first: xz -dc FILE | cloakroom import -"},
		{"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: zstd -dc FILE | cloakroom import -"},
		{"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"},
		{"Rar!\x1a\x07", "a RAR archive", "unpack it first"},
		{"%PDF-", "a PDF", "export the table as CSV"},
		{"SQLite format 3\x00", "an SQLite database", "export the table as CSV"},
		{"PAR1", "a Parquet file", "export the table as CSV"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return fmt.Errorf("the file is %s; %s", m.what, m.do)
		}
	}
	return nil
}
