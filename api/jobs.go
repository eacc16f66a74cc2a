package api

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

func (s *service) startJob(ctx context.Context, call vault.Call, _ params, req *wire.NewJob) (int, wire.JobStarted, error) {
	j, err := s.vault.StartJob(ctx, call, vault.JobRequest{Kind: req.Kind, Options: req.Options})
	return http.StatusAccepted, wire.JobStarted{ID: j.ID, Kind: j.Kind, State: j.State}, err
}

func (s *service) getJob(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.Job, error) {
	j, err := s.vault.Job(ctx, call, p.path("id"))
	return http.StatusOK, job(j), err
}

func (s *service) listJobs(ctx context.Context, call vault.Call, p params, _ *nothing) (int, wire.JobList, error) {
	page, err := p.page()
	if err != nil {
		return 0, wire.JobList{}, err
	}
	jobs, next, err := s.vault.Jobs(ctx, call, page)
	if err != nil {
		return 0, wire.JobList{}, err
	}
	out := wire.JobList{Jobs: make([]wire.Job, len(jobs)), NextCursor: next}
	for i, j := range jobs {
		out.Jobs[i] = job(j)
	}
	return http.StatusOK, out, nil
}

func job(j vault.Job) wire.Job {
	out := wire.Job{
		ID: j.ID, Kind: j.Kind, State: j.State, Options: j.Options, Done: j.Done, Total: j.Total, Rate: j.Rate, Service: j.Service,
		CreatedAt: j.Created, UpdatedAt: j.Updated,
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if j.ETA > 0 {
		seconds := j.ETA.Seconds()
		out.ETA = &seconds
	}
	if j.Err != nil {
		out.Error = itemError(j.Err)
	}
	if !j.Finished.IsZero() {
		out.FinishedAt = &j.Finished
	}
	return out
}
