package transit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// kubernetesAt stands for Vault's Kubernetes login, which would ask a cluster: it checks JWT and role, and answers with
// a token of the real server behind it, to which everything else goes.
func kubernetesAt(t *testing.T, s *stand, mount, role string, jwt *atomic.Value, ttl time.Duration) string {
	t.Helper()
	to, err := url.Parse(s.URL)
	must(t, err)
	transport := &http.Transport{}
	pass := httputil.NewSingleHostReverseProxy(to)
	pass.Transport = transport
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/auth/"+mount+"/login" {
			pass.ServeHTTP(w, r)
			return
		}
		var in struct{ JWT, Role string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPut || in.JWT != jwt.Load() || in.Role != role {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["permission denied"]}`)
			return
		}
		_, made, err := s.Try("POST", "/v1/auth/token/create", s.Root, map[string]any{"policies": []string{s.service}, "ttl": ttl.String()})
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(made)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

func writeSecret(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
}

// TestLoginMethods logs in by each method, loses the token and gets another one by itself.
func TestLoginMethods(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	sinkFile := filepath.Join(t.TempDir(), "sink")
	newToken := func() string { return s.Token(t, time.Hour, s.service) }
	jwt := new(atomic.Value)
	jwt.Store("header.payload.signature")
	jwtFile := filepath.Join(t.TempDir(), "jwt")
	writeSecret(t, jwtFile, "header.payload.signature")
	writeSecret(t, sinkFile, newToken()+"\n")
	roleFile := filepath.Join(t.TempDir(), "role-id")
	byFile := s.appRole(t, s.URL, "by-file", nil)
	writeSecret(t, roleFile, byFile.Login.RoleID)
	byFile.Login.RoleID, byFile.Login.RoleIDFile = "", roleFile
	inst, log := s.inst, quiet()
	for _, tt := range []struct {
		name   string
		config Config
		lost   func() // after the token was revoked; nil for a batch token, which can't be
	}{
		{"approle", s.appRole(t, s.URL, "r", nil), func() {}},
		{"approle by files", byFile, func() {
			writeSecret(t, byFile.Login.SecretIDFile, s.SecretID(t, "by-file")) // rotated
		}},
		{"approle, batch tokens", s.appRole(t, s.URL, "b", map[string]any{"token_type": "batch", "token_ttl": "1h"}), nil},
		{"kubernetes", Config{
			Address: kubernetesAt(t, s, "kubernetes", "cloakroom", jwt, time.Hour), Instance: inst, Logger: log,
			Login: Login{Method: MethodKubernetes, Role: "cloakroom", JWTFile: jwtFile},
		}, func() {
			jwt.Store("another.pay.load")
			writeSecret(t, jwtFile, "another.pay.load\n")
		}},
		{"kubernetes elsewhere", Config{
			Address: kubernetesAt(t, s, "team/k8s", "cloakroom", jwt, time.Hour), Instance: inst, Logger: log,
			Login: Login{Method: MethodKubernetes, Mount: "team/k8s", Role: "cloakroom", JWTFile: jwtFile},
		}, func() {}},
		{"token file", Config{
			Address: s.URL, Instance: inst, Logger: log, Login: Login{Method: MethodTokenFile, TokenFile: sinkFile},
		}, func() { writeSecret(t, sinkFile, newToken()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := Open(t.Context(), tt.config)
			must(t, err)
			defer func() { must(t, k.Close()) }()
			it := wrapSome(t, k, keys.DEKKey, 1)[0]
			must(t, sing(t, k, keys.DEKKey, it))
			if tt.lost != nil {
				revoke(t, s, k)
				tt.lost()
				must(t, sing(t, k, keys.DEKKey, it))
			}
			last, err := k.keeper.current()
			must(t, err, k.Close())
			ours := tt.config.Login.Method != MethodTokenFile && tt.lost != nil
			if alive := lives(t, s, last.text.Reveal()); alive == ours {
				t.Errorf("after close the token lives: %t; a login of ours made it: %t", alive, ours)
			}
			_, err = k.Versions(t.Context(), keys.DEKKey)
			wantError(t, err, keys.ErrKMSUnavailable)
			must(t, k.Close())
		})
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	role := s.appRole(t, s.URL, "r", nil)
	refused := func(path string) Config {
		c := role
		c.Login.SecretIDFile = path
		return c
	}
	sealed := transittest.Start(t, transittest.Options{})
	sealed.Seal(t)
	for _, tt := range []struct {
		name   string
		config Config
		want   error
		says   string
	}{
		{"wrong secret id", refused(file("wrong", "11111111-2222-3333-4444-555555555555")), ErrLogin, "auth/approle/login"},
		{"no file", refused(filepath.Join(dir, "none")), ErrLogin, "none"},
		{"empty file", refused(file("empty", " \n")), ErrLogin, "one line"},
		{"two lines", refused(file("two", "a\nb")), ErrLogin, "one line"},
		{"long file", refused(file("long", strings.Repeat("a", maxSecretFile+1))), ErrLogin, "one line"},
		{"control character", refused(file("control", "a\x00b")), ErrLogin, "one line"},
		{"folder", refused(dir), ErrLogin, "not a regular file"},
		{"pipe", refused(pipe), ErrLogin, "not a regular file"},
		{"wrong login mount", Config{Address: s.URL, Instance: s.inst, Logger: quiet(), Login: Login{
			Method: MethodAppRole, Mount: "other", RoleID: "r", SecretIDFile: role.Login.SecretIDFile}}, ErrLogin, "auth/other/login"},
		{"wrong token", withToken(s.URL, "hvs.wrong", s.inst), ErrLogin, "lookup-self"},
		{"nobody there", withToken("http://127.0.0.1:1", "hvs.token", s.inst), keys.ErrKMSUnavailable, "connection refused"},
		{"no Vault", withToken(answering(t, 200, "<html>"), "hvs.token", s.inst), keys.ErrKMSUnavailable, "not what vault says"},
		{"no Vault either", withToken(answering(t, 200, `{"data":{"ttl":"x"}}`), "hvs.token", s.inst), keys.ErrKMSUnavailable, "not what vault says"},
		{"a factor is missing", Config{Address: answering(t, 200, `{"auth":{"client_token":"","mfa_requirement":{}}}`), Instance: s.inst,
			Logger: quiet(), Login: role.Login}, ErrLogin, "without a token"},
		{"sealed", withToken(sealed.URL, "hvs.token", s.inst), keys.ErrKMSUnavailable, "sealed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(t.Context(), tt.config)
			wantError(t, err, tt.want)
			wantText(t, err.Error(), tt.says)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, role)
	wantError(t, err, context.Canceled)
}

// answering is a server that says always the same.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func TestSecretFilesOpenToOthers(t *testing.T) {
	t.Parallel()
	s := newStand(t, transittest.Options{})
	log := new(journal)
	c := s.appRole(t, s.URL, "r", nil)
	must(t, os.Chmod(c.Login.SecretIDFile, 0o640))
	c.Logger = log.logger()
	k := open(t, c)
	wantText(t, log.String(), "others than its owner may use", c.Login.SecretIDFile)
	revoke(t, s, k)
	_, err := k.Versions(t.Context(), keys.DEKKey)
	must(t, err)
	if n := strings.Count(log.String(), "others than its owner"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}
