package awsapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits on clients. A signed request fits into far less; what is slower or
// larger is broken or hostile.
const (
	maxHeader         = 32 << 10
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second // header and body
	writeTimeout      = 2 * time.Minute  // the operation and its answer
	idleTimeout       = 2 * time.Minute
	maxStreams        = 250 // of one HTTP/2 connection
	defaultDrain      = 20 * time.Second
)

// ServeConfig says how to serve.
type ServeConfig struct {
	Listeners []net.Listener // at least one; Serve closes them
	Handler   http.Handler
	TLS       *tls.Config   // with a certificate; nil: no TLS, and no HTTP/2
	Drain     time.Duration // how long requests may take to end; 0: 20 s
	Logger    *slog.Logger  // nil: slog.Default

	// For clients slower than these the connection is closed; 0: 10 s for the
	// header, 30 s until the end of the body.
	ReadHeaderTimeout time.Duration
	ReadTimeout       time.Duration
}

// Serve serves HTTP/1.1, and with TLS HTTP/2, on every listener until ctx is
// cancelled. Then it takes no more connections and lets the requests that have
// begun end; their contexts are not cancelled. It returns nil when all of them
// have been answered, an error when a listener broke or when some were cut off
// at the end of the drain time.
func Serve(ctx context.Context, c ServeConfig) error {
	if len(c.Listeners) == 0 {
		return errors.New("serving: no listener")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	server := newServer(ctx, c)
	broken := make(chan error, len(c.Listeners))
	for _, l := range c.Listeners {
		go func() {
			// Ends when server is shut down or closed.
			if c.TLS != nil {
				broken <- server.ServeTLS(l, "", "")
			} else {
				broken <- server.Serve(l)
			}
		}()
	}
	var err error
	running := len(c.Listeners)
	select {
	case <-ctx.Done():
	case err = <-broken:
		running--
		err = fmt.Errorf("serving: %w", err)
	}
	drain := c.Drain
	if drain == 0 {
		drain = defaultDrain
	}
	// The new context: ctx may be cancelled already.
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if e := server.Shutdown(limit); e != nil {
		_ = server.Close()
		err = errors.Join(err, fmt.Errorf("ending the last requests: %w", e))
	}
	for range running {
		if e := <-broken; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func newServer(ctx context.Context, c ServeConfig) *http.Server {
	server := &http.Server{
		Handler:           c.Handler,
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	if c.ReadHeaderTimeout != 0 {
		server.ReadHeaderTimeout = c.ReadHeaderTimeout
	}
	if c.ReadTimeout != 0 {
		server.ReadTimeout = c.ReadTimeout
	}
	server.Protocols.SetHTTP1(true)
	if c.TLS != nil {
		server.TLSConfig = c.TLS.Clone()
		server.TLSConfig.MinVersion = max(server.TLSConfig.MinVersion, tls.VersionTLS12)
		server.Protocols.SetHTTP2(true)
	}
	return server
}
