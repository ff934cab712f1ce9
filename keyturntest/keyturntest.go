// Package keyturntest puts a Keyturn server into your tests: no port, no
// container, no credentials to arrange, and a clock that the test moves.
//
//	func TestPayments(t *testing.T) {
//		s := keyturntest.Start(t)
//		client := kms.NewFromConfig(s.Config("us-east-1"))
//		…
//		s.Advance(90 * 24 * time.Hour) // and what was due in the meantime has turned
//	}
//
// The server is the real one, on a SQLite file in the test's temporary folder,
// reached by the AWS SDK through an in-process transport: signatures, policies
// and the audit log are at work. It ends with the test. It promises nothing
// about what is stored, and its credentials are of no use anywhere else.
package keyturntest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/server"
)

// Account is the account of the server and of the clients that Config makes.
const Account = "111122223333"

// Server is a server in a test.
type Server struct {
	t      testing.TB
	server *server.Server

	mu  sync.Mutex // guards now
	now time.Time
}

// credential of the account's root user.
const accessKeyID, secret = "AKIAKEYTURNTEST00000", "a secret that opens nothing but this test's server"

// Option changes how Start makes the server.
type Option func(*server.Config)

// OnDatabase lets the server use the database at url (postgres://…), which
// must be the test's own.
func OnDatabase(url string) Option {
	return func(c *server.Config) { c.Database = url }
}

// Start starts a server whose clock stands at 2030-01-01 00:00 UTC and moves
// only by Advance. It is closed when the test ends. Any failure fails the test.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	c := server.Config{
		Data: filepath.Join(t.TempDir(), "data"), Account: Account, Now: s.Now,
		DevCredentials: []server.DevCredential{{AccessKeyID: accessKeyID, Secret: secret, Account: Account}},
	}
	for _, o := range options {
		o(&c)
	}
	var err error
	if s.server, err = server.Open(context.Background(), c); err != nil {
		t.Fatalf("starting a Keyturn server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.server.Close(); err != nil {
			t.Errorf("closing the Keyturn server: %v", err)
		}
	})
	return s
}

// Now is the server's time.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Config is what the AWS SDK needs to reach the server as the account's root
// user in a Region. Its requests are signed at the server's time.
func (s *Server) Config(region string) aws.Config {
	return s.server.InProcess(credentials.NewStaticCredentialsProvider(accessKeyID, secret, ""), region)
}

// Do does one of Keyturn's own operations ("PutPolicy", "RollBack", …; see
// docs/api.md) in a Region, and fails the test unless it succeeds. in and out
// are whatever marshals to and from the operation's JSON; out may be nil.
func (s *Server) Do(region, operation string, in, out any) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatalf("%s: encoding the input: %v", operation, err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://keyturn.local/", bytes.NewReader(body))
	if err != nil {
		s.t.Fatalf("%s: %v", operation, err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Keyturn."+operation)
	resp, err := s.Config(region).HTTPClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", operation, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s %s (%v)", operation, resp.Status, answer, err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			s.t.Fatalf("%s: decoding the answer: %v", operation, err)
		}
	}
}

// Handler serves the whole surface over HTTP, for httptest.NewServer: the APIs,
// JWKS, health and metrics.
func (s *Server) Handler() http.Handler { return s.server.Handler() }

// Advance moves the clock by d and does everything that falls due meanwhile, at
// the time it falls due.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	end := s.Now().Add(d)
	for {
		next, err := s.server.Settle(context.Background())
		if err != nil {
			s.t.Fatalf("turning what is due at %s: %v", s.Now().Format(time.RFC3339), err)
		}
		if next.IsZero() || next.After(end) {
			break
		}
		s.set(next)
	}
	s.set(end)
	if _, err := s.server.Settle(context.Background()); err != nil {
		s.t.Fatalf("turning what is due at %s: %v", end.Format(time.RFC3339), err)
	}
}

func (s *Server) set(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(s.now) {
		s.now = now
	}
}
