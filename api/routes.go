package api

import (
	"context"
	"net/http"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// admission says who may call a route.
type admission int

const (
	byKey       admission = iota // a valid credential; the vault decides what it may do
	openToAll                    // anyone
	openLocally                  // anyone on this machine; from elsewhere a valid credential
	operatorFar                  // anyone on this machine; from elsewhere a credential with the role operator
)

// operatorRole is the role that may read /metrics from another machine.
const operatorRole = "operator"

type bodyMode int

const (
	noBody       bodyMode = iota // a body is refused
	optionalBody                 // an empty body stands for {}
	requiredBody
	ignoredBody  // answered without a look at it
	streamedBody // lines of JSON, which the handler reads by itself
)

// route is one method of one path.
type route struct {
	method string
	path   string // gin's template, also the label of metrics and logs
	admit  admission
	body   bodyMode
	change bool     // takes an Idempotency-Key; consent_required is 422
	query  []string // the parameters it knows
	handle func(*exchange) error
	meter  *routeMeter
}

// nothing is the body of a call that takes none.
type nothing struct{}

// handle joins the parts that all calls of the vault have in common: the call itself, the body, the answer. status is
// that of success; with 204 nothing is sent.
func handle[Req, Resp any](f func(ctx context.Context, call vault.Call, p params, req *Req) (status int, resp Resp, err error)) func(*exchange) error {
	return func(x *exchange) error {
		call, err := x.call()
		if err != nil {
			return err
		}
		var req Req
		if len(x.body()) > 0 {
			if err := decode(x.body(), &req); err != nil {
				return err
			}
		}
		status, resp, err := f(x.c.Request.Context(), call, x.params(), &req)
		if err != nil {
			return err
		}
		if status == http.StatusNoContent {
			return x.answerNothing()
		}
		return x.answer(status, &resp)
	}
}

func (s *service) routes() []*route {
	return []*route{
		{method: "PUT", path: "/v1/subjects/:subject", body: requiredBody, change: true, query: []string{"recreate"}, handle: handle(s.putSubject)},
		{method: "PATCH", path: "/v1/subjects/:subject", body: requiredBody, change: true, query: []string{"recreate"}, handle: handle(s.patchSubject)},
		{method: "GET", path: "/v1/subjects/:subject", query: []string{"purpose", "view", "fields"}, handle: handle(s.getSubject)},
		{method: "GET", path: "/v1/subjects", query: []string{"limit", "cursor"}, handle: handle(s.listSubjects)},
		{method: "GET", path: "/v1/subjects/:subject/export", handle: handle(s.exportSubject)},
		{method: "GET", path: "/v1/export", query: []string{"limit", "cursor"}, handle: handle(s.export)},
		{method: "DELETE", path: "/v1/subjects/:subject", body: optionalBody, change: true, handle: handle(s.eraseSubject)},
		{method: "DELETE", path: "/v1/subjects/:subject/fields/:field", body: optionalBody, change: true, handle: handle(s.eraseField)},

		{method: "POST", path: "/v1/tokenize", body: requiredBody, change: true, query: []string{"recreate"}, handle: handle(s.tokenize)},
		{method: "POST", path: "/v1/detokenize", body: requiredBody, handle: handle(s.detokenize)},
		{method: "GET", path: "/v1/tokens", query: []string{"limit", "cursor", "audience", "fields"}, handle: handle(s.listTokens)},
		{method: "POST", path: "/v1/tokens/inspect", body: requiredBody, handle: handle(s.inspect)},
		{method: "POST", path: "/v1/tokens/revoke", body: requiredBody, change: true, handle: handle(s.revoke)},
		{method: "POST", path: "/v1/import", body: streamedBody, query: []string{"recreate", "replace"}, handle: s.importSubjects},

		{method: "GET", path: "/v1/erasures", query: []string{"limit", "cursor", "subject"}, handle: handle(s.listErasures)},
		{method: "GET", path: "/v1/erasures/:id", handle: handle(s.getErasure)},

		{method: "POST", path: "/v1/services", body: requiredBody, change: true, handle: handle(s.addService)},
		{method: "GET", path: "/v1/services", query: []string{"limit", "cursor"}, handle: handle(s.listServices)},
		{method: "DELETE", path: "/v1/services/:name", body: optionalBody, change: true, handle: handle(s.disableService)},
		{method: "POST", path: "/v1/services/:name/keys", body: optionalBody, change: true, handle: handle(s.addKey)},
		{method: "DELETE", path: "/v1/services/:name/keys/:id", body: optionalBody, change: true, handle: handle(s.disableKey)},
		{method: "GET", path: "/v1/policy", handle: handle(s.policy)},
		{method: "GET", path: "/v1/keys", handle: handle(s.keyStatus)},
		{method: "POST", path: "/v1/jobs", body: requiredBody, change: true, handle: handle(s.startJob)},
		{method: "GET", path: "/v1/jobs", query: []string{"limit", "cursor"}, handle: handle(s.listJobs)},
		{method: "GET", path: "/v1/jobs/:id", handle: handle(s.getJob)},

		{method: "GET", path: "/healthz", admit: openToAll, handle: health},
		{method: "GET", path: "/readyz", admit: openToAll, handle: s.ready},
		{method: "GET", path: "/metrics", admit: operatorFar, handle: s.metrics},
		{method: "GET", path: "/openapi.yaml", admit: openLocally, handle: openAPI},
	}
}

// notFoundRoute takes the requests that no route does. They are counted under one label whatever their path.
func notFoundRoute() *route {
	return &route{path: "none", admit: openToAll, body: ignoredBody, handle: func(*exchange) error {
		return &fault{code: wire.NotFound, detail: "there is no such path; /openapi.yaml lists those there are"}
	}}
}

func methodNotAllowedRoute() *route {
	return &route{path: "none", admit: openToAll, body: ignoredBody, handle: func(*exchange) error {
		return &fault{code: wire.MethodNotAllowed, detail: "this path has other methods; the Allow header lists them"}
	}}
}
