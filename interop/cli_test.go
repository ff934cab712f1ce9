//go:build unix

package interop_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed python/aws.py
var preloadedCLI string

// cli is the AWS CLI.
type cli struct {
	t     *testing.T
	env   map[string]string
	dir   string
	files int // written so far
	// A process of python/aws.py; nil where the CLI is no Python package, and each
	// command starts the program.
	preloaded *script
}

// cliPython is the version of the CLI on PATH, and the Python that can import that
// very version; none where the CLI brings one of its own.
var cliPython = sync.OnceValues(func() (version, python string) {
	out, _ := exec.Command("aws", "--version").CombinedOutput()
	_, version, _ = strings.Cut(string(out), "aws-cli/")
	version, _, _ = strings.Cut(version, " ")
	python = pythonWith("awscli")
	if python != "" {
		imported, _ := exec.Command(python, "-c", "import awscli; print(awscli.__version__)").Output()
		if strings.TrimSpace(string(imported)) != version {
			python = ""
		}
	}
	return version, python
})

func newCLI(t *testing.T, a caller) client {
	t.Helper()
	need(t, "aws", "awscli")
	c := &cli{t: t, dir: t.TempDir(), env: a.variables()}
	c.env["HOME"] = c.dir // where it keeps the credentials of roles
	version, python := cliPython()
	t.Logf("AWS CLI %s", version)
	if python != "" {
		cmd := exec.Command(python, "-c", preloadedCLI)
		cmd.Env, cmd.Dir = append(plainEnvironment(), "HOME="+c.dir), c.dir
		c.preloaded = startScript(t, cmd)
	}
	return c
}

// run runs `aws` with arguments, and with what env changes.
func (c *cli) run(args []string, env map[string]string) (stdout, stderr string, code int) {
	c.t.Helper()
	merged := maps.Clone(c.env)
	maps.Copy(merged, env)
	if c.preloaded != nil {
		var result struct {
			Stdout, Stderr string
			Code           int
		}
		if err := c.preloaded.in.Encode([]any{args, merged}); err != nil {
			c.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, c.preloaded.errors)
		}
		if err := c.preloaded.answers.Decode(&result); err != nil {
			c.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, c.preloaded.errors)
		}
		return result.Stdout, result.Stderr, result.Code
	}
	cmd := exec.Command("aws", args...)
	cmd.Env, cmd.Dir = plainEnvironment(), c.dir
	for name, value := range merged {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatalf("aws %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// kms runs `aws kms …`, or of another service's operation that. Before 2.13 the CLI
// knows no AWS_ENDPOINT_URL.
func (c *cli) kms(region, operation string, in members, more ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	service, operation, other := strings.Cut(operation, ":")
	if !other {
		service, operation = "kms", service
	}
	args := []string{"--endpoint-url", house.endpoint, "--region", region, "--output", "json", service, kebab(operation)}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		args = append(args, c.argument(name, in[name])...)
	}
	return c.run(append(args, more...), nil)
}

// kebab is an API name as the CLI spells it: ReEncrypt → re-encrypt.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// argument is a member as people write it at a prompt.
func (c *cli) argument(name string, value any) []string {
	c.t.Helper()
	flag := "--" + kebab(name)
	switch value := value.(type) {
	case string:
		return []string{flag, value}
	case int:
		return []string{flag, fmt.Sprint(value)}
	case bool:
		if !value {
			return []string{"--no-" + kebab(name)}
		}
		return []string{flag}
	case []string:
		return append([]string{flag}, value...)
	case []byte:
		c.files++
		file := filepath.Join(c.dir, fmt.Sprintf("blob-%d", c.files))
		if err := os.WriteFile(file, value, 0o600); err != nil {
			c.t.Fatal(err)
		}
		return []string{flag, "fileb://" + file}
	case time.Time:
		return []string{flag, value.Format(time.RFC3339)}
	}
	text, err := json.Marshal(value)
	if err != nil {
		c.t.Fatal(err)
	}
	return []string{flag, string(text)}
}

func (c *cli) knows(operation string) bool {
	_, stderr, code := c.kms(region, operation, nil)
	return code == 0 || !strings.Contains(stderr, "nvalid choice")
}

var cliError = regexp.MustCompile(`(?s)An error occurred \((\w+)\) when calling the (\w+) operation(?: \(.*?\))?: (.*)`)

func (c *cli) do(region, operation string, in members) (members, *refusal) {
	c.t.Helper()
	return c.answer(c.kms(region, operation, in))
}

func (c *cli) answer(stdout, stderr string, code int) (out members, refused *refusal) {
	c.t.Helper()
	if code == 0 {
		if strings.TrimSpace(stdout) == "" {
			return members{}, nil
		}
		if err := json.Unmarshal([]byte(stdout), &out); err != nil {
			c.t.Fatalf("%v in %s", err, stdout)
		}
		return out, nil
	}
	m := cliError.FindStringSubmatch(stderr)
	if m == nil {
		c.t.Fatalf("aws: exit code %d: %s", code, stderr)
	}
	return nil, &refusal{m[1], m[1], strings.TrimSpace(m[3])}
}

func (c *cli) pages(operation string, in members, size int) []members {
	c.t.Helper()
	out, refused := c.answer(c.kms(region, operation, in, "--page-size", fmt.Sprint(size)))
	if refused != nil {
		c.t.Fatalf("pages of %s: %+v", operation, refused)
	}
	return []members{out}
}

// words are what only a person at a prompt sees: of an error, its text and the
// exit code; of a list, where it goes on.
func (c *cli) words(t *testing.T) {
	list := []string{"--endpoint-url", house.endpoint, "kms", "list-keys"}
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"an unknown access key": {map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "An error occurred (UnrecognizedClientException) " +
			"when calling the ListKeys operation: The security token included in the request is invalid."},
		"another secret": {map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, "An error occurred (InvalidSignatureException) when calling " +
			"the ListKeys operation: The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."},
	} {
		_, stderr, code := c.run(list, test.env)
		if code == 0 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d: %s, want %s", name, code, stderr, test.want)
		}
	}
	if c.knows("RotateKeyOnDemand") { // then it also reads the variable
		if _, stderr, code := c.run([]string{"kms", "list-keys"}, nil); code != 0 {
			t.Errorf("with AWS_ENDPOINT_URL: exit code %d: %s", code, stderr)
		}
	}
	out, _ := c.answer(c.kms(region, "ListKeys", nil, "--page-size", "1", "--max-items", "2"))
	next := text(t, out, "NextToken")
	first := every([]members{out}, "Keys", "KeyId")
	out, _ = c.answer(c.kms(region, "ListKeys", nil, "--max-items", "2", "--starting-token", next))
	if rest := every([]members{out}, "Keys", "KeyId"); len(first) != 2 || len(rest) != 2 || slices.Contains(first, rest[0]) {
		t.Errorf("two by two, the keys are %v and %v", first, rest)
	}
}
