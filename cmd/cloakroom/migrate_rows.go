package main

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/sqltable"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// outcome is what one batch found, besides the rows that it changes. It counts once the batch has committed.
type outcome struct {
	bad      []badRow
	warnings int // values that were accepted with a doubt
	proved   int // rows whose tokens were opened and compared
}

type badRow struct {
	key   string
	fault rowFault
}

func (o *outcome) fail(key string, fault rowFault) { o.bad = append(o.bad, badRow{key, fault}) }

// rowWork is done on locked rows: see sqltable.Work.
type rowWork func(ctx context.Context, rows []sqltable.Row, o *outcome) ([]sqltable.Row, error)

// fill stores the values of rows and puts their tokens beside them. A row that has something to do is stored with all
// its values, also those that have a token: the application may have written since.
func (j *tableJob) fill(ctx context.Context, rows []sqltable.Row, o *outcome) ([]sqltable.Row, error) {
	send := make([]wire.ImportRow, 0, len(rows))
	sent := make([]sqltable.Row, 0, len(rows))
	var out []sqltable.Row
	var err error
	for _, row := range rows {
		if j.bad.has(row.Key) {
			continue
		}
		message, fault := j.message(row)
		if fault != nil {
			o.fail(row.Key, *fault)
			continue
		}
		if fault, err = j.emptied(row); err != nil {
			return nil, err
		}
		if fault != nil {
			o.fail(row.Key, *fault)
			continue
		}
		if len(message.Fields) == 0 {
			out = append(out, row)
			continue
		}
		send, sent = append(send, message), append(sent, row)
	}
	results, err := j.server.putRows(ctx, send)
	if err != nil {
		return nil, err
	}
	var others heldTokens
	for i, r := range results {
		row := sent[i]
		if r.Error != nil {
			o.fail(row.Key, putFault(r.Error))
			continue
		}
		o.warnings += len(r.Warnings)
		for at, c := range row.Cells {
			if !holds(c) {
				continue
			}
			if err := j.own(row.Key, at, c); err != nil {
				return nil, err
			}
			token := string(r.Tokens[j.fields[at].Field])
			if c.Token.Valid && c.Token.Value != token {
				others.add(row.Key, c.Token.Value)
			}
			row.Cells[at].Token = sqltable.Text{Value: token, Valid: true}
		}
		out = append(out, row)
	}
	return out, j.replaceable(ctx, others)
}

// prove is fill, and then opens every token: what comes back must be what the row holds, byte for byte.
func (j *tableJob) prove(ctx context.Context, rows []sqltable.Row, o *outcome) ([]sqltable.Row, error) {
	out, err := j.fill(ctx, rows, o)
	if err != nil {
		return nil, err
	}
	differ, _, err := j.compare(ctx, out)
	if err != nil {
		return nil, err
	}
	if len(differ) > 0 {
		return nil, differsError{differ}
	}
	o.proved += len(out)
	return out, nil
}

// cut is prove, and then takes the plaintext out.
func (j *tableJob) cut(ctx context.Context, rows []sqltable.Row, o *outcome) ([]sqltable.Row, error) {
	out, err := j.prove(ctx, rows, o)
	if err != nil {
		return nil, err
	}
	for _, row := range out {
		for at, c := range row.Cells {
			if holds(c) {
				row.Cells[at].Plain = sqltable.Text{}
			}
		}
	}
	return out, nil
}

// holds reports whether there is a value. The empty string is none: it stays as it is.
func holds(c sqltable.Cell) bool { return c.Plain.Valid && c.Plain.Value != "" }

// message is what the server gets of a row, or what is wrong with it before it is sent.
func (j *tableJob) message(row sqltable.Row) (wire.ImportRow, *rowFault) {
	out := wire.ImportRow{Subject: j.prefix + row.Key, Fields: wire.Fields{}}
	// A prefix before a phone number does not hide whose it is.
	if tokenizer.IdentifyingID(row.Key) {
		return out, idFault(row.Key)
	}
	if fault := idFault(out.Subject); fault != nil {
		return out, fault
	}
	size := 256
	for at, c := range row.Cells {
		if !holds(c) {
			continue
		}
		if !utf8.ValidString(c.Plain.Value) {
			return out, &rowFault{j.fields[at].Field, codeRow, string(tablefile.Encoded), "the value is not text in UTF-8"}
		}
		size += len(c.Plain.Value) + sourceBytes
		out.Fields[j.fields[at].Field] = wire.FieldValue{Value: wire.Plain(c.Plain.Value), Source: j.sources[at]}
	}
	// An escape makes up to six bytes of one, so that short rows need no look.
	if 6*size >= maxMessage/2 {
		if text, err := json.Marshal(out); err != nil || len(text) >= maxMessage {
			return out, &rowFault{code: codeRow, rule: string(tablefile.TooLong), meaning: "the row " + tablefile.TooLong.Meaning()}
		}
	}
	return out, nil
}

// compare opens the tokens of values that have one, and returns the keys of the rows where one does not open to what
// the row holds, and how many rows it looked at.
func (j *tableJob) compare(ctx context.Context, rows []sqltable.Row) (differ []string, looked int, err error) {
	type place struct{ row, at int }
	var (
		places []place
		tokens []wire.Plain
		sizes  []int
	)
	for i, row := range rows {
		before := len(places)
		for at, c := range row.Cells {
			if holds(c) && c.Token.Valid {
				places, tokens, sizes = append(places, place{i, at}), append(tokens, wire.Plain(c.Token.Value)), append(sizes, len(c.Plain.Value))
			}
		}
		if len(places) > before {
			looked++
		}
	}
	values, err := j.server.openAll(ctx, tokens, sizes)
	if err != nil {
		return nil, 0, err
	}
	for n, v := range values {
		at := places[n]
		row := rows[at.row]
		switch {
		case v.fault != nil && v.fault.Code == wire.KeyUnavailable:
			return nil, 0, errKeyAway
		case v.fault != nil && !dead(v.fault.Code):
			return nil, 0, itemError{*v.fault}
		case v.fault == nil && string(v.value) == row.Cells[at.at].Plain.Value:
		case len(differ) == 0 || differ[len(differ)-1] != row.Key:
			differ = append(differ, row.Key)
		}
	}
	return differ, looked, nil
}

// dead reports whether a token opens nothing any more, or never did. Other faults are about who asks, and when.
func dead(code wire.Code) bool {
	switch code {
	case wire.TokenMalformed, wire.TokenUnknown, wire.TokenExpired, wire.TokenUsed, wire.TokenRevoked, wire.SubjectErased, wire.FieldErased:
		return true
	}
	return false
}

// differsError: tokens do not open to what their rows hold.
type differsError struct{ keys []string }

func (e differsError) Error() string {
	const most = 10
	var shown []string
	for _, key := range e.keys[:min(len(e.keys), most)] {
		shown = append(shown, showKey(key))
	}
	if len(e.keys) > most {
		shown = append(shown, "...")
	}
	return fmt.Sprintf("the tokens of %d rows do not open to what the table holds (keys: %s); their plaintext was not touched", len(e.keys), strings.Join(shown, ", "))
}

// showKey is a key as it may stand in a message.
func showKey(key string) string {
	if !showsNobody(key) {
		return "(a key that is not shown)"
	}
	return key
}
