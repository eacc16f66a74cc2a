package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// damaged is an installation whose store has altered bytes, and what became of it.
type damaged struct {
	data   string
	values map[string]fields
	tokens map[string]string // token -> subject
	gone   string            // the erased subject's token
	words  *scanner
}

// TestAlteredBytes alters bytes of the store while no server runs. Each time the server refuses to start, or ends with
// a message, or answers what was put or an error: never another value, never a value in the log.
func TestAlteredBytes(t *testing.T) {
	const rounds, people = 36, 60
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	base := t.TempDir()
	whole := filepath.Join(base, "whole", "data")
	d := &damaged{values: map[string]fields{}, tokens: map[string]string{}, words: newScanner()}
	start(t, whole).mustStop(t)
	fresh, err := os.ReadFile(filepath.Join(whole, "cloakroom.db"))
	must(t, err)
	s := start(t, whole)
	for i := range people {
		id := fmt.Sprintf("person-%03d", i)
		f := fields{"phone": fmt.Sprintf("161%08d", i), "name": "张三丰" + string(rune('一'+i)), "text": strings.Repeat(fmt.Sprintf("long text of %s. ", id), 20+i%3*100)}
		d.values[id] = f
		for name, token := range s.mustPut(t, id, f) {
			d.words.add("token of "+name, token)
			d.tokens[token] = id + "/" + name
		}
		d.words.add(id, id)
		for name, value := range f {
			d.words.add(name+" of "+id, value)
		}
	}
	d.gone = s.mustPut(t, "erased", fields{"phone": "16199999999"})["phone"]
	s.must(t, 200, s.officer, "DELETE", "/v1/subjects/erased", nil)
	s.mustStop(t)
	files := tree(t, filepath.Dir(whole))
	storePath := filepath.Join(whole, "cloakroom.db")
	store := []byte(files[storePath])
	became := map[string]int{}
	for round := range rounds {
		d.data = filepath.Join(base, fmt.Sprintf("r%d", round), "data")
		for path, text := range files {
			to := filepath.Join(filepath.Dir(d.data), strings.TrimPrefix(path, filepath.Dir(whole)))
			must(t, os.MkdirAll(filepath.Dir(to), 0o700))
			if path != storePath {
				must(t, os.WriteFile(to, []byte(text), 0o600))
			}
		}
		altered := bytes.Clone(store)
		where := alter(random, altered, round, fresh)
		must(t, os.WriteFile(filepath.Join(d.data, "cloakroom.db"), altered, 0o600))
		end := d.try(t)
		became[varying.ReplaceAllString(end, "N")]++
		if t.Failed() {
			t.Fatalf("round %d, bytes at %v: %s", round, where, end)
		}
		must(t, os.RemoveAll(filepath.Dir(d.data)))
	}
	for end, n := range became {
		t.Logf("%2d times: %s", n, end)
	}
}

// varying is what differs from one refusal to the next of the same sort.
var varying = regexp.MustCompile(`"[^"]*"|\b[0-9]+\b|\b0x[0-9a-f]+\b`)

// alter changes a few bytes that are in use, and not of the first two pages, which bbolt keeps twice and checks: by turns
// anywhere, where people were written, and in what bbolt needs to find its way: the header of a page (16 bytes) and the
// places of its rows (16 bytes each).
func alter(random *rand.Rand, store []byte, round int, fresh []byte) (where []int) {
	const page, header = 4096, 16
	for n := 1 + round/3%3*4; len(where) < n; {
		at := 2*page + random.IntN(len(store)-2*page)
		switch round % 3 {
		case 1:
			if at < len(fresh) && store[at] == fresh[at] {
				continue
			}
		case 2:
			at = at - at%page + random.IntN(6*header)
		}
		if store[at] != 0 {
			store[at] ^= byte(1 + random.IntN(255))
			where = append(where, at)
		}
	}
	return where
}

