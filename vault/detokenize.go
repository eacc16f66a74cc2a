package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// Detokenize answers the values behind tokens, one outcome each in the order of the tokens, for the purpose of the
// call and never more of a value than the policy shows for it.
func (v *Vault) Detokenize(ctx context.Context, call Call, req DetokenizeRequest) ([]Revealed, error) {
	if len(req.Tokens) > MaxItems {
		return nil, ErrMalformed.saying("at most 1000 tokens in one call; send more calls")
	}
	d := &detokenizing{v: v, call: call, want: policy.View(req.View), tokens: req.Tokens, items: make([]revealing, len(req.Tokens))}
	rec := v.record(call, policy.Detokenize)
	var refusal *Error
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if d.policy, refusal, err = v.admitIn(tx, rec, call, policy.Detokenize); err != nil || refusal != nil {
			return err
		}
		if err := d.find(tx); err != nil {
			return err
		}
		return d.fetch(tx)
	})
	if err != nil {
		return nil, storeError(err)
	}
	if refusal != nil {
		return nil, rec.refuse(ctx, refusal)
	}
	defer d.wipe()
	d.unwrap(ctx)
	out := make([]Revealed, len(d.items))
	for i := range d.items {
		out[i] = d.open(i)
	}
	rec.event.Items = slices.Grow(rec.event.Items, len(out))
	for i := range d.items {
		it := &d.items[i]
		rec.item(it.subject(), it.row.Field, d.tokens[i].Reveal(), out[i].View, out[i].Err)
	}
	if allKeysFailed(len(out), func(i int) *Error { return out[i].Err }) {
		return nil, rec.refuse(ctx, ErrKeyService)
	}
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	if err := d.spend(ctx, out); err != nil {
		return nil, err
	}
	if err := d.lookAgain(ctx, rec, out); err != nil {
		return nil, err
	}
	return out, nil
}

// lookAgain takes back what was opened by a token that has ended while the call waited for the key service or the log: with a
// person or a field all its tokens end, and from the certificate on nothing is shown. The log then has an entry without its
// effect, never the other way round. Tokens for single use were compared when they were spent.
func (d *detokenizing) lookAgain(ctx context.Context, rec *record, out []Revealed) error {
	if !rec.waited() {
		return nil
	}
	var rows [][]byte
	var at []int
	for i := range d.items {
		if it := &d.items[i]; out[i].Err == nil && it.token == nil {
			rows, at = append(rows, it.key[:]), append(at, i)
		}
	}
	err := d.v.store.View(ctx, func(tx store.ReadTx) error {
		values, err := tx.GetMulti(store.Tokens, rows)
		if err != nil {
			return err
		}
		for j, i := range at {
			if head, err := keys.ParseTokenRow(values[j]); err != nil || head.Gone {
				out[i] = Revealed{Field: out[i].Field, Err: endedBy(values[j])}
			}
		}
		return nil
	})
	return storeError(err)
}

// detokenizing is one batch on its way.
type detokenizing struct {
	v        *Vault
	call     Call
	policy   *policyInForce
	want     policy.View
	tokens   []secret.Text
	items    []revealing
	subjects []holder
	bodies   [][]byte // of subjects, opened; records lie in them
}

// revealing is one token on its way to a value. The first error stays.
type revealing struct {
	err     *Error
	key     [16]byte
	token   []byte // the token row of a single-use token, to be compared when it is spent
	row     keys.TokenRow
	view    policy.View
	holder  int // index into subjects
	field   bodyField
	record  []byte
	located bool // the token named a subject of ours
}

func (r *revealing) subject() *keys.SID {
	if !r.located {
		return nil
	}
	return &r.row.SID
}

// holder is a subject that at least one good token leads to.
type holder struct {
	sid  keys.SID
	ref  keys.DEKRef
	dek  secret.Bytes
	vers uint32
	err  *Error
}

