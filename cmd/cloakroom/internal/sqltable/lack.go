package sqltable

import (
	"slices"
	"strings"
)

// Step is a step of a Plan, by its name there.
type Step string

// The steps that need a grant.
const (
	StepAddTokens   Step = "add_tokens"
	StepFill        Step = "fill"
	StepDropNotNull Step = "drop_not_null"
	StepCutOver     Step = "cut_over"
	StepRestore     Step = "restore"
	StepDropTokens  Step = "drop_tokens"
)

// Lack is a grant that the database user has not, and the steps that fail without it. It prints as a sentence.
type Lack struct {
	Grant string `json:"grant"` // "UPDATE on column phone"
	Steps []Step `json:"steps"` // one at least
}

// String returns "UPDATE on column phone, to cut over and to restore".
func (l Lack) String() string {
	says := map[Step]string{
		StepAddTokens: "to add the token columns", StepFill: "to fill the token columns",
		StepDropNotNull: "to let columns be NULL, without a default, at the cut-over", StepCutOver: "to cut over",
		StepRestore: "to restore", StepDropTokens: "to drop the token columns",
	}
	parts := make([]string, len(l.Steps))
	for i, s := range l.Steps {
		parts[i] = says[s]
	}
	last := len(parts) - 1
	if last < 1 {
		return l.Grant + ", " + strings.Join(parts, "")
	}
	return l.Grant + ", " + strings.Join(parts[:last], ", ") + " and " + parts[last]
}

// Lacks returns the missing grants as sentences: those that one of the steps needs, or all of them where none is named.
func (p Plan) Lacks(steps ...Step) []string {
	var lines []string
	for _, l := range p.Missing {
		if len(steps) == 0 || slices.ContainsFunc(l.Steps, func(s Step) bool { return slices.Contains(steps, s) }) {
			lines = append(lines, l.String())
		}
	}
	return lines
}

// lacks lists the grants for changing the table. A column that is not there yet is the grant of the whole table.
func (f *found) lacks(alter, update bool) {
	lack := func(grant string, steps ...Step) { f.missing = append(f.missing, Lack{grant, steps}) }
	if !alter {
		var steps []Step
		if slices.ContainsFunc(f.tokens, func(c column) bool { return !c.exists }) {
			steps = append(steps, StepAddTokens)
		}
		if slices.ContainsFunc(f.columns, func(c column) bool { return c.notNull || c.dflt }) {
			steps = append(steps, StepDropNotNull)
		}
		lack("ALTER on the table (in PostgreSQL: to be its owner)", append(steps, StepDropTokens)...)
	}
	for i, c := range f.columns {
		if !c.upd {
			lack("UPDATE on column "+c.name, StepCutOver, StepRestore)
		}
		// Tokens of what is erased or emptied are taken out, before the columns are dropped or at the cut-over.
		if t := f.tokens[i]; t.exists && !t.upd || !t.exists && !update {
			lack("UPDATE on column "+t.name, StepFill, StepCutOver, StepDropTokens)
		}
	}
}
