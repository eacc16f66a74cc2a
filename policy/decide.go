package policy

// Code says why something is refused. The API shows it as it is.
type Code string

const (
	Granted           Code = ""
	Forbidden         Code = "forbidden"           // the role has no such action, or asked to see more than it may
	UnknownField      Code = "unknown_field"       // the policy has no such field
	PurposeNotAllowed Code = "purpose_not_allowed" // the role has no view for the purpose, or none was named
	ConsentRequired   Code = "consent_required"    // the purpose stands on consent, and the subject gave none
)

// Query is one question to the policy: may this role do this, to this field, for this purpose.
type Query struct {
	Role    string
	Action  Action
	Purpose string // looked at only when the action needs one (Action.NeedsPurpose)
	Field   string // "" when the call is about no field, or about the subject as a whole
	View    View   // NoView: the most that is allowed
	Consent bool   // whether the subject agrees to the purpose at this moment
}

// Decision is the answer. A refusal shows nothing; a grant of an action that shows no values has NoView as well.
type Decision struct {
	View    View // how much to show
	Refusal Code
}

// OK reports whether the query was granted.
func (d Decision) OK() bool { return d.Refusal == Granted }

// Allows reports whether the role may do a at all, for some purpose.
func (p *Policy) Allows(name string, a Action) bool {
	_, ok := p.roles[name].actions[a]
	return ok
}

// Decide answers q. The first that applies refuses: the action, the field, the purpose, consent, the view. The action
// comes before the field so that who may do nothing does not learn which fields there are. It allocates nothing.
//
// States of a token or a subject (expired, erased, restricted) are the vault's to check.
func (p *Policy) Decide(q Query) Decision {
	r := p.roles[q.Role]
	if _, ok := r.actions[q.Action]; !ok {
		return refuse(Forbidden)
	}
	if q.Field != "" {
		if _, ok := p.fields[q.Field]; !ok {
			return refuse(UnknownField)
		}
	}
	limit := q.Action.ceiling()
	if q.Action.NeedsPurpose() {
		g, ok := r.grants[q.Purpose]
		if !ok {
			return refuse(PurposeNotAllowed)
		}
		if g.consent && !q.Consent {
			return refuse(ConsentRequired)
		}
		if g.view.within(limit) {
			limit = g.view
		}
	}
	if q.View == NoView {
		return Decision{View: limit}
	}
	if !q.View.within(limit) {
		return refuse(Forbidden)
	}
	return Decision{View: q.View}
}

func refuse(c Code) Decision { return Decision{Refusal: c} }
