package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// pageBytes bounds the rows that one page is made of, besides Page.Limit, so that neither a page nor what it costs to
// make one is ever large. Whoever has more rows than that is alone on a page.
const pageBytes = 4 << 20

// somebody goes on to the page behind while everybody of a page was erased before it was answered.
func somebody[T any](page Page, get func(Page) ([]T, string, error)) ([]T, string, error) {
	for {
		out, next, err := get(page)
		if err != nil || len(out) > 0 || next == "" {
			return out, next, err
		}
		page.Cursor = next
	}
}

// person is a subject of a page. Somebody who cannot be opened does not end the page: err says why.
type person struct {
	*subject
	id  string // "" until the data key is there
	err *Error
}

// personRows are a subject's rows as one snapshot has them, copied.
type personRows struct {
	sid       keys.SID
	key, body []byte
	large     map[string][]byte // by field; nil when they were not asked for
}

// readPeople opens the subjects of a page as far as that needs no data key, with the records of their large values when
// values is set. At least one is on the page where there is one at all; next leads to those behind. items is how many the
// audit log will have of a person.
func (v *Vault) readPeople(tx store.ReadTx, page Page, values bool, items func(*person) int) (people []*person, next string, err error) {
	limit, from, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	rows, more, err := scanPeople(tx, from, nil, limit, values)
	if err != nil {
		return nil, "", err
	}
	if people, err = v.openPeople(tx, rows, values); err != nil {
		return nil, "", err
	}
	if n := logged(people, items); n < len(people) {
		people, more = people[:n], true
	}
	if more {
		next = cursorAt(people[len(people)-1].sid)
	}
	return people, next, nil
}

