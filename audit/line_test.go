package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func encodeLine(e *Event, index uint64, prev [32]byte) []byte {
	b := appendRest(appendStart(nil, index, prev), e, e.Time)
	return b[:len(b)-1]
}

func TestLineIsWhatTheDocumentationDraws(t *testing.T) {
	e := event(0, 1)
	e.Code = "forbidden"
	e.Items = append(e.Items, Item{Outcome: "unknown_token"})
	got := string(encodeLine(e, 7, [32]byte{}))
	want := `{"i":7,"prev":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","time":"2026-03-01T08:00:00.123Z",` +
		`"request_id":"req-0","service":"dispatch","credential":"a1B2c3","action":"detokenize","purpose":"service",` +
		`"reason":"order 77","policy":3,"source":"127.0.0.1","code":"forbidden","items":[` +
		`{"o":"ok","s":"AQAAAAAAAAAAAAAAAAAAAA","t":"AgAAAAAAAAAAAAAAAAAAAA","f":"phone","v":"full"},{"o":"unknown_token"}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLineSize(t *testing.T) {
	one, eleven := len(encodeLine(event(123456, 1), 123456789, [32]byte{1})), len(encodeLine(event(123456, 11), 123456789, [32]byte{1}))
	t.Logf("%d bytes with one item, %d more for each further", one, (eleven-one)/10)
	if one >= 400 || (eleven-one)/10 >= 100 {
		t.Error("larger than promised")
	}
}

func TestTextSurvives(t *testing.T) {
	for name, text := range map[string]string{
		"plain":              "order 77",
		"quotes":             `say "no" \ or "yes"`,
		"controls":           "a\nb\tc\x00d\x1f\x7f",
		"chinese":            "快递 李雷 地址",
		"html":               "<script>&amp;",
		"line separators":    "a\u2028b\u2029c",
		"starts with escape": "\nx",
		"ends with escape":   "x\\",
		"replacement rune":   "\ufffd",
	} {
		t.Run(name, func(t *testing.T) {
			e := &Event{Time: start, Action: "get", Reason: text, Items: []Item{{Field: text, Outcome: text, View: text}}}
			line := encodeLine(e, 1, [32]byte{9})
			if bytes.ContainsAny(line, "\n\x00\x7f") {
				t.Errorf("control characters in %q", line)
			}
			got, err := parseLine(line)
			if err != nil || !reflect.DeepEqual(got.event, *e) {
				t.Errorf("got %+v, %v", got.event, err)
			}
			var other struct {
				Reason string
				Items  []map[string]string
			}
			if err := json.Unmarshal(line, &other); err != nil || other.Reason != text || other.Items[0]["f"] != text {
				t.Errorf("another JSON reader sees %+v, %v", other, err)
			}
		})
	}
}

func TestParserRefuses(t *testing.T) {
	good := string(encodeLine(event(0, 2), 7, [32]byte{1}))
	if _, err := parseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"leading zero":       {`"i":7`, `"i":07`},
		"no number":          {`"i":7`, `"i":`},
		"number too large":   {`"i":7`, `"i":18446744073709551616`},
		"long number":        {`"i":7`, `"i":111111111111111111111111`},
		"negative":           {`"i":7`, `"i":-7`},
		"space":              {`"i":7`, `"i": 7`},
		"slack bits":         {`"prev":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`, `"prev":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"`},
		"line break":         {`"prev":"AQAAAA`, "\"prev\":\"AQ\nAAAA"},
		"month 13":           {`2026-03`, `2026-13`},
		"comma in time":      {`00.123Z`, `00,123Z`},
		"30 February":        {`2026-03-01`, `2026-02-30`},
		"empty member":       {`"service":"dispatch"`, `"service":""`},
		"order of members":   {`"service":"dispatch","credential":"a1B2c3"`, `"credential":"a1B2c3","service":"dispatch"`},
		"unknown member":     {`,"source"`, `,"other":1,"source"`},
		"policy 0":           {`"policy":3`, `"policy":0`},
		"zero digest":        {`"t":"AgAAAAAAAAAAAAAAAAAAAA"`, `"t":"AAAAAAAAAAAAAAAAAAAAAA"`},
		"short digest":       {`"t":"AgAAAAAAAAAAAAAAAAAAAA"`, `"t":"AgAAAAAAAAAAAAAAAAAAA"`},
		"no outcome":         {`"o":"ok",`, `"o":"",`},
		"needless escape":    {`dispatch`, `\u0064ispatch`},
		"short escape":       {`dispatch`, `dis\npatch`},
		"upper case escape":  {`dispatch`, `dis\u001Fpatch`},
		"raw control":        {`dispatch`, "dis\tpatch"},
		"not UTF-8":          {`dispatch`, "dis\xffpatch"},
		"not UTF-8, escaped": {`dispatch`, "dis\\\"\xffpatch"},
		"too long":           {`dispatch`, strings.Repeat("d", 129)},
		"too long, escaped":  {`dispatch`, `\\` + strings.Repeat("d", 128)},
		"trailing comma":     {`"}]}`, `"},]}`},
		"something behind":   {`"}]}`, `"}]} `},
		"cut":                {`"}]}`, `"}]`},
		"cut in a text":      {`full"}]}`, `full`},
		"cut in an escape":   {`full"}]}`, `\u00`},
	} {
		t.Run(name, func(t *testing.T) {
			i := strings.LastIndex(good, change[0])
			if i < 0 {
				t.Fatalf("%q is not in the line", change[0])
			}
			bad := good[:i] + change[1] + good[i+len(change[0]):]
			if e, err := parseLine([]byte(bad)); err == nil {
				t.Errorf("%s reads as %+v", bad, e)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add(encodeLine(event(0, 0), 0, [32]byte{}))
	f.Add(encodeLine(event(1, 3), 1<<63, [32]byte{1}))
	f.Add(encodeLine(&Event{Time: start, Action: "a\"\\\n\x7f李"}, 5, [32]byte{2}))
	f.Add([]byte(`{"i":0,"prev":"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseLine(line)
		if err != nil {
			return
		}
		if err := e.event.check(); err != nil {
			t.Fatalf("%q reads as an event that Append refuses: %v", line, err)
		}
		if again := encodeLine(&e.event, e.index, e.prev); !bytes.Equal(again, line) {
			t.Fatalf("%q is written as %q", line, again)
		}
	})
}

func FuzzEncodeLine(f *testing.F) {
	f.Add("put", "phone", "because", uint64(1), int64(5), []byte{1})
	f.Add("a\x00\"", "\\", "\u2028", uint64(0), int64(0), []byte{})
	f.Fuzz(func(t *testing.T, action, field, reason string, policy uint64, ms int64, digest []byte) {
		e := &Event{Time: time.UnixMilli(ms).UTC(), Action: action, Reason: reason, Policy: policy, Items: []Item{{Field: field, Outcome: "ok"}}}
		copy(e.Items[0].Subject[:], digest)
		if e.check() != nil || e.Time.IsZero() {
			return
		}
		line := encodeLine(e, policy, [32]byte{})
		got, err := parseLine(line)
		if err != nil || !reflect.DeepEqual(got.event, *e) || !json.Valid(line) {
			t.Fatalf("%q: %+v, %v", line, got, err)
		}
	})
}

func TestDigestText(t *testing.T) {
	d := Digest{0xff, 1}
	b, err := json.Marshal(struct{ D Digest }{d})
	if err != nil || string(b) != `{"D":"_wEAAAAAAAAAAAAAAAAAAA"}` || d.String() != "_wEAAAAAAAAAAAAAAAAAAA" {
		t.Errorf("%s, %v", b, err)
	}
	var back struct{ D Digest }
	if err := json.Unmarshal(b, &back); err != nil || back.D != d {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "_wEAAAAAAAAAAAAAAAAAA", "_wEAAAAAAAAAAAAAAAAAAB", "_wEAAAAAAAAAAAAAAAAAAA=", "_wEAAAAAAAAAAAAAAAA\nAAA"} {
		if err := back.D.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
