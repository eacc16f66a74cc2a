package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// moveBody asks for a move to the second key service.
func moveBody() string {
	from, to := vaulttest.ToSecond()
	return fmt.Sprintf(`{"kind":"move-keys","options":{"from":%q,"to":%q}}`, from, to)
}

func jobEnded(j wire.Job) bool { return j.State != "running" }

// awaitJob asks for a job until it is as wanted.
func awaitJob(h *house, id string, enough func(wire.Job) bool) (j wire.Job) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if j = must[wire.Job](h, 200, "operator", "GET", "/v1/jobs/"+id, ""); enough(j) {
			return j
		}
	}
	h.t.Fatalf("the job is still %+v", j)
	return j
}

// deafKMS opens and wraps nothing while it is deaf.
type deafKMS struct {
	keys.KMS
	deaf *atomic.Bool
}

func (k deafKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	if k.deaf.Load() {
		return nil, fmt.Errorf("%w: sealed", keys.ErrKMSUnavailable)
	}
	return k.KMS.Wrap(ctx, key, version, items)
}

func (k deafKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if k.deaf.Load() {
		return nil, fmt.Errorf("%w: sealed", keys.ErrKMSUnavailable)
	}
	return k.KMS.Unwrap(ctx, key, items)
}

func TestJobs(t *testing.T) {
	var deaf atomic.Bool
	h := newHouseWith(t, vaulttest.Options{Other: vaulttest.Second, KMS: func(k keys.KMS) keys.KMS { return deafKMS{k, &deaf} }})
	put := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/u1", `{"fields":{"phone":"13800138000"}}`)
	from, to := vaulttest.ToSecond()

	for name, c := range map[string]struct{ body, says string }{
		"no body":         {``, "no body"},
		"no kind":         {`{}`, "there is move-keys"},
		"unknown kind":    {`{"kind":"close-everything"}`, "there is move-keys"},
		"no options":      {`{"kind":"move-keys"}`, "from"},
		"other options":   {`{"kind":"move-keys","options":{"from":"local","into":"transit"}}`, "from"},
		"options as list": {`{"kind":"move-keys","options":["local"]}`, "expected an object"},
		"option a number": {`{"kind":"move-keys","options":{"from":1}}`, "expected a string"},
		"option null":     {`{"kind":"move-keys","options":{"from":null}}`, "null"},
		"one member more": {`{"kind":"move-keys","soon":true}`, "does not know"},
	} {
		resp, body := h.as("operator", "POST", "/v1/jobs", c.body)
		wantProblem(t, resp, body, 400, wire.MalformedRequest)
		if !strings.Contains(body, c.says) {
			t.Errorf("%s: %s does not say %q", name, body, c.says)
		}
	}
	resp, body := h.as("operator", "POST", "/v1/jobs", fmt.Sprintf(`{"kind":"move-keys","options":{"from":%q,"to":%q}}`, to, from))
	wantProblem(t, resp, body, 409, wire.Conflict)
	if list := must[wire.JobList](h, 200, "operator", "GET", "/v1/jobs", ""); len(list.Jobs) != 0 || list.Jobs == nil {
		t.Errorf("what was refused is listed: %+v", list)
	}

	deaf.Store(true)
	begun := must[wire.JobStarted](h, 202, "operator", "POST", "/v1/jobs", moveBody(), "Idempotency-Key", "move-1")
	if begun.Kind != "move-keys" || begun.State != "running" {
		t.Errorf("begun %+v", begun)
	}
	if again := must[wire.JobStarted](h, 202, "operator", "POST", "/v1/jobs", moveBody(), "Idempotency-Key", "move-1"); again.ID != begun.ID {
		t.Errorf("the same request began %s too", again.ID)
	}
	resp, body = h.as("operator", "POST", "/v1/jobs", moveBody())
	wantProblem(t, resp, body, 409, wire.Conflict)
	if !strings.Contains(body, begun.ID) {
		t.Errorf("the conflict does not name the job: %s", body)
	}
	waits := awaitJob(h, begun.ID, func(j wire.Job) bool { return j.Error != nil })
	if waits.State != "running" || waits.Error.Code != wire.KeyServiceUnavailable || waits.ETA != nil || waits.FinishedAt != nil {
		t.Errorf("a job that waits is %+v", waits)
	}
	if k := must[wire.KeyStatus](h, 200, "operator", "GET", "/v1/keys", ""); k.Move == nil || *k.Move != (wire.KeyMove{Job: begun.ID, From: from, To: to}) {
		t.Errorf("meanwhile the keys are %+v", k)
	}
	deaf.Store(false)
	done := awaitJob(h, begun.ID, jobEnded)
	if done.State != "done" || done.Error != nil || done.Done != 1 || done.Total != 1 || done.FinishedAt == nil || done.Service != "operator" || done.Options["to"] != to {
		t.Errorf("the job ended %+v", done)
	}
	list := must[wire.JobList](h, 200, "operator", "GET", "/v1/jobs", "")
	if len(list.Jobs) != 1 || list.Jobs[0].ID != begun.ID || list.NextCursor != "" {
		t.Errorf("listed %+v", list)
	}
	if k := must[wire.KeyStatus](h, 200, "operator", "GET", "/v1/keys", ""); k.Move != nil {
		t.Errorf("afterwards the keys are %+v", k)
	}
	open := must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", fmt.Sprintf(`{"purpose":"service","tokens":[%q]}`, string(put.Tokens["phone"])))
	if open.Items[0].Value == nil || string(*open.Items[0].Value) != "13800138000" {
		t.Errorf("afterwards a token answers %+v", open.Items[0].Error)
	}
}

