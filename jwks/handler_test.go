package jwks_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ssh"

	"github.com/keyturn/keyturn/jwks"
)

const (
	account = "123456789012"
	region  = "eu-central-1"
)

var noon = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

var edKeys sync.Map // n → SPKI

// edKey is the n-th of a series of Ed25519 keys.
func edKey(t testing.TB, n int) []byte {
	t.Helper()
	if spki, made := edKeys.Load(n); made {
		return spki.([]byte)
	}
	seed := sha256.Sum256(fmt.Append(nil, n))
	spki := spkiOf(t, ed25519.NewKeyFromSeed(seed[:]).Public())
	edKeys.Store(n, spki)
	return spki
}

func arnOf(n int) string { return fmt.Sprintf("arn:aws:kms:%s:%s:key/%d", region, account, n) }

func generation(t testing.TB, n int, state jwks.State) jwks.Generation {
	t.Helper()
	return jwks.Generation{Number: n, Key: arnOf(n), State: state, Usage: "SIGN_VERIFY", SPKI: edKey(t, n)}
}

// house is one lineage, alias/payments/eu, a clock, and the handler in front of both.
type house struct {
	lineage jwks.Lineage
	err     error
	now     time.Time
	log     strings.Builder
	*jwks.Handler
}

func newHouse(generations ...jwks.Generation) *house {
	h := &house{lineage: jwks.Lineage{Lead: 30 * time.Minute, Overlap: 24 * time.Hour, Generations: generations}, now: noon}
	h.Handler = jwks.NewHandler(jwks.Config{
		Account: account, Region: region,
		Now:    func() time.Time { return h.now },
		Logger: slog.New(slog.NewTextHandler(&h.log, nil)),
		Source: func(_ context.Context, a, r, alias string) (*jwks.Lineage, error) {
			if h.err != nil {
				return nil, h.err
			}
			if a != account || r != region || alias != "alias/payments/eu" {
				return nil, fmt.Errorf("%s in %s of %s: %w", alias, r, a, jwks.ErrNotFound)
			}
			lineage := h.lineage
			lineage.Generations = append([]jwks.Generation(nil), lineage.Generations...)
			return &lineage, nil
		},
	})
	return h
}

func (h *house) do(t testing.TB, method, target string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shows fetches the set and names the generations in it, in order.
func (h *house) shows(t testing.TB) []int {
	t.Helper()
	r := h.do(t, "GET", "/jwks/payments/eu")
	if r.StatusCode == http.StatusNotFound {
		return nil
	}
	var set jose.JSONWebKeySet
	if text := body(t, r); r.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &set) != nil {
		t.Fatalf("%s: %s", r.Status, text)
	}
	var list []int
	for _, key := range set.Keys {
		for n := range 20 {
			if parse(t, edKey(t, n), "").ID == key.KeyID {
				list = append(list, n)
			}
		}
	}
	if len(list) != len(set.Keys) {
		t.Fatalf("the set has keys of nobody: %+v", set.Keys)
	}
	return list
}

func TestHandlerServesTheSet(t *testing.T) {
	h := newHouse(generation(t, 1, jwks.Previous), generation(t, 2, jwks.Previous), generation(t, 3, jwks.Current), generation(t, 4, jwks.Next), generation(t, 5, jwks.Hidden))
	if got := fmt.Sprint(h.shows(t)); got != "[3 4 2 1]" {
		t.Errorf("the set shows %s: the current one first, then the next, then the previous ones, newest first", got)
	}
	var first string
	for _, target := range []string{
		"/jwks/payments/eu", "/jwks/alias/payments/eu", "/jwks/payments%2Feu", "/jwks/payments/eu?format=jwks",
		"/jwks/" + account + "/" + region + "/payments/eu", "/jwks/" + account + "/" + region + "/alias/payments/eu",
	} {
		r := h.do(t, "GET", target)
		text := body(t, r)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/jwk-set+json" || r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %s %v", target, r.Status, r.Header)
		}
		if first == "" {
			first = text
		}
		if text != first {
			t.Errorf("%s gives %s, not %s", target, text, first)
		}
		head := h.do(t, "HEAD", target)
		if body(t, head) != "" || head.StatusCode != http.StatusOK || head.Header.Get("ETag") != r.Header.Get("ETag") || head.Header.Get("Content-Length") != fmt.Sprint(len(text)) {
			t.Errorf("HEAD %s: %s %v", target, head.Status, head.Header)
		}
	}
}

func TestHandlerRefuses(t *testing.T) {
	h := newHouse(generation(t, 3, jwks.Current))
	for _, test := range []struct {
		method, target string
		status         int
		code           string
	}{
		{"GET", "/jwks/other", 404, "NotFound"},
		{"GET", "/jwks/", 404, "NotFound"},
		{"GET", "/jwks", 404, "NotFound"},
		{"GET", "/jwks/alias/", 404, "NotFound"},
		{"GET", "/jwks/payments/eu/next", 404, "NotFound"},
		{"GET", "/jwks/" + account + "/us-east-1/payments/eu", 404, "NotFound"},
		{"GET", "/jwks/999999999999/" + region + "/payments/eu", 404, "NotFound"},
		{"GET", "/jwks/payments/eu%0Assh-ed25519%20AAAA", 404, "NotFound"},
		{"GET", "/jwks/..%2F..%2Fetc", 404, "NotFound"},
		{"GET", "/jwks/" + strings.Repeat("x", 300), 404, "NotFound"},
		{"GET", "/jwks/payments/eu?format=der", 400, "BadFormat"},
		{"POST", "/jwks/payments/eu", 405, "MethodNotAllowed"},
		{"DELETE", "/jwks/payments/eu", 405, "MethodNotAllowed"},
	} {
		r := h.do(t, test.method, test.target)
		var problem struct{ Error, Message string }
		if err := json.Unmarshal([]byte(body(t, r)), &problem); err != nil || r.StatusCode != test.status || problem.Error != test.code || problem.Message == "" {
			t.Errorf("%s %s: %s, %+v, %v", test.method, test.target, r.Status, problem, err)
		}
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", test.method, test.target, r.Header)
		}
	}
	r := h.do(t, "OPTIONS", "/jwks/payments/eu", "Origin", "https://app.example", "Access-Control-Request-Method", "GET")
	if r.StatusCode != http.StatusNoContent || r.Header.Get("Access-Control-Allow-Methods") != "GET, HEAD" {
		t.Errorf("preflight: %s %v", r.Status, r.Header)
	}

	// What went wrong is told to the log, not to the world.
	h.err = errors.New("connecting to postgres://10.0.0.7: refused")
	r = h.do(t, "GET", "/jwks/payments/eu")
	if text := body(t, r); r.StatusCode != http.StatusServiceUnavailable || strings.Contains(text, "10.0.0.7") || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s", r.Status, text)
	}
	if !strings.Contains(h.log.String(), "10.0.0.7") {
		t.Errorf("the log says %q", h.log.String())
	}
}

func TestHandlerETag(t *testing.T) {
	h := newHouse(generation(t, 3, jwks.Current))
	first := h.do(t, "GET", "/jwks/payments/eu")
	etag := first.Header.Get("ETag")
	for _, value := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		r := h.do(t, "GET", "/jwks/payments/eu", "If-None-Match", value)
		if r.StatusCode != http.StatusNotModified || body(t, r) != "" || r.Header.Get("Cache-Control") != first.Header.Get("Cache-Control") || r.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match %s: %s %v", value, r.Status, r.Header)
		}
	}
	if r := h.do(t, "GET", "/jwks/payments/eu?format=pem", "If-None-Match", etag); r.StatusCode != http.StatusOK {
		t.Errorf("the set's ETag matches the PEM form: %s", r.Status)
	}
	h.lineage.Generations = append(h.lineage.Generations, generation(t, 4, jwks.Next))
	if r := h.do(t, "GET", "/jwks/payments/eu", "If-None-Match", etag); r.StatusCode != http.StatusOK || r.Header.Get("ETag") == etag {
		t.Errorf("after the next key was published: %s %v", r.Status, r.Header)
	}
}

func TestHandlerCacheControl(t *testing.T) {
	maxAge := func(h *house) string { return h.do(t, "GET", "/jwks/payments/eu").Header.Get("Cache-Control") }
	h := newHouse(generation(t, 3, jwks.Current), generation(t, 2, jwks.Previous))
	for _, test := range []struct {
		why    string
		lead   time.Duration
		leaves time.Duration // of the previous generation
		want   int
	}{
		{"half the lead", 30 * time.Minute, 0, 900},
		{"an hour at most", 30 * 24 * time.Hour, 0, 3600},
		{"whole seconds, downwards", 3 * time.Second, 0, 1},
		{"no lead, no caching", 0, 0, 0},
		{"not beyond the deadline of a key", 30 * time.Minute, 90 * time.Second, 90},
		{"a deadline that is nearly there", 30 * time.Minute, 300 * time.Millisecond, 0},
		{"a deadline that is far away", 30 * time.Minute, time.Hour, 900},
		{"a deadline that has passed holds nothing back", 30 * time.Minute, -time.Second, 900},
	} {
		h.lineage.Lead = test.lead
		h.lineage.Generations[1].Leaves = time.Time{}
		if test.leaves != 0 {
			h.lineage.Generations[1].Leaves = h.now.Add(test.leaves)
		}
		if got, want := maxAge(h), fmt.Sprintf("public, max-age=%d, must-revalidate", test.want); got != want {
			t.Errorf("%s: %q, want %q", test.why, got, want)
		}
	}
	h.lineage.Lead = 30 * time.Minute
	h.lineage.Overlap = time.Minute
	if got := maxAge(h); !strings.Contains(got, "max-age=60,") {
		t.Errorf("an overlap shorter than half the lead: %q", got)
	}
	h.lineage.Overlap = 24 * time.Hour
	hidden := generation(t, 4, jwks.Hidden)
	hidden.NotBefore = h.now.Add(100 * time.Second)
	h.lineage.Generations = append(h.lineage.Generations, hidden)
	if got := maxAge(h); !strings.Contains(got, "max-age=50,") {
		t.Errorf("a key that is not published yet and may be used in 100 seconds: %q", got)
	}
}

func TestKeysLeaveAtTheirDeadline(t *testing.T) {
	previous := generation(t, 2, jwks.Previous)
	previous.Leaves = noon.Add(time.Minute)
	h := newHouse(generation(t, 3, jwks.Current), previous)
	h.now = previous.Leaves.Add(-1)
	if got := fmt.Sprint(h.shows(t)); got != "[3 2]" {
		t.Errorf("before the deadline: %s", got)
	}
	h.now = previous.Leaves
	if got := fmt.Sprint(h.shows(t)); got != "[3]" {
		t.Errorf("at the deadline: %s", got)
	}
	h.lineage.Generations[0].State = jwks.Hidden // compromised
	if got := h.shows(t); got != nil {
		t.Errorf("when the only key is compromised: %v", got)
	}
}

// recorded is a KMS that has the keys it is given and counts who asks.
type recorded struct {
	spki  map[string][]byte
	usage types.KeyUsageType
	err   error
	calls atomic.Int32
	gate  chan struct{}
}

func (k *recorded) GetPublicKey(_ context.Context, in *kms.GetPublicKeyInput, _ ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	k.calls.Add(1)
	if k.gate != nil {
		<-k.gate
	}
	if k.err != nil {
		return nil, k.err
	}
	spki, known := k.spki[*in.KeyId]
	if !known {
		return nil, &types.NotFoundException{Message: aws.String("no such key")}
	}
	return &kms.GetPublicKeyOutput{KeyId: in.KeyId, PublicKey: spki, KeyUsage: k.usage}, nil
}

func TestUnknownKeysAreAskedOfTheKMSOnce(t *testing.T) {
	h := newHouse(generation(t, 3, jwks.Current), generation(t, 4, jwks.Next), generation(t, 2, jwks.Hidden))
	for i := range h.lineage.Generations {
		h.lineage.Generations[i].SPKI, h.lineage.Generations[i].Usage = nil, ""
	}
	k := &recorded{spki: map[string][]byte{arnOf(3): edKey(t, 3), arnOf(4): edKey(t, 4)}, usage: types.KeyUsageTypeSignVerify, gate: make(chan struct{})}
	h.lineage.Keys = k
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if r := h.do(t, "GET", "/jwks/payments/eu"); r.StatusCode != http.StatusOK {
				t.Error(r.Status)
			}
		})
	}
	close(k.gate)
	all.Wait()
	if got := fmt.Sprint(h.shows(t)); got != "[3 4]" {
		t.Errorf("the set shows %s", got)
	}
	if n := k.calls.Load(); n != 2 {
		t.Errorf("the KMS was asked %d times for two keys", n)
	}
	if text := body(t, h.do(t, "GET", "/jwks/payments/eu")); strings.Count(text, `"use":"sig"`) != 2 {
		t.Errorf("the usage that the KMS told is missing: %s", text)
	}
}

