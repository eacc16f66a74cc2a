package client

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// StartJob begins a job and returns at once; Job tells how it goes.
func (c *Client) StartJob(ctx context.Context, job wire.NewJob, options ...Option) (wire.JobStarted, error) {
	return call[wire.JobStarted](ctx, c, request{method: http.MethodPost, path: "/v1/jobs", body: job}, options)
}

// Job tells how a job is.
func (c *Client) Job(ctx context.Context, id string, options ...Option) (wire.Job, error) {
	path, err := route("jobs", id)
	if err != nil {
		return wire.Job{}, err
	}
	return call[wire.Job](ctx, c, request{method: http.MethodGet, path: path, repeatable: true}, options)
}

// Jobs returns jobs, newest first.
func (c *Client) Jobs(ctx context.Context, page Page, options ...Option) (wire.JobList, error) {
	return call[wire.JobList](ctx, c, request{method: http.MethodGet, path: "/v1/jobs", query: page.query(), repeatable: true}, options)
}
