package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/sample"
)

// Config says what to measure.
type Config struct {
	Server   string     // base URL
	Echo     string     // base URL of the yardstick; "" = none, and no ratios
	Key      wire.Plain // of a service that may put, get and detokenize for the purpose "service"
	Conns    int
	Duration time.Duration // of each operation, over all rounds
	Subjects int           // that are there before the clock runs; at least Batch
	Prefix   string        // of the ids of the subjects that are made
	Progress func(done, total int, what string)
}

// Batch is how many tokens the large requests hold, each of another subject.
const Batch = 100

// Rounds is how often the operations take turns: echo, measured, echo, measured, ...
const Rounds = 3

// warmUp runs before the first round, for each operation.
const warmUp = 200 * time.Millisecond

// Case is what came out for one operation.
type Case struct {
	Name       string  `json:"name"`
	PerSecond  float64 `json:"ops_per_s"`
	ValuesPerS float64 `json:"values_per_s"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Against    string  `json:"against,omitzero"` // the echo that it is compared with
	Ratio      float64 `json:"ratio,omitzero"`   // of operations per second
}

// Operations, as they are named in results.
const (
	nameEcho           = "echo"
	nameDetokenize     = "detokenize"
	nameGet            = "get masked"
	namePut            = "put 5 fields"
	nameEchoBatch      = "echo 100"
	nameDetokenizeMany = "detokenize 100"
)

// Run prepares subjects and measures. Cases come in the order in which they took turns.
func Run(ctx context.Context, c Config) ([]Case, error) {
	if c.Subjects < Batch {
		return nil, fmt.Errorf("at least %d subjects are needed", Batch)
	}
	prepared, err := prepare(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("preparing subjects: %w", err)
	}
	all := operations(c, prepared)
	g := newGenerator(c.Conns)
	defer g.http.CloseIdleConnections()
	slot := max(c.Duration/Rounds, time.Millisecond)
	measures := make([]measure, len(all))
	steps, done := len(all)*(Rounds+1), 0
	for round := range Rounds + 1 {
		for i, o := range all {
			c.Progress(done, steps, o.name)
			d := slot
			if round == 0 {
				d = min(warmUp, slot)
			}
			m, err := g.run(ctx, o, d)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				measures[i].add(m)
			}
			done++
		}
	}
	c.Progress(done, steps, "done")
	return cases(all, measures), nil
}

func cases(all []operation, measures []measure) []Case {
	out := make([]Case, len(all))
	echo := map[string]float64{}
	for i, o := range all {
		m := &measures[i]
		m.sort()
		out[i] = Case{
			Name: o.name, PerSecond: m.perSecond(), ValuesPerS: m.perSecond() * float64(o.values),
			P50: m.percentile(0.50), P99: m.percentile(0.99),
		}
		if o.name == nameEcho || o.name == nameEchoBatch {
			echo[o.name] = m.perSecond()
		}
	}
	for i := range out {
		against := nameEcho
		switch out[i].Name {
		case nameEcho, nameEchoBatch:
			continue
		case nameDetokenizeMany:
			against = nameEchoBatch
		}
		if base := echo[against]; base > 0 {
			out[i].Against, out[i].Ratio = against, out[i].PerSecond/base
		}
	}
	return out
}

// subject is one that was put, with what is needed to check answers.
type subject struct {
	id, token, phone string
}

// body is a new subject's five fields, out of the sample, in any spelling that it has.
func body(n int, customers []sample.Customer) wire.PutSubject {
	c := customers[n%len(customers)]
	return wire.PutSubject{Fields: map[string]wire.FieldValue{
		"phone": {Value: wire.Plain(c.Phone)}, "name": {Value: wire.Plain(c.Name)}, "address": {Value: wire.Plain(c.Address)},
		"email": {Value: wire.Plain(c.Email)}, "text": {Value: wire.Plain("note " + strconv.Itoa(n))},
	}}
}

func prepare(ctx context.Context, c Config) ([]subject, error) {
	customers, err := sample.Customers()
	if err != nil {
		return nil, err
	}
	cl, err := client.New(client.Options{Addr: c.Server, Key: c.Key, InsecureHTTP: true})
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	out := make([]subject, c.Subjects)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(c.Conns)
	for n := range out {
		work.Go(func() error {
			id := c.Prefix + "ready-" + strconv.Itoa(n)
			made, err := cl.PutSubject(ctx, id, body(n, customers))
			if err != nil {
				return err
			}
			out[n] = subject{id, string(made.Tokens["phone"]), customers[n%len(customers)].Phone}
			return nil
		})
	}
	return out, work.Wait()
}

// operations are in the order in which they take turns: each next to its echo.
func operations(c Config, ready []subject) []operation {
	one, want := detokenizeBodies(ready[:1], 1)
	many, wantMany := detokenizeBodies(ready, Batch)
	fixed := func(url string) func(uint64) string { return func(uint64) string { return url } }
	var out []operation
	if c.Echo != "" {
		out = append(out, operation{
			name: nameEcho, method: http.MethodPost, url: fixed(c.Echo + "/v1/detokenize"), bodies: one, values: 1, check: counts(1),
		})
	}
	out = append(out,
		operation{
			name: nameDetokenize, method: http.MethodPost, url: fixed(c.Server + "/v1/detokenize"), bodies: one, values: 1,
			key: c.Key, check: equals(want),
		},
		operation{
			name: nameGet, method: http.MethodGet, values: 5, key: c.Key, check: fields(5),
			url: func(n uint64) string {
				return c.Server + "/v1/subjects/" + ready[n%uint64(len(ready))].id + "?purpose=service&view=masked"
			},
		},
		operation{
			name: namePut, method: http.MethodPut, bodies: putBodies(), values: 5, key: c.Key, check: tokens(5),
			url: func(n uint64) string { return c.Server + "/v1/subjects/" + c.Prefix + strconv.FormatUint(n, 10) },
		})
	if c.Echo != "" {
		out = append(out, operation{
			name: nameEchoBatch, method: http.MethodPost, url: fixed(c.Echo + "/v1/detokenize"), bodies: many, values: Batch, check: counts(Batch),
		})
	}
	return append(out, operation{
		name: nameDetokenizeMany, method: http.MethodPost, url: fixed(c.Server + "/v1/detokenize"), bodies: many, values: Batch,
		key: c.Key, check: equals(wantMany),
	})
}

// detokenizeBodies makes requests of size tokens each, and the values that they have to be answered with.
func detokenizeBodies(ready []subject, size int) (bodies [][]byte, want [][]string) {
	for ; len(ready) >= size; ready = ready[size:] {
		req := wire.Detokenize{Purpose: "service"}
		var values []string
		for _, s := range ready[:size] {
			req.Tokens = append(req.Tokens, wire.Plain(s.token))
			values = append(values, s.phone)
		}
		bodies, want = append(bodies, encode(req)), append(want, values)
	}
	return bodies, want
}

func putBodies() [][]byte {
	customers, err := sample.Customers()
	if err != nil {
		return nil
	}
	out := make([][]byte, len(customers))
	for n := range out {
		out[n] = encode(body(n, customers))
	}
	return out
}

// encode writes a body of ours, which always can be written.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

func equals(want [][]string) func(uint64, []byte) error {
	return func(n uint64, body []byte) error {
		var got wire.Detokenized
		values := want[n%uint64(len(want))]
		if err := json.Unmarshal(body, &got); err != nil || len(got.Items) != len(values) {
			return errors.New("not the items that were asked for")
		}
		for i, item := range got.Items {
			if item.Error != nil {
				return fmt.Errorf("item %d: %s", i, item.Error.Code)
			}
			if item.Value == nil || string(*item.Value) != values[i] {
				return fmt.Errorf("item %d: another value", i)
			}
		}
		return nil
	}
}

func counts(want int) func(uint64, []byte) error {
	return func(_ uint64, body []byte) error {
		var got wire.Detokenized
		if err := json.Unmarshal(body, &got); err != nil || len(got.Items) != want {
			return errors.New("not the items that were asked for")
		}
		return nil
	}
}

func fields(want int) func(uint64, []byte) error {
	return func(_ uint64, body []byte) error {
		var got wire.Subject
		if err := json.Unmarshal(body, &got); err != nil || len(got.Fields) != want {
			return errors.New("not the fields that were put")
		}
		return nil
	}
}

func tokens(want int) func(uint64, []byte) error {
	return func(_ uint64, body []byte) error {
		var got wire.SubjectTokens
		if err := json.Unmarshal(body, &got); err != nil || len(got.Tokens) != want || !got.Created {
			return errors.New("not a new subject with its tokens")
		}
		return nil
	}
}
