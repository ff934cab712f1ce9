package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what /metrics shows. docs/server.md lists the names.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyturn_requests_total", Help: "API requests answered, by service, operation and error code (empty: success).",
		}, []string{"service", "operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyturn_request_seconds", Help: "Time from the request's header to its answer.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"service", "operation"}),
	}
	m.registry.MustRegister(m.requests, m.seconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts one answered request. Operations that do not exist come in
// under one name, so that a caller cannot make series.
func (m *metrics) observe(service, operation, code string, took time.Duration) {
	m.requests.WithLabelValues(service, operation, code).Inc()
	m.seconds.WithLabelValues(service, operation).Observe(took.Seconds())
}

// rotationGauges asks the database at each scrape.
type rotationGauges struct {
	ask                      func(context.Context) (rotation.Gauges, error)
	running, failed, overdue *prometheus.Desc
}

func newRotationGauges(ask func(context.Context) (rotation.Gauges, error)) *rotationGauges {
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("keyturn_rotations_"+name, help, nil, nil)
	}
	return &rotationGauges{
		ask:     ask,
		running: gauge("running", "Rotations begun and not over, retirements of old keys included."),
		failed:  gauge("failed", "Rotations that wait for a person."),
		overdue: gauge("overdue", "Rotations that should have begun an hour ago or earlier."),
	}
}

// Describe implements prometheus.Collector.
func (g *rotationGauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.running
	ch <- g.failed
	ch <- g.overdue
}

// Collect implements prometheus.Collector. A database that does not answer makes
// the scrape fail: a zero would say that all is well.
func (g *rotationGauges) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	now, err := g.ask(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.failed, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(g.running, prometheus.GaugeValue, float64(now.Running))
	ch <- prometheus.MustNewConstMetric(g.failed, prometheus.GaugeValue, float64(now.Failed))
	ch <- prometheus.MustNewConstMetric(g.overdue, prometheus.GaugeValue, float64(now.Overdue))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
