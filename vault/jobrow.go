package vault

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/store"
)

// jobRow is `01 ‖ JSON`, at j ‖ id. Times are milliseconds since 1970 UTC.
type jobRow struct {
	ID       string            `json:"id"`
	Kind     string            `json:"kind"`
	State    string            `json:"state"`
	Options  map[string]string `json:"options"`
	Done     uint64            `json:"done"`
	Total    uint64            `json:"total"`
	Problem  *jobProblem       `json:"problem,omitzero"`
	Service  string            `json:"service"`
	Created  uint64            `json:"created"`
	Updated  uint64            `json:"updated"`
	Finished uint64            `json:"finished,omitzero"`
}

type jobProblem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (r *jobRow) marshal() ([]byte, error) {
	text, err := json.Marshal(r, json.Deterministic(true))
	return append([]byte{1}, text...), err
}

// end makes the row a job's last.
func (r *jobRow) end(state string, now time.Time, problem *Error) {
	r.State, r.Updated, r.Finished, r.Problem = state, millis(now), millis(now), nil
	if problem != nil {
		r.Problem = &jobProblem{problem.Code, problem.Detail}
	}
}

func (r *jobRow) put(tx store.Tx) error {
	id, _ := parseJobID(r.ID) // ours, or parseJob compared it
	text, err := r.marshal()
	if err != nil {
		return err
	}
	return tx.Put(store.Jobs, jobKey(id), text)
}

func parseJob(id jobID, row []byte) (r jobRow, err error) {
	if len(row) < 2 || row[0] != 1 || json.Unmarshal(row[1:], &r, json.RejectUnknownMembers(true)) != nil || r.ID != id.String() {
		return jobRow{}, fmt.Errorf("job row: %w", ErrCorrupt)
	}
	return r, nil
}

func (r *jobRow) job() Job {
	out := Job{
		ID: r.ID, Kind: r.Kind, State: r.State, Options: r.Options, Done: r.Done, Total: r.Total, Service: r.Service,
		Created: fromMillis(r.Created), Updated: fromMillis(r.Updated),
	}
	if r.Problem != nil {
		out.Err = &Error{Code: r.Problem.Code, Detail: r.Problem.Detail}
	}
	if r.Finished > 0 {
		out.Finished = fromMillis(r.Finished)
	}
	return out
}

// jobID is made as an erasureID is; its text begins with "job_".
type jobID [16]byte

const jobPrefix = "job_"

func newJobID(random io.Reader, now time.Time) (jobID, error) {
	id, err := newErasureID(random, now)
	return jobID(id), err
}

func (id jobID) String() string {
	return jobPrefix + strings.ToLower(erasureText.EncodeToString(id[:]))
}

func parseJobID(s string) (jobID, bool) {
	text, ok := strings.CutPrefix(s, jobPrefix)
	if !ok {
		return jobID{}, false
	}
	id, ok := parseErasureID(erasurePrefix + text)
	return jobID(id), ok
}

func jobKey(id jobID) []byte { return append([]byte{'j'}, id[:]...) }

// scanJobs visits jobs, oldest first, before one when it is not the zero id.
func scanJobs(tx store.ReadTx, before jobID, fn func(id jobID, row []byte) error) error {
	end := []byte{'j' + 1}
	if before != (jobID{}) {
		end = jobKey(before)
	}
	return tx.Scan(store.Jobs, []byte{'j'}, end, func(key, row []byte) error {
		if len(key) != 1+len(jobID{}) {
			return fmt.Errorf("job row: %w", ErrCorrupt)
		}
		return fn(jobID(key[1:]), row)
	})
}

// readJob returns a job's row.
func readJob(tx store.ReadTx, id jobID) (jobRow, error) {
	row, err := tx.Get(store.Jobs, jobKey(id))
	if err != nil {
		return jobRow{}, err
	}
	return parseJob(id, row)
}

// runningJobs returns the jobs that have not come to their end.
func runningJobs(tx store.ReadTx) (out []jobRow, err error) {
	err = scanJobs(tx, jobID{}, func(id jobID, row []byte) error {
		r, err := parseJob(id, row)
		if err == nil && r.State == JobRunning {
			out = append(out, r)
		}
		return err
	})
	return out, err
}
