package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Server serves a handler with the limits that belong to connections.
type Server struct {
	http *http.Server
	stop context.CancelFunc // tells requests that last that the server stops
}

const (
	headerTime   = 10 * time.Second // to send the header of a request
	idleTime     = 2 * time.Minute  // between two requests
	answerTime   = 2 * time.Minute  // from the end of a request's header to the end of its answer
	headerBytes  = 12 << 10         // net/http adds 4 KiB of slack: 16 KiB
	shutdownTime = 15 * time.Second // for the requests that are being answered at the end
)

// NewServer prepares to serve h. log takes what net/http has to say of connections; nil drops it.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	stopping, stop := context.WithCancel(context.Background())
	base := context.WithValue(context.Background(), stoppingKey{}, stopping)
	return &Server{stop: stop, http: &http.Server{
		BaseContext:       func(net.Listener) context.Context { return base },
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		WriteTimeout:      answerTime,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
}

// stoppingKey finds, in a request's context, the one that ends when the server begins to stop.
type stoppingKey struct{}

// stoppingOf returns a context that ends when the server of a request begins to stop; where the request came in by
// another server, never.
func stoppingOf(ctx context.Context) context.Context {
	if stopping, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return stopping
	}
	return context.Background()
}

// Serve answers on l until ctx is done, then lets the requests under way finish, for at most 15 s; an import ends with
// the rows that it has taken. It closes l, and returns nil when the end was asked for and nothing was cut off. A config
// with a certificate makes it TLS.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	s.http.TLSConfig = config
	ended := make(chan error, 1)
	go func() {
		if config != nil {
			ended <- s.http.ServeTLS(l, "", "")
			return
		}
		ended <- s.http.Serve(l)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	err := s.http.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-ended
	return err
}