// scanPeople copies the rows of the first subjects between two row keys, up to n of them and up to pageBytes, and tells
// whether there are more.
func scanPeople(tx store.ReadTx, from, to []byte, n int, values bool) (out []personRows, more bool, err error) {
	size := 0
	err = tx.Scan(store.Subjects, from, to, func(key, value []byte) error {
		const sort = len(keys.SID{}) // place of the byte that says which row it is
		if len(key) <= sort {
			return nil
		}
		if sid := keys.SID(key[:sort]); len(out) == 0 || out[len(out)-1].sid != sid {
			if len(out) == n || size >= pageBytes {
				more = true
				return errStop
			}
			out = append(out, personRows{sid: sid})
		}
		if key[sort] == 'v' && !values {
			return nil
		}
		if size += len(value); size > pageBytes && len(out) > 1 {
			out, more = out[:len(out)-1], true // begins the next page
			return errStop
		}
		p := &out[len(out)-1]
		switch key[sort] {
		case 'k':
			p.key = bytes.Clone(value)
		case 's':
			p.body = bytes.Clone(value)
		case 'v':
			if p.large == nil {
				p.large = map[string][]byte{}
			}
			p.large[string(key[sort+1:])] = bytes.Clone(value)
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return out, more, err
}

// openPeople opens rows on all cores, those of large values when values is set, and leaves of each person's tokens those that
// are alive.
func (v *Vault) openPeople(tx store.ReadTx, rows []personRows, values bool) ([]*person, error) {
	people := make([]*person, len(rows))
	err := spread(len(rows), func(i int) error {
		p := &person{subject: &subject{sid: rows[i].sid}}
		people[i] = p
		if err := p.open(v, rows[i].key, rows[i].body); err != nil {
			return p.damaged(v, err)
		}
		if !values {
			return nil
		}
		return p.openLarge(v, rows[i].large)
	})
	if err != nil {
		return nil, err
	}
	return people, v.forgetDead(tx, people)
}

// openLarge opens the rows of large values as far as their records. One that does not open is left out, and missed
// when its value is asked for.
func (p *person) openLarge(v *Vault, rows map[string][]byte) error {
	p.large = make(map[string][]byte, len(rows))
	for i := range p.body.fields {
		f := &p.body.fields[i]
		if !f.present() || !f.large() {
			continue
		}
		record, err := v.keys.OpenValue(secret.NewBytes(f.record), p.sid, f.name, rows[f.name])
		if err == nil {
			p.large[f.name] = record
			continue
		}
		if !errors.Is(err, keys.ErrCorrupt) {
			return err
		}
		v.log.Error("large value row does not open", "err", err)
	}
	return nil
}

// damaged makes an error of a row the person's own. One of the vault as a whole is returned.
func (p *person) damaged(v *Vault, err error) error {
	e := AsError(storeError(err))
	if !e.Is(ErrCorrupt) {
		return err
	}
	v.log.Error("subject rows do not open", "err", e.Unwrap())
	p.err = e
	return nil
}

// forgetDead takes the tokens off that are past their time or were used up.
func (v *Vault) forgetDead(tx store.ReadTx, people []*person) error {
	now := millis(v.now())
	late := func(t bodyToken) bool { return t.expiry != 0 && t.expiry <= now }
	var rows [][]byte
	var once []string
	for _, p := range people {
		if p.err != nil {
			continue
		}
		p.body.tokens = slices.DeleteFunc(p.body.tokens, late)
		for _, t := range p.body.tokens {
			if t.flags&keys.TokenSingleUse != 0 {
				row := v.keys.TokenRowKey(t.text)
				rows, once = append(rows, row[:]), append(once, t.text)
			}
		}
	}
	values, err := tx.GetMulti(store.Tokens, rows)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for i := range values {
		if head, err := keys.ParseTokenRow(values[i]); err == nil && head.Gone {
			used[once[i]] = true
		}
	}
	for _, p := range people {
		if p.err == nil && len(used) > 0 {
			p.body.tokens = slices.DeleteFunc(p.body.tokens, func(t bodyToken) bool { return used[t.text] })
		}
	}
	return nil
}

// logged is how many of the people fit one entry of the audit log; somebody without items has one.
func logged(people []*person, items func(*person) int) int {
	n := 0
	for i, p := range people {
		if n += max(1, items(p)); n > audit.MaxItems {
			return i
		}
	}
	return len(people)
}

// unlock fetches the data keys of all, and their external ids. Somebody whose key the key service refuses is left with that error;
// a key service that does not answer fails them all, for there would be a hole where everybody is there.
func (v *Vault) unlock(ctx context.Context, people []*person) error {
	var sound []*person
	var subjects []*subject
	for _, p := range people {
		if p.err == nil {
			sound, subjects = append(sound, p), append(subjects, p.subject)
		}
	}
	for i, err := range v.unwrap(ctx, subjects) {
		if err == nil {
			continue
		}
		if !errors.Is(err, keys.ErrUnwrap) {
			return ErrKeyService.because(err)
		}
		sound[i].err = err
	}
	return spread(len(sound), func(i int) (err error) {
		p := sound[i]
		if p.err != nil {
			return nil
		}
		if p.id, err = v.externalID(p.subject); err != nil {
			return p.damaged(v, err)
		}
		return nil
	})
}

// wipePeople overwrites the data keys that unlock gave.
func wipePeople(people []*person) {
	for _, p := range people {
		p.dek.Wipe()
	}
}

// commitShown writes the entry and then tells of each of the people what was erased while the call waited for the key service or the
// log, and must not be shown any more (as in lookAgain).
func (v *Vault) commitShown(ctx context.Context, rec *record, people []*person) ([]lost, error) {
	gone := make([]lost, len(people))
	if _, err := rec.commit(ctx); err != nil || !rec.waited() {
		return gone, err
	}
	var subjects []*subject
	var at []int
	for i, p := range people {
		if p.err == nil {
			subjects, at = append(subjects, p.subject), append(at, i)
		}
	}
	found, err := v.lostSince(ctx, subjects)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		gone[i] = found[j]
	}
	return gone, nil
}
