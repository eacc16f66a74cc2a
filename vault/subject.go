package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// subject is a person as one snapshot shows them.
type subject struct {
	sid    keys.SID
	before []byte            // the key row as it was read, nil when absent: a commit compares it
	key    keys.KeyRow       // opened; SK is wiped after use
	body   *body             // nil when absent
	large  map[string][]byte // records of fields above maxInline that the caller asked for
	tomb   *tombstone        // of the subject, read only when the subject is absent
	dek    secret.Bytes      // set by unwrap
}

func (s *subject) exists() bool { return s.before != nil }

// missing is what a caller is told of an absent subject.
func (s *subject) missing() *Error {
	if s.tomb != nil {
		return ErrSubjectErased
	}
	return ErrSubjectNotFound
}

func (s *subject) ref() keys.DEKRef { return keys.DEKRef{KID: s.key.KID, Wrapped: s.key.Wrapped} }

// checkSubjectID holds an external id to its form.
func checkSubjectID(id string) *Error {
	// The telling refusal comes first: an address is not of the form either, but that is not what is wrong with it.
	if tokenizer.IdentifyingID(id) {
		return ErrIdentifyingSubject
	}
	if !tokenizer.ValidSubjectID(id) {
		return ErrSubjectID
	}
	return nil
}

// load reads subjects in one look-up, with the tombstones of those that are absent. large names the fields whose
// value is wanted though it lies in a row of its own.
func (v *Vault) load(tx store.ReadTx, sids []keys.SID, large func(i int, field string) bool) ([]*subject, error) {
	rows := make([][]byte, 0, 2*len(sids))
	for _, sid := range sids {
		rows = append(rows, keys.SubjectKeyRow(sid), keys.SubjectBodyRow(sid))
	}
	values, err := tx.GetMulti(store.Subjects, rows)
	if err != nil {
		return nil, err
	}
	subjects := make([]*subject, len(sids))
	for i, sid := range sids {
		s := &subject{sid: sid}
		subjects[i] = s
		keyRow, bodyRow := values[2*i], values[2*i+1]
		if keyRow == nil && bodyRow == nil {
			if err := s.readTombstone(tx); err != nil {
				return nil, err
			}
			continue
		}
		if err := s.open(v, keyRow, bodyRow); err != nil {
			return nil, err
		}
		if len(s.body.tokens) >= maxTokens/2 {
			if err := v.forgetUsed(tx, s.body); err != nil {
				return nil, err
			}
		}
		if large == nil {
			continue
		}
		for j := range s.body.fields {
			f := &s.body.fields[j]
			if f.present() && f.large() && large(i, f.name) {
				record, err := v.largeRecord(tx, sid, f)
				if err != nil {
					return nil, err
				}
				if s.large == nil {
					s.large = map[string][]byte{}
				}
				s.large[f.name] = record
			}
		}
	}
	return subjects, nil
}

// open opens a subject's two rows.
func (s *subject) open(v *Vault, keyRow, bodyRow []byte) (err error) {
	if keyRow == nil || bodyRow == nil {
		return fmt.Errorf("a subject's key row stands without its body row: %w", ErrCorrupt)
	}
	s.before = append([]byte(nil), keyRow...)
	if s.key, err = v.keys.OpenKeyRow(s.sid, keyRow); err != nil {
		return err
	}
	plain, err := v.keys.OpenBody(s.key.SK, s.sid, bodyRow)
	s.key.SK.Wipe()
	if err != nil {
		return err
	}
	s.body, err = parseBody(plain.Reveal())
	return err
}

