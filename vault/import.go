package vault

import (
	"context"
	"errors"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
)

// Limits on what one Import may carry.
const (
	MaxImportRows   = 1000
	MaxImportFields = audit.MaxItems // of all rows together; a row of none counts as one
)

// ImportResult is what a row became, or why it was left out.
type ImportResult struct {
	PutResult
	Err *Error
}

// Import is Put for many rows. Each row is stored whole or not at all, a bad one spoils only itself, and outcomes stand
// in the order of the rows. The good ones commit in one transaction, after one entry in the audit log. Of two rows of
// one subject the later builds on the earlier. The same rows again change nothing and answer the same tokens, so there
// is no Idempotency-Key. Without any rows it tells whether the caller may import.
//
// After an error none of the rows is stored, unless the store could not tell (ErrStoreUnavailable). ErrKeyService is one
// for all rows, also where some need no key that is not at hand: the same rows can be sent again. Of two calls at once
// either may be the first to commit.
func (v *Vault) Import(ctx context.Context, call Call, rows []PutRequest) ([]ImportResult, error) {
	if err := checkImport(call, rows); err != nil {
		return nil, err
	}
	m := v.newImporting(call, rows)
	if err := v.change(ctx, m.sids, func(k *keychain) error { return m.try(ctx, k) }); err != nil {
		return nil, err // no token beside an error
	}
	return m.out, nil
}

func checkImport(call Call, rows []PutRequest) error {
	if call.Idempotency != nil {
		return ErrMalformed.saying("an import takes no Idempotency-Key: the same rows again change nothing")
	}
	fields := 0
	for i := range rows {
		fields += max(1, len(rows[i].Fields))
	}
	if len(rows) > MaxImportRows || fields > MaxImportFields {
		return ErrMalformed.saying("at most 1000 rows and 10000 fields in one import; send more imports")
	}
	return nil
}

// importing is one call of Import. What was made of a person is kept from try to try, until the person changes.
type importing struct {
	v      *Vault
	call   Call
	rows   []PutRequest
	out    []ImportResult
	notes  [][]audit.Item // of each row
	people []*importee
	sids   []keys.SID // of people
	policy uint64     // that the rows were held to
}

// importee is a subject and its rows.
type importee struct {
	sid  keys.SID
	id   string
	rows []int // their places, ascending

	done   bool // what follows is up to date
	s      *subject
	writes [][]fieldWrite // of each of rows; nil for a bad one
	good   int            // rows that are not bad
	sealed *sealedEdit    // nil: nothing changes
}

func (v *Vault) newImporting(call Call, rows []PutRequest) *importing {
	m := &importing{v: v, call: call, rows: rows, out: make([]ImportResult, len(rows)), notes: make([][]audit.Item, len(rows))}
	at := make(map[keys.SID]*importee, len(rows))
	for i := range rows {
		if err := checkSubjectID(rows[i].Subject); err != nil {
			m.refuse(i, nil, err)
			continue
		}
		sid := v.keys.SID(rows[i].Subject)
		q := at[sid]
		if q == nil {
			q = &importee{sid: sid, id: rows[i].Subject}
			at[sid] = q
			m.people, m.sids = append(m.people, q), append(m.sids, sid)
		}
		q.rows = append(q.rows, i)
	}
	return m
}

// try seals before it takes the turn, for that is most of the work and another import may commit meanwhile. What changed
// until then is made anew at the next try, and only that.
func (m *importing) try(ctx context.Context, k *keychain) error {
	rec := m.v.record(m.call, policy.Put)
	p, refusal, err := m.read(ctx, rec)
	if err != nil {
		return rec.fail(ctx, err)
	}
	if refusal != nil {
		return rec.refuse(ctx, refusal)
	}
	work := m.pending()
	_ = spread(len(work), func(i int) error { m.validate(work[i], p); return nil })
	k.supply(ctx, subjectsOf(work))
	if err := spread(len(work), func(i int) error { return m.seal(work[i], k) }); err != nil {
		return err
	}
	if err := m.keysAway(); err != nil {
		return rec.refuse(ctx, ErrKeyService.because(err))
	}
	if err := m.enter(ctx, k); err != nil {
		return err
	}
	for _, items := range m.notes {
		rec.event.Items = append(rec.event.Items, items...)
	}
	if _, err := rec.commit(ctx); err != nil {
		return err
	}
	c := &change{}
	for _, q := range m.people {
		if q.sealed != nil {
			c.edits = append(c.edits, q.sealed)
		}
	}
	err = m.v.commit(ctx, c)
	if errors.Is(err, store.ErrConflict) {
		return m.overtaken(ctx)
	}
	return err
}

// pending are the people who are still to be made, or to be made anew.
func (m *importing) pending() []*importee {
	var out []*importee
	for _, q := range m.people {
		if !q.done {
			out = append(out, q)
		}
	}
	return out
}

// subjectsOf are those of which at least one row is good.
func subjectsOf(people []*importee) []*subject {
	var out []*subject
	for _, q := range people {
		if q.good > 0 {
			out = append(out, q.s)
		}
	}
	return out
}

// read is step one and two.
func (m *importing) read(ctx context.Context, rec *record) (p *policyInForce, refusal *Error, err error) {
	err = m.v.store.View(ctx, func(tx store.ReadTx) error {
		if p, refusal, err = m.v.admitIn(tx, rec, m.call, policy.Put); err != nil || refusal != nil {
			return err
		}
		if m.policy != p.version {
			m.policy = p.version
			m.redo()
		}
		return m.load(tx, m.pending())
	})
	return p, refusal, err
}

