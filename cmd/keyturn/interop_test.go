//go:build unix

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/keyturn/keyturn/awsapi"
)

// need fails the test on a machine without the program: a test that is skipped
// proves nothing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("this test needs %s: install it (Debian: apt-get install awscli curl)", name)
		}
	}
}

// refused sends a request and returns the error that it must be answered with.
func refused(t *testing.T, req *http.Request) (status int, code, message string) {
	t.Helper()
	resp, err := probe.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, "", string(text)
	}
	if err := json.Unmarshal(text, &body); err != nil {
		t.Errorf("%s: %v in %q", resp.Status, err, text)
	}
	return resp.StatusCode, body.Type, body.Message
}

// What is changed after it was signed, and what comes too late or too early, is
// refused and changes nothing.
func TestTamperedRequests(t *testing.T) {
	p := startServer(t)
	body := []byte(`{"Description":"signed"}`)
	replaceIn := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			was := r.Header.Get("Authorization")
			now := strings.Replace(was, from, to, 1)
			if was == now {
				panic(from + " is not in " + was)
			}
			r.Header.Set("Authorization", now)
		}
	}
	today := time.Now().UTC().Format("/20060102/")
	for name, test := range map[string]struct {
		at      time.Duration // when it was signed, from now
		tamper  func(*http.Request)
		code    string
		message string
	}{
		"body": {0, func(r *http.Request) {
			text := []byte(`{"Description":"forged"}`)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		}, "InvalidSignatureException", "does not match"},
		"operation":     {0, func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.ListKeys") }, "InvalidSignatureException", "does not match"},
		"a header more": {0, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "added") }, "", ""},
		"host":          {0, func(r *http.Request) { r.Host = "kms.us-east-1.amazonaws.com" }, "InvalidSignatureException", "does not match"},
		"date": {0, func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().UTC().Add(time.Minute).Format("20060102T150405Z"))
		}, "InvalidSignatureException", ""},
		"date of the scope": {0, replaceIn(today, "/20200101/"), "InvalidSignatureException", "Date in Credential scope"},
		"Region":            {0, replaceIn("/us-east-1/", "/eu-west-1/"), "InvalidSignatureException", "does not match"},
		"service":           {0, replaceIn("/kms/", "/s3/"), "InvalidSignatureException", "kms"},
		"signature":         {0, replaceIn("Signature=", "Signature=0"), "", ""},
		"replayed too late": {-6 * time.Minute, func(*http.Request) {}, "InvalidSignatureException", "Signature expired"},
		"ahead of time":     {6 * time.Minute, func(*http.Request) {}, "InvalidSignatureException", "Signature not yet current"},
		"nothing signed":    {0, func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException", "Missing Authentication Token"},
	} {
		t.Run(name, func(t *testing.T) {
			req := p.request(context.Background(), "TrentService.CreateKey", body)
			if err := p.sign(req, body, "kms", time.Now().Add(test.at)); err != nil {
				t.Fatal(err)
			}
			test.tamper(req)
			status, code, message := refused(t, req)
			if status != http.StatusBadRequest || test.code != "" && code != test.code || !strings.Contains(message, test.message) {
				t.Errorf("%d %s: %s; want %s with %q", status, code, message, test.code, test.message)
			}
		})
	}
	keys, err := p.kms().ListKeys(context.Background(), &kms.ListKeysInput{})
	if err != nil || len(keys.Keys) != 0 {
		t.Errorf("after refused requests there are %d keys, %v", len(keys.Keys), err)
	}
	// The same request as it was signed.
	req := p.request(context.Background(), "TrentService.CreateKey", body)
	if err := p.sign(req, body, "kms", time.Now()); err != nil {
		t.Fatal(err)
	}
	if status, code, message := refused(t, req); status != http.StatusOK {
		t.Errorf("a good request: %d %s: %s", status, code, message)
	}
}

