package systemtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// life is what is known of one person, who belongs to one worker.
type life struct {
	id      string
	holds   fields            // the last acknowledged values; nil before the first
	tokens  map[string]string // every token that was ever handed out -> its field
	erased  bool
	pending *change // sent, and never answered
	touched bool    // since the last start
}

// change is a request whose answer may be lost.
type change struct {
	erase  bool
	fields fields
	key    string // its Idempotency-Key
}

// worker drives its own people with a journal of what was acknowledged.
type worker struct {
	n      int
	random *rand.Rand
	people []*life
	calls  int

	shown  map[string]int // request id -> values that its answer showed
	wrote  []string       // request ids of acknowledged changes
	faults []string
}

func (w *worker) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *worker) requestID() string {
	w.calls++
	return fmt.Sprintf("kill-%d-%d", w.n, w.calls)
}

// values are different each time, so that a value tells which write it came from.
func (w *worker) values() fields {
	w.calls++
	f := fields{"text": fmt.Sprintf("note %d of worker %d %s", w.calls, w.n, "······"), "email": fmt.Sprintf("p%d.w%d@example.com", w.calls, w.n)}
	if w.random.IntN(2) == 0 {
		f["phone"] = fmt.Sprintf("161%d%07d", w.n%10, w.calls)
	}
	return f
}

// TestKilledUnderLoad kills the server again and again while clients change and read. What was acknowledged must hold,
// what was not may hold or not but never in part, the erased stay erased, and what was shown stands in the log.
func TestKilledUnderLoad(t *testing.T) {
	const rounds, workers = 50, 6
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	data := filepath.Join(t.TempDir(), "data")
	all := make([]*worker, workers)
	for n := range all {
		all[n] = &worker{n: n, random: rand.New(rand.NewPCG(seed, uint64(n)+2)), shown: map[string]int{}}
	}
	s := start(t, data)
	for round := range rounds {
		var wg sync.WaitGroup
		for _, w := range all {
			wg.Go(func() { w.load(s) })
		}
		time.Sleep(time.Duration(random.IntN(200_000)) * time.Microsecond)
		s.kill()
		wg.Wait()
		if round%5 == 0 {
			// Killed again while it starts.
			p := launch(t, data)
			time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
			p.kill()
		}
		s = start(t, data)
		crowd(workers, func(n int) { all[n].settle(s, false) })
		for _, w := range all {
			for _, f := range w.faults {
				t.Errorf("round %d: %s", round, f)
			}
		}
		if t.Failed() {
			t.Fatal("see above")
		}
	}
	crowd(workers, func(n int) { all[n].settle(s, true) })
	people, erased, shown, wrote := 0, 0, map[string]int{}, map[string]bool{}
	for _, w := range all {
		for _, f := range w.faults {
			t.Error(f)
		}
		for _, p := range w.people {
			if people++; p.erased {
				erased++
			}
		}
		for id, n := range w.shown {
			shown[id] += n
		}
		for _, id := range w.wrote {
			wrote[id] = true
		}
	}
	s.mustStop(t)
	mustVerifyAudit(t, data)
	checkRecorded(t, data, shown, wrote)
	t.Logf("%d people, %d of them erased; %d acknowledged changes, %d answers with values", people, erased, len(wrote), len(shown))
	if people < rounds || erased < 5 || len(shown) < rounds {
		t.Error("that was no load")
	}
}

// load works until the server is gone.
func (w *worker) load(s *server) {
	for {
		var p *life
		if len(w.people) > 0 && w.random.IntN(3) > 0 {
			p = w.people[w.random.IntN(len(w.people))]
		}
		var err error
		switch what := w.random.IntN(10); {
		case p == nil:
			p = &life{id: fmt.Sprintf("w%d-%d", w.n, len(w.people)), tokens: map[string]string{}}
			w.people = append(w.people, p)
			err = w.change(s, p, &change{fields: w.values()})
		case what < 3 && !p.erased:
			err = w.change(s, p, &change{fields: w.values()})
		case what == 3 && !p.erased && p.holds != nil:
			err = w.change(s, p, &change{erase: true})
		case what == 4 && !p.erased:
			err = w.tokenize(s, p)
		case what < 7:
			err = w.read(s, p)
		default:
			err = w.reveal(s, p)
		}
		if err != nil {
			return
		}
	}
}

