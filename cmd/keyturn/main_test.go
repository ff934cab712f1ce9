package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/server"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// The test binary is the command itself, under its own name in scripts and with
// serverProcess set for what starts itself again.
func TestMain(m *testing.M) {
	if os.Getenv(serverProcess) != "" {
		os.Exit(run())
	}
	testscript.Main(m, map[string]func(){"keyturn": func() { os.Exit(run()) }})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// No credential, profile or server of the machine may leak in.
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			env.Values["servers"] = &servers{}
			s := env.Values["servers"].(*servers)
			env.Defer(func() {
				for name := range s.running {
					if err := s.stop(name, syscall.SIGTERM); err != nil {
						t.Errorf("a server at the end of a script: %v", err)
					}
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serverup": serverUp, "serverdown": serverDown, "jsonget": jsonGet, "flipbyte": flipByte, "eventually": eventually, "code": code,
		},
	})
}

// servers are those that a script has started.
type servers struct {
	running map[string]*process // environment file → server
}

type process struct {
	cmd    *exec.Cmd
	log    bytes.Buffer
	exited chan error
}

func (s *servers) stop(name string, sig os.Signal) error {
	p := s.running[name]
	delete(s.running, name)
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case err := <-p.exited:
		if err != nil {
			return errors.New(err.Error() + "\n" + p.log.String())
		}
		return nil
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		return errors.New("it did not stop\n" + p.log.String())
	}
}

// serverup [-env NAME] FLAGS… starts `keyturn server FLAGS`, on a free port unless
// they say otherwise, waits until it is ready and points the script at it.
func serverUp(ts *testscript.TestScript, neg bool, args []string) {
	name := "env"
	if len(args) > 1 && args[0] == "-env" {
		name, args = args[1], args[2:]
	}
	name = ts.MkAbs(name)
	listens := false
	for _, arg := range args {
		listens = listens || arg == "--listen"
	}
	if !listens {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	path, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "keyturn"))
	ts.Check(err)
	p := &process{exited: make(chan error, 1)}
	p.cmd = exec.Command(path, append([]string{"server", "--env-file", name}, args...)...)
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"), "PATH=" + ts.Getenv("PATH")}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	_ = os.Remove(name)
	ts.Check(p.cmd.Start())
	go func() { p.exited <- p.cmd.Wait() }()
	s := ts.Value("servers").(*servers)
	if s.running == nil {
		s.running = map[string]*process{}
	}
	s.running[name] = p
	deadline := time.Now().Add(30 * time.Second)
	for {
		if env, err := readEnvFile(name); err == nil && ready(env) {
			for k, v := range env {
				ts.Setenv(k, v)
			}
			ts.Setenv("ADDRESS", strings.TrimPrefix(env["AWS_ENDPOINT_URL"], "http://"))
			return
		}
		select {
		case err := <-p.exited:
			delete(s.running, name)
			ts.Fatalf("the server did not start: %v\n%s", err, p.log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the server is not ready\n%s", p.log.String())
		}
	}
}

// ready asks the server whose environment file it is, trusting the certificate that the file names.
func ready(env map[string]string) bool {
	transport := &http.Transport{DisableKeepAlives: true}
	if bundle := env["AWS_CA_BUNDLE"]; bundle != "" {
		roots := x509.NewCertPool()
		text, err := os.ReadFile(bundle)
		if err != nil || !roots.AppendCertsFromPEM(text) {
			return false
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(env["AWS_ENDPOINT_URL"] + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// serverdown [-env NAME] stops a server with SIGTERM; it must exit with 0.
func serverDown(ts *testscript.TestScript, neg bool, args []string) {
	name := "env"
	if len(args) == 2 && args[0] == "-env" {
		name = args[1]
	}
	ts.Check(ts.Value("servers").(*servers).stop(ts.MkAbs(name), syscall.SIGTERM))
}

// jsonget FILE PATH [VALUE] reads a member (a.b.0.c; len is the length of a list) of the
// JSON document in FILE. With VALUE it must be that; else it goes to $VALUE.
func jsonGet(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: jsonget FILE PATH [VALUE]")
	}
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &v); err != nil {
		ts.Fatalf("%s is no JSON document: %v", args[0], err)
	}
	for part := range strings.SplitSeq(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			if part == "len" {
				v = float64(len(x))
			} else if i, err := strconv.Atoi(part); err == nil && i < len(x) {
				v = x[i]
			} else {
				v = nil
			}
		default:
			if part != "" {
				v = nil
			}
		}
	}
	var got string
	switch x := v.(type) {
	case string:
		got = x
	case nil:
		got = "null"
	default:
		b, err := json.Marshal(x)
		ts.Check(err)
		got = string(b)
	}
	switch {
	case len(args) == 2 && got == "null":
		ts.Fatalf("%s has no %s", args[0], args[1])
	case len(args) == 2:
		ts.Setenv("VALUE", got)
	case (got == args[2]) == neg:
		ts.Fatalf("%s: %s is %q", args[0], args[1], got)
	}
}

// flipbyte FILE-PATTERN TEXT changes one letter of the first TEXT in a file, as an attacker would.
func flipByte(ts *testscript.TestScript, neg bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		ts.Check(err)
		if at := bytes.Index(text, []byte(args[1])); at >= 0 {
			text[at] ^= 1
			ts.Check(os.WriteFile(name, text, 0o600))
			return
		}
	}
	ts.Fatalf("no file %s holds %q", args[0], args[1])
}

