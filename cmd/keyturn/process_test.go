//go:build unix

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/go-json-experiment/json"
)

// built is the binary under test, made once for the whole run, in a folder that
// is removed when this process ends, however it ends. Servers that are still
// running then are killed.
var built = sync.OnceValues(func() (*build, error) {
	dir, err := os.MkdirTemp("", "keyturn-test-")
	if err != nil {
		return nil, err
	}
	// The watcher's standard input ends with this process.
	watcher := exec.Command("/bin/sh", "-c", `trap '' INT TERM PIPE; cat >/dev/null
for p in "$1"/pid-*; do [ -e "$p" ] && kill -9 "${p##*pid-}"; done; rm -rf "$1"`, "sh", dir)
	watched, err := watcher.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := watcher.Start(); err != nil {
		return nil, err
	}
	b := &build{dir: dir, binary: filepath.Join(dir, "keyturn"), watched: watched}
	if out, err := exec.Command("go", "build", "-o", b.binary, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building keyturn: %w\n%s", err, out)
	}
	return b, nil
})

type build struct {
	dir, binary string
	watched     io.WriteCloser // kept open
}

func binary(t testing.TB) *build {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// process is a server in a process of its own, on a data folder that outlives it.
type process struct {
	t       testing.TB
	args    []string
	dir     string // the test's: data and env file are in it
	data    string
	addr    string
	limit   string // a shell command that limits the process before it starts, as "ulimit -f 64"
	cmd     *exec.Cmd
	log     *output
	stdout  *output
	exited  chan struct{} // closed when cmd has ended
	env     map[string]string
	https   bool
	starts  int
	startup time.Duration // of the last start, until it was ready
}

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// newProcess describes a server with args besides address, data and env file; it
// is not started. It listens on the same free port at every start, so that
// clients find it again.
func newProcess(t testing.TB, args ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	p := &process{t: t, args: args, dir: dir, data: filepath.Join(dir, "data"), addr: l.Addr().String(), log: &output{}, stdout: &output{}}
	t.Cleanup(p.kill)
	return p
}

// startServer starts a server and returns when it is ready.
func startServer(t testing.TB, args ...string) *process {
	t.Helper()
	p := newProcess(t, args...)
	p.start()
	return p
}

func (p *process) envFile() string { return filepath.Join(p.dir, "keyturn.env") }

func (p *process) endpoint() string {
	if p.https {
		return "https://" + p.addr
	}
	return "http://" + p.addr
}

// launch starts the process and does not wait until it serves.
func (p *process) launch() {
	p.t.Helper()
	b := binary(p.t)
	args := append([]string{"server", "--listen", p.addr, "--data", p.data, "--env-file", p.envFile()}, p.args...)
	if p.limit == "" {
		p.cmd = exec.Command(b.binary, args...)
	} else {
		p.cmd = exec.Command("/bin/sh", append([]string{"-c", p.limit + `; exec "$0" "$@"`, b.binary}, args...)...)
	}
	p.cmd.Env = plainEnvironment()
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.log
	p.starts++
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("starting the server: %v", err)
	}
	mark := filepath.Join(b.dir, "pid-"+strconv.Itoa(p.cmd.Process.Pid))
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		p.t.Error(err)
	}
	p.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // ProcessState tells
		_ = os.Remove(mark)
	}(p.cmd, p.exited)
}

// start starts the process and returns when /readyz says yes and the env file is there.
func (p *process) start() {
	p.t.Helper()
	began := time.Now()
	p.launch()
	for deadline := began.Add(60 * time.Second); ; {
		if p.ready() {
			p.startup = time.Since(began)
			return
		}
		select {
		case <-p.exited:
			p.t.Fatalf("the server ended at once (%s):\n%s", p.cmd.ProcessState, tail(p.log.String()))
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the server was not ready within a minute:\n%s", tail(p.log.String()))
		}
	}
}

// ready also reads the env file.
func (p *process) ready() bool {
	text, err := os.ReadFile(p.envFile())
	if err != nil {
		return false
	}
	p.env = map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		p.env[name] = value
	}
	p.https = strings.HasPrefix(p.env["AWS_ENDPOINT_URL"], "https://")
	resp, err := probe.Get(p.endpoint() + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// running reports whether the process is alive.
func (p *process) running() bool {
	if p.exited == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (p *process) kill() {
	if p.exited == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("sending SIGTERM: %v\n%s", err, tail(p.log.String()))
	}
	return p.wait(30 * time.Second)
}

func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.t.Fatalf("the server did not end within %s:\n%s", limit, tail(p.log.String()))
	}
	return p.cmd.ProcessState.ExitCode()
}

// run runs a command of the same binary with the server's environment, and returns
// its exit code.
func (p *process) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	return p.command(binary(p.t).binary, args)
}

// command runs any program with the server's environment.
func (p *process) command(name string, args []string, env ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = plainEnvironment()
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = p.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatalf("running %s: %v", name, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// plainEnvironment is ours without what would configure an AWS client or Keyturn.
func plainEnvironment() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "KEYTURN_") && !strings.HasPrefix(strings.ToLower(v), "http") {
			env = append(env, v)
		}
	}
	return append(env, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
}

// config is what the AWS SDK needs to reach the server with the env file's credentials.
func (p *process) config(httpClient aws.HTTPClient) aws.Config {
	return aws.Config{
		Region: p.env["AWS_REGION"], BaseEndpoint: aws.String(p.endpoint()), HTTPClient: httpClient,
		Credentials: credentials.NewStaticCredentialsProvider(p.env["AWS_ACCESS_KEY_ID"], p.env["AWS_SECRET_ACCESS_KEY"], ""),
	}
}

func (p *process) kms() *kms.Client { return kms.NewFromConfig(p.config(probe)) }

// refusal is an answer other than 200.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// native does one of Keyturn's own operations once. out may be nil.
func (p *process) native(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req := p.request(ctx, "Keyturn."+operation, body)
	if err := p.sign(req, body, "keyturn", time.Now()); err != nil {
		return err
	}
	resp, err := probe.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &refusal{resp.StatusCode, string(answer)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// request is unsigned.
func (p *process) request(ctx context.Context, target string, body []byte) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint()+"/", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	return req
}

func (p *process) sign(req *http.Request, body []byte, service string, at time.Time) error {
	hash := sha256.Sum256(body)
	c := aws.Credentials{AccessKeyID: p.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: p.env["AWS_SECRET_ACCESS_KEY"]}
	return v4.NewSigner().SignHTTP(context.Background(), c, req, hex.EncodeToString(hash[:]), service, p.env["AWS_REGION"], at)
}

// probe is the HTTP client of the tests. It trusts any certificate; whether a
// certificate is right is tested with the AWS CLI.
var probe = newHTTPClient()

func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 20 * time.Second,
		},
	}
}

// answered reports whether err is an answer of the server and not the lack of one.
func answered(err error) bool {
	var status interface{ HTTPStatusCode() int }
	var own *refusal
	return errors.As(err, &status) && status.HTTPStatusCode() != 0 || errors.As(err, &own)
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