// find looks all tokens up and settles what each may show: the token's state, its audience, the policy.
func (d *detokenizing) find(tx store.ReadTx) error {
	now := millis(d.v.now())
	rows := make([][]byte, 0, len(d.items))
	at := make([]int, 0, len(d.items))
	for i := range d.items {
		it := &d.items[i]
		text := d.tokens[i].Reveal()
		if _, err := tokenizer.ParseToken(text); err != nil {
			it.err = ErrTokenMalformed
			continue
		}
		it.key = d.v.keys.TokenRowKey(text)
		rows, at = append(rows, it.key[:]), append(at, i)
	}
	values, err := tx.GetMulti(store.Tokens, rows)
	if err != nil {
		return err
	}
	for j, i := range at {
		it := &d.items[i]
		if it.row, it.located, it.err = d.v.openToken(it.key, values[j], now); it.err != nil {
			continue
		}
		if it.row.Audience != "" && it.row.Audience != d.call.Principal.Service {
			it.err = ErrWrongAudience
			continue
		}
		decision := d.policy.Decide(policy.Query{Role: d.call.Principal.Role, Action: policy.Detokenize, Purpose: d.call.Purpose, Field: it.row.Field, View: d.want})
		if it.view, it.err = decision.View, refusalOf(decision.Refusal); it.err != nil {
			continue
		}
		if it.row.Flags&keys.TokenSingleUse != 0 {
			it.token = append([]byte(nil), values[j]...)
		}
	}
	return nil
}

// openToken reads a token row. located says that the row names a subject, also where an error stands beside it.
func (v *Vault) openToken(key [16]byte, value []byte, now uint64) (row keys.TokenRow, located bool, refusal *Error) {
	if value == nil {
		return row, false, ErrTokenUnknown
	}
	head, err := keys.ParseTokenRow(value)
	if err != nil {
		return row, false, ErrCorrupt.because(err)
	}
	if head.Gone {
		return row, false, stateError(head.Marker.State)
	}
	if row, err = v.keys.OpenTokenRow(key, value); err != nil {
		return row, false, ErrCorrupt.because(err)
	}
	if row.Expiry != 0 && row.Expiry <= now {
		return row, true, ErrTokenExpired
	}
	return row, true, nil
}

// fetch reads the subjects behind the tokens that are still good, each once, and each token's record.
func (d *detokenizing) fetch(tx store.ReadTx) error {
	rows := make([][]byte, 0, 2*len(d.items))
	d.subjects = make([]holder, 0, len(d.items))
	at := make(map[keys.SID]int, len(d.items))
	for i := range d.items {
		it := &d.items[i]
		if it.err != nil {
			continue
		}
		j, ok := at[it.row.SID]
		if !ok {
			j = len(d.subjects)
			at[it.row.SID] = j
			d.subjects = append(d.subjects, holder{sid: it.row.SID})
			rows = append(rows, keys.SubjectKeyRow(it.row.SID), keys.SubjectBodyRow(it.row.SID))
		}
		it.holder = j
	}
	values, err := tx.GetMulti(store.Subjects, rows)
	if err != nil {
		return err
	}
	d.bodies = make([][]byte, len(d.subjects))
	for j := range d.subjects {
		h := &d.subjects[j]
		if d.bodies[j], h.err = d.v.openHolder(h, values[2*j], values[2*j+1]); h.err != nil {
			d.v.log.Error("subject rows do not open", "err", h.err.Unwrap())
		}
	}
	for i := range d.items {
		if it := &d.items[i]; it.err == nil {
			it.err = d.locate(tx, it, d.bodies[it.holder])
		}
	}
	return nil
}

// openHolder opens a subject's two rows. A token row without its subject cannot be: erasing changes both at once.
func (v *Vault) openHolder(h *holder, keyRow, bodyRow []byte) ([]byte, *Error) {
	if keyRow == nil || bodyRow == nil {
		return nil, ErrCorrupt.because(errors.New("a token's subject has no rows"))
	}
	key, err := v.keys.OpenKeyRow(h.sid, keyRow)
	if err != nil {
		return nil, ErrCorrupt.because(err)
	}
	defer key.SK.Wipe()
	h.ref, h.vers = keys.DEKRef{KID: key.KID, Wrapped: key.Wrapped}, key.DEKVersion
	body, err := v.keys.OpenBody(key.SK, h.sid, bodyRow)
	if err != nil {
		return nil, ErrCorrupt.because(err)
	}
	return body.Reveal(), nil
}

