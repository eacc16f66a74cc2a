package vault

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"io"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/policy"
	"github.com/cloakroom-io/cloakroom/store"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// erasureID is 6 bytes of time (milliseconds since 1970 UTC) and 10 random ones, so that ids sort by time. Its text is
// "era_" and 26 characters of lower-case base32.
type erasureID [16]byte

const erasurePrefix = "era_"

var erasureText = base32.HexEncoding.WithPadding(base32.NoPadding)

func newErasureID(random io.Reader, now time.Time) (id erasureID, err error) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], millis(now))
	copy(id[:6], ms[2:])
	_, err = io.ReadFull(random, id[6:])
	return id, err
}

func (id erasureID) String() string {
	return erasurePrefix + strings.ToLower(erasureText.EncodeToString(id[:]))
}

func parseErasureID(s string) (id erasureID, ok bool) {
	text, ok := strings.CutPrefix(s, erasurePrefix)
	if !ok || text != strings.ToLower(text) {
		return id, false
	}
	b, err := erasureText.DecodeString(strings.ToUpper(text))
	if err != nil || len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, id.String() == s // one spelling only
}

// Erase destroys a subject: in one transaction its key, body, large values and index rows go, its tokens become
// markers and a tombstone takes its place. It returns the signed level 1 certificate once the tombstone is in the
// erasure ledger. The key service is not needed.
func (v *Vault) Erase(ctx context.Context, call Call, subject string) ([]byte, error) {
	return v.erase(ctx, call, subject, "")
}

// EraseField destroys one field of a subject, its tokens and its index row, and returns the certificate.
func (v *Vault) EraseField(ctx context.Context, call Call, subject, field string) ([]byte, error) {
	if !tokenizer.ValidField(field) {
		return nil, ErrUnknownField
	}
	return v.erase(ctx, call, subject, field)
}

func (v *Vault) erase(ctx context.Context, call Call, subject, field string) (certificate []byte, err error) {
	if err := checkSubjectID(subject); err != nil {
		return nil, err
	}
	sid := v.keys.SID(subject)
	release, err := v.turns.take(ctx, sid)
	if err != nil {
		return nil, err
	}
	defer release()
	err = attempt(ctx, func() (err error) {
		certificate, err = v.tryErase(ctx, call, sid, field)
		return err
	})
	return certificate, err
}

func (v *Vault) tryErase(ctx context.Context, call Call, sid keys.SID, field string) ([]byte, error) {
	rec := v.record(call, policy.Erase)
	var p *policyInForce
	var s *subject
	var r *replay
	var refusal *Error
	var epoch uint64
	err := v.store.View(ctx, func(tx store.ReadTx) (err error) {
		if p, refusal, err = v.admitIn(tx, rec, call, policy.Erase); err != nil || refusal != nil {
			return err
		}
		if r, err = v.replayOf(tx, call); err != nil {
			return err
		}
		epoch = v.keys.Epoch()
		all, err := v.load(tx, []keys.SID{sid}, nil)
		if err == nil {
			s = all[0]
		}
		return err
	})
	if err != nil {
		return nil, rec.fail(ctx, err)
	}
	if refusal == nil && r != nil && r.seen {
		return v.replayErase(ctx, rec, sid, field, r)
	}
	if refusal == nil {
		refusal = s.cannotErase(p, field)
	}
	if _, ours := p.Field(field); ours || refusal == nil {
		rec.item(&sid, field, "", "", refusal)
	} else {
		rec.item(&sid, "", "", "", refusal) // not a name of ours: whatever the caller wrote there stays out of the log
	}
	if refusal != nil {
		if refusal.Is(ErrSubjectErased) || refusal.Is(ErrFieldErased) {
			// Perhaps this call repeats one that erased and could not write the ledger: "erased" is only said of
			// what the ledger has.
			if err := v.flushLedger(ctx); err != nil {
				return nil, err
			}
		}
		return nil, rec.refuse(ctx, refusal)
	}
	if err := v.ledgerReady(); err != nil {
		return nil, err
	}

	id, err := newErasureID(v.random, v.now())
	if err != nil {
		return nil, err
	}
	t := v.placed(tombstone{what: tombSubject, sid: sid, field: field, dekVer: s.key.DEKVersion, day: day(v.now())})
	what := "subject"
	if field != "" {
		t.what, t.recVer, what = tombField, s.body.field(field).recVer, "field"
	}
	index, err := rec.commit(ctx)
	if err != nil {
		return nil, err
	}
	certificate, err := v.cert.sign(Certificate{
		Erasure: id.String(), Level: 1, Instance: v.keys.Instance().String(), What: what,
		SubjectDigest: v.subjectDigest(sid).String(), Field: field, ErasedAt: v.now().UTC().Truncate(time.Millisecond),
		KeyVersion: t.dekVer, FieldVersion: t.recVer, Bucket: t.b, Generation: t.g, Partition: t.x, PartitionGen: t.h, Epoch: epoch, KMS: v.kms.Name(),
		AuditIndex: index, Claim: claimLevel1, NotClaimed: notClaimed(v.kms.Name()),
	})
	if err != nil {
		return nil, err
	}
	if err := v.commitErasure(ctx, s, t, id, certificate, r); err != nil {
		return nil, err
	}
	return certificate, nil
}

