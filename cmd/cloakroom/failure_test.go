package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

func TestExplain(t *testing.T) {
	refused := func(code wire.Code) error {
		return &client.Error{Problem: wire.Problem{Code: code, Detail: "why\nnot", Status: 403, RequestID: "r1"}}
	}
	cases := []struct {
		name string
		err  error
		code int
		line string
	}{
		{"usage", usage("say so"), 2, "say so"},
		{"some items", items(1, 2), 3, "1 of 2 failed; the reasons stand above"},
		{"all items", items(2, 2), 1, "none of 2 succeeded; the reasons stand above"},
		{"problem, in one line", refused(wire.SubjectErased), 1, `subject_erased: why\nnot [request r1]`},
		{"problem of the key", refused(wire.Unauthenticated), 1, `unauthenticated: why\nnot [request r1]; the key came from app.key`},
		{"wrapped", fmt.Errorf("stopped after 1 of 2: %w", refused(wire.SubjectErased)), 1, `stopped after 1 of 2: subject_erased: why\nnot [request r1]`},
		{"interrupted", fmt.Errorf("x: %w", context.Canceled), 1, "interrupted"},
		{"no server", fmt.Errorf("client: GET /x: %w: %w", client.ErrUnreachable, syscall.ECONNREFUSED), 1,
			"no answer from http://127.0.0.1:8440 (connection refused); is the server running? start one with: cloakroom serve"},
		{"closed pipe", fmt.Errorf("write: %w", syscall.EPIPE), 1, ""},
		{"explained before", quiet{}, 1, ""},
		{"anything", errors.New("a\x1b[31mb"), 1, `a\x1b[31mb`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p, _, _ := testProgram("")
			p.conn.keySource = "app.key"
			code, line := p.explain(tc.err)
			if code != tc.code || line != tc.line {
				t.Errorf("%d %q, want %d %q", code, line, tc.code, tc.line)
			}
		})
	}
	if items(0, 5) != nil {
		t.Error("no failure is one")
	}
}

func TestAFailedStoreEndsTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- serveUntil(t.Context(), failed, l, api.NewServer(api.Echo(api.Config{}), nil), nil)
	}()
	c, err := client.New(client.Options{Addr: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(failed)
	if err := <-ended; !errors.Is(err, errStore) {
		t.Errorf("got %v", err)
	}
	p, _, _ := testProgram("")
	if code, _ := p.explain(errStore); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

func TestClock(t *testing.T) {
	if got := clock(time.Time{}); got != "" {
		t.Errorf("no time shows as %q", got)
	}
	if got := clock(time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 8*3600))); got != "2026-01-01 19:04:05Z" {
		t.Errorf("got %q", got)
	}
}