// change sends one and notes the answer. An error means that there was none.
func (w *worker) change(s *server, p *life, c *change) error {
	id := w.requestID()
	c.key = "once-" + id
	p.pending, p.touched = c, true
	return w.send(s, p, id)
}

func (w *worker) send(s *server, p *life, id string) error {
	c := p.pending
	method, body := "PUT", c.fields.body()
	if c.erase {
		method, body = "DELETE", nil
	}
	a, err := s.call(s.app, method, "/v1/subjects/"+p.id, body, "Idempotency-Key", c.key, "X-Request-Id", id)
	if err != nil {
		return err
	}
	var got put
	switch {
	case c.erase && (a.status == http.StatusOK || a.code() == "subject_erased"):
		p.erased, p.pending = true, nil
	case !c.erase && a.status/100 == 2 && json.Unmarshal(a.body, &got) == nil && len(got.Tokens) == len(c.fields):
		for name, token := range got.Tokens {
			p.tokens[token] = name
		}
		p.take(c.fields)
	default:
		w.fault("%s %s: %d %s", method, p.id, a.status, a.body)
		return fmt.Errorf("refused")
	}
	w.wrote = append(w.wrote, id)
	return nil
}

// take notes that the pending values hold.
func (p *life) take(f fields) {
	if p.holds == nil {
		p.holds = fields{}
	}
	for name, value := range f {
		p.holds[name] = value
	}
	p.pending = nil
}

// tokenize sets a value through the other call, with a token of its own.
func (w *worker) tokenize(s *server, p *life) error {
	id := w.requestID()
	value := fmt.Sprintf("tokenized %d of worker %d", w.calls, w.n)
	p.pending, p.touched = &change{fields: fields{"text": value}, key: "once-" + id}, true
	a, err := s.call(s.app, "POST", "/v1/tokenize", map[string]any{"items": []any{map[string]any{
		"subject": p.id, "field": "text", "value": value, "ttl": "24h"}}}, "X-Request-Id", id)
	if err != nil {
		return err
	}
	var got items
	if a.status != 200 || json.Unmarshal(a.body, &got) != nil || len(got.Items) != 1 || got.Items[0].Token == "" {
		w.fault("tokenize %s: %d %s", p.id, a.status, a.body)
		return fmt.Errorf("refused")
	}
	p.tokens[got.Items[0].Token] = "text"
	p.take(fields{"text": value})
	w.wrote = append(w.wrote, id)
	return nil
}

// read shows a person whose state is known.
func (w *worker) read(s *server, p *life) error {
	id := w.requestID()
	a, err := s.call(s.app, "GET", get(p.id), nil, "X-Request-Id", id)
	if err != nil {
		return err
	}
	var got put
	switch {
	case p.erased && a.code() == "subject_erased":
	case p.holds == nil && a.code() == "subject_not_found":
	case !p.erased && p.holds != nil && a.status == 200 && json.Unmarshal(a.body, &got) == nil:
		w.shown[id] += len(got.Fields)
		if fault := differs(got, p.holds); fault != "" {
			w.fault("%s: %s", p.id, fault)
		}
	default:
		w.fault("get %s (erased %t, held %t): %d %s", p.id, p.erased, p.holds != nil, a.status, a.body)
	}
	return nil
}

