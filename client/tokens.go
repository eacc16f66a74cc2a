package client

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// MaxItems is how many items a batch may hold.
const MaxItems = 1000

// Tokenize sets fields and returns their tokens, one outcome for each item in the same order.
func (c *Client) Tokenize(ctx context.Context, items []wire.TokenizeItem, options ...Option) ([]wire.TokenizeResult, error) {
	out, err := call[wire.Tokenized](ctx, c, request{method: http.MethodPost, path: "/v1/tokenize", body: wire.Tokenize{Items: items}}, options)
	return out.Items, err
}

// Detokenize returns the values behind tokens, one outcome for each in the same order. It is never repeated by itself:
// a token may be good for one use only.
func (c *Client) Detokenize(ctx context.Context, body wire.Detokenize, options ...Option) ([]wire.Revealed, error) {
	out, err := call[wire.Detokenized](ctx, c, request{method: http.MethodPost, path: "/v1/detokenize", body: body}, options)
	return out.Items, err
}

// Inspect tells field, audience, expiry and state of tokens; no value.
func (c *Client) Inspect(ctx context.Context, tokens []wire.Plain, options ...Option) ([]wire.TokenState, error) {
	out, err := call[wire.TokenStates](ctx, c, request{
		method: http.MethodPost, path: "/v1/tokens/inspect", body: wire.Tokens{Tokens: tokens}, repeatable: true,
	}, options)
	return out.Items, err
}

// Revoke ends tokens for good. The fields stay; asking again mints new tokens.
func (c *Client) Revoke(ctx context.Context, tokens []wire.Plain, options ...Option) ([]wire.TokenState, error) {
	out, err := call[wire.TokenStates](ctx, c, request{
		method: http.MethodPost, path: "/v1/tokens/revoke", body: wire.Tokens{Tokens: tokens},
	}, options)
	return out.Items, err
}
