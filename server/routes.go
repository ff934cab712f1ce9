package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sts"
)

// Services is the API that a server has, as docs/compatibility.md prints it. The
// operations are there to be counted, not called: nothing stands behind them.
func Services() []awsapi.Service {
	return []awsapi.Service{(*kms.Service)(nil).API(), (*sts.Service)(nil).API(), nativeService(nil, nil, nil)}
}

// services is the API as it is served.
func (s *Server) services() []awsapi.Service {
	return []awsapi.Service{s.kms.API(), s.sts.API(), nativeService(s.rotation, s.guard, s.kms)}
}

// nativeService is Keyturn's own API: what AWS has no operation for.
func nativeService(r *rotation.Service, g *access.Guard, k *kms.Service) awsapi.Service {
	operations := append(r.API(), accessOperations(g)...)
	return awsapi.Service{
		Name: "keyturn", SigningName: "keyturn", AlsoSignedAs: []string{"kms"}, TargetPrefix: "Keyturn",
		EventSource: "keyturn", InternalCode: "InternalFailure",
		Operations: append(operations, awsapi.Op("ExplainAccess", explainer{g, k}.ExplainAccess).ReadOnly()),
	}
}

func (s *Server) routes() http.Handler {
	api := awsapi.NewHandler(awsapi.Config{
		Guard: s.guard, Services: s.services(), Now: s.config.Now, Logger: s.config.Logger, Observe: s.metrics.observe,
		Regions: s.config.Regions,
	})
	pages := http.NewServeMux()
	pages.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	pages.HandleFunc("GET /readyz", s.ready)
	pages.Handle("GET /metrics", s.metrics.handler())
	pages.Handle("/jwks/", s.jwks())
	pages.Handle("/", api)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The API is one path; it should not pay for the others.
		if r.Method == http.MethodPost && r.URL.Path == "/" {
			api.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// ready says whether this node can serve: the database answers and the audit
// log can be written.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	var one int
	err := s.db.QueryRow(ctx, `SELECT 1`).Scan(&one)
	switch {
	case err != nil:
		s.config.Logger.Error("not ready", "error", err)
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
	case !s.db.Fresh():
		http.Error(w, "changes by other nodes cannot be heard", http.StatusServiceUnavailable)
	case s.log.Healthy() != nil:
		s.config.Logger.Error("not ready", "error", s.log.Healthy())
		http.Error(w, "the audit log cannot be written", http.StatusServiceUnavailable)
	default:
		_, _ = w.Write([]byte("ready\n"))
	}
}
