package vault

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// record is a call's entry in the audit log, gathered on the way and written before the call takes effect.
type record struct {
	v     *Vault
	event audit.Event
}

const outcomeOK = "ok"

// record begins the entry of a call.
func (v *Vault) record(call Call, action policy.Action) *record {
	return &record{v: v, event: audit.Event{
		Time: v.now(), RequestID: call.RequestID, Service: call.Principal.Service, Credential: call.Principal.Credential,
		Action: string(action), Purpose: call.Purpose, Reason: call.Reason, Source: call.Source,
	}}
}

// item adds one datum that the call touched. A nil err means that it succeeded.
func (r *record) item(sid *keys.SID, field, token, view string, err *Error) {
	r.event.Items = append(r.event.Items, r.v.auditItem(sid, field, token, view, err))
}

// auditItem is what the log says of one datum.
func (v *Vault) auditItem(sid *keys.SID, field, token, view string, err *Error) audit.Item {
	it := audit.Item{Field: field, View: view, Outcome: outcomeOK}
	if sid != nil {
		it.Subject = v.subjectDigest(*sid)
	}
	if token != "" {
		it.Token = audit.Digest(v.keys.AuditDigest("token", []byte(token)))
	}
	if err != nil {
		it.Outcome = err.Code
	}
	return it
}

// commit writes the entry and returns once it is durable.
func (r *record) commit(ctx context.Context) (index uint64, err error) {
	index, err = r.v.audit.Append(ctx, &r.event)
	switch {
	case err == nil:
		return index, nil
	case errors.Is(err, audit.ErrInvalid):
		return 0, ErrMalformed.saying("a text of the request is too long for the audit log").because(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return 0, err
	default:
		return 0, ErrAuditUnavailable.because(err)
	}
}

// longWait is how long a call may take before it looks again whether what it read still stands.
const longWait = 20 * time.Millisecond

// waited reports whether the call has taken so long that its snapshot may be out of date.
func (r *record) waited() bool { return r.v.now().Sub(r.event.Time) > longWait }

// refuse writes the entry with the refusal and returns it; where the log cannot be written, that comes first.
func (r *record) refuse(ctx context.Context, refusal *Error) error {
	r.event.Code = refusal.Code
	if _, err := r.commit(ctx); err != nil {
		return err
	}
	return refusal
}

// fail ends a call with err. A refusal goes into the log first. What is no refusal does not: a request that is not of
// the documented form, which may not even fit the log, and failures of the parts.
func (r *record) fail(ctx context.Context, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Is(ErrMalformed) || e.Is(ErrCorrupt) || e.Is(ErrInternal) || e.Is(ErrStoreUnavailable) {
		return err
	}
	return r.refuse(ctx, e)
}

// subjectDigest is what stands for a subject in the audit log and in certificates.
func (v *Vault) subjectDigest(sid keys.SID) audit.Digest {
	return audit.Digest(v.keys.AuditDigest("subject", sid[:]))
}

// admit checks the call's own form and whether its role may act at all, in a snapshot of its own. Methods that read
// more do both in theirs, through admitIn.
func (v *Vault) admit(ctx context.Context, rec *record, call Call, action policy.Action) (p *policyInForce, err error) {
	var refusal *Error
	err = v.store.View(ctx, func(tx store.ReadTx) error {
		p, refusal, err = v.admitIn(tx, rec, call, action)
		return err
	})
	if err != nil {
		return nil, storeError(err)
	}
	if refusal != nil {
		return nil, rec.refuse(ctx, refusal)
	}
	return p, nil
}

// admitIn is admit inside a snapshot. A refusal is for the caller to record once the snapshot is left.
func (v *Vault) admitIn(tx store.ReadTx, rec *record, call Call, action policy.Action) (*policyInForce, *Error, error) {
	if err := call.check(action); err != nil {
		return nil, nil, err
	}
	if err := stillValid(tx, call.Principal); err != nil {
		return nil, nil, err
	}
	p, err := v.policy(tx)
	if err != nil {
		return nil, nil, err
	}
	rec.event.Policy = p.version
	// A purpose that the policy does not define is any text, such as a value in the wrong place; the log is for ever.
	if _, defined := p.Purpose(call.Purpose); !defined {
		rec.event.Purpose = ""
	}
	if !p.Allows(call.Principal.Role, action) {
		return p, ErrForbidden, nil
	}
	return p, nil, nil
}

// check holds the call to the form that the audit log and the rows rely on.
func (c *Call) check(action policy.Action) error {
	if len(c.Reason) > MaxReason || !printable(c.Reason) {
		return ErrMalformed.saying("reason is up to 256 bytes of text without control characters")
	}
	if len(c.Purpose) > 64 || !printable(c.Purpose) {
		return ErrMalformed.saying("purpose is the name of a purpose of the policy")
	}
	if action.NeedsPurpose() && c.Purpose == "" {
		return ErrMalformed.saying("a purpose is missing: say why the value is needed")
	}
	if i := c.Idempotency; i != nil {
		if i.Key == "" || len(i.Key) > 128 || strings.IndexFunc(i.Key, func(r rune) bool { return r < 0x21 || r > 0x7e }) >= 0 {
			return ErrMalformed.saying("Idempotency-Key is 1 to 128 printable ASCII characters")
		}
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) < 0
}

// refusalOf turns the policy's answer into the caller's.
func refusalOf(code policy.Code) *Error {
	switch code {
	case policy.Granted:
		return nil
	case policy.UnknownField:
		return ErrUnknownField
	case policy.PurposeNotAllowed:
		return ErrPurpose
	case policy.ConsentRequired:
		return ErrConsent
	default:
		return errView
	}
}

// errView: the role may act, and sees less than it asked for.
var errView = ErrForbidden.saying("for this purpose this role sees less than the view asked for; leave the view out to get the most there is")
