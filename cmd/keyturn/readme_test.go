package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// self is an environment in which `keyturn` is this very code.
func self(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(dir, "keyturn")); err != nil {
		t.Fatal(err)
	}
	return dir, append(os.Environ(), serverProcess+"=1", "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir,
		"AWS_EC2_METADATA_DISABLED=true", "KEYTURN_LISTEN=127.0.0.1:0")
}

// The commands that README.md shows under "Use it" work as they stand there.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## Use it")
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(section)
	if block == nil {
		t.Fatal(`README.md shows no commands under "Use it"`)
	}
	first, rest, _ := strings.Cut(block[1], "\n")
	if strings.Count(rest, "keyturn ") < 3 {
		t.Fatalf("these are not the commands:\n%s", block[1])
	}
	dir, env := self(t)
	// A person sees that the server is up before typing on; a script waits.
	script := "set -e\n" + first + "\nserver=$!\ntrap 'kill $server; wait $server' EXIT\n" +
		"for i in $(seq 300); do [ -s keyturn.env ] && break; sleep 0.1; done\n" + rest
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"payments", "arn:aws:kms:"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the output does not mention %q:\n%s", want, out)
		}
	}
}

// The demo does what the README says it does: two rotations, a crash between
// them, and nobody noticed.
func TestDemo(t *testing.T) {
	dir, env := self(t)
	cmd := exec.Command(filepath.Join(dir, "keyturn"), "demo", "--json")
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stderr.Bytes(), stdout.Bytes())
	}
	var r demoResult
	if err := json.Unmarshal(stdout.Bytes(), &r, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%v\n%s", err, stdout.Bytes())
	}
	if r.Rotations < 2 || r.SignaturesMade < 100 || r.SignaturesVerified != r.SignaturesMade ||
		r.VerificationsFailed != 0 || r.CrashesRecovered != 1 || r.Orphans != 0 || r.Seconds <= 0 {
		t.Errorf("%+v", r)
	}
}
