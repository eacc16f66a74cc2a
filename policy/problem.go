package policy

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is behind every error of Parse. The faults themselves are in an *InvalidError.
var ErrInvalid = errors.New("policy is not valid")

// Problem is one fault in a policy text.
type Problem struct {
	Line int    // from 1; 0 when the fault has no place in the text
	Path string // where in the policy, such as roles.app.views.ads; "" for the text as a whole
	Text string // what is wrong, and what to do
}

func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Text
}

// InvalidError lists what is wrong with a policy text, in the order of its lines, at most maxProblems of them.
type InvalidError struct {
	Problems []Problem
}

func (e *InvalidError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return ErrInvalid.Error() + ": " + strings.Join(lines, "; ")
}

func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }
