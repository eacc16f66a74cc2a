package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// meter counts. Labels are templates of routes, methods, statuses and codes, all from fixed lists: an id in a label
// would be a person's trace and a new time series for each.
type meter struct {
	registry *prometheus.Registry
	inFlight prometheus.Gauge
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	tokenize itemMeter
	reveal   itemMeter
	imported itemMeter
	meanings map[wire.Code]meaning
}

// codeOK stands beside the error codes for success.
const codeOK = "ok"

func newMeter(reg *prometheus.Registry) *meter {
	m := &meter{registry: reg, meanings: meanings()}
	m.inFlight = register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cloakroom_http_requests_in_flight", Help: "Requests that are being answered.",
	}))
	m.requests = register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloakroom_http_requests_total", Help: "Answered requests by route template, method, status and error code (ok for none).",
	}, []string{"route", "method", "status", "code"}))
	m.latency = register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cloakroom_http_request_duration_seconds", Help: "Time from the request's header to the answer.",
		Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route", "method"}))
	items := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloakroom_items_total", Help: "Items of batches by call and outcome (ok or an error code).",
	}, []string{"call", "code"}))
	m.tokenize = itemMeter{items, "tokenize", items.WithLabelValues("tokenize", codeOK)}
	m.reveal = itemMeter{items, "detokenize", items.WithLabelValues("detokenize", codeOK)}
	m.imported = itemMeter{items, "import", items.WithLabelValues("import", codeOK)}
	register[prometheus.Collector](reg, collectors.NewGoCollector())
	register[prometheus.Collector](reg, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// register returns c, or the collector of the same description that is there already. Another clash of descriptions
// leaves c uncounted in the registry, which a scrape shows; it is no reason to refuse service.
func register[C prometheus.Collector](reg *prometheus.Registry, c C) C {
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](reg.Register(c)); ok {
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
	}
	return c
}

// routeMeter has the counters of one route at hand, so that a request looks nothing up.
type routeMeter struct {
	m       *meter
	path    string
	method  string // "" for requests that no route takes: the request's own
	latency prometheus.Observer
	ok      prometheus.Counter // 200
}

func (m *meter) route(rt *route) *routeMeter {
	rm := &routeMeter{m: m, path: rt.path, method: rt.method}
	if rm.method == "" {
		return rm
	}
	rm.latency = m.latency.WithLabelValues(rt.path, rt.method)
	rm.ok = m.requests.WithLabelValues(rt.path, rt.method, "200", codeOK)
	return rm
}

// count adds one answered request.
func (rm *routeMeter) count(method string, status int, code wire.Code, took time.Duration) {
	if rm.method == "" {
		method = methodLabel(method)
		rm.m.latency.WithLabelValues(rm.path, method).Observe(took.Seconds())
		rm.m.requests.WithLabelValues(rm.path, method, strconv.Itoa(status), string(code)).Inc()
		return
	}
	rm.latency.Observe(took.Seconds())
	switch {
	case code == "" && status == 200:
		rm.ok.Inc()
	case code == "":
		rm.m.requests.WithLabelValues(rm.path, rm.method, strconv.Itoa(status), codeOK).Inc()
	default:
		rm.m.requests.WithLabelValues(rm.path, rm.method, strconv.Itoa(status), string(code)).Inc()
	}
}

// itemMeter counts the items of one call.
type itemMeter struct {
	items *prometheus.CounterVec
	call  string
	ok    prometheus.Counter
}

// failed counts an item that has an error.
func (im itemMeter) failed(e *vault.Error) { im.count(wire.Code(e.Code)) }

func (im itemMeter) count(code wire.Code) { im.items.WithLabelValues(im.call, string(code)).Inc() }

// metrics answers GET /metrics.
func (s *service) metrics(x *exchange) error {
	promhttp.HandlerFor(s.meter.registry, promhttp.HandlerOpts{}).ServeHTTP(x.c.Writer, x.c.Request)
	return nil
}
