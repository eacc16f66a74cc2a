package transit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

const maxSecretFile = 8 << 10 // bytes

// asker makes one try of a small request outside the breaker, in and out being JSON, nil for none. Errors: ErrLogin, as
// a refusal, when Vault answers and refuses; keys.ErrKMSUnavailable.
type asker func(ctx context.Context, token secret.Text, method, path string, in, out any) error

// source is a way to get a token.
type source interface {
	// fetch gets a token and how long it lives. What it presents it reads anew, but what Vault has just refused it does
	// not present again. Errors: ErrLogin, keys.ErrKMSUnavailable.
	fetch(ctx context.Context) (token, error)
}

// token is what Vault knows us by.
type token struct {
	text       secret.Text
	ttl        time.Duration // from fetch or renewal on; 0 = no end
	renewable  bool
	ours       bool          // a login made it, and it can be revoked
	generation uint64        // counts the tokens of a keeper
	full       time.Duration // the longest ttl it had
	due, ends  time.Time     // when the keeper renews it, and when Vault forgets it; zero for a token without end
}

func newSource(l Login, ask asker, now func() time.Time, log *slog.Logger) source {
	file := func(path string, shared bool) *secretFile { return &secretFile{path: path, shared: shared, log: log} }
	switch l.Method {
	case MethodAppRole:
		a := &appRole{ask: ask, mount: l.Mount, role: l.RoleID, secret: file(l.SecretIDFile, false), refused: ofAppRole(now)}
		if l.RoleIDFile != "" {
			a.roleFile = file(l.RoleIDFile, true)
		}
		return a
	case MethodKubernetes:
		return &kubernetes{ask: ask, mount: l.Mount, role: l.Role, jwt: file(l.JWTFile, true), refused: ofKubernetes(now)}
	case MethodTokenFile:
		return &sink{ask: ask, file: file(l.TokenFile, false), refused: ofToken(now, "token")}
	default:
		return &given{ask: ask, text: l.Token, refused: ofToken(now, "")}
	}
}

// appRole logs in with a role id and a secret id.
type appRole struct {
	ask      asker
	mount    string
	role     string
	roleFile *secretFile // nil: role
	secret   *secretFile
	refused  refusals
}

func (a *appRole) fetch(ctx context.Context) (token, error) {
	role := secret.NewText(a.role)
	if a.roleFile != nil {
		var err error
		if role, err = a.roleFile.read(); err != nil {
			return token{}, err
		}
	}
	id, err := a.secret.read()
	if err != nil {
		return token{}, err
	}
	return a.refused.present(func() (token, error) {
		return login(ctx, a.ask, a.mount, credential{map[string]string{"role_id": role.Reveal(), "secret_id": id.Reveal()}, id})
	}, role, id)
}

// kubernetes logs in with the JWT of the pod's service account.
type kubernetes struct {
	ask     asker
	mount   string
	role    string
	jwt     *secretFile
	refused refusals
}

func (k *kubernetes) fetch(ctx context.Context) (token, error) {
	jwt, err := k.jwt.read()
	if err != nil {
		return token{}, err
	}
	return k.refused.present(func() (token, error) {
		return login(ctx, k.ask, k.mount, credential{map[string]string{"role": k.role, "jwt": jwt.Reveal()}, jwt})
	}, jwt)
}

// credential is what a login puts, and what of it no error may quote.
type credential struct {
	fields map[string]string
	secret secret.Text
}

// MarshalJSON writes the fields.
func (c credential) MarshalJSON() ([]byte, error) { return json.Marshal(c.fields) }

// login puts to auth/<mount>/login.
func login(ctx context.Context, ask asker, mount string, in credential) (token, error) {
	var out struct {
		Auth struct {
			Token     string `json:"client_token"`
			Seconds   int64  `json:"lease_duration"`
			Renewable bool   `json:"renewable"`
			Type      string `json:"token_type"`
		} `json:"auth"`
	}
	path := "auth/" + mount + "/login"
	if err := ask(ctx, secret.Text{}, http.MethodPut, path, in, &out); err != nil {
		return token{}, fmt.Errorf("log in to vault: %w", err)
	}
	if !tokenLike(out.Auth.Token) || out.Auth.Seconds < 0 {
		return token{}, fmt.Errorf("log in to vault: %w: %s answered without a token; does the role ask for another factor?", ErrLogin, path)
	}
	return token{
		text: secret.NewText(out.Auth.Token), ttl: seconds(out.Auth.Seconds), renewable: out.Auth.Renewable,
		ours: out.Auth.Type != "batch", // batch tokens can't be revoked, they end
	}, nil
}

