package api

import (
	"time"

	"github.com/gin-gonic/gin"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// Statuses returns the table of codes as status numbers: of a read and of a change.
func Statuses() map[wire.Code][2]int {
	out := map[wire.Code][2]int{}
	for code, m := range meanings() {
		out[code] = [2]int{m.status, m.change}
		if m.change == 0 {
			out[code] = [2]int{m.status, m.status}
		}
	}
	return out
}

// Titles returns the titles of the table.
func Titles() map[wire.Code]string {
	out := map[wire.Code]string{}
	for code, m := range meanings() {
		out[code] = m.title
	}
	return out
}

// NewThrowing returns the stack with GET /throw, which panics with what throw returns, after writing when begun.
func NewThrowing(cfg Config, throw func() any, begun bool) *gin.Engine {
	s := newService(cfg)
	return s.engine([]*route{{method: "GET", path: "/throw", admit: openToAll, handle: func(x *exchange) error {
		if begun {
			x.c.Writer.WriteHeaderNow()
		}
		panic(throw())
	}}})
}

// NewFailing returns the stack with GET and PUT /fail, which fail with err.
func NewFailing(cfg Config, err error) *gin.Engine {
	s := newService(cfg)
	fail := func(*exchange) error { return err }
	return s.engine([]*route{
		{method: "GET", path: "/fail", admit: openToAll, handle: fail},
		{method: "PUT", path: "/fail", admit: openToAll, change: true, handle: fail},
	})
}

// NewWaiting returns the stack with POST /wait, which reads its body and answers after a while, unless the context of
// the request ends before.
func NewWaiting(cfg Config, wait time.Duration) *gin.Engine {
	s := newService(cfg)
	return s.engine([]*route{{method: "POST", path: "/wait", admit: openToAll, body: requiredBody, handle: func(x *exchange) error {
		select {
		case <-x.c.Request.Context().Done():
			return malformed("the context ended")
		case <-time.After(wait):
			return x.answer(200, &wire.Health{OK: true})
		}
	}}})
}

// Route is what a test may know of a route.
type Route struct {
	Method, Path string
	Query        []string
	TakesBody    bool
	Streams      bool // lines, whose faults are no faults of the whole
	Change, Open bool
}

// Routes returns all routes of New.
func Routes() []Route {
	var out []Route
	for _, rt := range newService(Config{}).routes() {
		out = append(out, Route{rt.method, rt.path, rt.query, rt.body != noBody, rt.body == streamedBody, rt.change, rt.admit == openToAll})
	}
	return out
}

// Released fills the buffers of an exchange with text, releases it, and returns the memory they had.
func Released(text string) (in, out []byte) {
	x := &exchange{s: newService(Config{})}
	x.in.WriteString(text)
	x.out.WriteString(text)
	in, out = x.in.Bytes(), x.out.Bytes()
	x.release()
	return in, out
}

// NewImporting returns the stack with POST /v1/import for anyone.
func NewImporting(cfg Config) *gin.Engine {
	s := newService(cfg)
	return s.engine([]*route{{method: "POST", path: "/v1/import", admit: openToAll, body: streamedBody, query: []string{"recreate", "replace"}, handle: s.importSubjects}})
}
