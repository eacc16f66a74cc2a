package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

const ndjson = "application/x-ndjson"

// answered is an import's answer: what became of the lines, and the end.
type answered struct {
	lines []wire.ImportResult
	end   wire.ImportEnd
}

// outcome is any line of the answer.
type outcome struct {
	wire.ImportResult `json:",inline"`
	End               bool  `json:"end"`
	Lines             int64 `json:"lines"`
	OK                int64 `json:"ok"`
	Failed            int64 `json:"failed"`
}

func readOutcome(t testing.TB, text string) outcome {
	t.Helper()
	var o outcome
	if err := json.Unmarshal([]byte(text), &o, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return o
}

// readAnswer reads a whole answer, in which nothing follows the end.
func readAnswer(t testing.TB, text string) (a answered) {
	t.Helper()
	for line := range strings.Lines(text) {
		o := readOutcome(t, line)
		if a.end.End {
			t.Fatal("there is more after the end")
		}
		if !o.End {
			a.lines = append(a.lines, o.ImportResult)
			continue
		}
		a.end = wire.ImportEnd{End: true, Lines: o.Lines, OK: o.OK, Failed: o.Failed, Line: o.Line, Error: o.Error}
	}
	if !a.end.End {
		t.Fatal("the answer has no end")
	}
	return a
}

// imports sends a whole import, which must not fail as a whole.
func (h *house) imports(query, body string) answered {
	h.t.Helper()
	resp, text := h.as("app", "POST", "/v1/import"+query, body, "Content-Type", ndjson)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != ndjson {
		h.t.Fatalf("%d %s", resp.StatusCode, text)
	}
	wantHeaders(h.t, resp)
	a := readAnswer(h.t, text)
	if a.end.Error != nil {
		h.t.Fatalf("ended by %+v", a.end.Error)
	}
	return a
}

func importLine(subject, phone string) string {
	return fmt.Sprintf(`{"subject":%q,"fields":{"phone":%q}}`+"\n", subject, phone)
}

// TestImportKeepsOrderAndCounts: bad lines of several kinds among many good ones, blank lines, and no line end at the end.
func TestImportKeepsOrderAndCounts(t *testing.T) {
	h := newHouse(t)
	bad := map[int]struct {
		text    string
		code    wire.Code
		subject string
	}{
		7:    {`{"subject":"u7","fields":{"phone":"12"}}`, wire.InvalidValue, "u7"},
		499:  {`{"subject":"u499","fields":{"phone":"13800138000","colour":"x"}}`, wire.UnknownField, "u499"},
		500:  {`{"subject":"u500",`, wire.MalformedRequest, ""},
		501:  {`{"subject":"a b","fields":{}}`, wire.InvalidSubjectID, ""},
		502:  {`{"subject":"13800138001","fields":{}}`, wire.IdentifyingSubjectID, ""},
		1000: {`{"subject":"u1000"}`, wire.MalformedRequest, ""},
		1001: {`{"subject":"u1001","fields":{"phone":null}}`, wire.MalformedRequest, "u1001"},
		1700: {`[]`, wire.MalformedRequest, ""},
	}
	blank := map[int]string{3: "", 4: " \t", 1200: "\r"}
	const total = 1800
	var body strings.Builder
	for n := 1; n <= total; n++ {
		line, isBlank := blank[n]
		if b, ok := bad[n]; ok {
			line = b.text
		} else if !isBlank {
			line = strings.TrimSpace(importLine(fmt.Sprintf("u%d", n), fmt.Sprintf("138%08d", n)))
			if n%2 == 0 {
				line += "\r"
			}
		}
		body.WriteString(line)
		if n < total {
			body.WriteString("\n")
		}
	}
	a := h.imports("", body.String())
	if want := (wire.ImportEnd{End: true, Lines: total, OK: total - 3 - 8, Failed: 8}); a.end != want {
		t.Errorf("the end is %+v, want %+v", a.end, want)
	}
	var list []string
	n := 0
	for _, l := range a.lines {
		for n++; blank[n] != "" || n == 3; n++ {
		}
		if l.Line != int64(n) {
			t.Fatalf("line %d is answered in place of %d", l.Line, n)
		}
		b, isBad := bad[n]
		switch {
		case isBad:
			if l.Error == nil || l.Error.Code != b.code || l.Subject != b.subject || l.Tokens != nil || l.Created {
				t.Errorf("line %d: %+v, %+v", n, l, l.Error)
			}
		case l.Error != nil || l.Subject != fmt.Sprintf("u%d", n) || !l.Created || len(l.Tokens) != 1:
			t.Errorf("line %d: %+v, %+v", n, l, l.Error)
		default:
			list = append(list, `"`+string(l.Tokens["phone"])+`"`)
		}
	}
	open := must[wire.Detokenized](h, 200, "app", "POST", "/v1/detokenize", `{"purpose":"service","tokens":[`+strings.Join(list[:900], ",")+`]}`)
	place := 0
	for n := 1; place < 900; n++ {
		if _, isBlank := blank[n]; isBlank || bad[n].text != "" {
			continue
		}
		if v := open.Items[place].Value; v == nil || string(*v) != fmt.Sprintf("138%08d", n) {
			t.Fatalf("the token of line %d has another value", n)
		}
		place++
	}
	for _, want := range []string{`cloakroom_items_total{call="import",code="ok"} 1789`, `cloakroom_items_total{call="import",code="malformed_request"} 4`} {
		if _, text := h.as("", "GET", "/metrics", ""); !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	again := h.imports("", body.String())
	for i, l := range again.lines {
		if l.Created || l.Tokens["phone"] != a.lines[i].Tokens["phone"] {
			t.Errorf("line %d is another the second time", l.Line)
		}
	}
}

// TestImportHostileLines: whatever a line holds, the good ones around it are stored, and nothing of it comes back.
func TestImportHostileLines(t *testing.T) {
	h := newHouse(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, importLine("u1", marker))
	_ = z.Close()
	for name, c := range map[string]struct {
		line   string // its line ends, if any, make several of it
		detail string
	}{
		"10 MB":               {`{"subject":"u1","fields":{"text":"` + marker + strings.Repeat("a", 10*mib) + `"}}`, "longer than 1048576 bytes"},
		"just too long":       {`{"subject":"u1","fields":{"text":"` + strings.Repeat("a", mib-36) + `"}}`, "longer than"},
		"10 MB of blanks":     {strings.Repeat(" ", 10*mib), "longer than"},
		"raw NUL":             {`{"subject":"u1","fields":{"name":"` + marker + "\x00" + `"}}`, "not valid JSON"},
		"NUL only":            {"\x00", "not valid JSON"},
		"invalid UTF-8":       {`{"subject":"u1","fields":{"name":"` + marker + "\xff" + `"}}`, "UTF-8"},
		"gzip":                {zipped.String(), "not valid JSON"},
		"truncated":           {`{"subject":"u1","fields":{"phone":"` + marker, "ends too early"},
		"member twice":        {`{"subject":"u1","subject":"` + marker + `","fields":{}}`, "twice"},
		"field twice":         {`{"subject":"u1","fields":{"` + marker + `":"a","` + marker + `":"b"}}`, "twice"},
		"unknown member":      {`{"subject":"u1","fields":{},"` + marker + `":1}`, "does not know"},
		"no fields":           {`{"subject":"` + marker + `x"}`, "fields is missing"},
		"fields null":         {`{"subject":"u1","fields":null}`, "null at /fields"},
		"subject null":        {`{"subject":null,"fields":{}}`, "null at /subject"},
		"two values":          {`{"subject":"u1","fields":{}} {"` + marker + `":1}`, "more after the JSON value"},
		"deep":                {strings.Repeat("[", 100_000), "an array"},
		"a number":            {marker, "found a number"},
		"byte order mark":     {"\ufeff" + `{"subject":"u1","fields":{}}`, "not valid JSON"},
		"UTF-16":              {"{\x00}\x00", ""},
		"escaped NUL":         {`{"subject":"u1","fields":{"name":"` + marker + `\u0000"}}`, ""},
		"value for a field":   {`{"subject":"u1","fields":{"` + marker + `":"x"}}`, ""},
		"value for a subject": {`{"subject":"` + marker + `","fields":{}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			lines := 1 + strings.Count(c.line, "\n")
			resp, text := h.as("app", "POST", "/v1/import", importLine("before", "13900139001")+c.line+"\n"+importLine("after", "13900139002"), "Content-Type", ndjson)
			wantSilence(t, resp, text, h.log)
			a := readAnswer(t, text)
			if a.end.OK != 2 || a.end.Failed < 1 || a.end.Lines != int64(2+lines) || a.end.Error != nil {
				t.Fatalf("the end is %+v", a.end)
			}
			if first, last := a.lines[0], a.lines[len(a.lines)-1]; first.Error != nil || last.Error != nil || last.Line != a.end.Lines {
				t.Error("the lines around were not stored")
			}
			if e := a.lines[1].Error; e == nil || !strings.Contains(e.Detail, c.detail) {
				t.Errorf("%+v", e)
			}
		})
	}
	resp, body := h.as("app", "GET", "/v1/subjects/u1?purpose=service", "")
	wantProblem(t, resp, body, 404, wire.SubjectNotFound)
}

// TestImportRefused: what is wrong with the whole request, or with the caller, is told before anything is stored.
func TestImportRefused(t *testing.T) {
	h := newHouse(t)
	good := importLine("u1", marker)
	for name, c := range map[string]struct {
		role, query, body string
		header            []string
		status            int
		code              wire.Code
	}{
		"JSON":            {body: good, header: []string{"Content-Type", "application/json"}, status: 415, code: wire.UnsupportedMediaType},
		"compressed":      {body: good, header: []string{"Content-Encoding", "gzip"}, status: 415, code: wire.UnsupportedMediaType},
		"other charset":   {body: good, header: []string{"Content-Type", ndjson + "; charset=gbk"}, status: 415, code: wire.UnsupportedMediaType},
		"recreate":        {body: good, query: "?recreate=1", status: 400, code: wire.MalformedRequest},
		"replace":         {body: good, query: "?replace=never", status: 400, code: wire.MalformedRequest},
		"replace nothing": {body: good, query: "?replace=", status: 400, code: wire.MalformedRequest},
		"unknown query":   {body: good, query: "?x=1", status: 400, code: wire.MalformedRequest},
		"role":            {body: good, role: "support", status: 403, code: wire.Forbidden},
		"role, bad lines": {body: "x\n\n", role: "support", status: 403, code: wire.Forbidden},
		"role, no lines":  {body: "\n\n", role: "operator", status: 403, code: wire.Forbidden},
		"no credential":   {body: good, role: "none", status: 401, code: wire.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			role := c.role
			if role == "" {
				role = "app"
			}
			resp, body := h.as(role, "POST", "/v1/import"+c.query, c.body, append([]string{"Content-Type", ndjson}, c.header...)...)
			wantProblem(t, resp, body, c.status, c.code)
			wantSilence(t, resp, body, h.log)
		})
	}
	if a := h.imports("", " \n"); a.end != (wire.ImportEnd{End: true, Lines: 1}) {
		t.Errorf("no lines end with %+v", a.end)
	}
	if list := must[wire.SubjectList](h, 200, "operator", "GET", "/v1/subjects", ""); len(list.Subjects) != 0 {
		t.Errorf("%d subjects were stored", len(list.Subjects))
	}
}

// TestImportOfOneSubject: lines about one subject count in their order, though chunks are with the vault two at a time.
func TestImportOfOneSubject(t *testing.T) {
	h := newHouse(t)
	for round := range 5 {
		var body strings.Builder
		const lines = 2600
		for n := range lines {
			id := fmt.Sprintf("other-%d-%d", round, n)
			if n%100 == 99 {
				id = "same"
			}
			body.WriteString(importLine(id, fmt.Sprintf("138%08d", round*10000+n)))
		}
		if a := h.imports("", body.String()); a.end.OK != lines {
			t.Fatalf("%+v", a.end)
		}
		got := must[wire.Subject](h, 200, "app", "GET", "/v1/subjects/same?purpose=service", "")
		if want := fmt.Sprintf("138%08d", round*10000+lines-1); string(got.Fields["phone"].Value) != want {
			t.Fatalf("round %d: a line before the last one won", round)
		}
	}
}

// TestImportOfManyFields: more fields in one chunk of lines than one entry of the audit log can name.
func TestImportOfManyFields(t *testing.T) {
	h := newHouse(t)
	names := []string{"phone", "name", "text"}
	values := map[string]string{"phone": "13800138000", "name": "张三", "text": "x"}
	var body strings.Builder
	const lines = 500
	for n := range lines {
		fmt.Fprintf(&body, `{"subject":"u%d","fields":{`, n)
		for i := range 40 {
			if n%2 == 0 {
				fmt.Fprintf(&body, `"f%d":"x",`, i)
			}
		}
		for i, name := range names {
			fmt.Fprintf(&body, `%s%q:%q`, strings.Repeat(",", min(i, 1)), name, values[name])
		}
		body.WriteString("}}\n")
	}
	a := h.imports("", body.String())
	if a.end.OK != lines/2 || a.end.Failed != lines/2 {
		t.Fatalf("%+v", a.end)
	}
	for i, l := range a.lines {
		if bad := i%2 == 0; (l.Error != nil) != bad || bad && l.Error.Code != wire.UnknownField {
			t.Fatalf("line %d: %+v", l.Line, l.Error)
		}
	}
}

func TestImportBeginsAnew(t *testing.T) {
	h := newHouse(t)
	old := h.imports("", importLine("u1", "13800138000")).lines[0].Tokens["phone"]
	h.as("app", "DELETE", "/v1/subjects/u1", "")
	if e := h.imports("?recreate=false", importLine("u1", "13800138000")).lines[0].Error; e == nil || e.Code != wire.SubjectErased {
		t.Errorf("%+v", e)
	}
	l := h.imports("?recreate=true", importLine("u1", "13800138000")).lines[0]
	if l.Error != nil || !l.Created || l.Tokens["phone"] == old {
		t.Errorf("%+v %+v", l, l.Error)
	}
}

// live is an import whose body is still being sent.
type live struct {
	t    testing.TB
	body *io.PipeWriter
	resp <-chan *http.Response
	in   *bufio.Scanner
}

// goLive begins an import. The answer begins with the first lines that were sent.
func (h *house) goLive(client *http.Client, url string) *live { return h.goLiveWith(client, url, -1) }

// goLiveWith announces the length of the body, unless it is -1.
func (h *house) goLiveWith(client *http.Client, url string, length int64) *live {
	h.t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequest("POST", url+"/v1/import", r)
	if err != nil {
		h.t.Fatal(err)
	}
	req.ContentLength = length
	req.Header.Set("Authorization", "Bearer "+h.keys["app"])
	req.Header.Set("Content-Type", ndjson)
	resp := make(chan *http.Response, 1)
	l := &live{t: h.t, body: w, resp: resp}
	go func() {
		defer close(resp)
		if got, err := client.Do(req); err == nil {
			resp <- got
		}
	}()
	h.t.Cleanup(func() {
		w.Close()
		if got, ok := <-resp; ok {
			got.Body.Close()
		}
	})
	return l
}

func (l *live) send(text string) {
	l.t.Helper()
	if _, err := io.WriteString(l.body, text); err != nil {
		l.t.Fatal(err)
	}
}

// next reads one line of the answer.
func (l *live) next() outcome {
	l.t.Helper()
	if l.in == nil {
		resp, ok := <-l.resp
		if !ok {
			l.t.Fatal("no answer")
		}
		l.t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != 200 {
			text, _ := io.ReadAll(resp.Body)
			l.t.Fatalf("%d %s", resp.StatusCode, text)
		}
		l.in = bufio.NewScanner(resp.Body)
	}
	if !l.in.Scan() {
		l.t.Fatalf("the answer breaks off: %v", l.in.Err())
	}
	return readOutcome(l.t, l.in.Text())
}
