package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// TokenQuery says which tokens ListTokens names. The zero value is the lasting ones of nobody's audience, of all fields.
type TokenQuery struct {
	Audience string   // the service that may open them
	Fields   []string // nil for all
}

// ListTokens names everybody with their lasting tokens by field: no values, and no tokens that end by themselves.
// Somebody who cannot be read is there with an Error.
func (c *Client) ListTokens(ctx context.Context, q TokenQuery, page Page, options ...Option) (wire.TokenList, error) {
	query := page.query()
	if q.Audience != "" {
		query.Set("audience", q.Audience)
	}
	if len(q.Fields) > 0 {
		query.Set("fields", strings.Join(q.Fields, ","))
	}
	return call[wire.TokenList](ctx, c, request{method: http.MethodGet, path: "/v1/tokens", query: query, repeatable: true}, options)
}

// Export hands out all that is held of everybody, a page at a time, with values in full. A page has at most about 4 MiB of
// them, so it may end before its limit. Somebody who cannot be read is there with an Error.
func (c *Client) Export(ctx context.Context, page Page, options ...Option) (wire.Export, error) {
	return call[wire.Export](ctx, c, request{method: http.MethodGet, path: "/v1/export", query: page.query(), repeatable: true}, options)
}

// ExportSubject is Export of one person.
func (c *Client) ExportSubject(ctx context.Context, subject string, options ...Option) (wire.ExportedSubject, error) {
	path, err := route("subjects", subject, "export")
	if err != nil {
		return wire.ExportedSubject{}, err
	}
	return call[wire.ExportedSubject](ctx, c, request{method: http.MethodGet, path: path, repeatable: true}, options)
}
