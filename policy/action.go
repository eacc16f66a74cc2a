package policy

import "slices"

// Action is something a role may be granted. Each stands for one call, or one family of calls, of the vault.
type Action string

const (
	Put          Action = "put"          // set fields of a subject
	Patch        Action = "patch"        // set or remove fields of a subject that exists
	Get          Action = "get"          // read the fields of one subject
	List         Action = "list"         // list subjects: ids, times and tokens
	Tokenize     Action = "tokenize"     // set a field and take its token
	Detokenize   Action = "detokenize"   // read the values behind tokens
	Inspect      Action = "inspect"      // see a token's field, audience and state
	Revoke       Action = "revoke"       // end a token
	Translate    Action = "translate"    // take the same value's token for another audience
	Search       Action = "search"       // find subjects by an exact value
	Erase        Action = "erase"        // erase a subject or a field
	Export       Action = "export"       // hand out all that is held of a subject, or of everybody
	Disclosures  Action = "disclosures"  // see who was shown what of a subject
	Hold         Action = "hold"         // restrict a subject, or keep it from erasure
	Consent      Action = "consent"      // record and withdraw consent
	Preferences  Action = "preferences"  // record what a subject opted out of
	Certificates Action = "certificates" // read certificates of erasure
	Audit        Action = "audit"        // read the audit log
	Services     Action = "services"     // add and disable services and their credentials
	ManagePolicy Action = "policy"       // read, check and apply policies
	Keys         Action = "keys"         // see the state of keys
	Jobs         Action = "jobs"         // start, watch and cancel jobs
	Backup       Action = "backup"       // take a backup
)

// Actions returns every action there is, in the order of their names.
func Actions() []Action {
	all := []Action{
		Put, Patch, Get, List, Tokenize, Detokenize, Inspect, Revoke, Translate, Search, Erase, Export, Disclosures,
		Hold, Consent, Preferences, Certificates, Audit, Services, ManagePolicy, Keys, Jobs, Backup,
	}
	slices.Sort(all)
	return all
}

// NeedsPurpose reports whether the action looks at, or looks for, values on behalf of the caller, and so needs a
// purpose that the caller's role has a view for. A write needs none: it brings a value and shows none.
func (a Action) NeedsPurpose() bool {
	switch a {
	case Get, Detokenize, Translate, Search:
		return true
	}
	return false
}

// ceiling is the most that the action itself can show, whatever a role may see. An export is the person's own copy, or
// everybody's for leaving: it is whole and needs no view. A search shows a match masked, so that a search never takes the
// place of a read.
func (a Action) ceiling() View {
	switch a {
	case Get, Detokenize, Export:
		return Full
	case Search:
		return Masked
	}
	return NoView
}
