package transit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

const (
	perItem        = 500 * time.Microsecond // added to the timeout of a try for each item of a batch
	maxConnections = 64                     // kept open to Vault; the client's own choice, one more than processors, reconnects all the time
)

// newClient makes Vault's own client with everything set that it would take from the environment, where
// VAULT_SKIP_VERIFY or VAULT_WRAP_TTL would change behind an operator's back what is safe.
func newClient(c Config) (*api.Client, *http.Transport, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: c.Timeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   c.Timeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost:   maxConnections,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		Protocols:             new(http.Protocols),
	}
	// HTTP/2 would put all requests on one connection, and when that hangs each would wait for its own timeout; a
	// connection of HTTP/1.1 is given up with the request that hung on it.
	transport.Protocols.SetHTTP1(true)
	config := &api.Config{
		Address: c.Address,
		HttpClient: &http.Client{
			Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // the client follows a standby's redirect itself, once
			},
		},
		CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return false, nil },
	}
	if c.TLS != (TLS{}) {
		if err := configureTLS(config, transport, c.TLS); err != nil {
			return nil, nil, err
		}
	}
	config.HttpClient.Transport = &carrier{transport}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	client.ClearToken()
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	if c.Namespace != "" {
		client.SetNamespace(c.Namespace)
	}
	return client, transport, nil
}

func configureTLS(config *api.Config, transport *http.Transport, c TLS) error {
	err := config.ConfigureTLS(&api.TLSConfig{
		CACert: c.CACert, ClientCert: c.ClientCert, ClientKey: c.ClientKey, TLSServerName: c.ServerName,
	})
	if err != nil {
		return fmt.Errorf("%w: TLS: %w", ErrConfig, err)
	}
	if c.ClientCert != "" {
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
			return &pair, err
		}
	}
	return nil
}

// carrier gives each request the token it goes with, lends its body to the connection and limits what is read of the
// answer. The client has one token for all requests, which would not tell which one an answer speaks of.
type carrier struct{ base *http.Transport }

// freight is what a request carries, in its context.
type freight struct {
	token secret.Text
	body  *buffer // nil: none
}

type freightKey struct{}

func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	own := *req
	load, _ := req.Context().Value(freightKey{}).(freight)
	if !load.token.Empty() {
		own.Header = req.Header.Clone()
		own.Header.Set(api.AuthHeaderName, load.token.Reveal())
	}
	if load.body != nil {
		own.Body = lend(load.body)
		own.GetBody = nil // the transport must not read the buffer behind its back
		own.ContentLength = int64(len(load.body.b))
	}
	resp, err := c.base.RoundTrip(&own)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 { // the client drops it for the next one without closing it
		_ = resp.Body.Close()
		resp.Body = http.NoBody
		return resp, nil
	}
	resp.Body = &limited{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// request is one call of Vault's API.
type request struct {
	method string      // GET or PUT
	path   string      // below /v1/
	body   *buffer     // JSON, or nil
	items  int         // of a batch, else 0
	once   bool        // must not be sent a second time, whatever the answer
	hidden secret.Text // beside the token: what is not to be quoted from an answer
	// denied, if set, is asked after a 403: an error is what it really means, nil that the token is at fault.
	denied func(ctx context.Context, token secret.Text) error
}

// answer is what Vault said. Whoever gets one releases it.
type answer struct {
	status     int
	body       *buffer
	text       string        // Vault's errors in one short line, "" when it gave none
	retryAfter time.Duration // 0: Vault did not say
}

func (a *answer) release() {
	if a != nil {
		a.body.release()
	}
}

// invalidToken reports whether Vault does not know the token at all, beside denying what was asked.
func (a *answer) invalidToken() bool {
	return a.status == http.StatusForbidden && (strings.Contains(a.text, "invalid token") || strings.Contains(a.text, "bad token"))
}

// send makes one try with one token. An error means that no answer came.
func (t *Transit) send(ctx context.Context, token secret.Text, r request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout+time.Duration(r.items)*perItem)
	defer cancel()
	ctx = context.WithValue(ctx, freightKey{}, freight{token, r.body})
	var resp *api.Response
	var err error
	switch {
	case r.method == http.MethodGet:
		resp, err = t.client.Logical().ReadRawWithContext(ctx, r.path)
	case r.body == nil:
		resp, err = t.client.Logical().WriteRawWithContext(ctx, r.path, nil)
	default: // carrier puts the buffer itself in place of these bytes, also after a redirect
		resp, err = t.client.Logical().WriteRawWithContext(ctx, r.path, r.body.b)
	}
	if resp != nil && resp.Body != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	var refused *api.ResponseError
	if err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, body: take(&t.answers, 1024+96*r.items)}
	if err := a.body.fill(resp.Body); err != nil {
		a.release()
		return nil, err
	}
	if refused != nil && !refused.RawError {
		a.text = quote(refused.Errors, token, r.hidden)
	}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		a.retryAfter = time.Duration(seconds) * time.Second
	}
	return a, nil
}

// quote makes a line of at most 200 printable bytes of what Vault said.
func quote(errs []string, secrets ...secret.Text) string {
	text := strings.Join(errs, "; ")
	for _, s := range secrets {
		if !s.Empty() && strings.Contains(text, s.Reveal()) {
			return "a text that is not shown"
		}
	}
	return bounded(text)
}

// bounded cuts s to 200 printable bytes in one line.
func bounded(s string) string {
	const limit = 200
	s = strings.Join(strings.Fields(s[:min(len(s), 4*limit)]), " ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}

// cause strips an error of the network of what is known anyway: method and URL.
func cause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return bounded(err.Error())
}