// locate finds the record of an item's field.
func (d *detokenizing) locate(tx store.ReadTx, it *revealing, body []byte) *Error {
	h := &d.subjects[it.holder]
	if h.err != nil {
		return h.err
	}
	f, ok, err := lookupField(body, it.row.Field)
	if err != nil {
		return ErrCorrupt.because(err)
	}
	if !ok {
		return ErrFieldErased
	}
	it.field, it.record = f, f.record
	if f.large() {
		if it.record, err = d.v.largeRecord(tx, h.sid, &f); err != nil {
			return ErrCorrupt.because(err)
		}
	}
	return nil
}

// unwrap fetches the data keys of all subjects that a good item is of.
func (d *detokenizing) unwrap(ctx context.Context) {
	need := make([]bool, len(d.subjects))
	for i := range d.items {
		if d.items[i].err == nil {
			need[d.items[i].holder] = true
		}
	}
	refs := make([]keys.DEKRef, 0, len(d.subjects))
	at := make([]int, 0, len(d.subjects))
	for j := range d.subjects {
		if need[j] {
			refs, at = append(refs, d.subjects[j].ref), append(at, j)
		}
	}
	for k, out := range d.v.deks.Unwrap(ctx, refs) {
		d.subjects[at[k]].dek, d.subjects[at[k]].err = out.Key, keyError(out.Err)
	}
}

// wipe overwrites the data keys and bodies once nothing needs them.
func (d *detokenizing) wipe() {
	for j := range d.subjects {
		d.subjects[j].dek.Wipe()
		clear(d.bodies[j])
	}
}

// open decrypts one item and cuts it to the view.
func (d *detokenizing) open(i int) Revealed {
	it := &d.items[i]
	if it.err == nil {
		it.err = d.subjects[it.holder].err
	}
	if it.err != nil {
		return Revealed{Field: it.row.Field, Err: it.err}
	}
	h := &d.subjects[it.holder]
	value, err := d.v.openRecord(h.sid, h.dek, h.vers, &it.field, it.record)
	if err == nil {
		value, err = d.v.show(d.policy, it.row.Field, value, it.view)
	}
	if err != nil {
		it.err = ErrCorrupt.because(err)
		d.v.log.Error("field record does not open", "err", err)
		return Revealed{Field: it.row.Field, Err: it.err}
	}
	return Revealed{Field: it.row.Field, Value: value, View: string(it.view)}
}

// show cuts a value to a view, by the rule of its field's kind.
func (v *Vault) show(p *policyInForce, field string, value secret.Text, view policy.View) (secret.Text, error) {
	if view == policy.Full {
		return value, nil
	}
	def, ok := p.Field(field)
	if !ok {
		return secret.Text{}, fmt.Errorf("the policy has lost field %q", field)
	}
	kind, ok := v.kinds.Lookup(def.Kind)
	if !ok {
		return secret.Text{}, fmt.Errorf("no kind %q", def.Kind)
	}
	return newText(kind.Mask(value.Reveal(), tokenizer.View(view))), nil
}

// spend marks the single-use tokens that opened as used, before their values leave. Of several callers one gets
// the value; the row that it compared is gone for the others.
func (d *detokenizing) spend(ctx context.Context, out []Revealed) error {
	var spent []int
	for i := range d.items {
		if d.items[i].err == nil && d.items[i].token != nil {
			spent = append(spent, i)
		}
	}
	if len(spent) == 0 {
		return nil
	}
	late := map[int]*Error{}
	err := d.v.store.Update(ctx, func(tx store.Tx) error {
		clear(late)
		for _, i := range spent {
			it := &d.items[i]
			now, err := tx.Get(store.Tokens, it.key[:])
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if !slices.Equal(now, it.token) {
				late[i] = endedBy(now)
				continue
			}
			if err := d.v.markTokens(tx, []deadToken{{it.key, keys.TokenUsed}}); err != nil {
				return err
			}
		}
		return nil
	})
	for i, why := range late {
		out[i] = Revealed{Field: out[i].Field, Err: why}
	}
	return storeError(err)
}

// endedBy says what happened to a token whose row is no longer what was read.
func endedBy(row []byte) *Error {
	head, err := keys.ParseTokenRow(row)
	if err != nil || !head.Gone {
		return ErrCorrupt
	}
	return stateError(head.Marker.State)
}
