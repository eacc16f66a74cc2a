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
		{"all of what is complete in itself", partly(items(2, 2)), 3, "none of 2 succeeded; the reasons stand above"},
		{"one of it", partly(itemError{wire.ItemError{Code: wire.DataCorrupt, Detail: "a\x1b"}}), 3, `data_corrupt: a\x1b`},
		{"problem, in one line", refused(wire.SubjectErased), 1, `subject_erased: why; not [request r1]`},
		{"problem of the key", refused(wire.Unauthenticated), 1, `unauthenticated: why; not [request r1]; the key came from app.key`},
		{"wrapped", fmt.Errorf("stopped after 1 of 2: %w", refused(wire.SubjectErased)), 1, `stopped after 1 of 2: subject_erased: why; not [request r1]`},
		{"a list, in one line", errors.New("not set up:\n  - one\n  - two\n"), 1, "not set up: one; two"},
		{"left at work", fmt.Errorf("x: %w", leftError{"interrupted; see y"}), 1, "x: interrupted; see y"},
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
	if items(0, 5) != nil || partly(items(0, 5)) != nil {
		t.Error("no failure is one")
	}
}

func TestErrorsAsJSON(t *testing.T) {
	refused := &client.Error{Problem: wire.Problem{
		Code: wire.InvalidValue, Title: "t", Detail: "why", Status: 422, Field: "phone", Rule: "cn", RequestID: "r1",
	}}
	cases := []struct {
		name string
		err  error
		want string // the members of "error"
	}{
		{"usage", usage("say so"), `"code":"usage","detail":"say so"`},
		{"some items", items(1, 2), `"code":"items_failed","detail":"1 of 2 failed; the reasons stand above"`},
		{"what is missing", partly(itemError{wire.ItemError{Code: wire.DataCorrupt, Field: "shoe"}}), `"code":"data_corrupt","detail":"","field":"shoe"`},
		{"all of what is complete in itself", partly(items(2, 2)), `"code":"items_failed","detail":"none of 2 succeeded; the reasons stand above"`},
		{"one item", itemError{wire.ItemError{Code: wire.UnknownField, Detail: "why", Field: "shoe", Rule: "r"}}, `"code":"unknown_field","detail":"why","field":"shoe","rule":"r"`},
		{"problem", refused, `"code":"invalid_value","detail":"why","status":422,"field":"phone","rule":"cn","request_id":"r1"`},
		{"problem, wrapped", fmt.Errorf("stopped after 1 of 2: %w", refused), `"code":"invalid_value","detail":"stopped after 1 of 2: why","status":422,"field":"phone","rule":"cn","request_id":"r1"`},
		{"problem of the key", &client.Error{Problem: wire.Problem{Code: wire.Unauthenticated, Detail: "why", Status: 401}}, `"code":"unauthenticated","detail":"why; the key came from app.key","status":401`},
		{"not Cloakroom's", &client.Error{Problem: wire.Problem{Detail: "why", Status: 502}}, `"code":"failed","detail":"why","status":502`},
		{"no server", fmt.Errorf("x: %w: %w", client.ErrUnreachable, syscall.ECONNREFUSED),
			`"code":"unreachable","detail":"no answer from http://127.0.0.1:8440 (connection refused); is the server running? start one with: cloakroom serve"`},
		{"left at work", leftError{"interrupted; see y"}, `"code":"interrupted","detail":"interrupted; see y"`},
		{"interrupted", fmt.Errorf("x: %w", context.Canceled), `"code":"interrupted","detail":"interrupted"`},
		{"anything, no UTF-8", errors.New("a\xff"), `"code":"failed","detail":"a` + "\ufffd\""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p, _, _ := testProgram("")
			p.conn.keySource = "app.key"
			if got, want := string(p.errorJSON(tc.err)), `{"error":{`+tc.want+`}}`; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestAsksJSON(t *testing.T) {
	cases := []struct {
		name string
		args []string
		want bool
	}{
		{"no", []string{"status"}, false},
		{"yes", []string{"status", "--nosuch", "--json"}, true},
		{"with a value", []string{"--json=true"}, true},
		{"taken back", []string{"--json", "--json=false"}, false},
		{"not a flag", []string{"status", "--", "--json"}, false},
	}
	for _, tc := range cases {
		if got := asksJSON(tc.args); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
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