// eventually COMMAND… runs a command of ours again and again until it succeeds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		if err := ts.Exec(args[0], args[1:]...); (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("it never came to that: %s", strings.Join(args, " "))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// code N ARGS… runs keyturn ARGS, which must end with exit code N, with an error and no stack trace.
func code(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("keyturn", args[1:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s (%v)", got, args[0], err)
	}
	said := ts.ReadFile("stderr")
	if strings.Contains(said, "goroutine ") || strings.Contains(said, "panic") {
		ts.Fatalf("a stack trace")
	}
}

// Every member of a policy can be set by a flag, or the flags and the document have drifted.
func TestMembersHaveFlags(t *testing.T) {
	has := map[string]bool{"alias": true} // it is the argument
	for _, f := range memberFlags {
		has[f.member] = true
	}
	members := reflect.TypeFor[rotation.Policy]()
	for i := range members.NumField() {
		name, _, _ := strings.Cut(members.Field(i).Tag.Get("yaml"), ",")
		if !has[name] {
			t.Errorf("policy member %s has no flag", name)
		}
		delete(has, name)
	}
	for name := range has {
		t.Errorf("a flag sets %s, which is no member of a policy", name)
	}
}

// The documents are what the code prints now.
func TestDocumentsAreCurrent(t *testing.T) {
	for name, args := range map[string][]string{"cli.md": {"docs", "cli"}, "compatibility.md": {"docs", "compatibility"}} {
		var out bytes.Buffer
		root := newRoot(&out, io.Discard)
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("docs/%s is not current: go generate ./cmd/keyturn", name)
		}
	}
}

// The manifest that the documentation shows is one.
func TestExampleManifest(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keyturn.yaml")
	if err := os.WriteFile(name, []byte(exampleManifest), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := readManifest(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.entries) != 2 || m.entries[0].policy.Name != "payments" || m.entries[0].policy.Freeze[0].Reason != "year-end" {
		t.Errorf("read as %+v", m.entries)
	}
	if len(m.identities) != 3 || m.identities[0].policies["sign"] == "" || m.identities[1].tags["team"] != "payments" || m.identities[2].maxSession != 7200 {
		t.Errorf("identities read as %+v", m.identities)
	}
}

// Every command refuses what it does not know, with exit code 2 and a hint, and has a line of help.
func TestEveryCommandRefusesNonsense(t *testing.T) {
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		if cmd.Short == "" {
			t.Errorf("%s has no help", cmd.CommandPath())
		}
		for _, bad := range [][]string{{"--no-such-flag"}, {"one", "two", "three", "four"}} {
			root := newRoot(io.Discard, io.Discard)
			root.SilenceErrors = true
			root.SetArgs(append(append([]string{}, path...), bad...))
			err := root.Execute()
			var with *cliError
			if exitCode(err) != exitUsage || !errors.As(err, &with) || with.hint == "" {
				t.Errorf("%s %s: %v, code %d", cmd.CommandPath(), strings.Join(bad, " "), err, exitCode(err))
			}
		}
		for _, c := range cmd.Commands() {
			if c.Name() != "help" {
				walk(c, append(append([]string{}, path...), c.Name()))
			}
		}
	}
	walk(newRoot(io.Discard, io.Discard), nil)
}

// What other people wrote cannot draw on the terminal.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"alias/x": "alias/x", "Grüße, 世界 ✓": "Grüße, 世界 ✓",
		"a\x1b[2Jb\r\nc\x00\x7f\u202e\u009b": "a\uFFFD[2Jb\uFFFD\uFFFDc\uFFFD\uFFFD\uFFFD\uFFFD",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// The YAML that the documents show is read by the code that it is for.
func TestDocumentsShowWhatIsRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sign.json", "most.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"Statement": {"Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := map[string]int{}
	for _, name := range []string{"access.md", "server.md"} {
		text, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "```yaml\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			file := filepath.Join(dir, "block.yaml")
			if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			first := ""
			for line := range strings.Lines(block) {
				if !strings.HasPrefix(line, "#") {
					first, _, _ = strings.Cut(line, ":")
					break
				}
			}
			switch first {
			case "groups", "roles", "users":
				_, err = readManifest(file)
			case "spec", "permissions": // of Kubernetes, of GitHub
				continue
			default:
				_, err = server.ReadConfig(file)
				// Files that it names are not on this machine; what is there must be known and well-formed all the same.
			}
			if read[name]++; err != nil {
				t.Errorf("%s, block %d: %v", name, i, err)
			}
		}
	}
	if read["access.md"] != 4 || read["server.md"] < 2 {
		t.Errorf("read %v blocks; has the form of the documents changed?", read)
	}
}
