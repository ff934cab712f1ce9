package awsapi_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

const (
	testKeyID  = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var testTime = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)

func newRequest(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://kms.eu-central-1.example.com/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "SmallService.Sign")
	r.Header.Set("User-Agent", "test/1.0")
	return r
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// signed is a request that aws-sdk-go-v2 has signed.
func signed(t testing.TB, body, token, service string) *http.Request {
	t.Helper()
	r := newRequest(body)
	creds := aws.Credentials{AccessKeyID: testKeyID, SecretAccessKey: testSecret, SessionToken: token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hashOf(body), service, "eu-central-1", testTime); err != nil {
		t.Fatal(err)
	}
	return r
}

// presigned is the same in the query.
func presigned(t testing.TB, body, token, expires string) *http.Request {
	t.Helper()
	r := newRequest(body)
	if expires != "" {
		r.URL.RawQuery = "X-Amz-Expires=" + expires
	}
	creds := aws.Credentials{AccessKeyID: testKeyID, SecretAccessKey: testSecret, SessionToken: token}
	link, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, hashOf(body), "kms", "eu-central-1", testTime)
	if err != nil {
		t.Fatal(err)
	}
	p := newRequest(body)
	if p.URL, err = url.Parse(link); err != nil {
		t.Fatal(err)
	}
	p.Header.Del("X-Amz-Target") // the signer has moved it into the query
	p.Header.Del("User-Agent")
	return p
}

func verify(r *http.Request, at time.Time) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return new(awsapi.Verifier).Verify(r, body, access.NewSecret(testSecret), at)
}