// redo makes everything anew at the next try.
func (m *importing) redo() {
	for _, q := range m.people {
		q.done = false
	}
}

// load reads people, together where that succeeds: whose rows are damaged spoils nobody else's import.
func (m *importing) load(tx store.ReadTx, people []*importee) error {
	sids := make([]keys.SID, len(people))
	for i, q := range people {
		sids[i] = q.sid
	}
	all, err := m.v.load(tx, sids, func(i int, field string) bool { return m.names(people[i], field) })
	if err == nil {
		for i, q := range people {
			q.s = all[i]
		}
		return nil
	}
	if err = storeError(err); !errors.Is(err, ErrCorrupt) {
		return err
	}
	if len(people) == 1 {
		people[0].s = nil
		m.refuseAll(people[0], AsError(err))
		return nil
	}
	for i := range people {
		if err := m.load(tx, people[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// names reports whether a row of q is about the field.
func (m *importing) names(q *importee, field string) bool {
	for _, i := range q.rows {
		for j := range m.rows[i].Fields {
			if m.rows[i].Fields[j].Field == field {
				return true
			}
		}
	}
	return false
}

// validate holds the rows of a person to everything that needs no key.
func (m *importing) validate(q *importee, p *policyInForce) {
	q.good, q.sealed, q.writes = 0, nil, make([][]fieldWrite, len(q.rows))
	if q.s == nil {
		return // damaged
	}
	for j, i := range q.rows {
		row := &m.rows[i]
		m.out[i], m.notes[i] = ImportResult{}, nil
		if q.good == 0 { // else a row before has begun the subject
			if err := q.s.mayBegin(policy.Put, row.Recreate); err != nil {
				m.refuse(i, &q.sid, err)
				continue
			}
		}
		if len(row.Fields) > maxFields {
			m.refuse(i, &q.sid, errManyFields)
			continue
		}
		writes, warnings, err := m.v.validateFields(p, policy.Put, row.Fields)
		if err != nil {
			m.refuse(i, &q.sid, AsError(err))
			continue
		}
		q.writes[j], m.out[i].Warnings = writes, warnings
		q.good++
	}
}

// seal carries out the rows of a person, one after the other, and makes what they have become ready to be written. An
// error that is not a row's own ends the import.
func (m *importing) seal(q *importee, k *keychain) error {
	q.done = true
	if q.good == 0 {
		return nil
	}
	e, failed, err := k.edit(q.s, q.id)
	if err != nil {
		return err
	}
	if failed != nil {
		m.refuseAll(q, failed)
		return nil
	}
	stored := 0
	for j, i := range q.rows {
		if m.out[i].Err != nil {
			continue
		}
		tokens, items, err := e.put(m.v, &m.rows[i], q.writes[j])
		var own *Error
		switch err = storeError(err); {
		case err == nil:
			m.out[i].Created, m.out[i].Tokens, m.notes[i] = e.created && stored == 0, tokens, items
			stored++
		case errors.Is(err, ErrCorrupt):
			m.refuseAll(q, AsError(err))
			return nil
		case errors.Is(err, ErrInternal), !errors.As(err, &own):
			return err
		default:
			m.refuse(i, &q.sid, own)
		}
	}
	if stored > 0 { // else a person would begin who has nothing
		q.sealed, err = m.v.sealEdit(e)
	}
	return err
}

// refuse gives a row its error.
func (m *importing) refuse(i int, sid *keys.SID, err *Error) {
	m.out[i] = ImportResult{Err: err}
	m.notes[i] = []audit.Item{m.v.auditItem(sid, "", "", "", err)}
}

// refuseAll does so for the rows of a person that are not bad already.
func (m *importing) refuseAll(q *importee, err *Error) {
	q.sealed = nil
	for _, i := range q.rows {
		if m.out[i].Err == nil {
			m.refuse(i, &q.sid, err)
		}
	}
}

// keysAway returns why the key service gave no key for a row that is good, or nil. Such a row would be stored a moment
// later: told as bad beside others that are stored, it would never be sent again. A key that the key service refuses to
// open is that person's own matter.
func (m *importing) keysAway() error {
	for i := range m.out {
		if err := m.out[i].Err; err != nil && err.Is(ErrKey) && !errors.Is(err, keys.ErrUnwrap) {
			return err
		}
	}
	return nil
}

// enter takes the turn. People who changed before are made anew.
func (m *importing) enter(ctx context.Context, k *keychain) error {
	people := m.stored()
	changed, err := k.enter(ctx, subjectsOf(people))
	for _, i := range changed {
		people[i].done = false
	}
	if len(changed) > 0 {
		return store.ErrConflict
	}
	return err
}

// stored are the people with a good row.
func (m *importing) stored() []*importee {
	var out []*importee
	for _, q := range m.people {
		if q.good > 0 {
			out = append(out, q)
		}
	}
	return out
}

// overtaken finds out whom another process changed before the commit. Where nobody, it was something else that all
// depend on, such as a key that is being moved.
func (m *importing) overtaken(ctx context.Context) error {
	people := m.stored()
	changed, err := m.v.changed(ctx, subjectsOf(people))
	if err != nil {
		return err
	}
	for _, i := range changed {
		people[i].done = false
	}
	if len(changed) == 0 {
		m.redo()
	}
	return store.ErrConflict
}
