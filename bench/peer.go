package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/go-json-experiment/json"
)

// errNotOffered says that a server has no such operation; the table leaves the
// line out.
var errNotOffered = errors.New("the server does not offer this operation")

// peer is a server under measurement.
type peer struct {
	name string
	pid  int // 0: not on this machine, its CPU cannot be seen
	load func(ctx context.Context, op string) (*load, error)
	stop func()
}

func (p *peer) cpu() (time.Duration, error) {
	if p.pid == 0 {
		return 0, nil
	}
	return cpuTime(p.pid)
}

func startAll(ctx context.Context, o options, dir string) ([]*peer, error) {
	limit, err := startLimit(ctx)
	if err != nil {
		return nil, err
	}
	peers := []*peer{limit}
	own, err := startKeyturn(ctx, o.keyturn, filepath.Join(dir, "ops"))
	if err != nil {
		return peers, err
	}
	peers = append(peers, own.peer())
	if o.openbao != "" {
		p, err := startOpenBao(ctx, o.openbao, dir)
		if err != nil {
			return peers, err
		}
		peers = append(peers, p)
	}
	if o.endpoint != "" {
		p, err := endpointPeer(ctx, o.endpoint)
		if err != nil {
			return peers, err
		}
		peers = append(peers, p)
	}
	return peers, nil
}

func build(ctx context.Context, dir string) (string, error) {
	name := filepath.Join(dir, "keyturn")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", name, "./cmd/keyturn")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building keyturn (run this from the root of the repository): %w\n%s", err, out)
	}
	return name, nil
}

// process starts a program and returns how to stop it and wait for its end.
func process(cmd *exec.Cmd) (stop func(), err error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}, nil
}

func startLimit(ctx context.Context) (*peer, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-limit-server", addr)
	stop, err := process(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting the limit server: %w", err)
	}
	if err := answers(ctx, addr); err != nil {
		stop()
		return nil, fmt.Errorf("starting the limit server: %w", err)
	}
	return &peer{name: "limit", pid: cmd.Process.Pid, stop: stop, load: func(_ context.Context, op string) (*load, error) {
		target, body, err := kmsRequest(op, "alias/bench")
		if err != nil {
			return nil, err
		}
		return &load{addr: addr, requests: [][]byte{plainRequest(addr, "/", map[string]string{
			"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target,
		}, body)}}, nil
	}}, nil
}

// keyturn is a keyturn server of this tree, with a data folder of its own.
type keyturn struct {
	addr string
	pid  int
	sdk  *kms.Client
	aws  aws.Config
	stop func()
	took time.Duration // from start to the first answer
}

func startKeyturn(ctx context.Context, binary, data string) (*keyturn, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	envFile := filepath.Join(data, "keyturn.env")
	_ = os.Remove(envFile)
	began := time.Now()
	cmd := exec.Command(binary, "server", "--listen", addr, "--data", data, "--env-file", envFile)
	cmd.Stdout = io.Discard
	stop, err := process(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting keyturn: %w", err)
	}
	k := &keyturn{addr: addr, pid: cmd.Process.Pid, stop: stop}
	if err := answers(ctx, addr); err != nil {
		stop()
		return nil, fmt.Errorf("starting keyturn: %w: %s", err, cmd.Stderr)
	}
	k.took = time.Since(began)
	env, err := waitForEnv(ctx, envFile)
	if err != nil {
		stop()
		return nil, err
	}
	k.aws = aws.Config{
		Region:       env["AWS_REGION"],
		Credentials:  credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
		BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
	}
	k.sdk = kms.NewFromConfig(k.aws)
	return k, nil
}

