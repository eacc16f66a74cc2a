package wire

import "time"

// NewJob is the body of POST /v1/jobs.
type NewJob struct {
	Kind    string            `json:"kind"` // move-keys
	Options map[string]string `json:"options,omitzero"`
}

// JobStarted answers POST /v1/jobs.
type JobStarted struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	State string `json:"state"`
}

// Job answers GET /v1/jobs/{id}.
type Job struct {
	ID         string            `json:"id"`
	Kind       string            `json:"kind"`
	State      string            `json:"state"` // running, done, failed
	Options    map[string]string `json:"options"`
	Done       uint64            `json:"done"` // of Total
	Total      uint64            `json:"total"`
	Rate       float64           `json:"rate"`           // of Done, per second; 0 unless it runs
	ETA        *float64          `json:"eta,omitzero"`   // seconds left; nil when that cannot be told
	Error      *ItemError        `json:"error,omitzero"` // running: what it waits for; failed: why; done: what it had to leave
	Service    string            `json:"service"`        // who began it
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
	FinishedAt *time.Time        `json:"finished_at,omitzero"`
}

// JobList answers GET /v1/jobs, newest first.
type JobList struct {
	Jobs       []Job  `json:"jobs"`
	NextCursor string `json:"next_cursor,omitzero"`
}
