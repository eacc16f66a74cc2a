package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/settings"
	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys/transit"
)

// TestWatch follows jobs through every end there is. What a job waits for is said when it begins to wait, once.
func TestWatch(t *testing.T) {
	running := func(done uint64) wire.Job { return wire.Job{ID: "job_1", State: "running", Done: done, Total: 10} }
	waiting := func(detail string) wire.Job {
		j := running(3)
		j.Error = &wire.ItemError{Code: wire.KeyServiceUnavailable, Detail: detail}
		return j
	}
	ended := func(state string, e *wire.ItemError) wire.Job {
		return wire.Job{ID: "job_1", Kind: "move-keys", State: state, Done: 10, Total: 10, Error: e}
	}
	lost := errors.New("lost the server")
	cases := []struct {
		name  string
		jobs  []wire.Job // as they are looked at
		err   error      // of looking, after these
		code  int
		out   string
		waits int // lines about waiting
		said  string
	}{
		{"done", []wire.Job{running(1), ended("done", nil)}, nil, 0, "state  done", 0, ""},
		{"done at once", []wire.Job{ended("done", nil)}, nil, 0, "done   10 of 10", 0, ""},
		{"failed", []wire.Job{ended("failed", &wire.ItemError{Code: "conflict", Detail: "why"})}, nil, 1, "state  failed", 0, "conflict: why"},
		{"a state of another version", []wire.Job{ended("paused", nil)}, nil, 1, "state  paused", 0, "its state is paused"},
		{"waiting", []wire.Job{waiting("a"), waiting("b"), running(4), waiting("a"), ended("done", nil)}, nil, 0, "state  done", 2, ""},
		{"lost", []wire.Job{running(1)}, lost, 1, "", 0, "lost the server"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p, out, errs := testProgram("")
			n := 0
			err := p.watch(t.Context(), "job_1", func(_ context.Context, id string) (wire.Job, error) {
				if id != "job_1" {
					t.Errorf("asked for %s", id)
				}
				if n == len(tc.jobs) {
					return wire.Job{}, tc.err
				}
				n++
				return tc.jobs[n-1], nil
			}, seeAgain)
			code, said := 0, ""
			if err != nil {
				code, said = p.explain(err)
			}
			if code != tc.code || !strings.Contains(said, tc.said) || !strings.Contains(out.String(), tc.out) {
				t.Errorf("%d %q, printed %q", code, said, out.String())
			}
			if got := strings.Count(errs.String(), "key_service_unavailable"); got != tc.waits {
				t.Errorf("said %d times that it waits: %q", got, errs.String())
			}
		})
	}
}

// TestWatchInterrupted leaves the job alone and says where to look.
func TestWatchInterrupted(t *testing.T) {
	p, _, errs := testProgram("")
	p.errTerminal = true
	ctx, stop := context.WithCancel(t.Context())
	err := p.watch(ctx, "job_1", func(context.Context, string) (wire.Job, error) {
		stop()
		return wire.Job{ID: "job_1", State: "running", Done: 1, Total: 2}, nil
	}, seeAgain)
	code, said := p.explain(err)
	if code != 1 || said != "interrupted; the job goes on at the server; look again with: cloakroom job watch job_1" {
		t.Errorf("%d %q", code, said)
	}
	if errs.Len() != 0 && !strings.Contains(errs.String(), "people") {
		t.Errorf("standard error has %q", errs.String())
	}
}

// TestTransitConfig: each way to log in takes its own settings along and no other's.
func TestTransitConfig(t *testing.T) {
	all := settings.Vault{
		Address: "https://v:1", Namespace: "n", Mount: "m", CACert: "ca", ClientCert: "c", ClientKey: "k", ServerName: "s",
		AuthMount: "am", Token: secret.NewText("t"), TokenFile: "tf", RoleID: "r", RoleIDFile: "rf", SecretIDFile: "sf",
		Role: "kr", JWTFile: "j", Timeout: 5,
	}
	cases := map[string]transit.Login{
		settings.AuthToken:      {Method: transit.MethodToken, Token: secret.NewText("t")},
		settings.AuthTokenFile:  {Method: transit.MethodTokenFile, TokenFile: "tf"},
		settings.AuthAppRole:    {Method: transit.MethodAppRole, Mount: "am", RoleID: "r", RoleIDFile: "rf", SecretIDFile: "sf"},
		settings.AuthKubernetes: {Method: transit.MethodKubernetes, Mount: "am", Role: "kr", JWTFile: "j"},
	}
	for way, login := range cases {
		v := all
		v.Auth = way
		got := transitConfig(v)
		if got == nil || got.Login != login {
			t.Errorf("%s: %+v", way, got)
			continue
		}
		if got.Address != "https://v:1" || got.Namespace != "n" || got.Mount != "m" || got.Timeout != 5 ||
			got.TLS != (transit.TLS{CACert: "ca", ClientCert: "c", ClientKey: "k", ServerName: "s"}) {
			t.Errorf("%s: %+v", way, got)
		}
	}
	if transitConfig(settings.Vault{}) != nil {
		t.Error("no Vault is one")
	}
}

// TestKeyTable shows a move of keys where there is one.
func TestKeyTable(t *testing.T) {
	for name, tc := range map[string]struct {
		move *wire.KeyMove
		want string
	}{
		"none": {nil, ""},
		"one":  {&wire.KeyMove{Job: "job_1", From: "transit", To: "local"}, "from transit to local under way, or to be started again: job_1"},
	} {
		got := ""
		for _, row := range keyTable(wire.KeyStatus{Move: tc.move}).rows {
			if row[0] == "move" {
				got = row[1]
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestHere(t *testing.T) {
	for addr, want := range map[string]bool{
		"http://127.0.0.1:8440": true, "http://localhost:1": true, "https://[::1]:8440": true, "https://10.0.0.1:8440": false,
		"https://vault.example": false, "http://127.0.0.1.example": false, "%": false,
	} {
		if here(addr) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
}
