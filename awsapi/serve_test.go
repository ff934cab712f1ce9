package awsapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/awsapi"
)

// A served is a handler behind a real socket.
type served struct {
	url   string
	addr  string
	roots *x509.CertPool
	stop  context.CancelFunc
	ended chan error
}

func serve(t *testing.T, handler http.Handler, change func(*awsapi.ServeConfig)) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := awsapi.ServeConfig{Listeners: []net.Listener{l}, Handler: handler, Logger: slog.New(slog.DiscardHandler)}
	s := &served{addr: l.Addr().String(), url: "http://" + l.Addr().String(), ended: make(chan error, 1)}
	if change != nil {
		change(&c)
	}
	if c.TLS != nil {
		s.url = "https://" + s.addr
		leaf, err := x509.ParseCertificate(c.TLS.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		s.roots = x509.NewCertPool()
		s.roots.AddCert(leaf)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.ended <- awsapi.Serve(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		s.wait(t)
	})
	return s
}

func (s *served) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.ended <- nil
	case <-time.After(30 * time.Second):
		t.Fatal("Serve does not end")
	}
}

func withTLS(t *testing.T) func(*awsapi.ServeConfig) {
	t.Helper()
	certificate, key, err := awsapi.SelfSigned([]string{"localhost", "127.0.0.1"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *awsapi.ServeConfig) { c.TLS = &tls.Config{Certificates: []tls.Certificate{pair}} }
}

func (s *served) transport(http2 bool) *http.Transport {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, Protocols: p}
}

func TestSDKOverTheNetwork(t *testing.T) {
	for _, c := range []struct {
		name         string
		tls, http2   bool
		wantProtocol string
	}{{"HTTP 1.1", false, false, "HTTP/1.1"}, {"TLS", true, false, "HTTP/1.1"}, {"HTTP 2", true, true, "HTTP/2.0"}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			var change func(*awsapi.ServeConfig)
			if c.tls {
				change = withTLS(t)
			}
			protocol := make(chan string, 1)
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				protocol <- r.Proto
				h.handler.ServeHTTP(w, r)
			}), change)
			transport := s.transport(c.http2)
			defer transport.CloseIdleConnections()
			out, err := h.client(transport, s.url).Sign(context.Background(), &kms.SignInput{
				KeyId: aws.String("alias/x"), Message: []byte("hello"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := <-protocol; string(out.Signature) != "olleh" || got != c.wantProtocol {
				t.Errorf("%q over %s", out.Signature, got)
			}
		})
	}
}

func TestSelfSignedCertificate(t *testing.T) {
	from, to := time.Now().Truncate(time.Second), time.Now().Add(48*time.Hour).Truncate(time.Second)
	certificate, key, err := awsapi.SelfSigned([]string{"kms.local", "::1"}, from, to)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok || k.Curve.Params().BitSize != 256 {
		t.Errorf("the key is %T", pair.PrivateKey)
	}
	leaf := pair.Leaf
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, name := range []string{"kms.local", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if leaf.IsCA || !leaf.NotBefore.Equal(from) || !leaf.NotAfter.Equal(to) {
		t.Errorf("CA %v, %v to %v", leaf.IsCA, leaf.NotBefore, leaf.NotAfter)
	}
	if _, _, err := awsapi.SelfSigned(nil, from, to); err == nil {
		t.Error("a certificate for nobody")
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), withTLS(t))
	c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		c.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

// A client that sends its header or its body byte by byte is cut off.
func TestSlowClients(t *testing.T) {
	h := newHouse(t)
	s := serve(t, h.handler, func(c *awsapi.ServeConfig) {
		c.ReadHeaderTimeout, c.ReadTimeout = 100*time.Millisecond, 200*time.Millisecond
	})
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.Sign\r\n"
	for name, c := range map[string]struct{ send, status string }{
		"header": {head, ""},
		"body":   {head + "Content-Length: 100\r\n\r\n{", "408"},
	} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.send); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn) // ends when the server hangs up
		if os.IsTimeout(err) {
			t.Errorf("%s: the connection stays open", name)
		}
		if !strings.Contains(string(answer), c.status) {
			t.Errorf("%s: %s", name, answer)
		}
	}
}

func TestHugeHeaderIsRefused(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), nil)
	r, err := http.NewRequest(http.MethodPost, s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Security-Token", strings.Repeat("a", 64<<10))
	transport := s.transport(false)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", response.StatusCode)
	}
}

// What has begun is answered after the server was told to stop; what has not,
// is not.
func TestDrain(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-goOn
		if r.Context().Err() == nil {
			_, _ = io.WriteString(w, "done")
		}
	}), nil)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	s.stop()
	for { // until the listener is closed
		late, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		late.Close()
	}
	select {
	case err := <-s.ended:
		t.Fatalf("Serve ended in the middle of a request: %v", err)
	default:
	}
	close(goOn)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "done" {
		t.Errorf("%q, %v", body, err)
	}
	s.wait(t)
}

func TestDrainEnds(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	defer close(goOn)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- awsapi.Serve(ctx, awsapi.ServeConfig{
			Listeners: []net.Listener{l}, Drain: time.Millisecond,
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(begun); <-goOn }),
		})
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "ending the last requests") {
		t.Errorf("a request that was cut off is not told of: %v", err)
	}
}

func TestServeWithBrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := awsapi.Serve(context.Background(), awsapi.ServeConfig{Listeners: []net.Listener{l}}); err == nil {
		t.Error("no error")
	}
	if err := awsapi.Serve(context.Background(), awsapi.ServeConfig{}); err == nil {
		t.Error("no listener, no error")
	}
}

func TestInProcessTransport(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Host != "keyturn.invalid" || r.URL.Path != "/" || r.RequestURI == "" {
			t.Errorf("got %v %q %q %q", err, r.Host, r.URL.Path, r.RequestURI)
		}
		w.Header().Set("X-A", "1")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-B", "2") // too late
		_, _ = w.Write(bytes.ToUpper(body))
	})
	client := &http.Client{Transport: awsapi.InProcess(handler)}
	response, err := client.Post("http://keyturn.invalid", "text/plain", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "ABC" || response.StatusCode != http.StatusTeapot || response.Header.Get("X-A") != "1" || response.Header.Get("X-B") != "" {
		t.Errorf("%d %v %q %v", response.StatusCode, response.Header, body, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://keyturn.invalid/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := awsapi.InProcess(http.NotFoundHandler()).RoundTrip(r); err == nil {
		t.Error("a cancelled request has an answer")
	}
}
