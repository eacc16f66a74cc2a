package sqltable

import (
	"context"
	"errors"
	"time"
)

// Errors of this package, told apart by errors.Is. Their text says what to do; none holds a value, a key or a password.
var (
	ErrDSN         = errors.New("the database's address is not usable")
	ErrUnreachable = errors.New("the database cannot be reached")
	ErrVersion     = errors.New("the database is not one that is supported")
	ErrTable       = errors.New("the table cannot be used")
	ErrKey         = errors.New("the key column cannot be used")
	ErrColumn      = errors.New("the column cannot be used")
	ErrTokenColumn = errors.New("the token column cannot be used")
	ErrGrant       = errors.New("the database user lacks a grant")
	ErrBusy        = errors.New("others hold the locks that are needed; try again") // after all attempts
	ErrLost        = errors.New("the connection to the database was lost")          // the batch is done or undone as a whole: run it again
	ErrStatement   = errors.New("the database refused a statement")
	ErrNeeded      = errors.New("tokens are still needed") // DropTokenColumns: rows have a token and no plaintext
)

// Why one row was left as it was; see Refusal.
var (
	ErrDoesNotFit = errors.New("the value does not fit the column")              // type, length, character set
	ErrConstraint = errors.New("a constraint or a trigger does not let it in")   // unique, check, foreign key, RAISE
	ErrAltered    = errors.New("the database would store something else for it") // cut off, padded, changed by a trigger
	// ErrDoesNotConvert: the column's character set has contents that UTF-8 has not, or not in a way that leads back. They
	// can neither be read exactly nor be written back.
	ErrDoesNotConvert = errors.New("the value is damaged or has a character that does not survive the way to UTF-8 and back")
)

// Options of a connection. The zero value is fit for a live system.
type Options struct {
	LockWait  time.Duration  // how long a batch waits for a row that another session holds, each time; 0: 5 s
	AlterWait time.Duration  // how long ALTER TABLE waits, with everybody else queueing behind it; 0: 2 s
	Attempts  int            // how often a batch or an ALTER TABLE is tried before ErrBusy; 0: 5
	Jitter    func() float64 // in [0,1), spreads the pauses between attempts; nil: math/rand/v2
}

// Column is a column of plaintext and the one that gets its tokens.
type Column struct {
	Name        string
	TokenColumn string // "": Name + "_token"
}

// Spec names what is to be worked on. Names are taken exactly as they are written, case included; Table is "table" or
// "schema.table" (in MySQL the schema is the database), where a part that has a dot itself stands in double quotes.
type Spec struct {
	Table   string
	Key     string
	Columns []Column
}

// Want picks rows by what they hold. The empty string counts as no value: it is neither tokenized nor cut.
type Want int

const (
	All       Want = iota // every row
	ToFill                // some column has a value and no token
	ToCutOver             // some column has a value
	ToRestore             // some column has a token, and NULL for its value
	WithToken             // some column has a token
)

// Text is a column's contents: NULL is the zero value. It prints as nothing of what it holds.
type Text struct {
	Value string
	Valid bool // false: NULL
}

// Cell is what a row holds in one of Spec.Columns. Integers are in decimal.
type Cell struct {
	Plain Text // without the padding of CHAR(n), else exactly as stored
	Token Text // NULL where the token column is not there yet
}

// Row is one row of the table. Cells are in the order of Spec.Columns.
type Row struct {
	Key   string
	Cells []Cell
}

// Place is where a walk has got to. The zero value is before the first row.
type Place struct {
	key     string
	started bool
}

// Page is a stretch of a walk that takes no locks.
type Page struct {
	Rows    []Row
	Refused []Refusal // that cannot be read: ErrDoesNotConvert
	Next    Place
	Done    bool // no row was left behind the last one
}

// Work is given rows that are locked, as they are now, and returns those to change, with their new cells; a row that it
// leaves out stays as it is. It may change the rows in place. It may be called again, with other contents, when the
// transaction has to be tried again: what it did elsewhere must be harmless to repeat. An error undoes the batch and is
// returned by Batch as it is. Other sessions that want these rows wait while it runs: it should be quick, and give up
// rather than wait for long.
type Work func(ctx context.Context, rows []Row) ([]Row, error)

// Refusal is a row that cannot be read exactly, and is never given to work, or whose new contents the database did not
// take. It is as it was.
type Refusal struct {
	Key string
	Err error // ErrDoesNotConvert, ErrDoesNotFit, ErrConstraint or ErrAltered
}

// Batch tells of one batch. A row that another session changed or removed before it could be locked, so that it is not
// wanted any more, counts nowhere.
type Batch struct {
	Rows    int // that were locked and given to work
	Changed int // of them
	Refused []Refusal
	Next    Place // where the next batch begins
	Done    bool  // no wanted row was left behind the last one
}

// Counts are numbers of rows.
type Counts struct {
	Rows     int64 `json:"rows"`
	ToFill   int64 `json:"to_fill"`   // ToFill
	Filled   int64 `json:"filled"`    // some column has a token, and none has a value without
	Plain    int64 `json:"plain"`     // ToCutOver
	Cleared  int64 `json:"cleared"`   // ToRestore
	NoValues int64 `json:"no_values"` // no column has a value or a token
}

// Plan is what would be done to the table, as SQL, and what to know before. Lists are empty where nothing is needed;
// Fill, CutOver and Restore show the shape of the statement that each batch runs. In MySQL an ALTER TABLE that the server
// cannot do at once (ALGORITHM=INSTANT) is tried again in a way that lets others go on (ALGORITHM=INPLACE, LOCK=NONE).
type Plan struct {
	Database    string   `json:"database"` // product and version
	Table       string   `json:"table"`    // quoted, with its schema
	AddTokens   []string `json:"add_tokens"`
	Fill        []string `json:"fill"`
	DropNotNull []string `json:"drop_not_null"` // and the columns' defaults
	CutOver     []string `json:"cut_over"`
	Clean       []string `json:"clean"` // by hand, after the cut-over: drops what the database keeps of old values
	Restore     []string `json:"restore"`
	DropTokens  []string `json:"drop_tokens"`
	Missing     []Lack   `json:"missing"`
	Notes       []string `json:"notes"` // what is not seen through: triggers, indexes, views, ...
}
