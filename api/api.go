// Package api is the vault over HTTP: JSON in, JSON or a problem (RFC 9457) out.
//
// A call takes three hops. serve (serve.go) is the one way in: it gives the request an id, keeps the limits, catches
// panics, counts and logs. Each route (routes.go) names its body, its query and who may call without a credential.
// Its handler is a few lines: it turns the body of package wire into a request of package vault and the answer back.
// Authorisation and audit are not here but inside the vault, so that no handler can forget them.
//
// What a caller sent is never repeated in an error or a log line: a mistyped request holds a phone number as easily
// as a correct one. Errors name the place in the body instead, by member names that this package knows.
package api

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/cloakroom-io/cloakroom/vault"
)

// Limits bounds what one request may cost. The zero value of each is its default.
type Limits struct {
	Body     int64         // bytes of a body that is read; 8 MiB
	Discard  int64         // bytes of a too large body that are read and thrown away before the 413; 16 MiB
	BodyTime time.Duration // from the start of the request to the last byte of its body; 20 s
	Silence  time.Duration // of an import: between two pieces of its body, and for one of its answer to be taken; 2 min
	Imports  int           // that are under way at once; one more is refused; 16
}

// Config says what to serve.
type Config struct {
	Vault    *vault.Vault
	Logger   *slog.Logger         // nil: nothing is logged
	Registry *prometheus.Registry // what /metrics shows; nil: one of its own
	Random   io.Reader            // for request ids; nil: crypto/rand
	Limits   Limits
}

// Defaults of Limits.
const (
	DefaultBody     = 8 << 20
	DefaultDiscard  = 16 << 20
	DefaultBodyTime = 20 * time.Second
	DefaultSilence  = 2 * time.Minute
	DefaultImports  = 16
)

// service is what all exchanges share.
type service struct {
	vault  *vault.Vault
	log    *slog.Logger
	random io.Reader
	limits Limits
	meter  *meter

	importing *semaphore.Weighted // of Limits.Imports
	exchanges sync.Pool           // of *exchange
}

// New returns the handler of all routes. It may be called for several vaults in one process; two that share a
// Registry share their counters.
func New(cfg Config) http.Handler {
	s := newService(cfg)
	return s.engine(s.routes())
}

func newService(cfg Config) *service {
	s := &service{vault: cfg.Vault, log: cfg.Logger, random: cfg.Random, limits: cfg.Limits}
	s.exchanges.New = func() any { return new(exchange) }
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	if s.limits.Body <= 0 {
		s.limits.Body = DefaultBody
	}
	if s.limits.Discard <= 0 {
		s.limits.Discard = DefaultDiscard
	}
	if s.limits.BodyTime <= 0 {
		s.limits.BodyTime = DefaultBodyTime
	}
	if s.limits.Silence <= 0 {
		s.limits.Silence = DefaultSilence
	}
	if s.limits.Imports <= 0 {
		s.limits.Imports = DefaultImports
	}
	s.importing = semaphore.NewWeighted(int64(s.limits.Imports))
	reg := cfg.Registry
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	s.meter = newMeter(reg)
	return s
}

// engine mounts routes on a gin engine. Paths are matched as they were escaped, so that a %2F inside a subject id
// stays inside it; path values are unescaped one by one (params.path), because gin would take "+" for a space.
func (s *service) engine(routes []*route) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	e.UseEscapedPath = true
	e.UnescapePathValues = false
	e.ForwardedByClientIP = false
	for _, rt := range routes {
		rt.meter = s.meter.route(rt)
		e.Handle(rt.method, rt.path, func(c *gin.Context) { s.serve(c, rt) })
	}
	for rt, mount := range map[*route]func(...gin.HandlerFunc){
		notFoundRoute():         e.NoRoute,
		methodNotAllowedRoute(): e.NoMethod,
	} {
		rt.meter = s.meter.route(rt)
		mount(func(c *gin.Context) { s.serve(c, rt) })
	}
	return e
}
