package sts_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
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
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sts"
)

// A provider is an OIDC issuer on this machine.
type provider struct {
	t      *testing.T
	server *httptest.Server
	asked  atomic.Int32 // for its keys

	mu     sync.Mutex
	keys   []jose.JSONWebKey // published
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{t: t}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.server.Close)
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answer != nil && p.answer(w, r) {
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys", "response_types_supported": []string{"id_token"}})
	case "/keys":
		p.asked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) publish(keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *provider) answers(f func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

func (p *provider) issuer() sts.Issuer {
	return sts.Issuer{URL: p.server.URL, Audiences: []string{"sts.amazonaws.com", "second"}}
}

// arn is the provider as an account's trust policies name it.
func (p *provider) arn() string { return policy.ProviderARN(account, p.server.URL) }

// key makes a signing key, and what is published of it.
func (p *provider) key(id string) (jose.JSONWebKey, jose.JSONWebKey) {
	p.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	return jose.JSONWebKey{Key: private, KeyID: id}, jose.JSONWebKey{Key: private.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}
}

type set = map[string]any

// claims are good ones, changed; a nil value takes a claim out.
func (p *provider) claims(change set) set {
	now := time.Now()
	c := set{
		"iss": p.server.URL, "sub": "repo:acme/shop:ref:refs/heads/main", "aud": "sts.amazonaws.com",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims set) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// world is a provider with a key, and a node where a role trusts it.
type world struct {
	*node
	*provider
	private jose.JSONWebKey
	role    string
}

func newWorld(t *testing.T, conditions ...string) *world {
	t.Helper()
	p := newProvider(t)
	private, public := p.key("one")
	p.publish(public)
	n := newNode(t, p.issuer())
	return &world{n, p, private, n.role(account, "CI", document(trust(`{"Federated": "`+p.arn()+`"}`, "sts:AssumeRoleWithWebIdentity", conditions...)), allow("kms:Sign"))}
}

func (w *world) token(change set) string {
	w.provider.t.Helper()
	return sign(w.provider.t, jose.ES256, w.private, w.claims(change))
}

func (w *world) assume(token string) (*sdk.AssumeRoleWithWebIdentityOutput, error) {
	return w.assumeAs(w.role, token)
}

func (w *world) assumeAs(role, token string) (*sdk.AssumeRoleWithWebIdentityOutput, error) {
	return w.client(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(ctx, &sdk.AssumeRoleWithWebIdentityInput{
		RoleArn: &role, RoleSessionName: aws.String("build-7"), WebIdentityToken: &token,
	})
}

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	w := newWorld(t)
	out := must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(w.token(nil)))
	if *out.AssumedRoleUser.Arn != "arn:aws:sts::111122223333:assumed-role/CI/build-7" || *out.Audience != "sts.amazonaws.com" ||
		*out.Provider != w.server.URL || *out.SubjectFromWebIdentityToken != "repo:acme/shop:ref:refs/heads/main" {
		t.Errorf("answered %+v", out)
	}
	if got := whoami(t, w.as(out.Credentials)); got != *out.AssumedRoleUser.Arn {
		t.Errorf("the session is %s", got)
	}
	if !w.may(out.Credentials, "kms:Sign") || w.may(out.Credentials, "kms:Verify") || w.caller(out.Credentials).Provider != w.arn() {
		t.Errorf("the session is %+v", w.caller(out.Credentials))
	}
	// The SDK's own provider, with the token in a file, as Kubernetes mounts it.
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(w.token(nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	provider := aws.NewCredentialsCache(stscreds.NewWebIdentityRoleProvider(w.client(aws.AnonymousCredentials{}), w.role, stscreds.IdentityTokenFile(file)))
	if got := whoami(t, w.client(provider)); !strings.HasPrefix(got, "arn:aws:sts::111122223333:assumed-role/CI/") {
		t.Errorf("through the SDK's provider it is %s", got)
	}
	if n := w.asked.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	records, text := w.records()
	r := records[0]
	if r.UserIdentity.Type != "WebIdentityUser" || r.UserIdentity.IdentityProvider != w.arn() || r.UserIdentity.UserName != "repo:acme/shop:ref:refs/heads/main" ||
		r.UserIdentity.PrincipalID != policy.IssuerName(w.server.URL)+":sts.amazonaws.com:repo:acme/shop:ref:refs/heads/main" || r.UserIdentity.ARN != "" {
		t.Errorf("recorded as %+v", r.UserIdentity)
	}
	if strings.Contains(text, "eyJ") || strings.Contains(text, *out.Credentials.SecretAccessKey) {
		t.Error("a token or a secret is in the log")
	}
}

// Conditions tell the users of one provider apart.
func TestWebIdentityConditions(t *testing.T) {
	p := newProvider(t)
	private, public := p.key("one")
	p.publish(public)
	n := newNode(t, p.issuer())
	name := policy.IssuerName(p.server.URL)
	w := &world{node: n, provider: p, private: private}
	for i, tc := range []struct {
		condition string
		claims    set
		ok        bool
	}{
		{`{"StringEquals": {"` + name + `:aud": "sts.amazonaws.com"}, "StringLike": {"` + name + `:sub": "repo:acme/shop:*"}}`, nil, true},
		{`{"StringLike": {"` + name + `:sub": "repo:acme/*"}}`, set{"sub": "repo:evil/shop:ref:refs/heads/main"}, false},
		{`{"StringEquals": {"` + name + `:aud": "second"}}`, nil, false},
		{`{"StringEquals": {"` + name + `:aud": "second"}}`, set{"aud": "second"}, true},
		{`{"ForAnyValue:StringEquals": {"` + name + `:amr": "mfa"}}`, set{"amr": []string{"pwd", "mfa"}}, true},
		{`{"ForAnyValue:StringEquals": {"` + name + `:amr": "mfa"}}`, nil, false},
		{`{"StringEquals": {"other.example.com:sub": "repo:acme/shop:ref:refs/heads/main"}}`, nil, false},
		{`{"StringNotEquals": {"aws:PrincipalAccount": "111122223333"}}`, nil, true}, // a stranger is of no account
		{`{"StringEquals": {"sts:RoleSessionName": "build-7"}}`, nil, true},
	} {
		role := n.role(account, fmt.Sprint("role-", i), document(trust(`{"Federated": "`+p.arn()+`"}`, "sts:AssumeRoleWithWebIdentity", `"Condition": `+tc.condition)))
		_, err := w.assumeAs(role, w.token(tc.claims))
		if tc.ok && err != nil {
			t.Errorf("%s: %v", tc.condition, err)
		}
		if !tc.ok {
			wantError(t, err, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
		}
	}
}

// Only the trust policy lets in, and it says nothing about roles that do not exist.
func TestWebIdentitiesNeedTheRolesTrust(t *testing.T) {
	w := newWorld(t)
	for name, role := range map[string]string{
		"a role that trusts the account": w.node.role(account, "inner", document(trust(`{"AWS": "111122223333"}`, "sts:*"))),
		"a role that trusts everybody":   w.node.role(account, "open", document(trust(`"*"`, "sts:*"))),
		"a role that trusts AWS *":       w.node.role(account, "signed", document(trust(`{"AWS": "*"}`, "sts:*"))),
		"a role of another provider":     w.node.role(account, "theirs", document(trust(`{"Federated": "arn:aws:iam::111122223333:oidc-provider/x.example"}`, "sts:*"))),
		"another account's provider":     w.node.role(account, "far", document(trust(`{"Federated": "`+policy.ProviderARN(other, w.server.URL)+`"}`, "sts:*"))),
		"no such role":                   "arn:aws:iam::111122223333:role/nobody",
		"no such account":                "arn:aws:iam::999999999999:role/nobody",
	} {
		_, err := w.assumeAs(role, w.token(nil))
		if wantError(t, err, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"); t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestForgedWebIdentityTokens(t *testing.T) {
	w := newWorld(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := w.key("one") // the kid of the published key
	encryption := jose.JSONWebKey{Key: w.private.Key.(*ecdsa.PrivateKey).Public(), KeyID: "enc", Use: "enc"}
	published := []jose.JSONWebKey{
		{Key: w.private.Key.(*ecdsa.PrivateKey).Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"},
		{Key: &rsaKey.PublicKey, KeyID: "rsa"},
		encryption,
		{Key: []byte("a symmetric key of thirty-two bytes"), KeyID: "oct"},
	}
	w.publish(published...)
	public := func(k crypto.PublicKey) []byte {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	b64 := base64.RawURLEncoding.EncodeToString
	raw := func(header string, claims set) string {
		body, _ := json.Marshal(claims)
		return b64([]byte(header)) + "." + b64(body)
	}
	good := w.token(nil)
	part := strings.Split(good, ".")
	withID := func(id string, key any) jose.JSONWebKey { return jose.JSONWebKey{Key: key, KeyID: id} }
	if _, err := w.assume(sign(t, jose.RS256, withID("rsa", rsaKey), w.claims(nil))); err != nil {
		t.Fatalf("the RSA key is not taken: %v", err)
	}
	now := time.Now()
	for name, tc := range map[string]struct{ token, code, message string }{
		"alg none":                   {raw(`{"alg":"none"}`, w.claims(nil)) + ".", "InvalidIdentityToken", "signed with one of"},
		"alg None":                   {raw(`{"alg":"None","kid":"one"}`, w.claims(nil)) + "." + part[2], "InvalidIdentityToken", "signed with one of"},
		"no signature":               {part[0] + "." + part[1] + ".", "InvalidIdentityToken", "signature"},
		"HS256 with the public key":  {sign(t, jose.HS256, withID("rsa", public(&rsaKey.PublicKey)), w.claims(nil)), "InvalidIdentityToken", "signed with one of"},
		"HS256 with its modulus":     {sign(t, jose.HS256, withID("rsa", rsaKey.N.Bytes()), w.claims(nil)), "InvalidIdentityToken", "signed with one of"},
		"HS256 with a published key": {sign(t, jose.HS256, withID("oct", []byte("a symmetric key of thirty-two bytes")), w.claims(nil)), "InvalidIdentityToken", "signed with one of"},
		"a key of one's own":         {sign(t, jose.ES256, stranger, w.claims(nil)), "InvalidIdentityToken", "signature of the web identity token does not match"},
		"an embedded key":            {embedded(t, stranger, w.claims(nil)), "InvalidIdentityToken", "retrieve verification key"},
		"the key for encryption":     {sign(t, jose.ES256, withID("enc", w.private.Key), w.claims(nil)), "InvalidIdentityToken", "retrieve verification key"},
		"an algorithm of no key":     {sign(t, jose.RS256, withID("one", rsaKey), w.claims(nil)), "InvalidIdentityToken", "retrieve verification key"},
		"no kid, several keys":       {sign(t, jose.ES256, w.private.Key, w.claims(nil)), "InvalidIdentityToken", "retrieve verification key"},
		"other claims":               {part[0] + "." + b64([]byte(`{"iss":"`+w.server.URL+`","sub":"admin"}`)) + "." + part[2], "InvalidIdentityToken", "signature of"},
		"claims given twice":         {doubled(t, w), "InvalidIdentityToken", "not well-formed"},
		"wrong issuer":               {w.token(set{"iss": "https://evil.example.com"}), "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://evil.example.com"},
		"issuer with a slash":        {w.token(set{"iss": w.server.URL + "/"}), "InvalidIdentityToken", "No OpenIDConnect provider"},
		"no issuer":                  {w.token(set{"iss": nil}), "InvalidIdentityToken", "No OpenIDConnect provider"},
		"wrong audience":             {w.token(set{"aud": "vault"}), "InvalidIdentityToken", "Incorrect token audience"},
		"no audience":                {w.token(set{"aud": nil}), "InvalidIdentityToken", "Incorrect token audience"},
		"one of several audiences":   {w.token(set{"aud": []string{"sts.amazonaws.com", "vault"}}), "InvalidIdentityToken", "Incorrect token audience"},
		"another authorized party":   {w.token(set{"azp": "vault"}), "InvalidIdentityToken", "Incorrect token audience"},
		"party for another audience": {w.token(set{"azp": "second", "aud": "vault"}), "InvalidIdentityToken", "Incorrect token audience"},
		"expired":                    {w.token(set{"exp": now.Add(-time.Second).Unix()}), "ExpiredTokenException", "Token expired: current date/time"},
		"no end":                     {w.token(set{"exp": nil}), "InvalidIdentityToken", "no exp"},
		"no beginning":               {w.token(set{"iat": nil}), "InvalidIdentityToken", "no iat"},
		"of the future":              {w.token(set{"iat": now.Add(2 * time.Minute).Unix()}), "InvalidIdentityToken", "not valid yet"},
		"not yet":                    {w.token(set{"nbf": now.Add(2 * time.Minute).Unix()}), "InvalidIdentityToken", "not valid yet"},
		"no subject":                 {w.token(set{"sub": nil}), "InvalidIdentityToken", "no sub"},
		"an empty subject":           {w.token(set{"sub": ""}), "InvalidIdentityToken", "no sub"},
		"an endless subject":         {w.token(set{"sub": strings.Repeat("a", 1025)}), "InvalidIdentityToken", "no sub"},
		"a subject that is a list":   {w.token(set{"sub": []string{"a"}}), "InvalidIdentityToken", "not well-formed"},
		"no token":                   {"hello world", "InvalidIdentityToken", "is not a JWT"},
		"too long":                   {strings.Repeat("a", 20001), "ValidationError", "webIdentityToken"},
	} {
		out, err := w.assume(tc.token)
		if err == nil {
			t.Errorf("%s: %s", name, *out.AssumedRoleUser.Arn)
			continue
		}
		if wantError(t, err, tc.code, tc.message); t.Failed() {
			t.Fatalf("%s", name)
		}
		if strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: the error quotes the token: %v", name, err)
		}
	}
	if _, err := w.assume(w.token(set{"aud": []string{"second", "vault"}, "azp": "sts.amazonaws.com"})); err != nil {
		t.Errorf("an authorized party and one of its audiences: %v", err)
	}
	if n := w.asked.Load(); n > 3 {
		t.Errorf("forged tokens made it fetch keys %d times", n)
	}
}

// embedded is a token that brings its key along.
func embedded(t *testing.T, key jose.JSONWebKey, claims set) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key.Key}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "mine"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// doubled is a rightly signed token with a claim given twice.
func doubled(t *testing.T, w *world) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: w.private}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(w.claims(nil))
	signed, err := signer.Sign([]byte(strings.Replace(string(text), "{", `{"sub":"admin",`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A key that the issuer has turned to is fetched at once; kids that nobody knows are not fetched for again and again.
func TestKeysAreFetchedSparingly(t *testing.T) {
	w := newWorld(t)
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(w.token(nil)))
	unknown, _ := w.key("unknown")
	flood := func() {
		t.Helper()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				_, err := w.assume(sign(t, jose.ES256, unknown, w.claims(nil)))
				wantError(t, err, "InvalidIdentityToken", "retrieve verification key")
			})
		}
		all.Wait()
	}
	flood()
	if n := w.asked.Load(); n != 1 {
		t.Errorf("a flood right after a fetch made it fetch %d times in all", n)
	}
	w.advance(31 * time.Second)
	flood()
	flood()
	if n := w.asked.Load(); n != 2 {
		t.Errorf("half a minute later it was %d times in all", n)
	}
	next, public := w.key("two")
	w.publish(public)
	w.advance(31 * time.Second)
	token := sign(t, jose.ES256, next, w.claims(set{"exp": time.Now().Add(24 * time.Hour).Unix()}))
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(token))
	// A key that the issuer has taken back is good no longer than keys are taken for current.
	old := w.token(set{"exp": time.Now().Add(24 * time.Hour).Unix()})
	_, err := w.assume(old)
	wantError(t, err, "InvalidIdentityToken", "retrieve verification key")
	third, public := w.key("three")
	w.publish(public)
	w.advance(59 * time.Minute)
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(token))
	w.advance(2 * time.Minute)
	_, err = w.assume(token)
	wantError(t, err, "InvalidIdentityToken", "retrieve verification key")
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(sign(t, jose.ES256, third, w.claims(set{"exp": time.Now().Add(24 * time.Hour).Unix()}))))
}

// An issuer that does not answer, or not rightly, makes no token good. What was fetched before serves for a while.
func TestIssuersThatFail(t *testing.T) {
	w := newWorld(t)
	elsewhere := newProvider(t)
	elsewhere.publish(w.keys...)
	body := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(rw http.ResponseWriter, _ *http.Request) bool { _, _ = rw.Write([]byte(text)); return true }
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"an error": func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.WriteHeader(http.StatusInternalServerError)
			return true
		},
		"not JSON":        body("<html>"),
		"another issuer":  body(`{"issuer": "https://evil.example.com", "jwks_uri": "` + elsewhere.server.URL + `/keys"}`),
		"keys over HTTP":  body(`{"issuer": "` + w.server.URL + `", "jwks_uri": "http://keys.example.com/"}`),
		"keys in a file":  body(`{"issuer": "` + w.server.URL + `", "jwks_uri": "file:///etc/passwd"}`),
		"no keys address": body(`{"issuer": "` + w.server.URL + `"}`),
		"an endless answer": func(rw http.ResponseWriter, _ *http.Request) bool {
			_, _ = rw.Write([]byte(`{"issuer": "` + strings.Repeat("x", 2<<20)))
			return true
		},
		"a redirect elsewhere": func(rw http.ResponseWriter, r *http.Request) bool {
			http.Redirect(rw, r, elsewhere.server.URL+"/.well-known/openid-configuration", http.StatusFound)
			return true
		},
		"a redirect of the keys": func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/keys" {
				return false
			}
			http.Redirect(rw, r, elsewhere.server.URL+"/keys", http.StatusFound)
			return true
		},
		"a redirect without end": func(rw http.ResponseWriter, r *http.Request) bool {
			http.Redirect(rw, r, r.URL.Path, http.StatusFound)
			return true
		},
		"no keys": func(rw http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/keys" && body(`{"keys": []}`)(rw, r)
		},
		"weak keys": func(rw http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/keys" && body(`{"keys": [{"kty":"RSA","kid":"one","e":"AQAB","n":"`+strings.Repeat("q", 170)+`"}]}`)(rw, r)
		},
	} {
		w.answers(answer)
		_, err := w.assume(w.token(nil))
		if wantError(t, err, "IDPCommunicationError", "The identity provider could not be asked for its keys"); t.Failed() {
			t.Fatal(name)
		}
		w.advance(6 * time.Second) // it is tried again
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("another host was asked for keys %d times", n)
	}
	w.answers(nil)
	lasting := w.token(set{"exp": time.Now().Add(24 * time.Hour).Unix()})
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(lasting))
	w.server.Close()
	w.advance(5 * time.Hour)
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(lasting))
	w.advance(time.Hour)
	_, err := w.assume(lasting)
	wantError(t, err, "IDPCommunicationError", "Try again")
	if !strings.Contains(w.logged.String(), "fetching the keys of an OIDC issuer") {
		t.Error("the log does not say why")
	}
}