// try starts the server on the damaged store twice, asks for everything, and says what came of it.
func (d *damaged) try(t *testing.T) (end string) {
	t.Helper()
	ends := map[string]bool{}
	for range 2 {
		p := launch(t, d.data)
		url, ok := p.url()
		if !ok {
			log := string(p.log.bytes())
			d.checkLog(t, p)
			if !strings.Contains(log, "\ncloakroom: ") || p.wait() != 1 {
				t.Errorf("the start ended without a message: exit %d: %s", p.wait(), log)
			}
			return fmt.Sprintf("refused: exit %d: %s", p.wait(), d.last(log))
		}
		s := connect(t, p, d.data, url)
		errors := map[string]int{}
		alive := d.ask(t, s, errors)
		if alive {
			if code := s.stop(); code != 0 {
				ends[fmt.Sprintf("ended with exit %d: %s", code, d.last(string(p.log.bytes())))] = true
			}
		} else {
			ends[fmt.Sprintf("died: exit %d: %s", p.wait(), d.last(string(p.log.bytes())))] = true
		}
		d.checkLog(t, p)
		if len(errors) > 0 {
			ends["some answers were errors: "+strings.Join(slices.Sorted(maps.Keys(errors)), ", ")] = true
		}
	}
	if len(ends) == 0 {
		return "all answers right"
	}
	var list []string
	for what := range maps.Keys(ends) {
		list = append(list, what)
	}
	return strings.Join(list, "; ")
}

// checkLog: nothing of a person stands in the log, whatever happened.
func (d *damaged) checkLog(t *testing.T, p *process) {
	t.Helper()
	<-p.ended
	if found, hits := d.words.find(p.log.bytes()); hits > 0 {
		t.Errorf("the log shows %q: %s", found[:min(len(found), 5)], p.log)
	}
	if bytes.Contains(p.log.bytes(), []byte("DATA RACE")) {
		t.Errorf("%s", p.log)
	}
}

// last is the line that tells why a server ended, without the paths of this run.
func (d *damaged) last(log string) string {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "unexpected fault") {
			return "(crash) " + strings.TrimSpace(line)
		}
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.ReplaceAll(lines[len(lines)-1], d.data, "DATA")
}

// ask reads and writes everybody; it is false once the server does not answer any more.
func (d *damaged) ask(t *testing.T, s *server, errors map[string]int) bool {
	t.Helper()
	for id, want := range d.values {
		a, err := s.call(s.app, "GET", get(id), nil)
		if err != nil {
			return false
		}
		var got put
		if a.status != 200 {
			errors[fmt.Sprintf("get %d %s", a.status, a.code())]++
			d.checkError(t, a)
		} else if a.into(t, &got); differs(got, want) != "" {
			t.Errorf("wrong answer: %s", differs(got, want)[:200])
		}
	}
	for token, where := range d.tokens {
		id, name, _ := strings.Cut(where, "/")
		a, err := s.call(s.app, "POST", "/v1/detokenize", detokenizeBody(token))
		if err != nil {
			return false
		}
		var got items
		switch {
		case a.status != 200:
			errors[fmt.Sprintf("detokenize %d %s", a.status, a.code())]++
			d.checkError(t, a)
		case json.Unmarshal(a.body, &got) != nil || len(got.Items) != 1:
			t.Errorf("detokenize: %s", a.body)
		case got.Items[0].Error.Code != "":
			errors["detokenize item "+got.Items[0].Error.Code]++
		case got.Items[0].Value != d.values[id][name]:
			t.Errorf("a token opens to another value")
		}
	}
	for i := range 5 {
		id := fmt.Sprintf("late-%d", i)
		a, err := s.call(s.app, "PUT", "/v1/subjects/"+id, fields{"phone": "16100001111"}.body())
		if err != nil {
			return false
		}
		if a.status/100 != 2 {
			errors[fmt.Sprintf("put %d %s", a.status, a.code())]++
			d.checkError(t, a)
		}
	}
	a, err := s.call(s.app, "POST", "/v1/detokenize", detokenizeBody(d.gone))
	if err != nil {
		return false
	}
	if strings.Contains(string(a.body), "16199999999") {
		t.Error("the erased is readable again")
	}
	a, err = s.call(s.app, "GET", get("erased"), nil)
	if err != nil {
		return false
	}
	if a.status == 200 {
		t.Errorf("the erased is there again: %s", a.body)
	}
	if a, err = s.call(s.root, "GET", "/v1/subjects?limit=1000", nil); err != nil {
		return false
	}
	if a.status != 200 {
		errors[fmt.Sprintf("list %d %s", a.status, a.code())]++
		d.checkError(t, a)
	}
	return true
}

func (d *damaged) checkError(t *testing.T, a answer) {
	t.Helper()
	if a.code() == "" {
		t.Errorf("no problem: %d %s", a.status, a.body)
	}
	if found, hits := d.words.find(a.body); hits > 0 {
		t.Errorf("an error shows %q: %s", found, a.body)
	}
}