// given is a token that nobody replaces.
type given struct {
	ask     asker
	text    secret.Text
	refused refusals
}

func (g *given) fetch(ctx context.Context) (token, error) {
	return g.refused.present(func() (token, error) { return lookUp(ctx, g.ask, g.text) }, g.text)
}

// sink reads the token that another program puts into a file and keeps fresh.
type sink struct {
	ask     asker
	file    *secretFile
	refused refusals
}

func (s *sink) fetch(ctx context.Context) (token, error) {
	text, err := s.file.read()
	if err != nil {
		return token{}, err
	}
	return s.refused.present(func() (token, error) { return lookUp(ctx, s.ask, text) }, text)
}

// lookUp asks how long a token lives.
func lookUp(ctx context.Context, ask asker, text secret.Text) (token, error) {
	var out struct {
		Data struct {
			Seconds   int64 `json:"ttl"`
			Renewable bool  `json:"renewable"`
		} `json:"data"`
	}
	if err := ask(ctx, text, http.MethodGet, "auth/token/lookup-self", nil, &out); err != nil {
		return token{}, fmt.Errorf("look up the vault token: %w", err)
	}
	return token{text: text, ttl: seconds(max(out.Data.Seconds, 0)), renewable: out.Data.Renewable}, nil
}

// seconds is n seconds, at most a hundred years.
func seconds(n int64) time.Duration { return time.Duration(min(n, 100*365*24*3600)) * time.Second }

// ask is the asker of t.
func (t *Transit) ask(ctx context.Context, token secret.Text, method, path string, in, out any) error {
	r := request{method: method, path: path}
	if c, ok := in.(credential); ok {
		r.hidden = c.secret
	}
	if in != nil {
		body, err := encodeJSON(&t.requests, in)
		if err != nil {
			return err
		}
		defer body.release()
		r.body = body
	}
	a, err := t.send(ctx, token, r)
	if err != nil {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return fmt.Errorf("%w: %s %s: %s", keys.ErrKMSUnavailable, method, path, judge(ctx, nil, err, false).reason)
	}
	defer a.release()
	v := judge(ctx, a, nil, false)
	switch {
	case a.status >= 200 && a.status < 300:
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(a.body.b, out); err != nil { // its text could quote a token
			return fmt.Errorf("%w: %s %s: the answer is not what vault says", keys.ErrKMSUnavailable, method, path)
		}
		return nil
	case v.vault == answered:
		return &refusal{a.status, fmt.Sprintf("%v: %s %s: %s", ErrLogin, method, path, v.reason)}
	default:
		return fmt.Errorf("%w: %s %s: %s", keys.ErrKMSUnavailable, method, path, v.reason)
	}
}

// secretFile is a file of one line that others replace.
type secretFile struct {
	path   string
	shared bool // others on this machine may read it, as kubelet has it
	log    *slog.Logger
	warned bool
}

// read returns the line. Errors: ErrLogin.
func (f *secretFile) read() (secret.Text, error) {
	fail := func(err error) (secret.Text, error) {
		return secret.Text{}, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return fail(err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for ever
		return fail(fmt.Errorf("%s is not a regular file", f.path))
	}
	if !f.shared && !f.warned && info.Mode().Perm()&0o077 != 0 {
		f.log.Warn("others than its owner may use a file that holds a secret; run: chmod 600", "file", f.path)
		f.warned = true
	}
	open, err := os.Open(f.path)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = open.Close() }()
	raw := make([]byte, maxSecretFile+1)
	defer clear(raw)
	n, err := io.ReadFull(open, raw)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	text := strings.TrimSpace(string(raw[:n]))
	if n > maxSecretFile || !tokenLike(text) {
		return fail(fmt.Errorf("%s must hold one line of at most %d bytes, without spaces", f.path, maxSecretFile))
	}
	return secret.NewText(text), nil
}