// TestKeyServiceAwayByItem: what a key service that is away can't answer is told item by item, and by a 503 that says
// when to come again once nothing could be answered.
func TestKeyServiceAwayByItem(t *testing.T) {
	var deaf atomic.Bool
	var later atomic.Int64
	h := newHouseWith(t, vaulttest.Options{
		KMS: func(k keys.KMS) keys.KMS { return deafKMS{k, &deaf} },
		Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
	})
	cold := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/cold", `{"fields":{"phone":"13800138000"}}`)
	later.Add(int64(61 * time.Second))
	warm := must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/warm", `{"fields":{"phone":"13900139000"}}`)
	deaf.Store(true)

	both := fmt.Sprintf(`{"purpose":"service","tokens":[%q,%q]}`, string(cold.Tokens["phone"]), string(warm.Tokens["phone"]))
	opened := must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", both)
	if e := opened.Items[0].Error; e == nil || e.Code != wire.KeyUnavailable || opened.Items[1].Value == nil {
		t.Errorf("detokenize: %+v", opened)
	}
	mixed := `{"items":[{"subject":"cold","field":"name","value":"张三"},{"subject":"new","field":"name","value":"张三"},{"subject":"warm","field":"name","value":"张三"},{"subject":"warm","field":"phone","value":"1"}]}`
	made := must[wire.Tokenized](h, 200, "app", "POST", "/v1/tokenize", mixed)
	for i, want := range []wire.Code{wire.KeyUnavailable, wire.KeyUnavailable, "", wire.InvalidValue} {
		if e := made.Items[i].Error; (e == nil) != (want == "") || e != nil && e.Code != want {
			t.Errorf("tokenize, item %d: %+v, want %q", i, e, want)
		}
	}
	for _, c := range [][3]string{
		{"POST", "/v1/detokenize", fmt.Sprintf(`{"purpose":"service","tokens":[%q]}`, string(cold.Tokens["phone"]))},
		{"GET", "/v1/subjects/cold?purpose=service", ""},
		{"PUT", "/v1/subjects/cold", `{"fields":{"name":"张三"}}`},
		{"PUT", "/v1/subjects/new", `{"fields":{"name":"张三"}}`},
		{"PATCH", "/v1/subjects/cold", `{"fields":{"name":"张三"}}`},
		{"POST", "/v1/tokenize", `{"items":[{"subject":"cold","field":"name","value":"张三"},{"subject":"new","field":"name","value":"张三"}]}`},
	} {
		resp, body := h.as("app", c[0], c[1], c[2])
		wantProblem(t, resp, body, 503, wire.KeyServiceUnavailable)
		if after := resp.Header.Get("Retry-After"); len(after) != 1 || after < "1" || after > "5" {
			t.Errorf("%s %s: Retry-After %q", c[0], c[1], after)
		}
	}
	for _, c := range [][3]string{
		{"PATCH", "/v1/subjects/cold", `{"fields":{"phone":null}}`},
		{"DELETE", "/v1/subjects/cold", ""},
	} {
		if resp, body := h.as("app", c[0], c[1], c[2]); resp.StatusCode != 200 {
			t.Errorf("%s %s, which needs no key: %d %s", c[0], c[1], resp.StatusCode, body)
		}
	}
	deaf.Store(false)
	must[wire.SubjectTokens](h, 201, "app", "PUT", "/v1/subjects/new", `{"fields":{"name":"张三"}}`)
}
