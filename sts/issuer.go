package sts

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyturn/keyturn/policy"
)

// An Issuer is an OIDC provider whose tokens are believed.
type Issuer struct {
	URL       string   // the iss of its tokens, as it stands in them; https://…
	Audiences []string // the aud that tokens must be made for; at least one
	JWKS      string   // file of a JWK set; empty: the keys are fetched from the issuer
	CA        string   // file of PEM certificates to trust when fetching; empty: the system's
}

const (
	freshFor     = time.Hour        // keys are taken for current that long
	usableFor    = 6 * time.Hour    // and used that long while the issuer does not answer
	fetchEvery   = 30 * time.Second // at most, however many tokens name keys that are not known
	retryEvery   = 5 * time.Second  // at most, while the issuer does not answer
	fetchTimeout = 10 * time.Second // for both documents
	maxDocument  = 1 << 20          // bytes
	maxRedirects = 3
	minRSABits   = 2048
)

// issuer keeps the keys of an Issuer.
type issuer struct {
	Issuer
	client *http.Client
	now    func() time.Time
	logger *slog.Logger

	keys atomic.Pointer[keySet] // nil: none yet

	fetching chan struct{} // holds a token while somebody fetches; guards the two below
	tried    time.Time     // when the last fetch began
	failed   bool          // how it ended
}

// keySet is what the issuer published at one time. Immutable.
type keySet struct {
	keys []jose.JSONWebKey
	at   time.Time
}

func newIssuer(c Issuer, now func() time.Time, logger *slog.Logger) (*issuer, error) {
	if _, err := checkURL(c.URL); err != nil {
		return nil, err
	}
	if len(c.Audiences) == 0 {
		return nil, errors.New("it needs audiences: without, a token that was made for anybody else would be good here")
	}
	i := &issuer{Issuer: c, now: now, logger: logger, fetching: make(chan struct{}, 1)}
	if c.JWKS != "" {
		if c.CA != "" {
			return nil, errors.New("jwks and ca exclude each other: nothing is fetched when the keys are in a file")
		}
		if _, err := i.fetch(context.Background()); err != nil { // a mistake shows at the start
			return nil, err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("reading its CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading its CA: %s holds no PEM certificate", c.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	i.client = &http.Client{Transport: transport, CheckRedirect: stayThere}
	return i, nil
}

// checkURL takes HTTPS, and HTTP on this machine only: who is on the way could
// otherwise give us keys of his own.
func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("it is not a URL like https://issuer.example.com/path")
	case u.Scheme != "https" && !(u.Scheme == "http" && net.ParseIP(u.Hostname()).IsLoopback()):
		return nil, errors.New("its URL must begin with https://")
	case !policy.IsIssuer(policy.IssuerName(text)):
		return nil, errors.New("its URL cannot stand in an ARN")
	}
	return u, nil
}

// stayThere lets an issuer move its documents about on its own host.
func stayThere(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return errors.New("a redirect to another host")
	}
	return nil
}

// keysFor finds the keys that a token may be signed with: those of its kid, or
// where it has none the only one there is.
func (i *issuer) keysFor(ctx context.Context, kid, algorithm string) ([]any, error) {
	set := i.keys.Load()
	if set != nil && i.within(set.at, freshFor) {
		if keys := set.find(kid, algorithm); len(keys) > 0 {
			return keys, nil
		}
	}
	set, err := i.refresh(ctx, set)
	if err != nil {
		return nil, err
	}
	if set == nil || !i.within(set.at, usableFor) {
		return nil, errUnavailable
	}
	keys := set.find(kid, algorithm)
	if len(keys) == 0 {
		return nil, badToken("Couldn't retrieve verification key from your identity provider, " +
			"please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	return keys, nil
}

// within reports whether less than d has gone by since t. A clock that was set back has not: then it is time anew.
func (i *issuer) within(t time.Time, d time.Duration) bool {
	gone := i.now().Sub(t)
	return gone >= 0 && gone < d
}

// refresh fetches the keys, unless somebody has since known was current, or
// has tried a moment ago. It returns the newest there are, nil for none; an
// error only when ctx is done.
func (i *issuer) refresh(ctx context.Context, known *keySet) (*keySet, error) {
	select {
	case i.fetching <- struct{}{}:
		defer func() { <-i.fetching }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if set := i.keys.Load(); set != known {
		return set, nil
	}
	every := fetchEvery
	if i.failed {
		every = retryEvery
	}
	if i.within(i.tried, every) {
		return known, nil
	}
	i.tried = i.now()
	// The others who wait must not fail because the first one hangs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := i.fetch(ctx)
	if i.failed = err != nil; i.failed {
		i.logger.Warn("fetching the keys of an OIDC issuer", "issuer", i.URL, "error", err)
		return known, nil
	}
	set := &keySet{keys, i.tried}
	i.keys.Store(set)
	return set, nil
}

// fetch reads the JWK set from its file, or from where the issuer says.
func (i *issuer) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	if i.JWKS != "" {
		text, err := os.ReadFile(i.JWKS)
		if err != nil {
			return nil, fmt.Errorf("reading its JWK set: %w", err)
		}
		return parseKeys(text)
	}
	text, err := i.get(ctx, strings.TrimSuffix(i.URL, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var discovered struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &discovered); err != nil {
		return nil, errors.New("its openid-configuration is not well-formed")
	}
	if discovered.Issuer != i.URL {
		return nil, fmt.Errorf("its openid-configuration is that of another issuer, %q", clip(discovered.Issuer))
	}
	u, err := url.Parse(discovered.JWKS)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(strings.HasPrefix(i.URL, "http://") && net.ParseIP(u.Hostname()).IsLoopback()) {
		return nil, errors.New("the jwks_uri of its openid-configuration does not begin with https://")
	}
	if text, err = i.get(ctx, discovered.JWKS); err != nil {
		return nil, err
	}
	return parseKeys(text)
}

func (i *issuer) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", address, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = errors.New("the document is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", address, err)
	}
	return text, nil
}

// parseKeys reads the keys of a JWK set that can check signatures, and passes over the others.
func parseKeys(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("its JWK set is not well-formed")
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && signs(&k) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("its JWK set holds no RSA or EC public key for signatures")
	}
	return keys, nil
}

// signs reports whether signatures can be checked with the key: a public key, not too weak, and not for something else.
func signs(k *jose.JSONWebKey) bool {
	switch public := k.Key.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return false
		}
	case *ecdsa.PublicKey:
	default:
		return false
	}
	return k.Valid() && (k.Use == "" || k.Use == "sig")
}

func (s *keySet) find(kid, algorithm string) (keys []any) {
	for n := range s.keys {
		k := &s.keys[n]
		if (k.KeyID == kid || kid == "" && len(s.keys) == 1) && (k.Algorithm == "" || k.Algorithm == algorithm) {
			keys = append(keys, k.Key)
		}
	}
	return keys
}
