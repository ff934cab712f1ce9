//go:build unix

// Package interop_test runs clients that other people wrote against the real
// keyturn process: SDKs of AWS in four languages, the AWS CLI, and libraries
// that stand on them. It is a module of its own, so that what it needs never
// enters the product's go.mod.
//
// One server serves all of them at once; each has an account of its own, so
// that they do not see each other. `make interop` builds the binary and names
// it and its hash in the environment: go's test cache knows the environment and
// this module's files, not the binary, so unchanged code stays cached and
// changed code does not.
package interop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const region = "us-east-1"

// house is the server under test, for the whole run, and tokenFile holds the
// token of a web identity that it takes.
var (
	house     *server
	tokenFile string
)

type server struct {
	endpoint string
	alive    io.Closer  // its standard input: the server ends when this process does
	ended    chan error // of the process, once
	log      *output
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyturn-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	config, token, err := identityProvider(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	tokenFile = token
	if house, err = startServer(dir, "--config", config); err != nil {
		fmt.Fprintln(os.Stderr, "starting the server:", err)
		return 1
	}
	code := 1
	if err := errors.Join(prepareCallers(), prepareExamples()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := house.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: the server:", err)
		code = 1
	}
	return code
}

// binary is the keyturn to test, once it is what its hash says.
func binary() (string, error) {
	name, want := os.Getenv("KEYTURN_BINARY"), os.Getenv("KEYTURN_BINARY_SHA256")
	if name == "" || want == "" {
		return "", errors.New("KEYTURN_BINARY and KEYTURN_BINARY_SHA256 name no binary: run 'make interop' in the folder above")
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != want {
		return "", fmt.Errorf("%s is not the binary of KEYTURN_BINARY_SHA256: run 'make interop' again", name)
	}
	return name, nil
}

// The shell ends the server and removes its folder when its own standard input
// ends: when stop closes it, and when this process ends in any other way.
const underWatch = `dir=$1; shift; exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ cat <&3 >/dev/null; kill $server; } 2>/dev/null &
wait $server; code=$?; rm -rf "$dir"; exit $code`

// startServer starts a development server in dir and returns once it answers.
func startServer(dir string, more ...string) (*server, error) {
	name, err := binary()
	if err != nil {
		return nil, err
	}
	envFile := filepath.Join(dir, "keyturn.env")
	args := []string{"-c", underWatch, "sh", dir, name, "server", "--dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--env-file", envFile}
	for i := range clientNames {
		r := root(i)
		args = append(args, "--dev-credential", r.accessKeyID+":"+r.secret+":"+r.account)
	}
	s := &server{log: &output{}, ended: make(chan error, 1)}
	shell := exec.Command("/bin/sh", append(args, more...)...)
	shell.Env, shell.Stderr = plainEnvironment(), s.log
	if s.alive, err = shell.StdinPipe(); err != nil {
		return nil, err
	}
	if err := shell.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- shell.Wait() }()
	// The file is written whole, once the server answers.
	for deadline := time.After(60 * time.Second); ; {
		text, err := os.ReadFile(envFile)
		if err == nil {
			_, rest, _ := strings.Cut(string(text), "AWS_ENDPOINT_URL=")
			s.endpoint, _, _ = strings.Cut(rest, "\n")
			return s, nil
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("it ended at once: %w:\n%s", err, s.log)
		case <-deadline:
			_ = s.alive.Close()
			return nil, fmt.Errorf("no environment file within a minute: %w\n%s", err, s.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the server, which must end well and have logged no error: what a
// client can provoke is the client's error and not the server's.
func (s *server) stop() error {
	_ = s.alive.Close()
	if err := <-s.ended; err != nil {
		return fmt.Errorf("%w:\n%s", err, s.log)
	}
	if strings.Contains(s.log.String(), "level=ERROR") {
		return fmt.Errorf("it logged an error:\n%s", s.log)
	}
	return nil
}

// plainEnvironment is ours without what would configure an AWS client, Keyturn or a proxy.
func plainEnvironment() (env []string) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(strings.ToUpper(v), "=")
		if !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "KEYTURN_") && !strings.HasSuffix(name, "_PROXY") {
			env = append(env, v)
		}
	}
	return append(env, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
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

// need fails the test on a machine without the program: a test that is skipped
// proves nothing.
func need(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("this test needs %s: run 'make deps', or install it (Debian: apt-get install %s)", program, pkg)
	}
}