func waitForEnv(ctx context.Context, name string) (map[string]string, error) {
	for range 500 {
		if text, err := os.ReadFile(name); err == nil {
			env := map[string]string{}
			for line := range strings.SplitSeq(string(text), "\n") {
				if key, value, ok := strings.Cut(line, "="); ok {
					env[key] = value
				}
			}
			return env, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("keyturn wrote no %s within 5 s", name)
}

func (k *keyturn) peer() *peer {
	return &peer{name: "keyturn", pid: k.pid, stop: k.stop, load: func(ctx context.Context, op string) (*load, error) {
		return signedLoad(ctx, k.addr, k.aws, k.sdk, op)
	}}
}

func endpointPeer(ctx context.Context, endpoint string) (*peer, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("-endpoint %q: the load generator speaks http:// only", endpoint)
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	cfg.BaseEndpoint = &endpoint
	sdk := kms.NewFromConfig(cfg)
	return &peer{name: "endpoint", stop: func() {}, load: func(ctx context.Context, op string) (*load, error) {
		return signedLoad(ctx, u.Host, cfg, sdk, op)
	}}, nil
}

// kinds says which key an operation needs.
var kinds = map[string]struct {
	spec  types.KeySpec
	usage types.KeyUsageType
}{
	"sign-p256":    {types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify},
	"sign-rsa2048": {types.KeySpecRsa2048, types.KeyUsageTypeSignVerify},
	"mac-256":      {types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac},
	"encrypt-64":   {types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt},
	"datakey-256":  {types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt},
}

// kmsRequest is the wire form of one operation.
func kmsRequest(op, key string) (target string, body []byte, err error) {
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 64))
	in := map[string]string{"KeyId": key}
	op, _, _ = strings.Cut(op, "+")
	switch op {
	case "sign-p256":
		target, in["Message"], in["SigningAlgorithm"] = "Sign", text, "ECDSA_SHA_256"
	case "sign-rsa2048":
		target, in["Message"], in["SigningAlgorithm"] = "Sign", text, "RSASSA_PKCS1_V1_5_SHA_256"
	case "mac-256":
		target, in["Message"], in["MacAlgorithm"] = "GenerateMac", text, "HMAC_SHA_256"
	case "encrypt-64":
		target, in["Plaintext"] = "Encrypt", text
	case "datakey-256":
		target, in["KeySpec"] = "GenerateDataKey", "AES_256"
	default:
		return "", nil, fmt.Errorf("operation %q is not one of sign-p256, sign-rsa2048, mac-256, encrypt-64, datakey-256", op)
	}
	body, err = json.Marshal(in, json.Deterministic(true))
	return "TrentService." + target, body, err
}

// signedLoad makes a key with an alias for op and signs requests for it.
func signedLoad(ctx context.Context, addr string, cfg aws.Config, sdk *kms.Client, op string) (*load, error) {
	base, under, _ := strings.Cut(op, "+")
	kind, ok := kinds[base]
	if !ok {
		return nil, errNotOffered
	}
	key, err := sdk.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kind.spec, KeyUsage: kind.usage})
	if err != nil {
		return nil, err
	}
	alias := "alias/bench-" + base + "-" + rand.Text()[:8]
	if _, err := sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		return nil, err
	}
	target, body, err := kmsRequest(op, alias)
	if err != nil {
		return nil, err
	}
	if under != "" {
		k := &keyturn{addr: addr, aws: cfg, sdk: sdk}
		if cfg, err = k.restrict(ctx, under, *key.KeyMetadata.KeyId, strings.TrimPrefix(target, "TrentService.")); err != nil {
			return nil, err
		}
		if under == "grants" { // a grant speaks of the key, however it is named
			if _, body, err = kmsRequest(op, *key.KeyMetadata.Arn); err != nil {
				return nil, err
			}
		}
	}
	return signRequests(ctx, addr, cfg, target, body)
}

// signRequests signs the same request at 64 moments, so that the server sees
// different signatures, all valid for some minutes.
func signRequests(ctx context.Context, addr string, cfg aws.Config, target string, body []byte) (*load, error) {
	l := &load{addr: addr}
	for i := range 64 {
		one, err := signAt(ctx, addr, cfg, target, body, time.Now().Add(time.Duration(-i)*time.Second))
		if err != nil {
			return nil, err
		}
		l.requests = append(l.requests, one)
	}
	return l, nil
}

// signAt signs one request.
func signAt(ctx context.Context, addr string, cfg aws.Config, target string, body []byte, at time.Time) ([]byte, error) {
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(hash[:]), "kms", cfg.Region, at); err != nil {
		return nil, err
	}
	headers := map[string]string{}
	for name := range req.Header {
		headers[name] = req.Header.Get(name)
	}
	return plainRequest(addr, "/", headers, body), nil
}

// plainRequest is a whole HTTP/1.1 request as bytes.
func plainRequest(addr, path string, headers map[string]string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", path, addr, len(body))
	for name, value := range headers {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// freeAddress asks the system for a port nobody uses. Somebody may take it
// before the server does; then the server says so and the run ends.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers waits until something accepts connections on addr.
func answers(ctx context.Context, addr string) error {
	for range 2000 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("nothing answers on %s after 10 s", addr)
}
