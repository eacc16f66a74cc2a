package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// own refuses to write over what is no token of the field: the column is in use for something else.
func (j *tableJob) own(key string, at int, c sqltable.Cell) error {
	if !c.Token.Valid {
		return nil
	}
	if field, err := tokenizer.ParseToken(c.Token.Value); err == nil && field == j.fields[at].Field {
		return nil
	}
	f := j.fields[at]
	return fmt.Errorf("the token column of %s holds something in row %s that is no token of field %s; nothing was written over: name another with --token-column %s=COLUMN",
		printable(f.Column), showKey(key), printable(f.Field), printable(f.Field))
}

func (j *tableJob) ownAll(rows []sqltable.Row) error {
	for _, row := range rows {
		for at, c := range row.Cells {
			if err := j.own(row.Key, at, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// heldTokens are tokens that stand in rows, by the rows' keys.
type heldTokens struct {
	keys   []string
	tokens []wire.Plain
}

func (h *heldTokens) add(key, token string) {
	h.keys, h.tokens = append(h.keys, key), append(h.tokens, wire.Plain(token))
}

// heldBy are all tokens of the rows.
func heldBy(rows []sqltable.Row) (out heldTokens) {
	for _, row := range rows {
		for _, c := range row.Cells {
			if c.Token.Valid {
				out.add(row.Key, c.Token.Value)
			}
		}
	}
	return out
}

// replaceable fails when one of the tokens, which are not those of their rows' people, is alive: then it is somebody's,
// and most likely the same person's under another id. It also fails for one that the server never issued.
func (j *tableJob) replaceable(ctx context.Context, others heldTokens) error {
	states, err := j.server.inspectAll(ctx, others.tokens)
	if err != nil {
		return err
	}
	for i, state := range states {
		if state == tokenActive {
			return strangerError{others.keys[i]}
		}
	}
	return j.issued(others, states)
}

const tokenActive = "active"

// known fails when the server never issued a token that stands in one of the rows.
func (j *tableJob) known(ctx context.Context, rows []sqltable.Row) error {
	held := heldBy(rows)
	states, err := j.server.inspectAll(ctx, held.tokens)
	if err != nil {
		return err
	}
	return j.issued(held, states)
}

func (j *tableJob) issued(held heldTokens, states []string) error {
	if j.reissue {
		return nil
	}
	n, key := 0, ""
	for i, state := range states {
		if state == string(wire.TokenUnknown) {
			n, key = n+1, held.keys[i]
		}
	}
	if n == 0 {
		return nil
	}
	return unknownError{n, len(states), key}
}

// strangerError: a row holds a token that is another person's.
type strangerError struct{ key string }

func (e strangerError) Error() string {
	return "row " + showKey(e.key) + " holds a token of another person, or of this one under another id; nothing was written over. " +
		"--prefix, --key and the server must be those that the tokens were made with. Where they are, somebody copied the token from another row: " +
		"set it to NULL in this one if the plaintext is there, and run this again"
}

// unknownError: rows hold tokens that the server never issued.
type unknownError struct {
	n, of int
	key   string // of one of the rows
}

func (e unknownError) Error() string {
	return fmt.Sprintf("the server never issued %d of %d tokens that were looked at (one is in row %s); nothing was written over. "+
		"Is it another server than the one that made them, or was it restored from a backup? Go on with the one that has them. "+
		"Where that one is lost for good, --reissue makes new tokens for rows that have their plaintext", e.n, e.of, showKey(e.key))
}

// sameIDs asks the server for a few people who have tokens: another --prefix would store everybody a second time.
func (j *tableJob) sameIDs(ctx context.Context, rows []sqltable.Row) error {
	const asked = 10
	for _, row := range rows[:min(len(rows), asked)] {
		subject := j.prefix + row.Key
		if idFault(subject) != nil {
			continue
		}
		tokens, err := j.server.tokens(ctx, subject)
		if err != nil {
			return err
		}
		var others heldTokens
		for at, c := range row.Cells {
			if c.Token.Valid && c.Token.Value != string(tokens[j.fields[at].Field]) {
				others.add(row.Key, c.Token.Value)
			}
		}
		if err := j.replaceable(ctx, others); err != nil {
			return err
		}
	}
	return nil
}

// emptyRule is told of a row with the empty string beside a token.
const emptyRule = "empty_beside_token"

// besideToken reports whether there is the empty string beside a token.
func besideToken(c sqltable.Cell) bool { return c.Plain.Valid && c.Plain.Value == "" && c.Token.Valid }

// besideEmpty returns the first column that holds the empty string beside a token, -1 where there is none.
func besideEmpty(row sqltable.Row) int { return slices.IndexFunc(row.Cells, besideToken) }

// emptied settles a value that is empty beside a token: either the application emptied it and left the token, or it, or a
// DEFAULT, wrote the empty string beside a token that is good. To drop a good token would lose a value, so the row is bad, unless
// the plaintext was said to be the truth (--refresh).
func (j *tableJob) emptied(row sqltable.Row) (*rowFault, error) {
	if at := besideEmpty(row); at >= 0 && !j.refresh {
		return j.emptyFault(at), nil
	}
	for at, c := range row.Cells {
		if !besideToken(c) {
			continue
		}
		if err := j.own(row.Key, at, c); err != nil {
			return nil, err
		}
		row.Cells[at].Token = sqltable.Text{}
	}
	return nil, nil
}

func (j *tableJob) emptyFault(at int) *rowFault {
	return &rowFault{j.fields[at].Field, codeRow, emptyRule,
		"the column is empty beside a token; if the value was emptied, set the token to NULL; if the token is good, set the column to NULL"}
}

// walk reads the rows that are wanted, page by page, without locks.
func (j *tableJob) walk(ctx context.Context, want sqltable.Want, each func(sqltable.Page) error) error {
	var place sqltable.Place
	for {
		page, err := j.table.Read(ctx, want, place, j.batch)
		if err != nil {
			return err
		}
		if err := each(page); err != nil || page.Done {
			return err
		}
		place = page.Next
	}
}

// listEmptied finds rows with the empty string beside a token that is alive: other steps meet only those that have
// something else to do.
func (j *tableJob) listEmptied(ctx context.Context) error {
	return j.walk(ctx, sqltable.WithToken, func(page sqltable.Page) error {
		var rows []sqltable.Row
		for _, row := range page.Rows {
			if besideEmpty(row) >= 0 {
				rows = append(rows, row)
			}
		}
		held := heldBy(rows)
		states, err := j.server.inspectAll(ctx, held.tokens)
		if err != nil {
			return err
		}
		alive := map[string]bool{}
		for i, token := range held.tokens {
			alive[string(token)] = states[i] == tokenActive
		}
		for _, row := range rows {
			for at, c := range row.Cells {
				if besideToken(c) && alive[c.Token.Value] {
					if err := j.bad.add(row.Key, *j.emptyFault(at)); err != nil {
						return fmt.Errorf("writing the bad rows: %w", err)
					}
				}
			}
		}
		return j.bad.flush()
	})
}

// clearEmptied takes such tokens away.
func (j *tableJob) clearEmptied(ctx context.Context) error {
	return j.walk(ctx, sqltable.WithToken, func(page sqltable.Page) error {
		var keys []string
		for _, row := range page.Rows {
			if besideEmpty(row) >= 0 {
				keys = append(keys, row.Key)
			}
		}
		if len(keys) == 0 {
			return nil
		}
		_, err := j.one(ctx, j.fill, func(ctx context.Context, work sqltable.Work) (sqltable.Batch, error) {
			return j.table.BatchOf(ctx, keys, work)
		})
		return err
	})
}
