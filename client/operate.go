package client

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// AddService makes a caller and its first credential, which is shown this once.
func (c *Client) AddService(ctx context.Context, name, role string, options ...Option) (wire.ServiceKey, error) {
	return call[wire.ServiceKey](ctx, c, request{
		method: http.MethodPost, path: "/v1/services", body: wire.NewService{Name: name, Role: role},
	}, options)
}

// AddKey makes another credential of a service.
func (c *Client) AddKey(ctx context.Context, service string, options ...Option) (wire.ServiceKey, error) {
	path, err := route("services", service, "keys")
	if err != nil {
		return wire.ServiceKey{}, err
	}
	return call[wire.ServiceKey](ctx, c, request{method: http.MethodPost, path: path}, options)
}

// DisableKey ends one credential.
func (c *Client) DisableKey(ctx context.Context, service, id string, options ...Option) error {
	path, err := route("services", service, "keys", id)
	if err != nil {
		return err
	}
	_, err = c.send(ctx, request{method: http.MethodDelete, path: path}, options)
	return err
}

// DisableService ends a service with all its credentials.
func (c *Client) DisableService(ctx context.Context, service string, options ...Option) error {
	path, err := route("services", service)
	if err != nil {
		return err
	}
	_, err = c.send(ctx, request{method: http.MethodDelete, path: path}, options)
	return err
}

// Services lists the callers and their credentials, without secrets.
func (c *Client) Services(ctx context.Context, page Page, options ...Option) (wire.ServiceList, error) {
	return call[wire.ServiceList](ctx, c, request{method: http.MethodGet, path: "/v1/services", query: page.query(), repeatable: true}, options)
}

// Policy returns the policy in force.
func (c *Client) Policy(ctx context.Context, options ...Option) (wire.Policy, error) {
	return call[wire.Policy](ctx, c, request{method: http.MethodGet, path: "/v1/policy", repeatable: true}, options)
}

// KeyStatus returns the state of the key hierarchy.
func (c *Client) KeyStatus(ctx context.Context, options ...Option) (wire.KeyStatus, error) {
	return call[wire.KeyStatus](ctx, c, request{method: http.MethodGet, path: "/v1/keys", repeatable: true}, options)
}

// Health tells whether the server's process answers.
func (c *Client) Health(ctx context.Context, options ...Option) error {
	_, err := c.once(ctx, with(request{method: http.MethodGet, path: "/healthz"}, options), nil)
	return err
}

// Ready tells which parts of the server work. A server that is not ready is no error: see Ready of the answer.
func (c *Client) Ready(ctx context.Context, options ...Option) (wire.Readiness, error) {
	var out wire.Readiness
	raw, status, err := c.exchange(ctx, with(request{method: http.MethodGet, path: "/readyz"}, options), nil)
	switch {
	case err != nil:
		return out, err
	case status.StatusCode != http.StatusOK && status.StatusCode != http.StatusServiceUnavailable:
		return out, problem(status, raw)
	}
	if json.Unmarshal(raw, &out) != nil || out.Checks == nil {
		if status.StatusCode != http.StatusOK {
			return out, problem(status, raw)
		}
		return out, errors.New("client: GET /readyz: the answer is not the documented JSON")
	}
	return out, nil
}

// OpenAPI returns the server's description of itself, YAML.
func (c *Client) OpenAPI(ctx context.Context, options ...Option) ([]byte, error) {
	return c.send(ctx, request{method: http.MethodGet, path: "/openapi.yaml", repeatable: true}, options)
}
