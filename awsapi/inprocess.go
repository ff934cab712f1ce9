package awsapi

import (
	"bytes"
	"io"
	"net/http"
)

// InProcess returns a transport that serves requests by calling h, without a
// network: an SDK client over it passes the same signature check, decisions
// and audit log as any caller. The request's context is h's, so a client that
// cancels is seen as one that has gone; RoundTrip still waits for h.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

// inProcessAddr stands where a caller's address does in the audit log.
const inProcessAddr = "in-process"

type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close()
	in.RequestURI = in.URL.RequestURI()
	in.RemoteAddr = inProcessAddr
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	if in.URL.Path == "" {
		in.URL.Path = "/"
	}
	w := &answer{header: make(http.Header)}
	t.handler.ServeHTTP(w, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status,
		Proto: in.Proto, ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// An answer is the http.ResponseWriter of one in-process request.
type answer struct {
	header http.Header
	sent   http.Header // as it was when the status was written
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status, a.sent = status, a.header.Clone()
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}
