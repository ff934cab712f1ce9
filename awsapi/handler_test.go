package awsapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const account = "111122223333"

// A house is a handler with a small service, a real guard and a real log.
type house struct {
	t       testing.TB
	handler *awsapi.Handler
	guard   *access.Guard
	log     *audit.Log
	dir     string // of the audit log
	logged  *buffer
	seen    []string // what Observe was told

	sign func(ctx context.Context, call *access.Call, in *SignRequest) (*SignResponse, error)
}

// A buffer collects log lines of many goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// noSealer is never asked: the tests' credentials live in memory.
type noSealer struct{}

func (noSealer) Seal(_, _ []byte) ([]byte, error) { return nil, errors.New("nothing is sealed here") }

func (noSealer) Open(_, _ []byte) ([]byte, error) { return nil, errors.New("nothing is opened here") }

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, dir: filepath.Join(t.TempDir(), "audit"), logged: &buffer{}}
	db := sqldbtest.SQLite(t)
	var err error
	if h.log, err = audit.Open(context.Background(), h.dir, db, "test", audit.Options{Sync: audit.Interval}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.log.Close() })
	if h.guard, err = access.Open(context.Background(), access.Config{DB: db, Log: h.log, Sealer: noSealer{}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []access.EphemeralCredential{
		{AccessKeyID: testKeyID, Secret: access.NewSecret(testSecret), Account: account},
		{AccessKeyID: "ASIASESSION", Secret: access.NewSecret(testSecret), SessionToken: "to/ken+=", Account: account},
		{AccessKeyID: "ASIAEXPIRED", Secret: access.NewSecret(testSecret), SessionToken: "old", Expires: time.Unix(1, 0), Account: account},
	} {
		if err := h.guard.AddEphemeral(c); err != nil {
			t.Fatal(err)
		}
	}
	h.sign = h.echo
	h.handler = awsapi.NewHandler(awsapi.Config{
		Guard: h.guard, Services: h.services(), MaxBody: 64 << 10,
		Logger:  slog.New(slog.NewTextHandler(h.logged, nil)),
		Observe: func(service, op, code string, _ time.Duration) { h.seen = append(h.seen, service+"."+op+":"+code) },
	})
	return h
}

func (h *house) services() []awsapi.Service {
	small := awsapi.Service{
		Name: "kms", SigningName: "kms", TargetPrefix: "TrentService", EventSource: "kms.amazonaws.com",
		InternalCode: "KMSInternalException", Known: []string{"Sign", "Encrypt"},
		Operations: []awsapi.Operation{
			awsapi.Op("Sign", func(ctx context.Context, call *access.Call, in *SignRequest) (*SignResponse, error) {
				return h.sign(ctx, call, in)
			}).ReadOnly(),
			awsapi.Op("Shape", h.shape),
			awsapi.Op("EnableKey", func(_ context.Context, _ *access.Call, _ *TouchRequest) (*awsapi.Empty, error) { return nil, nil }),
			awsapi.Op("DisableKey", func(_ context.Context, _ *access.Call, _ *TouchRequest) (*awsapi.Empty, error) {
				return &awsapi.Empty{}, nil
			}),
		},
	}
	native := awsapi.Service{
		Name: "keyturn", SigningName: "keyturn", AlsoSignedAs: []string{"kms"}, TargetPrefix: "Keyturn",
		EventSource: "keyturn", InternalCode: "InternalFailure",
		Operations: []awsapi.Operation{awsapi.Op("Greet", h.greet)},
	}
	return []awsapi.Service{small, native}
}

// echo signs by turning the message round.
func (h *house) echo(_ context.Context, _ *access.Call, in *SignRequest) (*SignResponse, error) {
	signature := bytes.Clone(in.Message.Reveal())
	for i, j := 0, len(signature)-1; i < j; i, j = i+1, j-1 {
		signature[i], signature[j] = signature[j], signature[i]
	}
	return &SignResponse{KeyId: in.KeyId, Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

func (h *house) shape(_ context.Context, _ *access.Call, in *ShapeRequest) (*ShapeResponse, error) {
	return &ShapeResponse{Title: "t", Tags: in.Tags, Login: in.Login, Plaintext: in.Blob}, nil
}

type greetRequest struct {
	Name   string
	Secret awsapi.SensitiveString
	Bytes  awsapi.Sensitive
}

func (g *greetRequest) Validate() error {
	if g.Name == "" {
		return errors.New("Name must not be empty")
	}
	return nil
}

type greetResponse struct {
	Greeting string
	Secret   awsapi.SensitiveString
	Bytes    awsapi.Sensitive
	At       *awsapi.Timestamp
}

func (h *house) greet(_ context.Context, _ *access.Call, in *greetRequest) (*greetResponse, error) {
	return &greetResponse{"Hello " + in.Name, in.Secret, in.Bytes, awsapi.NewTimestamp(time.Unix(5, 0))}, nil
}

// request is one that nothing is wrong with, yet unsigned.
func request(target, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://kms.example.com/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	return r
}

func (h *house) signAs(r *http.Request, body, keyID, token, service string) *http.Request {
	h.t.Helper()
	creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: testSecret, SessionToken: token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hashOf(body), service, "eu-central-1", time.Now()); err != nil {
		h.t.Fatal(err)
	}
	return r
}

// do sends a signed request and returns the answer.
func (h *house) do(target, body string) *httptest.ResponseRecorder {
	h.t.Helper()
	return h.send(h.signAs(request(target, body), body, testKeyID, "", "kms"))
}

func (h *house) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w
}

// records closes the log and returns what is in it.
func (h *house) records() (records []map[string]any, text string) {
	h.t.Helper()
	if err := h.log.Close(); err != nil {
		h.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			h.t.Fatal(err)
		}
		text += string(b)
		for line := range strings.Lines(string(b)) {
			var r map[string]any
			if json.Unmarshal([]byte(line), &r) == nil && r["requestID"] != nil {
				records = append(records, r)
			}
		}
	}
	return records, text
}

