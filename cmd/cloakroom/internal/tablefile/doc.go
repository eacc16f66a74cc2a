// Package tablefile reads and writes files of tables: CSV, TSV and NDJSON, in the encodings that exports really have.
//
// A Reader goes through a file of any length in bounded memory: a record has at most MaxRecord bytes. What is wrong
// with one record (too few cells, a stray quote, a NUL) is that record's Fault, and the next one follows; what is wrong
// with the file as a whole (an archive, no header, no such column) is an error of NewReader or Select. Neither ever
// holds a cell, except that a ColumnsError lists a header.
//
// Each record says where it ends in the file and carries a running checksum of all bytes up to there, so that whoever
// stopped in the middle can find the place again and notice that the file is another one by now.
//
// Records are cut out of the raw bytes and decoded afterwards. That works because no character of UTF-8 or GB18030 has
// a second byte that looks like a comma, a tab, a quote or a line end; UTF-16, where it does not, is decoded first.
package tablefile
