package policy

import _ "embed"

//go:embed starter.yaml
var starter string

// Starter returns the text of the policy that a new installation begins with.
func Starter() []byte { return []byte(starter) }