func errorOf(t testing.TB, w *httptest.ResponseRecorder) (code, message string) {
	t.Helper()
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%q: %v", w.Body, err)
	}
	if e.Type != w.Header().Get("X-Amzn-Errortype") {
		t.Errorf("__type %q, x-amzn-errortype %q", e.Type, w.Header().Get("X-Amzn-Errortype"))
	}
	return e.Type, e.Message
}

func (h *house) client(transport http.RoundTripper, endpoint string) *kms.Client {
	return kms.New(kms.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(endpoint), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("ASIASESSION", testSecret, "to/ken+="),
		HTTPClient:  &http.Client{Transport: transport},
	})
}

func TestSDKInProcess(t *testing.T) {
	h := newHouse(t)
	client := h.client(awsapi.InProcess(h.handler), "http://keyturn.invalid")
	out, err := client.Sign(context.Background(), &kms.SignInput{
		KeyId: aws.String("alias/x"), Message: []byte("hello"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(out.Signature) != "olleh" || *out.KeyId != "alias/x" {
		t.Errorf("signature %q by %q", out.Signature, *out.KeyId)
	}
	if _, err := client.EnableKey(context.Background(), &kms.EnableKeyInput{KeyId: aws.String("x")}); err != nil {
		t.Errorf("an operation without output: %v", err)
	}
	_, err = client.Encrypt(context.Background(), &kms.EncryptInput{KeyId: aws.String("x"), Plaintext: []byte("x")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "UnknownOperationException" {
		t.Errorf("an operation that does not exist: %v", err)
	}
	_, err = client.Sign(context.Background(), &kms.SignInput{
		KeyId: aws.String("alias/x"), Message: []byte("hello"), SigningAlgorithm: "BAD",
	})
	if !errors.As(err, &api) || api.ErrorCode() != "ValidationException" || !strings.Contains(api.ErrorMessage(), "Value 'BAD' at 'signingAlgorithm'") {
		t.Errorf("a wrong algorithm: %v", err)
	}
	records, _ := h.records()
	if len(records) != 4 {
		t.Fatalf("%d records of 4 requests", len(records))
	}
	r := records[0]
	if r["eventName"] != "Sign" || r["awsRegion"] != "eu-central-1" || r["sourceIPAddress"] != "in-process" || r["readOnly"] != true {
		t.Errorf("record %v", r)
	}
	params, _ := json.Marshal(r["requestParameters"])
	if string(params) != `{"keyId":"alias/x","signingAlgorithm":"ECDSA_SHA_256"}` {
		t.Errorf("requestParameters %s", params)
	}
}

func TestAnswerHeaders(t *testing.T) {
	h := newHouse(t)
	w := h.do("TrentService.Sign", goodSign)
	if w.Code != 200 || w.Body.String() != `{"KeyId":"alias/payments","Signature":"b2xsZWg=","SigningAlgorithm":"ECDSA_SHA_256"}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/x-amz-json-1.1" {
		t.Errorf("Content-Type %q", ct)
	}
	if id := w.Header().Get("X-Amzn-RequestId"); len(id) != 36 {
		t.Errorf("x-amzn-RequestId %q", id)
	}
	if w.Header().Get("X-Amzn-Errortype") != "" {
		t.Error("a success has an error type")
	}
	for _, op := range []string{"EnableKey", "DisableKey"} {
		if w := h.do("TrentService."+op, "{}"); w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("%s: %d %q", op, w.Code, w.Body)
		}
	}
}

// Every refusal has AWS's code and status, and is recorded exactly once.
func TestRefusals(t *testing.T) {
	unsigned := func(change func(*http.Request)) func(h *house) *http.Request {
		return func(*house) *http.Request {
			r := request("TrentService.Sign", goodSign)
			change(r)
			return r
		}
	}
	as := func(target, body, keyID, token, service string) func(h *house) *http.Request {
		return func(h *house) *http.Request { return h.signAs(request(target, body), body, keyID, token, service) }
	}
	for name, c := range map[string]struct {
		request func(h *house) *http.Request
		status  int
		code    string
	}{
		"get":               {unsigned(func(r *http.Request) { r.Method = "GET" }), 404, "UnknownOperationException"},
		"path":              {unsigned(func(r *http.Request) { r.URL.Path = "/x" }), 404, "UnknownOperationException"},
		"content type":      {unsigned(func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }), 400, "UnknownOperationException"},
		"no target":         {unsigned(func(r *http.Request) { r.Header.Del("X-Amz-Target") }), 400, "UnknownOperationException"},
		"no such service":   {unsigned(func(r *http.Request) { r.Header.Set("X-Amz-Target", "Trent.Sign") }), 400, "UnknownOperationException"},
		"odd target":        {unsigned(func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.\x01") }), 400, "UnknownOperationException"},
		"unsigned":          {unsigned(func(*http.Request) {}), 400, "MissingAuthenticationTokenException"},
		"too large":         {unsigned(func(r *http.Request) { r.ContentLength = 1 << 30 }), 413, "RequestEntityTooLargeException"},
		"larger than said":  {unsigned(func(r *http.Request) { r.ContentLength = -1; r.Body = io.NopCloser(endless{}) }), 413, "RequestEntityTooLargeException"},
		"broken body":       {unsigned(func(r *http.Request) { r.Body = io.NopCloser(broken{}) }), 408, "RequestTimeoutException"},
		"no such operation": {as("TrentService.Fly", "{}", testKeyID, "", "kms"), 400, "UnknownOperationException"},
		"not yet":           {as("TrentService.Encrypt", "{}", testKeyID, "", "kms"), 400, "UnknownOperationException"},
		"unknown key":       {as("TrentService.Sign", goodSign, "AKIAUNKNOWN", "", "kms"), 400, "UnrecognizedClientException"},
		"stray token":       {as("TrentService.Sign", goodSign, testKeyID, "x", "kms"), 400, "UnrecognizedClientException"},
		"no token":          {as("TrentService.Sign", goodSign, "ASIASESSION", "", "kms"), 400, "UnrecognizedClientException"},
		"wrong token":       {as("TrentService.Sign", goodSign, "ASIASESSION", "x", "kms"), 400, "UnrecognizedClientException"},
		"expired token":     {as("TrentService.Sign", goodSign, "ASIAEXPIRED", "old", "kms"), 400, "ExpiredTokenException"},
		"other service":     {as("TrentService.Sign", goodSign, testKeyID, "", "s3"), 400, "InvalidSignatureException"},
		"keyturn for kms":   {as("TrentService.Sign", goodSign, testKeyID, "", "keyturn"), 400, "InvalidSignatureException"},
		"malformed":         {as("TrentService.Sign", "{", testKeyID, "", "kms"), 400, "SerializationException"},
		"invalid":           {as("TrentService.Sign", "{}", testKeyID, "", "kms"), 400, "ValidationException"},
		"native: unknown":   {as("Keyturn.Greet", `{"Name":"x","Nme":"y"}`, testKeyID, "", "keyturn"), 400, "SerializationException"},
		"native: duplicate": {as("Keyturn.Greet", `{"Name":"x","Name":"y"}`, testKeyID, "", "keyturn"), 400, "SerializationException"},
		"native: type":      {as("Keyturn.Greet", `{"Name":1}`, testKeyID, "", "keyturn"), 400, "SerializationException"},
		"native: invalid":   {as("Keyturn.Greet", `{}`, testKeyID, "", "kms"), 400, "ValidationException"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.sign = func(context.Context, *access.Call, *SignRequest) (*SignResponse, error) {
				t.Error("the operation ran")
				return nil, nil
			}
			w := h.send(c.request(h))
			if code, message := errorOf(t, w); code != c.code || w.Code != c.status || message == "" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if len(w.Header().Get("X-Amzn-RequestId")) != 36 {
				t.Error("no request id")
			}
			records, _ := h.records()
			if len(records) != 1 || records[0]["errorCode"] != c.code || records[0]["requestID"] != w.Header().Get("X-Amzn-RequestId") {
				t.Errorf("records: %v", records)
			}
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestWrongKeysAreAnsweredAlike(t *testing.T) {
	h := newHouse(t)
	var bodies []string
	for _, c := range [][2]string{{"AKIAUNKNOWN", ""}, {"ASIASESSION", "wrong"}, {"ASIASESSION", ""}} {
		bodies = append(bodies, h.send(h.signAs(request("TrentService.Sign", goodSign), goodSign, c[0], c[1], "kms")).Body.String())
	}
	for _, b := range bodies {
		if b != bodies[0] {
			t.Errorf("%s differs from %s", b, bodies[0])
		}
	}
}

func TestErrorsOfOperations(t *testing.T) {
	const plaintext = "the very secret plaintext"
	body := `{"KeyId":"k","Message":"` + base64.StdEncoding.EncodeToString([]byte(plaintext)) + `","SigningAlgorithm":"ECDSA_SHA_256"}`
	for name, c := range map[string]struct {
		fail   func(in *SignRequest) error
		status int
		code   string
		says   string // in the answer
		logs   string
	}{
		"error":      {func(*SignRequest) error { return awsapi.Errorf("NotFoundException", "no %s", "key") }, 400, "NotFoundException", "no key", ""},
		"wrapped":    {func(*SignRequest) error { return fmt.Errorf("x: %w", awsapi.Errorf("DisabledException", "d")) }, 400, "DisabledException", "d", ""},
		"5xx":        {func(*SignRequest) error { return awsapi.Errorf("DependencyTimeoutException", "d") }, 503, "DependencyTimeoutException", "d", ""},
		"denied":     {func(*SignRequest) error { return &access.Denied{Action: "kms:Sign", Resource: "*"} }, 400, "AccessDeniedException", "is not authorized to perform: kms:Sign", ""},
		"refused":    {func(*SignRequest) error { return &access.Error{Code: "NoSuchEntityException", Message: "m"} }, 400, "NoSuchEntityException", "m", ""},
		"internal":   {func(*SignRequest) error { return errors.New("disk on fire") }, 500, "KMSInternalException", "internal reason", "disk on fire"},
		"panic":      {func(in *SignRequest) error { panic("quotes " + string(in.Message.Reveal())) }, 500, "KMSInternalException", "internal reason", "panic"},
		"bug":        {func(in *SignRequest) error { var p *SignRequest; _ = p.KeyId; return nil }, 500, "KMSInternalException", "internal reason", "TestErrorsOfOperations"},
		"abort":      {func(*SignRequest) error { panic(http.ErrAbortHandler) }, 500, "KMSInternalException", "internal reason", "panic"},
		"deadline":   {func(*SignRequest) error { return context.DeadlineExceeded }, 500, "KMSInternalException", "internal reason", "deadline"},
		"cancelled":  {func(*SignRequest) error { return context.Canceled }, 499, "RequestCanceled", "", ""},
		"nil output": {func(*SignRequest) error { return nil }, 200, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.sign = func(_ context.Context, _ *access.Call, in *SignRequest) (*SignResponse, error) {
				return nil, c.fail(in)
			}
			w := h.do("TrentService.Sign", body)
			code, message := "", ""
			if w.Body.Len() > 0 {
				code, message = errorOf(t, w)
			}
			if code != c.code || w.Code != c.status || !strings.Contains(message, c.says) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			id, logged := w.Header().Get("X-Amzn-RequestId"), h.logged.String()
			if c.logs != "" && (!strings.Contains(logged, c.logs) || !strings.Contains(logged, id)) {
				t.Errorf("request %s logged as %s", id, logged)
			}
			if c.status == 500 && (!strings.Contains(message, id) || strings.Contains(message, "fire")) {
				t.Errorf("the client is told %q", message)
			}
			records, text := h.records()
			if len(records) != 1 {
				t.Errorf("%d records", len(records))
			}
			for _, text := range []string{logged, text, w.Body.String()} {
				if strings.Contains(text, plaintext) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(plaintext))) {
					t.Errorf("the plaintext is in %s", text)
				}
			}
		})
	}
}

// When the outcome cannot be recorded, the answer must not leave.
func TestNoAnswerWithoutRecord(t *testing.T) {
	h := newHouse(t)
	if err := h.log.Close(); err != nil {
		t.Fatal(err)
	}
	w := h.do("TrentService.Sign", goodSign)
	code, _ := errorOf(t, w)
	if w.Code != 500 || code != "KMSInternalException" || strings.Contains(w.Body.String(), "Signature") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(h.logged.String(), "recording the outcome") {
		t.Errorf("logged: %s", h.logged)
	}
}

func TestCancelledRequestIsRecorded(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithCancel(context.Background())
	h.sign = func(ctx context.Context, _ *access.Call, _ *SignRequest) (*SignResponse, error) {
		cancel()
		return nil, fmt.Errorf("waiting: %w", ctx.Err())
	}
	h.send(h.signAs(request("TrentService.Sign", goodSign), goodSign, testKeyID, "", "kms").WithContext(ctx))
	if records, _ := h.records(); len(records) != 1 || records[0]["errorCode"] != "RequestCanceled" {
		t.Errorf("records: %v", records)
	}
}

func TestBuffersAreWiped(t *testing.T) {
	h := newHouse(t)
	const plaintext = "the very secret plaintext"
	encoded := base64.StdEncoding.EncodeToString([]byte(plaintext))
	escaped := `\u` + fmt.Sprintf("%04x", encoded[0]) + encoded[1:] // takes the decoder's scratch
	for _, body := range []string{
		`{"Tags":[],"Blob":"` + encoded + `"}`, `{"Blob":"` + escaped + `"}`,
		`{"Blob":"` + encoded + `","Name":""}`, `{"Blob":"` + encoded + `"`,
	} {
		h.do("TrentService.Shape", body)
		for range 8 {
			if left := awsapi.PooledBytes(); bytes.Contains(left, []byte(encoded[4:])) || bytes.Contains(left, []byte(plaintext)) {
				t.Fatalf("after %s a buffer holds %q", body, left)
			}
		}
	}
}

func TestSensitiveMembersAreNotRecorded(t *testing.T) {
	h := newHouse(t)
	w := h.do("TrentService.Shape", `{"Login":{"Name":"n","Password":"geheim-123"},"Blob":"Z2VoZWltLTEyMw==","Tags":[{"TagKey":"k","TagValue":"v"}]}`)
	if want := `{"Title":"t","Truncated":false,"Tags":[{"TagKey":"k","TagValue":"v"}],"Login":{"Name":"n","Password":"geheim-123"},"Plaintext":"Z2VoZWltLTEyMw=="}`; w.Body.String() != want {
		t.Errorf("answer %s", w.Body)
	}
	w = h.send(h.signAs(request("Keyturn.Greet", `{"Name":"N","Secret":"geheim-123","Bytes":"Z2VoZWltLTEyMw=="}`),
		`{"Name":"N","Secret":"geheim-123","Bytes":"Z2VoZWltLTEyMw=="}`, testKeyID, "", "keyturn"))
	if want := `{"Greeting":"Hello N","Secret":"geheim-123","Bytes":"Z2VoZWltLTEyMw==","At":5}`; w.Body.String() != want {
		t.Errorf("answer %s", w.Body)
	}
	records, text := h.records()
	if strings.Contains(text, "geheim") || strings.Contains(text, "Z2VoZWlt") {
		t.Errorf("recorded: %s", text)
	}
	response, _ := json.Marshal(records[0]["responseElements"])
	if want := `{"login":{"name":"n"},"tags":[{"tagKey":"k","tagValue":"v"}],"title":"t","truncated":false}`; string(response) != want {
		t.Errorf("responseElements %s", response)
	}
	params, _ := json.Marshal(records[1]["requestParameters"])
	if want := `{"Bytes":"[redacted]","Name":"N","Secret":"[redacted]"}`; string(params) != want {
		t.Errorf("requestParameters %s", params)
	}
}

// Metrics must not grow with names that strangers invent.
func TestObserve(t *testing.T) {
	h := newHouse(t)
	h.do("TrentService.Sign", goodSign)
	h.do("TrentService.Sign", "{}")
	h.do("TrentService.Invented", "{}")
	h.send(request("Invented.Sign", "{}"))
	want := "[kms.Sign: kms.Sign:ValidationException kms.:UnknownOperationException .:UnknownOperationException]"
	if got := fmt.Sprint(h.seen); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPresignedRequest(t *testing.T) {
	h := newHouse(t)
	r := request("TrentService.Sign", goodSign)
	r.URL.RawQuery = "X-Amz-Expires=60"
	creds := aws.Credentials{AccessKeyID: "ASIASESSION", SecretAccessKey: testSecret, SessionToken: "to/ken+="}
	link, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, hashOf(goodSign), "kms", "eu-central-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	send := func(link, target string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, link, strings.NewReader(goodSign))
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		return h.send(r)
	}
	if w := send(link, ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(link, "TrentService.EnableKey"); w.Code != 400 {
		t.Errorf("another target beside the link: %d %s", w.Code, w.Body)
	}
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("this test needs curl 7.75 or later: apt-get install curl")
	}
	h := newHouse(t)
	server := httptest.NewServer(h.handler)
	defer server.Close()
	run := func(region, service, secret string) string {
		out, err := exec.Command(curl, "-sS", "--max-time", "20", "--aws-sigv4", "aws:amz:"+region+":"+service, "--user", testKeyID+":"+secret,
			"-H", "Content-Type: application/x-amz-json-1.1", "-H", "X-Amz-Target: TrentService.Sign", "-d", goodSign, server.URL+"/").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := run("mars-north-7", "kms", testSecret); !strings.Contains(out, `"Signature":"b2xsZWg="`) {
		version, _ := exec.Command(curl, "--version").Output()
		t.Errorf("%s: %s", bytes.SplitN(version, []byte(" ("), 2)[0], out)
	}
	if out := run("mars-north-7", "kms", "wrong"); !strings.Contains(out, "InvalidSignatureException") {
		t.Errorf("a wrong secret: %s", out)
	}
	if out := run("mars-north-7", "s3", testSecret); !strings.Contains(out, "InvalidSignatureException") {
		t.Errorf("a wrong service: %s", out)
	}
}

func TestManyAtOnce(t *testing.T) {
	h := newHouse(t)
	h.handler = awsapi.NewHandler(awsapi.Config{Guard: h.guard, Services: h.services()})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				message := fmt.Sprintf("%02d-%03d", i, j)
				body := `{"KeyId":"k","Message":"` + base64.StdEncoding.EncodeToString([]byte(message)) + `","SigningAlgorithm":"ECDSA_SHA_256"}`
				w := h.do("TrentService.Sign", body)
				var out struct{ Signature []byte }
				if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Signature) != 6 || string(out.Signature[:3]) != string([]byte{message[5], message[4], message[3]}) {
					t.Errorf("%s answered with %d %s", message, w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	if records, _ := h.records(); len(records) != 200 {
		t.Errorf("%d records of 200 requests", len(records))
	}
}

func TestNewHandlerRefusesAmbiguousTables(t *testing.T) {
	op := awsapi.Op("Sign", func(context.Context, *access.Call, *SignRequest) (*SignResponse, error) { return nil, nil })
	for name, services := range map[string][]awsapi.Service{
		"operation twice": {{TargetPrefix: "A", Operations: []awsapi.Operation{op, op}}},
		"prefix twice":    {{TargetPrefix: "A"}, {TargetPrefix: "A"}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			awsapi.NewHandler(awsapi.Config{Services: services})
		})
	}
}

func TestCompatibilityPage(t *testing.T) {
	h := newHouse(t)
	services := h.services()
	services[0].Notes = []awsapi.Note{{Operation: "Verify", Text: "second"}, {Operation: "Sign", Text: "first"}}
	page := awsapi.Compatibility(services)
	for _, want := range []string{
		"## kms\n", "| Sign | yes |", "| Encrypt | not yet |", "| Shape | yes |", "4 of 5 operations exist",
		"- **Sign**: first\n- **Verify**: second\n\n## keyturn\n", "## keyturn\n", "signed for `keyturn` or `kms`", "| Greet | yes |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing in\n%s", want, page)
		}
	}
}

// BenchmarkHandler is a signed Sign request through everything but the network
// and the cryptography: signature, decoding, audit record, answer.
func BenchmarkHandler(b *testing.B) {
	h := newHouse(b)
	answer := &SignResponse{KeyId: "k", Signature: make([]byte, 71), SigningAlgorithm: SigningAlgorithmSpecEcdsaSha256}
	h.sign = func(context.Context, *access.Call, *SignRequest) (*SignResponse, error) { return answer, nil }
	h.handler = awsapi.NewHandler(awsapi.Config{Guard: h.guard, Services: h.services()})
	r := h.signAs(request("TrentService.Sign", goodSign), goodSign, testKeyID, "", "kms")
	body := strings.NewReader(goodSign)
	r.Body = io.NopCloser(body)
	w := &discard{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(goodSign)
		h.handler.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