func codeOf(err error) string {
	var e *awsapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestSDKSignatures(t *testing.T) {
	for _, r := range []*http.Request{
		signed(t, goodSign, "", "kms"),
		signed(t, "", "", "kms"),
		signed(t, goodSign, "a session/token+=", "kms"),
		presigned(t, goodSign, "", "60"),
		presigned(t, goodSign, "", ""),
		presigned(t, goodSign, "a session/token+=", "604800"),
	} {
		if err := verify(r, testTime); err != nil {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
	}
}

// The signatures of AWS's Signature Version 4 test suite.
func TestPublishedSignatures(t *testing.T) {
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, c := range []struct{ name, method, query, headers, names, signature string }{
		{"get-vanilla", "GET", "", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"post-vanilla", "POST", "", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"get-vanilla-query-order-key-case", "GET", "Param2=value2&Param1=value1", "", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"get-header-value-trim", "GET", "", "My-Header1: value1|My-Header2: \"a   b   c\"", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		{"post-header-key-sort", "POST", "", "My-Header1: value1", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	} {
		r := httptest.NewRequest(c.method, "https://example.amazonaws.com/?"+c.query, nil)
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		for _, h := range strings.Split(c.headers, "|") {
			if name, value, ok := strings.Cut(h, ":"); ok {
				r.Header.Add(name, value)
			}
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="+c.names+", Signature="+c.signature)
		if err := verify(r, at); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTamperedRequests(t *testing.T) {
	const invalid, incomplete = "InvalidSignatureException", "IncompleteSignatureException"
	authorization := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			old := r.Header.Get("Authorization")
			if !strings.Contains(old, from) {
				t.Fatalf("%q is not in %q", from, old)
			}
			r.Header.Set("Authorization", strings.Replace(old, from, to, 1))
		}
	}
	for name, c := range map[string]struct {
		tamper func(r *http.Request)
		code   string
	}{
		"body":             {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(goodSign + " ")) }, invalid},
		"target":           {func(r *http.Request) { r.Header.Set("X-Amz-Target", "SmallService.Shape") }, invalid},
		"second target":    {func(r *http.Request) { r.Header.Add("X-Amz-Target", "SmallService.Shape") }, invalid},
		"host":             {func(r *http.Request) { r.Host = "kms.us-east-1.example.com" }, invalid},
		"method":           {func(r *http.Request) { r.Method = "PUT" }, invalid},
		"query":            {func(r *http.Request) { r.URL.RawQuery = "a=b" }, invalid},
		"date":             {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261123T150001Z") }, invalid},
		"no date":          {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, incomplete},
		"date and scope":   {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261124T150000Z") }, invalid},
		"half a date":      {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261123T15") }, incomplete},
		"fraction of date": {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261123T150000.5Z") }, incomplete},
		"region":           {authorization("eu-central-1/", "us-east-1/"), invalid},
		"region's shape":   {authorization("eu-central-1/", "eu:central/"), incomplete + invalid},
		"empty region":     {authorization("eu-central-1/", "/"), invalid},
		"service":          {authorization("/kms/", "/s3/"), invalid},
		"scope's day":      {authorization("/20261123/", "/20261122/"), invalid},
		"terminator":       {authorization("aws4_request", "aws5_request"), invalid},
		"longer scope":     {authorization("aws4_request", "aws4_request/x"), incomplete},
		"signature":        {authorization("Signature=", "Signature=0"), invalid},
		"no signature":     {authorization("Signature=", "Signature"), incomplete},
		"unsigned target":  {authorization(";x-amz-target", ""), invalid},
		"unsigned host":    {authorization("host;", ""), invalid},
		"unsorted headers": {authorization("x-amz-date;x-amz-target", "x-amz-target;x-amz-date"), invalid},
		"upper case":       {authorization("host;", "Host;"), invalid},
		"header twice":     {authorization("host;", "host;host;"), invalid},
		"credential twice": {authorization("SignedHeaders=", "Credential=x, SignedHeaders="), incomplete},
		"more parameters":  {authorization("SignedHeaders=", "X=y, SignedHeaders="), incomplete},
		"algorithm":        {authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), incomplete},
		"basic":            {func(r *http.Request) { r.SetBasicAuth("a", "b") }, "MissingAuthenticationTokenException"},
		"none":             {func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException"},
		"key id":           {authorization("AKIDEXAMPLE", "AKID\tEXAMPLE"), "UnrecognizedClientException"},
		"two signatures":   {func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, incomplete},
		"query as well":    {func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=0" }, incomplete},
		"malformed query":  {func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, incomplete},
		"session token":    {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, invalid},
		"odd-case header":  {func(r *http.Request) { r.Header["x-amz-security-token"] = []string{"x"} }, invalid},
		"unsigned payload": {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, invalid},
		"long header":      {func(r *http.Request) { r.Header.Set("X-Amz-"+strings.Repeat("a", 100), "x") }, invalid},
		"content length":   {func(r *http.Request) { r.ContentLength++ }, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := signed(t, goodSign, "", "kms")
			c.tamper(r)
			err := verify(r, testTime)
			if code := codeOf(err); code == "" || !strings.Contains(c.code, code) {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}

// A claim about the body that is not the body's own hash is refused, whichever
// of the two was signed.
func TestUnsignedPayloadIsRefused(t *testing.T) {
	for claim, says := range map[string]string{
		"UNSIGNED-PAYLOAD":                   "must be signed",
		"STREAMING-AWS4-HMAC-SHA256-PAYLOAD": "must be signed",
		strings.Repeat("0", 64):              "does not match",
	} {
		for _, hash := range []string{claim, hashOf(goodSign)} {
			r := newRequest(goodSign)
			r.Header.Set("X-Amz-Content-Sha256", claim)
			creds := aws.Credentials{AccessKeyID: testKeyID, SecretAccessKey: testSecret}
			if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hash, "kms", "eu-central-1", testTime); err != nil {
				t.Fatal(err)
			}
			if err := verify(r, testTime); codeOf(err) != "InvalidSignatureException" || !strings.Contains(err.Error(), says) {
				t.Errorf("%s, %s signed: %v", claim, hash, err)
			}
		}
	}
	r := newRequest(goodSign)
	r.Header.Set("X-Amz-Content-Sha256", hashOf(goodSign))
	creds := aws.Credentials{AccessKeyID: testKeyID, SecretAccessKey: testSecret}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hashOf(goodSign), "kms", "eu-central-1", testTime); err != nil {
		t.Fatal(err)
	}
	if err := verify(r, testTime); err != nil {
		t.Errorf("a claim that is true: %v", err)
	}
}

func TestTamperedPresignedRequests(t *testing.T) {
	const invalid, incomplete = "InvalidSignatureException", "IncompleteSignatureException"
	query := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			q.Set(name, value)
			r.URL.RawQuery = q.Encode()
		}
	}
	for name, c := range map[string]struct {
		tamper func(r *http.Request)
		code   string
	}{
		"body":            {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")) }, invalid},
		"target":          {query("X-Amz-Target", "SmallService.Shape"), invalid},
		"longer life":     {query("X-Amz-Expires", "61"), invalid},
		"endless life":    {query("X-Amz-Expires", "604801"), incomplete},
		"no life":         {query("X-Amz-Expires", "0"), incomplete},
		"negative life":   {query("X-Amz-Expires", "-1"), incomplete},
		"token":           {query("X-Amz-Security-Token", "x"), invalid},
		"date":            {query("X-Amz-Date", "20261123T150100Z"), invalid},
		"algorithm":       {query("X-Amz-Algorithm", "none"), incomplete},
		"signature":       {query("X-Amz-Signature", strings.Repeat("0", 64)), invalid},
		"half":            {query("X-Amz-Signature", strings.Repeat("0", 32)), invalid},
		"unsigned header": {func(r *http.Request) { r.Header.Set("X-Amz-Target", "SmallService.Sign") }, invalid},
		"parameter twice": {func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Date=20261123T150000Z" }, incomplete},
		"more parameters": {func(r *http.Request) { r.URL.RawQuery += "&a=b" }, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := presigned(t, goodSign, "", "60")
			c.tamper(r)
			if code := codeOf(verify(r, testTime)); code != c.code {
				t.Errorf("got %q, want %s", code, c.code)
			}
		})
	}
}

func TestSignatureWindow(t *testing.T) {
	const limit = 5 * time.Minute
	for _, c := range []struct {
		skew time.Duration // of the server's clock
		life string        // of a presigned request; empty: signed in headers
		ok   bool
	}{
		{limit, "", true},
		{limit + time.Second, "", false},
		{-limit, "", true},
		{-limit - time.Second, "", false},
		{time.Minute, "60", true},
		{time.Minute + time.Second, "60", false},
		{7 * 24 * time.Hour, "604800", true},
		{-limit - time.Second, "60", false},
	} {
		r := signed(t, goodSign, "", "kms")
		if c.life != "" {
			r = presigned(t, goodSign, "", c.life)
		}
		err := verify(r, testTime.Add(c.skew))
		if (err == nil) != c.ok || err != nil && codeOf(err) != "InvalidSignatureException" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	err := verify(signed(t, goodSign, "", "kms"), testTime.Add(6*time.Minute))
	want := "InvalidSignatureException: Signature expired: 20261123T150000Z is now earlier than 20261123T150100Z (20261123T150600Z - 5 min.)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = verify(signed(t, goodSign, "", "kms"), testTime.Add(-6*time.Minute))
	want = "InvalidSignatureException: Signature not yet current: 20261123T150000Z is still later than 20261123T145900Z (20261123T145400Z + 5 min.)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A signer may sign more than the SDK does, with a header that the SDK's own
// signer leaves out, and with the older Date header.
func TestOtherSigners(t *testing.T) {
	r := newRequest(goodSign)
	r.Header.Set("Date", testTime.Format(http.TimeFormat))
	r.Header.Set("X-Twice", "  a   b ")
	r.Header.Add("X-Twice", "c")
	names := "content-type;date;host;user-agent;x-amz-target;x-twice"
	canonical := "POST\n/\n\ncontent-type:application/x-amz-json-1.1\ndate:" + testTime.Format(http.TimeFormat) +
		"\nhost:kms.eu-central-1.example.com\nuser-agent:test/1.0\nx-amz-target:SmallService.Sign\nx-twice:a b,c\n\n" + names + "\n" + hashOf(goodSign)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-central-1/kms/aws4_request,SignedHeaders="+names+
		",Signature="+signatureOf(canonical))
	if err := verify(r, testTime); err != nil {
		t.Error(err)
	}
	r = newRequest(goodSign)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-central-1/kms/aws4_request,SignedHeaders=host;x-amz-target,Signature=00")
	r.Header.Set("Date", testTime.Format(http.TimeFormat))
	if code := codeOf(verify(r, testTime)); code != "IncompleteSignatureException" {
		t.Errorf("an unsigned Date is believed: %q", code)
	}
}

// signatureOf signs a canonical request as AWS's documentation says, step by step.
func signatureOf(canonical string) string { return signatureOn("20261123", canonical) }

// signatureOn does so with a scope of another day.
func signatureOn(day, canonical string) string {
	mac := func(key []byte, s string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	key := mac(mac(mac(mac([]byte("AWS4"+testSecret), day), "eu-central-1"), "kms"), "aws4_request")
	return hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n20261123T150000Z\n"+day+"/eu-central-1/kms/aws4_request\n"+hashOf(canonical)))
}

// These are signed by who knows the secret, and signed wrongly: what a careless
// signer left out, an attacker on the way could have changed.
func TestCarelessSigners(t *testing.T) {
	values := map[string]string{
		"content-type": "application/x-amz-json-1.1", "host": "kms.eu-central-1.example.com",
		"x-amz-date": "20261123T150000Z", "x-amz-target": "SmallService.Sign",
	}
	for name, c := range map[string]struct{ day, names, code string }{
		"nothing wrong":   {"20261123", "content-type;host;x-amz-date;x-amz-target", ""},
		"least":           {"20261123", "host;x-amz-date;x-amz-target", ""},
		"no host":         {"20261123", "content-type;x-amz-date;x-amz-target", "InvalidSignatureException"},
		"no target":       {"20261123", "content-type;host;x-amz-date", "InvalidSignatureException"},
		"no date":         {"20261123", "content-type;host;x-amz-target", "InvalidSignatureException"},
		"unsorted":        {"20261123", "host;content-type;x-amz-date;x-amz-target", "InvalidSignatureException"},
		"twice":           {"20261123", "host;host;x-amz-date;x-amz-target", "InvalidSignatureException"},
		"yesterday's key": {"20261122", "content-type;host;x-amz-date;x-amz-target", "InvalidSignatureException"},
	} {
		canonical := "POST\n/\n\n"
		for h := range strings.SplitSeq(c.names, ";") {
			canonical += h + ":" + values[h] + "\n"
		}
		r := newRequest(goodSign)
		r.Header.Set("X-Amz-Date", values["x-amz-date"])
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"+c.day+"/eu-central-1/kms/aws4_request, SignedHeaders="+c.names+
			", Signature="+signatureOn(c.day, canonical+"\n"+c.names+"\n"+hashOf(goodSign)))
		if code := codeOf(verify(r, testTime)); code != c.code {
			t.Errorf("%s: %q, want %q", name, code, c.code)
		}
	}
}

func TestDatesOfSignatures(t *testing.T) {
	for _, s := range []string{
		"20261123T150000Z", "20240229T235959Z", "00010101T000000Z", "99991231T235959Z",
		"20250229T000000Z", "20260431T000000Z", "20261301T000000Z", "20260001T000000Z", "20260100T000000Z", "20261123T240000Z",
		"20261123T156000Z", "20261123T150060Z", "20261123 150000Z", "20261123T150000z", "2026112T1150000Z", "20261123T150000", "",
		"+0261123T150000Z", "20261123T15-100Z", "20261123T150000.5Z",
	} {
		got, ok := awsapi.ParseDate(s)
		want, err := time.Parse("20060102T150405Z", s)
		if ok != (err == nil && len(s) == 16) || ok && !got.Equal(want) {
			t.Errorf("%q: %v %v, want %v %v", s, got, ok, want, err)
		}
	}
}

// A signing key that was derived from an old secret must not outlive it.
func TestSigningKeyDiesWithItsSecret(t *testing.T) {
	var v awsapi.Verifier
	body := []byte(goodSign)
	for range 2 { // derived, then cached
		if err := v.Verify(signed(t, goodSign, "", "kms"), body, access.NewSecret(testSecret), testTime); err != nil {
			t.Fatal(err)
		}
	}
	err := v.Verify(signed(t, goodSign, "", "kms"), body, access.NewSecret("another secret"), testTime)
	if codeOf(err) != "InvalidSignatureException" {
		t.Errorf("the old secret's signature is still good: %v", err)
	}
}

// FuzzAuthorization: whatever stands in the headers and the query of a
// request, checking it ends in an *Error or in a match with the secret.
func FuzzAuthorization(f *testing.F) {
	good := signed(f, goodSign, "", "kms")
	f.Add(good.Header.Get("Authorization"), good.Header.Get("X-Amz-Date"), "", "")
	link := presigned(f, goodSign, "token", "60")
	f.Add("", "", link.URL.RawQuery, "")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;;,Signature=", "", "a=%20+b&a", " a  b ")
	f.Fuzz(func(t *testing.T, authorization, date, query, extra string) {
		r := newRequest(goodSign)
		r.URL.RawQuery = query
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		if date != "" {
			r.Header.Set("X-Amz-Date", date)
		}
		if extra != "" {
			r.Header.Set("X-Extra", extra)
		}
		if query != "" {
			r.Header.Del("X-Amz-Target")
		}
		// Nobody who signs with testSecret can be right under another secret.
		err := new(awsapi.Verifier).Verify(r, []byte(goodSign), access.NewSecret("the server's own secret"), testTime)
		var e *awsapi.Error
		if !errors.As(err, &e) || e.Code == "" || e.Status != 400 {
			t.Fatalf("got %v", err)
		}
		if bytes.Contains([]byte(e.Message), []byte("the server's own")) {
			t.Fatal("the secret is in the message")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, cached := range []bool{true, false} {
		name := map[bool]string{true: "cached", false: "derived"}[cached]
		b.Run(name, func(b *testing.B) {
			r := signed(b, goodSign, "", "kms")
			body, secret := []byte(goodSign), access.NewSecret(testSecret)
			var v awsapi.Verifier
			b.ReportAllocs()
			for b.Loop() {
				if !cached {
					v.Forget()
				}
				if err := v.Verify(r, body, secret, testTime); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
