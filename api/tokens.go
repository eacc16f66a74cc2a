package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) tokenize(ctx context.Context, call vault.Call, p params, req *wire.Tokenize) (int, wire.Tokenized, error) {
	recreate, err := p.recreate()
	if err != nil {
		return 0, wire.Tokenized{}, err
	}
	if err := checkBatch("items", req.Items == nil, len(req.Items)); err != nil {
		return 0, wire.Tokenized{}, err
	}
	out := wire.Tokenized{Items: make([]wire.TokenizeResult, len(req.Items))}
	items := make([]vault.TokenizeItem, 0, len(req.Items))
	place := make([]int, 0, len(req.Items)) // of items[i] in the request
	for i := range req.Items {
		item, bad := tokenizeItem(&req.Items[i])
		if bad != nil {
			out.Items[i].Error = bad
			s.meter.tokenize.failed(vault.ErrMalformed)
			continue
		}
		item.Recreate = recreate
		items, place = append(items, item), append(place, i)
	}
	results, err := s.vault.Tokenize(ctx, call, items)
	if err != nil {
		return 0, wire.Tokenized{}, err
	}
	for i := range results {
		r, to := &results[i], &out.Items[place[i]]
		if r.Err != nil {
			to.Error = itemError(r.Err)
			s.meter.tokenize.failed(r.Err)
			continue
		}
		to.Token, to.Warnings = wire.Plain(r.Token.Reveal()), warnings(r.Warnings)
		s.meter.tokenize.ok.Inc()
	}
	return http.StatusOK, out, nil
}

// tokenizeItem reads the one member of an item whose form is not the vault's to judge.
func tokenizeItem(w *wire.TokenizeItem) (vault.TokenizeItem, *wire.ItemError) {
	var ttl time.Duration
	if w.TTL != "" {
		d, err := time.ParseDuration(w.TTL)
		if err != nil || d <= 0 {
			return vault.TokenizeItem{}, &wire.ItemError{Code: wire.MalformedRequest, Detail: "ttl is a duration from 1s to ten years, such as 24h or 30m"}
		}
		ttl = d
	}
	return vault.TokenizeItem{
		Subject: w.Subject, Field: w.Field, Value: secret.NewText(string(w.Value)), Audience: w.Audience, TTL: ttl,
		SingleUse: w.SingleUse, Format: w.Format, Source: w.Source, Authorization: w.Authorization,
	}, nil
}

func (s *service) detokenize(ctx context.Context, call vault.Call, _ params, req *wire.Detokenize) (int, wire.Detokenized, error) {
	if err := checkBatch("tokens", req.Tokens == nil, len(req.Tokens)); err != nil {
		return 0, wire.Detokenized{}, err
	}
	call.Purpose, call.Reason = req.Purpose, req.Reason
	if err := checkReading(call, req.View); err != nil {
		return 0, wire.Detokenized{}, err
	}
	revealed, err := s.vault.Detokenize(ctx, call, vault.DetokenizeRequest{View: req.View, Tokens: texts(req.Tokens)})
	if err != nil {
		return 0, wire.Detokenized{}, err
	}
	out := wire.Detokenized{Items: make([]wire.Revealed, len(revealed))}
	values := make([]wire.Plain, len(revealed)) // what the items point to, in one piece
	opened := 0
	for i := range revealed {
		r, to := &revealed[i], &out.Items[i]
		to.Token = req.Tokens[i]
		if r.Err != nil {
			to.Error = itemError(r.Err)
			s.meter.reveal.failed(r.Err)
			continue
		}
		values[i] = wire.Plain(r.Value.Reveal())
		to.Field, to.Value, to.View = r.Field, &values[i], r.View
		opened++
	}
	s.meter.reveal.ok.Add(float64(opened))
	return http.StatusOK, out, nil
}

func (s *service) inspect(ctx context.Context, call vault.Call, _ params, req *wire.Tokens) (int, wire.TokenStates, error) {
	return states(req, func(tokens []secret.Text) ([]vault.TokenState, error) { return s.vault.Inspect(ctx, call, tokens) })
}

func (s *service) revoke(ctx context.Context, call vault.Call, _ params, req *wire.Tokens) (int, wire.TokenStates, error) {
	return states(req, func(tokens []secret.Text) ([]vault.TokenState, error) { return s.vault.Revoke(ctx, call, tokens) })
}

// states is what inspect and revoke have in common.
func states(req *wire.Tokens, ask func([]secret.Text) ([]vault.TokenState, error)) (int, wire.TokenStates, error) {
	if err := checkBatch("tokens", req.Tokens == nil, len(req.Tokens)); err != nil {
		return 0, wire.TokenStates{}, err
	}
	found, err := ask(texts(req.Tokens))
	if err != nil {
		return 0, wire.TokenStates{}, err
	}
	out := wire.TokenStates{Items: make([]wire.TokenState, len(found))}
	for i := range found {
		f, to := &found[i], &out.Items[i]
		to.Token = req.Tokens[i]
		if f.Err != nil {
			to.Error = itemError(f.Err)
			continue
		}
		to.Field, to.Audience, to.Format, to.SingleUse, to.State = f.Field, f.Audience, f.Format, f.SingleUse, f.State
		if !f.Expires.IsZero() {
			to.ExpiresAt = &f.Expires
		}
	}
	return http.StatusOK, out, nil
}

func texts(from []wire.Plain) []secret.Text {
	to := make([]secret.Text, len(from))
	for i, p := range from {
		to[i] = secret.NewText(string(p))
	}
	return to
}

// checkBatch refuses a batch that is not there or too long to be answered.
func checkBatch(name string, missing bool, n int) error {
	switch {
	case missing:
		return malformed("the member " + name + " is missing")
	case n > vault.MaxItems:
		return malformed(name + " holds at most " + strconv.Itoa(vault.MaxItems) + " entries; send several batches")
	}
	return nil
}