// A redirect on the same host is followed.
func TestIssuerMovesItsDocuments(t *testing.T) {
	w := newWorld(t)
	w.answers(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/keys" && r.URL.RawQuery == "" {
			http.Redirect(rw, r, "/keys?v=2", http.StatusFound)
			return true
		}
		return false
	})
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(w.token(nil)))
}

// Keys in a file serve an issuer that cannot be reached, and a file that was replaced is read again.
func TestKeysInAFile(t *testing.T) {
	p := newProvider(t)
	p.server.Close()
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(keys ...jose.JSONWebKey) {
		t.Helper()
		text, _ := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, public := p.key("one")
	write(public)
	issuer := p.issuer()
	issuer.JWKS = file
	n := newNode(t, issuer)
	w := &world{n, p, one, n.role(account, "CI", document(trust(`{"Federated": "`+p.arn()+`"}`, "sts:*")))}
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(w.token(nil)))
	two, public := p.key("two")
	write(public)
	w.advance(31 * time.Second)
	must[*sdk.AssumeRoleWithWebIdentityOutput](t)(w.assume(sign(t, jose.ES256, two, p.claims(nil))))
}

func TestIssuersAreChecked(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const url = "https://issuer.example.com"
	aud := []string{"sts.amazonaws.com"}
	for message, i := range map[string][]sts.Issuer{
		"must begin with https://":  {{URL: "http://issuer.example.com", Audiences: aud}},
		"not a URL":                 {{URL: "issuer.example.com", Audiences: aud}},
		"is not a URL like":         {{URL: url + "/?x=1", Audiences: aud}},
		"it is not a URL":           {{URL: "https://user:secret@issuer.example.com", Audiences: aud}},
		"cannot stand in an ARN":    {{URL: "https://localhost", Audiences: aud}},
		"it needs audiences":        {{URL: url}},
		"given twice":               {{URL: url, Audiences: aud}, {URL: url + "/", Audiences: aud}},
		"reading its JWK set":       {{URL: url, Audiences: aud, JWKS: filepath.Join(dir, "none")}},
		"holds no RSA or EC public": {{URL: url, Audiences: aud, JWKS: empty}},
		"reading its CA":            {{URL: url, Audiences: aud, CA: filepath.Join(dir, "none")}},
		"holds no PEM certificate":  {{URL: url, Audiences: aud, CA: empty}},
		"exclude each other":        {{URL: url, Audiences: aud, CA: empty, JWKS: empty}},
	} {
		if _, err := sts.New(sts.Config{Issuers: i}); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%+v: %v, want %q", i, err, message)
		}
	}
}

// An issuer behind a private CA.
func TestIssuerWithItsOwnCA(t *testing.T) {
	p := &provider{t: t}
	p.server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.server.Close)
	one, public := p.key("one")
	p.publish(public)
	issuer := p.issuer()
	untrusted := newNode(t, issuer)
	issuer.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(issuer.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{untrusted, newNode(t, issuer)} {
		w := &world{n, p, one, n.role(account, "CI", document(trust(`{"Federated": "`+p.arn()+`"}`, "sts:*")))}
		_, err := w.assume(w.token(nil))
		if n == untrusted {
			wantError(t, err, "IDPCommunicationError", "")
		} else if err != nil {
			t.Error(err)
		}
	}
}