// forgetUsed takes the single-use tokens that opened off the list of live ones. Opening does not write the body, for
// it is a read; what gathers there is looked up once it is much.
func (v *Vault) forgetUsed(tx store.ReadTx, b *body) error {
	var rows [][]byte
	var at []int
	for i := range b.tokens {
		if b.tokens[i].flags&keys.TokenSingleUse != 0 {
			row := v.keys.TokenRowKey(b.tokens[i].text)
			rows, at = append(rows, row[:]), append(at, i)
		}
	}
	values, err := tx.GetMulti(store.Tokens, rows)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for j, i := range at {
		if head, err := keys.ParseTokenRow(values[j]); err == nil && head.Gone {
			used[b.tokens[i].text] = true
		}
	}
	b.tokens = slices.DeleteFunc(b.tokens, func(t bodyToken) bool { return used[t.text] })
	return nil
}

func (s *subject) readTombstone(tx store.ReadTx) error {
	row, err := tx.Get(store.Tombstones, subjectTombRow(s.sid))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	t, err := parseTombstone(row)
	if err == nil && t.sid != s.sid {
		err = errTombstone
	}
	s.tomb = &t
	return err
}

// largeRecord opens the row of a value above maxInline, as far as the field record.
func (v *Vault) largeRecord(tx store.ReadTx, sid keys.SID, f *bodyField) ([]byte, error) {
	row, err := tx.Get(store.Subjects, keys.SubjectValueRow(sid, f.name))
	if err != nil {
		return nil, err
	}
	return v.keys.OpenValue(secret.NewBytes(f.record), sid, f.name, row)
}

// record returns the field record of a field that load was asked for.
func (s *subject) record(f *bodyField) []byte {
	if f.large() {
		return s.large[f.name]
	}
	return f.record
}

// value opens a field's value. The record must be the version that the body names: an older one put in its place
// would be a change undone.
func (v *Vault) value(s *subject, f *bodyField) (secret.Text, error) {
	return v.openRecord(s.sid, s.dek, s.key.DEKVersion, f, s.record(f))
}

func (v *Vault) openRecord(sid keys.SID, dek secret.Bytes, dekVersion uint32, f *bodyField, rec []byte) (secret.Text, error) {
	plain, header, err := keys.OpenRecord(dek, keys.RecordContext{Inst: v.keys.Instance(), SID: sid, Field: f.name}, rec)
	if err != nil {
		return secret.Text{}, err
	}
	defer plain.Wipe()
	if header.RecVersion != f.recVer || header.DEKVersion != dekVersion {
		return secret.Text{}, fmt.Errorf("field record of another version: %w", keys.ErrCorrupt)
	}
	return secret.NewText(string(plain.Reveal())), nil
}

// externalID opens the caller's own id of the subject.
func (v *Vault) externalID(s *subject) (string, error) {
	f := bodyField{name: "", recVer: 1, record: s.body.id}
	t, err := v.value(s, &f)
	return t.Reveal(), err
}

// unwrap gives each subject its data key; the error per subject is nil, ErrKey, or one of the caller's own context.
func (v *Vault) unwrap(ctx context.Context, subjects []*subject) []*Error {
	refs := make([]keys.DEKRef, len(subjects))
	for i, s := range subjects {
		refs[i] = s.ref()
	}
	errs := make([]*Error, len(subjects))
	for i, out := range v.deks.Unwrap(ctx, refs) {
		subjects[i].dek, errs[i] = out.Key, keyError(out.Err)
	}
	return errs
}

// wipeKeys overwrites the data keys that unwrap gave.
func wipeKeys(subjects []*subject) {
	for _, s := range subjects {
		if s != nil {
			s.dek.Wipe()
		}
	}
}

// keyError is what a caller is told when a data key could not be had.
func keyError(err error) *Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keys.ErrUnwrap):
		return ErrKey.saying("the key service refuses to open this person's key; `cloakroom doctor` checks the key service").because(err)
	default:
		return ErrKey.because(err)
	}
}

// random32 draws a key.
func random32(random io.Reader) (secret.Bytes, error) {
	b := make([]byte, 32)
	_, err := io.ReadFull(random, b)
	return secret.NewBytes(b), err
}