// reveal detokenizes all tokens of a person whose state is known.
func (w *worker) reveal(s *server, p *life) error {
	if len(p.tokens) == 0 {
		return nil
	}
	id := w.requestID()
	var tokens []string
	for token := range p.tokens {
		if tokens = append(tokens, token); len(tokens) == 100 {
			break
		}
	}
	a, err := s.call(s.app, "POST", "/v1/detokenize", detokenizeBody(tokens...), "X-Request-Id", id)
	if err != nil {
		return err
	}
	var got items
	if a.status != 200 || json.Unmarshal(a.body, &got) != nil || len(got.Items) != len(tokens) {
		w.fault("detokenize for %s: %d %s", p.id, a.status, a.body)
		return nil
	}
	for i, it := range got.Items {
		switch name := p.tokens[tokens[i]]; {
		case p.erased && it.Error.Code == "subject_erased" && it.Value == "":
		case !p.erased && it.Value == p.holds[name] && it.Error.Code == "":
			w.shown[id]++
		default:
			w.fault("a token of %s (erased %t): value %q, code %q, want %q", p.id, p.erased, it.Value, it.Error.Code, p.holds[name])
		}
	}
	return nil
}

// settle finds out, after a start, what became of changes without an answer, and checks everybody who was touched.
func (w *worker) settle(s *server, everybody bool) {
	for _, p := range w.people {
		if !p.touched && !everybody {
			continue
		}
		p.touched = false
		if p.pending != nil {
			w.settlePending(s, p)
		}
		for _, err := range []error{w.read(s, p), w.reveal(s, p)} {
			if err != nil {
				w.fault("%s after a start: %v", p.id, err)
			}
		}
	}
}

// settlePending either repeats the request under its key, or reads what is there.
func (w *worker) settlePending(s *server, p *life) {
	if w.random.IntN(2) == 0 {
		if err := w.send(s, p, w.requestID()); err != nil {
			w.fault("%s repeated: %v", p.id, err)
		}
		return
	}
	id := w.requestID()
	a, err := s.call(s.app, "GET", get(p.id), nil, "X-Request-Id", id)
	if err != nil {
		w.fault("%s: %v", p.id, err)
		return
	}
	c := p.pending
	p.pending = nil
	after := fields{}
	for _, f := range []fields{p.holds, c.fields} {
		for name, value := range f {
			after[name] = value
		}
	}
	var got put
	switch {
	case c.erase && a.code() == "subject_erased":
		p.erased = true
	case !c.erase && p.holds == nil && a.code() == "subject_not_found":
	case a.status == 200 && json.Unmarshal(a.body, &got) == nil:
		w.shown[id] += len(got.Fields)
		for name, it := range got.Fields {
			if it.Token != "" { // a field that was only ever tokenized for a time has no lasting token
				p.tokens[it.Token] = name
			}
		}
		if p.holds != nil && differs(got, p.holds) == "" {
			return
		}
		if fault := differs(got, after); fault != "" {
			w.fault("%s holds neither what was before nor what was sent: %s", p.id, fault)
		}
		p.take(c.fields)
	default:
		w.fault("get %s after a kill: %d %s", p.id, a.status, a.body)
	}
}

// checkRecorded reads the audit log: each answer that showed values has an entry that counts as many, each
// acknowledged change has one at all.
func checkRecorded(t *testing.T, data string, shown map[string]int, wrote map[string]bool) {
	t.Helper()
	entries, opened := map[string]bool{}, map[string]int{}
	segments, err := filepath.Glob(filepath.Join(data, "audit", "entries-*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatal("no audit log", err)
	}
	for _, path := range segments {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var e struct {
				RequestID string `json:"request_id"`
				Items     []struct {
					Outcome string `json:"o"`
					View    string `json:"v"`
				} `json:"items"`
			}
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			entries[e.RequestID] = true
			for _, it := range e.Items {
				if it.Outcome == "ok" && it.View == "full" {
					opened[e.RequestID]++
				}
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for id, n := range shown {
		if opened[id] < n {
			t.Errorf("%s showed %d values, the log has %d", id, n, opened[id])
		}
	}
	for id := range wrote {
		if !entries[id] {
			t.Errorf("%s changed data, the log does not have it", id)
		}
	}
}