// cannotErase says why there is nothing to erase, or nil.
func (s *subject) cannotErase(p *policyInForce, field string) *Error {
	if !s.exists() {
		return s.missing()
	}
	if field == "" {
		return nil
	}
	_, ours := p.Field(field)
	switch f := s.body.field(field); {
	case f == nil && !ours:
		return ErrUnknownField
	case f == nil:
		return ErrNotFound.saying("the subject has no such field").on(field, "")
	case !f.present():
		return ErrFieldErased.on(field, "")
	}
	return nil
}

// commitErasure writes the erasure and its certificate, then waits for the ledger.
func (v *Vault) commitErasure(ctx context.Context, s *subject, t tombstone, id erasureID, certificate []byte, r *replay) error {
	var fieldEdit *sealedEdit
	if t.what == tombField {
		e := &edit{subject: s}
		e.remove(v, t.field)
		var err error
		if fieldEdit, err = v.sealEdit(e); err != nil {
			return err
		}
	}
	var memory []byte
	if r != nil {
		var err error
		if memory, err = v.sealReplay(r, id[:]); err != nil {
			return err
		}
	}
	err := v.store.Update(ctx, func(tx store.Tx) (err error) {
		if fieldEdit != nil {
			err = v.write(tx, fieldEdit)
		} else {
			err = v.destroy(tx, s)
		}
		if err != nil {
			return err
		}
		if err := bury(tx, []tombstone{t}); err != nil {
			return err
		}
		if err := tx.Create(store.Tombstones, erasureRow(id[:]), append([]byte{1}, certificate...)); err != nil {
			return err
		}
		if err := tx.Create(store.Tombstones, erasureOfRow(t.sid, id[:]), []byte{1}); err != nil {
			return err
		}
		if memory != nil {
			return v.remember(tx, r, memory)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.what == tombSubject {
		v.deks.Forget(s.ref())
	}
	return v.flushLedger(ctx)
}

// destroy removes all rows of a subject but the tombstone that the caller writes.
func (v *Vault) destroy(tx store.Tx, s *subject) error {
	if err := v.unchanged(tx, s); err != nil {
		return err
	}
	if err := v.checkBucket(tx, s.sid.Bucket(), true); err != nil {
		return err
	}
	if err := tx.Delete(store.Subjects, keys.SubjectKeyRow(s.sid)); err != nil {
		return err
	}
	if err := tx.Delete(store.Subjects, keys.SubjectBodyRow(s.sid)); err != nil {
		return err
	}
	var leaves []indexChange
	for i := range s.body.fields {
		f := &s.body.fields[i]
		if f.present() && f.large() {
			if err := tx.Delete(store.Subjects, keys.SubjectValueRow(s.sid, f.name)); err != nil {
				return err
			}
		}
		if f.ikVer > 0 {
			leaves = append(leaves, indexChange{s.sid, f.p, false})
		}
	}
	var dead []deadToken
	for i := range s.body.tokens {
		dead = append(dead, deadToken{v.keys.TokenRowKey(s.body.tokens[i].text), keys.SubjectErased})
	}
	if err := v.markTokens(tx, dead); err != nil {
		return err
	}
	return v.reindex(tx, leaves)
}

// replayErase answers a repeated erasure with the certificate of the first time.
func (v *Vault) replayErase(ctx context.Context, rec *record, sid keys.SID, field string, r *replay) ([]byte, error) {
	if len(r.pointers) != len(erasureID{}) {
		return nil, ErrCorrupt
	}
	rec.item(&sid, field, "", "", nil)
	if _, err := rec.commit(ctx); err != nil {
		return nil, err
	}
	if err := v.flushLedger(ctx); err != nil { // the first time may have failed there
		return nil, err
	}
	return v.certificate(ctx, erasureID(r.pointers))
}
