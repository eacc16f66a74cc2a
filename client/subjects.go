package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// errEmptyID: an empty id would turn the path into that of another route.
var errEmptyID = errors.New("client: the id is empty")

// route joins fixed parts and ids: route("subjects", id, "fields", field). Ids stand at the odd places.
func route(parts ...string) (string, error) {
	var b strings.Builder
	b.WriteString("/v1")
	for i, p := range parts {
		if i%2 == 1 {
			if p == "" {
				return "", errEmptyID
			}
			p = url.PathEscape(p)
		}
		b.WriteString("/" + p)
	}
	return b.String(), nil
}

// PutSubject sets the named fields of a subject, all or none, creates the subject where needed, and returns the fields'
// tokens. Other fields stay as they are.
func (c *Client) PutSubject(ctx context.Context, subject string, body wire.PutSubject, options ...Option) (wire.SubjectTokens, error) {
	path, err := route("subjects", subject)
	if err != nil {
		return wire.SubjectTokens{}, err
	}
	return call[wire.SubjectTokens](ctx, c, request{method: http.MethodPut, path: path, body: body, repeatable: true}, options)
}

// PatchSubject is PutSubject for a subject that exists; a field with Remove set goes.
func (c *Client) PatchSubject(ctx context.Context, subject string, body wire.PutSubject, options ...Option) (wire.SubjectTokens, error) {
	path, err := route("subjects", subject)
	if err != nil {
		return wire.SubjectTokens{}, err
	}
	return call[wire.SubjectTokens](ctx, c, request{method: http.MethodPatch, path: path, body: body}, options)
}

// Read says why and how a subject is read.
type Read struct {
	Purpose string   // required: a purpose of the policy
	View    string   // "" for the most that the purpose allows
	Fields  []string // nil for all
}

// GetSubject returns fields of one subject.
func (c *Client) GetSubject(ctx context.Context, subject string, read Read, options ...Option) (wire.Subject, error) {
	path, err := route("subjects", subject)
	if err != nil {
		return wire.Subject{}, err
	}
	q := url.Values{"purpose": {read.Purpose}}
	if read.View != "" {
		q.Set("view", read.View)
	}
	if len(read.Fields) > 0 {
		q.Set("fields", strings.Join(read.Fields, ","))
	}
	return call[wire.Subject](ctx, c, request{method: http.MethodGet, path: path, query: q, repeatable: true}, options)
}

// Page asks for a part of a list: the zero value is the start, in the server's default size.
type Page struct {
	Limit  int    // 1 to 1,000; 0 for the default
	Cursor string // NextCursor of the page before
}

func (p Page) query() url.Values {
	q := url.Values{}
	if p.Limit != 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Cursor != "" {
		q.Set("cursor", p.Cursor)
	}
	return q
}

// ListSubjects returns ids and times, no values.
func (c *Client) ListSubjects(ctx context.Context, page Page, options ...Option) (wire.SubjectList, error) {
	return call[wire.SubjectList](ctx, c, request{method: http.MethodGet, path: "/v1/subjects", query: page.query(), repeatable: true}, options)
}

// EraseSubject destroys the subject's key and returns the certificate: the exact bytes that are signed. Give an
// IdempotencyKey to be able to ask again for an answer that was lost.
func (c *Client) EraseSubject(ctx context.Context, subject, reason string, options ...Option) ([]byte, error) {
	path, err := route("subjects", subject)
	if err != nil {
		return nil, err
	}
	return c.erase(ctx, path, reason, options)
}

// EraseField erases one field of a subject.
func (c *Client) EraseField(ctx context.Context, subject, field, reason string, options ...Option) ([]byte, error) {
	path, err := route("subjects", subject, "fields", field)
	if err != nil {
		return nil, err
	}
	return c.erase(ctx, path, reason, options)
}

func (c *Client) erase(ctx context.Context, path, reason string, options []Option) ([]byte, error) {
	r := request{method: http.MethodDelete, path: path}
	if reason != "" {
		r.body = wire.Erase{Reason: reason}
	}
	return c.send(ctx, r, options)
}

// Erasure returns the certificate of one erasure by its id.
func (c *Client) Erasure(ctx context.Context, id string, options ...Option) ([]byte, error) {
	path, err := route("erasures", id)
	if err != nil {
		return nil, err
	}
	return c.send(ctx, request{method: http.MethodGet, path: path, repeatable: true}, options)
}

// OfSubject narrows Erasures to those of one subject and its fields.
func OfSubject(id string) Option { return func(r *request) { r.ask("subject", id) } }

// Erasures returns certificates, of one subject with OfSubject.
func (c *Client) Erasures(ctx context.Context, page Page, options ...Option) (wire.ErasureList, error) {
	return call[wire.ErasureList](ctx, c, request{method: http.MethodGet, path: "/v1/erasures", query: page.query(), repeatable: true}, options)
}