// curl signs by itself.
func TestCurl(t *testing.T) {
	need(t, "curl")
	p := startServer(t)
	if _, err := p.kms().CreateKey(context.Background(), &kms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	curl := func(secret, region string, more ...string) string {
		args := append([]string{
			"--silent", "--aws-sigv4", "aws:amz:" + region + ":kms", "--user", p.env["AWS_ACCESS_KEY_ID"] + ":" + secret,
			"-H", "Content-Type: application/x-amz-json-1.1", "-H", "X-Amz-Target: TrentService.ListKeys", "-d", "{}",
		}, more...)
		stdout, stderr, _ := p.command("curl", append(args, p.endpoint()+"/"))
		return stdout + stderr
	}
	secret := p.env["AWS_SECRET_ACCESS_KEY"]
	if out := curl(secret, "us-east-1"); !strings.Contains(out, `"KeyArn":"arn:aws:kms:us-east-1:000000000000:key/`) {
		t.Errorf("%s", out)
	}
	if out := curl(secret, "ap-south-1"); !strings.Contains(out, `"Keys":[]`) {
		t.Errorf("another Region: %s", out)
	}
	if out := curl("wrong", "us-east-1"); !strings.Contains(out, "InvalidSignatureException") {
		t.Errorf("a wrong secret: %s", out)
	}
}

// A link that the SDK has presigned does what it was signed for, while it lasts.
func TestPresignedLink(t *testing.T) {
	p := startServer(t)
	body := []byte("{}")
	hash := sha256.Sum256(body)
	send := func(at time.Time, tamper func(string) string) (int, string, string) {
		req := p.request(context.Background(), "TrentService.ListKeys", body)
		query := req.URL.Query()
		query.Set("X-Amz-Expires", "60")
		req.URL.RawQuery = query.Encode()
		creds, err := p.config(nil).Credentials.Retrieve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		link, headers, err := v4.NewSigner().PresignHTTP(context.Background(), creds, req, hex.EncodeToString(hash[:]), "kms", "us-east-1", at)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := http.NewRequestWithContext(context.Background(), http.MethodPost, tamper(link), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range headers {
			signed.Header[name] = values
		}
		return refused(t, signed)
	}
	same := func(link string) string { return link }
	if status, code, message := send(time.Now(), same); status != http.StatusOK || !strings.Contains(message, `"Keys"`) {
		t.Errorf("%d %s: %s", status, code, message)
	}
	if _, code, message := send(time.Now().Add(-2*time.Minute), same); code != "InvalidSignatureException" || !strings.Contains(message, "expired") {
		t.Errorf("after its time: %s: %s", code, message)
	}
	longer := func(link string) string { return strings.Replace(link, "X-Amz-Expires=60", "X-Amz-Expires=600", 1) }
	if _, code, message := send(time.Now(), longer); code != "InvalidSignatureException" || !strings.Contains(message, "does not match") {
		t.Errorf("made to last longer: %s: %s", code, message)
	}
}

// TLS with a certificate made by the server, which the environment file names.
func TestTLS(t *testing.T) {
	t.Parallel()
	p := startServer(t, "--tls-self-signed")
	resp, err := probe.Get(p.endpoint() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("%s over %s", resp.Proto, tls.VersionName(resp.TLS.Version))
	}
	need(t, "aws")
	if p.env["AWS_CA_BUNDLE"] == "" || !strings.HasPrefix(p.env["AWS_ENDPOINT_URL"], "https://127.0.0.1:") {
		t.Errorf("the environment file says %v", p.env["AWS_ENDPOINT_URL"])
	}
	// Before 2.13 the AWS CLI knows no AWS_ENDPOINT_URL.
	list := []string{"--endpoint-url", p.env["AWS_ENDPOINT_URL"], "kms", "list-keys"}
	if stdout, stderr, code := p.command("aws", list); code != 0 {
		t.Errorf("the AWS CLI over TLS: %d %s%s", code, stdout, stderr)
	}
	foreign, _, err := awsapi.SelfSigned([]string{"127.0.0.1"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "foreign.crt"), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := p.command("aws", list, "AWS_CA_BUNDLE=foreign.crt"); code == 0 || !strings.Contains(stderr, "SSL validation failed") {
		t.Errorf("with another certificate than the server's: %d %s", code, stderr)
	}
	if stdout, stderr, code := p.run("keys"); code != 0 {
		t.Errorf("keyturn keys over TLS: %d %s%s", code, stdout, stderr)
	}
	_, err = tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	certificate, err := os.ReadFile(p.env["AWS_CA_BUNDLE"])
	if err != nil {
		t.Fatal(err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.start()
	if again, err := os.ReadFile(p.env["AWS_CA_BUNDLE"]); err != nil || !bytes.Equal(again, certificate) {
		t.Errorf("a restart made another certificate: %v", err)
	}
}

// Suites written for other stand-ins bring credentials, accounts and Regions of their own.
func TestDevCredentials(t *testing.T) {
	p := startServer(t, "--dev", "--account", "123456789012", "--dev-credential", "test:test", "--dev-credential", "second:secret:210987654321")
	ctx := context.Background()
	client := func(id, secret, region string) *kms.Client {
		p.env["AWS_ACCESS_KEY_ID"], p.env["AWS_SECRET_ACCESS_KEY"], p.env["AWS_REGION"] = id, secret, region
		return p.kms()
	}
	if p.env["AWS_ACCESS_KEY_ID"] != "test" || p.env["AWS_SECRET_ACCESS_KEY"] != "test" {
		t.Errorf("the environment file does not name the first credential")
	}
	first, err := client("test", "test", "eu-central-1").CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:kms:eu-central-1:123456789012:key/"; !strings.HasPrefix(*first.KeyMetadata.Arn, want) {
		t.Errorf("%s, want %s…", *first.KeyMetadata.Arn, want)
	}
	second, err := client("second", "secret", "mx-central-1").CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:kms:mx-central-1:210987654321:key/"; !strings.HasPrefix(*second.KeyMetadata.Arn, want) {
		t.Errorf("%s, want %s…", *second.KeyMetadata.Arn, want)
	}
	for name, test := range map[string]struct {
		client *kms.Client
		keys   int
	}{
		"home":                         {client("test", "test", "eu-central-1"), 1},
		"another Region":               {client("test", "test", "us-west-2"), 0},
		"the other account":            {client("second", "secret", "mx-central-1"), 1},
		"the first Region, as another": {client("second", "secret", "eu-central-1"), 0},
	} {
		out, err := test.client.ListKeys(ctx, &kms.ListKeysInput{})
		if err != nil || len(out.Keys) != test.keys {
			t.Errorf("%s: %v, want %d keys; %v", name, out, test.keys, err)
		}
	}
	_, err = client("second", "secret", "eu-central-1").DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: first.KeyMetadata.Arn})
	var denied smithy.APIError
	if !errors.As(err, &denied) || denied.ErrorCode() != "AccessDeniedException" {
		t.Errorf("a key of another account: %v", err)
	}
}

// SIGTERM under load: what has begun is answered, what is answered is on record,
// and the exit code is 0.
func TestTermination(t *testing.T) {
	p := startServer(t)
	ctx := context.Background()
	key, err := p.kms().CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecRsa4096, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	var signed atomic.Int64
	var load sync.WaitGroup
	started := make(chan struct{}, 1)
	for range 8 {
		sdk := kms.NewFromConfig(p.config(newHTTPClient()), func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
		load.Go(func() {
			for {
				_, err := sdk.Sign(ctx, &kms.SignInput{
					KeyId: key.KeyMetadata.KeyId, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecRsassaPssSha512,
				})
				if answered(err) {
					t.Errorf("an answer while it drains: %v", err)
				}
				if err != nil {
					return // nobody listens any more
				}
				if signed.Add(1) == 50 {
					started <- struct{}{}
				}
			}
		})
	}
	// One request is half sent when the signal comes.
	body := []byte(`{"Description":"slow"}`)
	req := p.request(ctx, "TrentService.CreateKey", body)
	if err := p.sign(req, body, "kms", time.Now()); err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	slow, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	whole := wire.Bytes()
	if _, err := slow.Write(whole[:len(whole)-5]); err != nil {
		t.Fatal(err)
	}
	<-started
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	load.Wait() // all have seen that the listener is closed
	if !p.running() {
		t.Error("it ended with a request half sent")
	}
	if _, err := slow.Write(whole[len(whole)-5:]); err != nil {
		t.Error(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(slow), req)
	if err != nil {
		t.Fatalf("the request that was half sent was cut off: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the request that was half sent: %s", resp.Status)
	}
	slow.Close()
	if code := p.wait(30 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, tail(p.log.String()))
	}
	onRecord := int64(0)
	files, _ := filepath.Glob(filepath.Join(p.data, "audit", "*.jsonl"))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		onRecord += int64(strings.Count(string(text), `"eventName":"Sign"`))
	}
	if onRecord != signed.Load() {
		t.Errorf("%d signatures are on record and %d were answered", onRecord, signed.Load())
	}
	t.Logf("%d signatures", onRecord)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := probe.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Health, metrics, and clients that send too much or too slowly.
func TestEdges(t *testing.T) {
	t.Parallel()
	p := startServer(t)
	closed := make(chan time.Duration, 1)
	slow, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	go func() { // a header that never ends
		began := time.Now()
		_, _ = io.WriteString(slow, "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		_ = slow.SetReadDeadline(began.Add(40 * time.Second))
		_, err := io.Copy(io.Discard, slow)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			closed <- 0
			return
		}
		closed <- time.Since(began)
	}()
	if _, err := p.kms().ListKeys(context.Background(), &kms.ListKeysInput{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready",
		"/metrics": `keyturn_requests_total{code="",operation="ListKeys",service="kms"} 1`,
	} {
		if status, body := get(t, p.endpoint()+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %s:\n%s", path, status, want, tail(body))
		}
	}
	large := []byte(`{"Message":"` + strings.Repeat("A", 2<<20) + `"}`)
	req := p.request(context.Background(), "TrentService.Sign", large)
	if err := p.sign(req, large, "kms", time.Now()); err != nil {
		t.Fatal(err)
	}
	if status, code, message := refused(t, req); status != http.StatusRequestEntityTooLarge || code == "" {
		t.Errorf("2 MiB: %d %s: %s", status, code, message)
	}
	if took := <-closed; took < 5*time.Second || took > 30*time.Second {
		t.Errorf("a header that never ends was borne for %s (0: for ever); the limit is 10 s", took)
	}
}

// The disk is full: what must be written fails, what was acknowledged is there
// afterwards, and what cannot go on says so.
func TestFullDisk(t *testing.T) {
	t.Run("no space", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Log("not root: no file system can be mounted; the limit on files below is the test")
			return
		}
		disk := t.TempDir()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk).CombinedOutput(); err != nil {
			t.Logf("no file system can be mounted (%v: %s); the limit on files below is the test", err, out)
			return
		}
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
				t.Errorf("unmounting: %v: %s", err, out)
			}
		})
		p := newProcess(t)
		p.data = filepath.Join(disk, "data")
		filler := filepath.Join(disk, "filler")
		testFullDisk(t, p, func() {
			f, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for size := 1 << 20; size > 0; size /= 2 {
				for err == nil {
					_, err = f.Write(make([]byte, size))
				}
				err = nil
			}
		}, func() {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("no file may grow", func(t *testing.T) {
		p := newProcess(t)
		p.limit = "ulimit -f 8192" // 4 MiB or 8 MiB, by shell
		testFullDisk(t, p, func() {}, func() { p.limit = "" })
	})
}

// testFullDisk makes keys until nothing can be written any more, hands the space
// back, and looks what is left.
func testFullDisk(t *testing.T, p *process, fill, free func()) {
	p.start()
	t.Cleanup(p.kill) // before the disk goes
	ctx := context.Background()
	sdk := kms.NewFromConfig(p.config(probe), func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	var made []string // acknowledged
	create := func() error {
		out, err := sdk.CreateKey(ctx, &kms.CreateKeyInput{
			KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, Description: aws.String(strings.Repeat("long ", 1000)),
		})
		if err == nil {
			made = append(made, *out.KeyMetadata.Arn)
		}
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	fill()
	var err error
	for range 20_000 {
		if err = create(); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("the disk was never full")
	}
	t.Logf("after %d keys: %v", len(made), err)
	var answer smithy.APIError
	switch {
	case !p.running():
		t.Errorf("it did not bear it:\n%s", tail(p.log.String()))
	case !answered(err) || !errors.As(err, &answer) || answer.ErrorFault() != smithy.FaultServer && !strings.Contains(answer.ErrorCode(), "Internal"):
		t.Errorf("a full disk is answered with %v", err)
	}
	free()
	// It goes on, or says that it does not.
	again := create()
	status, body := get(t, p.endpoint()+"/readyz")
	t.Logf("with space again: CreateKey: %v; /readyz: %d %s", again, status, strings.TrimSpace(body))
	if (again == nil) != (status == http.StatusOK) {
		t.Errorf("CreateKey answers %v and /readyz %d: %s", again, status, body)
	}
	p.stop() // it may be unable to end well; the next start must be well
	if text := p.log.String(); !strings.Contains(text, "level=ERROR") {
		t.Errorf("the log does not say what is wrong:\n%s", tail(text))
	}
	p.start()
	if err := create(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	for _, key := range made {
		_, err := p.kms().Sign(ctx, &kms.SignInput{KeyId: &key, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		if err != nil {
			t.Errorf("an acknowledged key is lost: %v", err)
			break
		}
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if stdout, stderr, code := p.run("audit", "verify", "--data", p.data); code != 0 {
		t.Errorf("audit verify: %d\n%s%s", code, stdout, stderr)
	}
}
