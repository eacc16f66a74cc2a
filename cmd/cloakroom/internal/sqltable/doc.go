// Package sqltable reads and changes a table of somebody else's database, PostgreSQL, MySQL or MariaDB, while their
// application goes on using it: the ground that migrate-table and restore-table stand on. It knows rows, columns and
// locks; what a token is, it does not know.
//
// A Table is looked over before anything else: what it finds unfit is an error that says what to do, what it cannot see
// through (triggers, indexes, views) is a note in the Plan. Nothing is changed until a method is called that says so.
//
// The work is done by Batch, in one transaction each: pick the next keys without a lock, lock those rows, let the caller
// work on what they hold at that moment, write with one statement, read back what was written and compare it byte for
// byte, commit. A value that the database would change on its way (cut off, padded, folded, rewritten by a trigger) is
// thereby a refused row and never a damaged one. Whatever happens, a batch is done or undone as a whole, and doing it
// again is harmless, because which rows are wanted is a condition on the table itself: no place is kept anywhere else.
//
// What cannot be read exactly is not worked on either: a text in another character set than UTF-8 that does not come back
// from there as the same bytes makes its row a refused one, and a key column of such a set an error.
//
// Rows are walked in the order of their key, each batch beginning behind the last key of the one before. Keys travel as
// text and are compared by the database, as their own type in their own collation.
//
// Values never stand in an error: what the database says about a row's contents is replaced by a sentence of ours. Nor
// does a password: what the drivers say about an address is.
package sqltable
