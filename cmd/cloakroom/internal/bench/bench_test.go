package bench

import (
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestCases(t *testing.T) {
	all := []operation{
		{name: nameEcho, values: 1}, {name: nameDetokenize, values: 1}, {name: namePut, values: 5},
		{name: nameEchoBatch, values: 100}, {name: nameDetokenizeMany, values: 100},
	}
	measures := []measure{
		{ops: 1000, elapsed: time.Second}, {ops: 500, elapsed: time.Second}, {ops: 100, elapsed: time.Second},
		{ops: 400, elapsed: 2 * time.Second}, {ops: 100, elapsed: time.Second},
	}
	got := cases(all, measures)
	for i, want := range []Case{
		{Name: nameEcho, PerSecond: 1000, ValuesPerS: 1000},
		{Name: nameDetokenize, PerSecond: 500, ValuesPerS: 500, Against: nameEcho, Ratio: 0.5},
		{Name: namePut, PerSecond: 100, ValuesPerS: 500, Against: nameEcho, Ratio: 0.1},
		{Name: nameEchoBatch, PerSecond: 200, ValuesPerS: 20000},
		{Name: nameDetokenizeMany, PerSecond: 100, ValuesPerS: 10000, Against: nameEchoBatch, Ratio: 0.5},
	} {
		if got[i] != want {
			t.Errorf("got %+v, want %+v", got[i], want)
		}
	}
	for _, c := range cases(all[1:2], measures[1:2]) {
		if c.Against != "" || c.Ratio != 0 {
			t.Errorf("a ratio without an echo: %+v", c)
		}
	}
}

func TestPercentile(t *testing.T) {
	m := measure{}
	for i := uint32(1000); i >= 1; i-- {
		m.micros = append(m.micros, i*1000)
	}
	m.sort()
	if p50, p99 := m.percentile(0.5), m.percentile(0.99); math.Abs(p50-501) > 1 || math.Abs(p99-991) > 1 {
		t.Errorf("%v, %v", p50, p99)
	}
	if none := (&measure{}); none.percentile(0.5) != 0 {
		t.Error("no answer has a latency")
	}
}

func TestGenerator(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != "abc" || r.Header.Get("Authorization") != "Bearer ck_x" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer s.Close()
	o := operation{name: "op", method: http.MethodPost, url: func(uint64) string { return s.URL }, bodies: [][]byte{[]byte("abc")}, key: "ck_x"}
	g := newGenerator(3)
	defer g.http.CloseIdleConnections()
	m, err := g.run(t.Context(), o, 50*time.Millisecond)
	if err != nil || m.ops == 0 || len(m.micros) != m.ops || m.elapsed < 50*time.Millisecond {
		t.Fatalf("%d requests, %d latencies, %v, %v", m.ops, len(m.micros), m.elapsed, err)
	}
	wrong := errors.New("wrong")
	o.check = func(uint64, []byte) error { return wrong }
	if _, err := g.run(t.Context(), o, time.Minute); !errors.Is(err, wrong) {
		t.Errorf("a wrong answer: %v", err)
	}
	o.key = ""
	if _, err := g.run(t.Context(), o, time.Minute); err == nil {
		t.Error("a refusal is counted")
	}
}
