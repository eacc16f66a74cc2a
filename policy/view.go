package policy

// View is how much of a value is shown.
type View string

const (
	NoView View = ""       // nothing is shown; in a Query: as much as is allowed
	Masked View = "masked" // the kind's mask
	Full   View = "full"   // the value as it was written
)

// Valid reports whether v is a view that a role can be given and a caller can ask for. NoView is not.
func (v View) Valid() bool { return v == Masked || v == Full }

// rank orders the views by how much each shows, NoView as 0; a view that does not exist has no rank.
func (v View) rank() (int, bool) {
	switch v {
	case NoView:
		return 0, true
	case Masked:
		return 1, true
	case Full:
		return 2, true
	}
	return 0, false
}

// within reports whether v shows no more than limit does. A view that does not exist is within none.
func (v View) within(limit View) bool {
	have, ok := v.rank()
	most, known := limit.rank()
	return ok && known && have <= most
}
