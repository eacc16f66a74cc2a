package tablefile

// Fault is what is wrong with one record; "" is nothing. It is a name for programs, Meaning is for people.
type Fault string

const (
	Ragged   Fault = "ragged"
	NULByte  Fault = "nul_byte"
	Quote    Fault = "quote"
	TooLong  Fault = "record_too_long"
	Encoded  Fault = "encoding"
	BadJSON  Fault = "malformed_json"
	Surprise Fault = "not_text"
)

// Meaning is one phrase for people.
func (f Fault) Meaning() string {
	switch f {
	case Ragged:
		return "has another number of cells than the header"
	case NULByte:
		return "holds a NUL byte"
	case Quote:
		return "has a quote that is not closed, or one that stands inside a cell and is not doubled"
	case TooLong:
		return "is longer than 1 MiB"
	case Encoded:
		return "is not text in the encoding of the file"
	case BadJSON:
		return "is not one JSON object with each member once"
	case Surprise:
		return "holds a list or an object where a value is expected"
	}
	return ""
}