func TestHalfASetIsNoSet(t *testing.T) {
	h := newHouse(generation(t, 3, jwks.Current), generation(t, 4, jwks.Next))
	h.lineage.Generations[1].SPKI = nil
	k := &recorded{spki: map[string][]byte{arnOf(4): edKey(t, 4)}, err: errors.New("ThrottlingException")}
	h.lineage.Keys = k
	for range 10 {
		if r := h.do(t, "GET", "/jwks/payments/eu"); r.StatusCode != http.StatusServiceUnavailable {
			t.Fatal(r.Status)
		}
	}
	if n := k.calls.Load(); n != 1 {
		t.Errorf("anonymous requests made %d calls to a KMS that throttles", n)
	}
	k.err = nil
	h.now = h.now.Add(6 * time.Second)
	if got := fmt.Sprint(h.shows(t)); got != "[3 4]" {
		t.Errorf("when the KMS is well again the set shows %s", got)
	}
	// Lineages of symmetric keys are not told apart from none.
	h = newHouse(generation(t, 3, jwks.Current))
	h.lineage.Generations[0].SPKI = nil
	h.lineage.Keys = &recorded{err: &types.UnsupportedOperationException{}}
	got, none := h.do(t, "GET", "/jwks/payments/eu"), h.do(t, "GET", "/jwks/other")
	if got.StatusCode != http.StatusNotFound || body(t, got) != body(t, none) {
		t.Errorf("a symmetric lineage: %s", got.Status)
	}
	h.lineage.Keys = nil
	if r := h.do(t, "GET", "/jwks/payments/eu"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("nobody to ask: %s", r.Status)
	}
}

func TestPEMAndSSH(t *testing.T) {
	openssl, keygen := tool(t, "openssl", "openssl"), tool(t, "ssh-keygen", "openssh-client")
	numbers := map[string]int{}
	var generations []jwks.Generation
	for name, s := range signers(t) {
		n := len(generations) + 1
		numbers[name] = n
		generations = append(generations, jwks.Generation{Number: n, Key: arnOf(n), State: jwks.Previous, Usage: "SIGN_VERIFY", SPKI: spkiOf(t, s.private.Public())})
	}
	kem := jwks.Generation{Number: 9, Key: arnOf(9), State: jwks.Previous, SPKI: rawSPKI(t, oidMLKEM768, nil, make([]byte, 1184))}
	h := newHouse(append(generations, kem)...)

	r := h.do(t, "GET", "/jwks/payments/eu?format=pem")
	rest, blocks := []byte(body(t, r)), 0
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/x-pem-file" {
		t.Errorf("PEM: %s %v", r.Status, r.Header)
	}
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		if strings.HasPrefix(string(block.Bytes), string(kem.SPKI)) {
			continue // OpenSSL 3.0 does not know it
		}
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			t.Error(err)
		}
		run(t, pem.EncodeToMemory(block), openssl, "pkey", "-pubin", "-noout")
	}
	if blocks != len(generations)+1 {
		t.Errorf("PEM has %d blocks", blocks)
	}

	r = h.do(t, "GET", "/jwks/payments/eu?format=ssh")
	text := body(t, r)
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("SSH: %s %v", r.Status, r.Header)
	}
	if !strings.Contains(text, "# alias/payments/eu/v9 is of a type that SSH does not know\n") || strings.Count(text, "\n") != blocks {
		t.Errorf("SSH:\n%s", text)
	}
	file := filepath.Join(t.TempDir(), "authorized_keys")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listing := string(run(t, nil, keygen, "-l", "-f", file))
	for name, n := range numbers {
		public, err := x509.ParsePKIXPublicKey(generations[n-1].SPKI)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ssh.NewPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(listing, fmt.Sprintf("%s alias/payments/eu/v%d ", ssh.FingerprintSHA256(key), n)) {
			t.Errorf("ssh-keygen does not list the %s key:\n%s", name, listing)
		}
	}

	// A form that no key has is refused, and the refusal says which one there is.
	secp := parseOnly(rawSPKI(t, oidEC, oidSecp256k1, secp256k1G(t)))
	for format, g := range map[string]jwks.Generation{"ssh": secp, "jwks": kem} {
		g.State = jwks.Current
		h := newHouse(g)
		r := h.do(t, "GET", "/jwks/payments/eu?format="+format)
		if text := body(t, r); r.StatusCode != http.StatusNotAcceptable || !strings.Contains(text, "?format=pem") {
			t.Errorf("%s: %s %s", format, r.Status, text)
		}
		if r := h.do(t, "GET", "/jwks/payments/eu?format=pem"); r.StatusCode != http.StatusOK {
			t.Errorf("%s as PEM: %s", format, r.Status)
		}
	}
}

func parseOnly(spki []byte) jwks.Generation {
	return jwks.Generation{Number: 1, Key: arnOf(1), Usage: "SIGN_VERIFY", SPKI: spki}
}

// secp256k1G is the generator of the curve, compressed (SEC 2 section 2.4.1).
func secp256k1G(t testing.TB) []byte {
	t.Helper()
	var point []byte
	if _, err := fmt.Sscanf("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", "%x", &point); err != nil {
		t.Fatal(err)
	}
	return point
}
