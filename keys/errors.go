package keys

import "errors"

var (
	// ErrCorrupt: bytes that should open under the keys at hand do not, or do not have their format. It is wrapped
	// with the sort of the row, never with what stands in it.
	ErrCorrupt = errors.New("does not authenticate")
	// ErrGeneration: the row was sealed under another generation of its bucket's or partition's key than the loaded one.
	ErrGeneration = errors.New("sealed under another key generation")
	// ErrTooLarge: a part is above what its row can hold.
	ErrTooLarge = errors.New("too large for its row")
	// ErrInvalid: what was to be sealed, or a setting, contradicts itself.
	ErrInvalid = errors.New("invalid argument")
	// ErrWiped: the keys have been wiped; the installation must be unlocked anew.
	ErrWiped = errors.New("keys are wiped")
)
