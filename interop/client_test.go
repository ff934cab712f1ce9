//go:build unix

package interop_test

import (
	"bufio"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// members are those of a request or an answer, by AWS's names. In a request a
// blob is a []byte and a point in time a time.Time; in an answer a blob is its
// Base64, and a point in time whatever the client prints.
type members = map[string]any

// refusal is an error that the server answered with, as the client shows it.
type refusal struct{ Code, Class, Message string }

// client is somebody's way to call KMS.
type client interface {
	// knows reports whether this version of the client has the operation.
	knows(operation string) bool
	// do does an operation in a Region. What is not an answer fails the test.
	do(region, operation string, in members) (members, *refusal)
	// pages follows the markers with the client's own paginator, size items at a
	// time, and returns the pages; the AWS CLI shows them as one.
	pages(operation string, in members, size int) []members
}

// find follows a dotted path: "KeyMetadata.KeyId".
func find(m members, path string) any {
	var at any = m
	for name := range strings.SplitSeq(path, ".") {
		inner, _ := at.(members)
		at = inner[name]
	}
	return at
}

// text is the string at a path, which must be there.
func text(t *testing.T, m members, path string) string {
	t.Helper()
	s, _ := find(m, path).(string)
	if s == "" {
		t.Fatalf("no %s in %v", path, m)
	}
	return s
}

// blob is the bytes at a path, which must be there.
func blob(t *testing.T, m members, path string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text(t, m, path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}

// every collects a member of every item of a list, or the items themselves.
func every(pages []members, list, member string) (values []string) {
	for _, page := range pages {
		items, _ := page[list].([]any)
		for _, item := range items {
			if member != "" {
				item = item.(members)[member]
			}
			values = append(values, fmt.Sprint(item))
		}
	}
	return values
}

// script is a client in another language: a process that reads one request a
// line and answers each with one line.
//
//	{"knows": "Encrypt"}                                        → {"out": {"known": true}}
//	{"do": "Encrypt", "region": "…", "in": {…}}                 → {"out": {…}} or {"error": {"code", "class", "message"}}
//	{"pages": "ListKeys", "region": "…", "in": {…}, "size": 2}  → {"out": {"pages": [{…}, …]}}
//
// In "in" a blob is {"$bytes": Base64} and a point in time {"$time": RFC 3339}.
type script struct {
	t       *testing.T
	in      *json.Encoder
	answers *json.Decoder
	errors  *output
}

func startScript(t *testing.T, cmd *exec.Cmd) *script {
	t.Helper()
	s := &script{t: t, errors: &output{}}
	cmd.Stderr = s.errors
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It ends when its standard input does, also when this process dies.
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(cmd.Path), err, s.errors)
		}
	})
	s.in, s.answers = json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	return s
}

func (s *script) ask(request members) (members, *refusal) {
	s.t.Helper()
	if err := s.in.Encode(wire(request)); err != nil {
		s.t.Fatalf("%v: %v\n%s", request, err, s.errors)
	}
	var answer struct {
		Out   members  `json:"out"`
		Error *refusal `json:"error"`
	}
	if err := s.answers.Decode(&answer); err != nil {
		s.t.Fatalf("%v: %v\n%s", request, err, s.errors)
	}
	return answer.Out, answer.Error
}

func (s *script) knows(operation string) bool {
	out, _ := s.ask(members{"knows": operation})
	return out["known"] == true
}

func (s *script) do(region, operation string, in members) (members, *refusal) {
	return s.ask(members{"do": operation, "region": region, "in": in})
}

func (s *script) pages(operation string, in members, size int) (pages []members) {
	s.t.Helper()
	out, refused := s.ask(members{"pages": operation, "region": region, "in": in, "size": size})
	if refused != nil {
		s.t.Fatalf("pages of %s: %+v", operation, refused)
	}
	list, _ := out["pages"].([]any)
	for _, page := range list {
		pages = append(pages, page.(members))
	}
	return pages
}

// wire is a request as scripts read it.
func wire(v any) any {
	switch v := v.(type) {
	case []byte:
		return members{"$bytes": v}
	case time.Time:
		return members{"$time": v.Format(time.RFC3339)}
	case []members:
		list := make([]any, len(v))
		for i := range v {
			list[i] = wire(v[i])
		}
		return list
	case members:
		m := members{}
		for name, value := range v {
			m[name] = wire(value)
		}
		return m
	}
	return v
}

//go:embed python/boto3_client.py
var boto3Client string

// pythonWith is the interpreter that has a module: the one on PATH, or Debian's,
// or none.
func pythonWith(module string) string {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		has := "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
		if exec.Command(name, "-c", has, module).Run() == nil {
			return name
		}
	}
	return ""
}

func python(t *testing.T) string {
	t.Helper()
	name := pythonWith("boto3")
	if name == "" {
		t.Fatal("this test needs boto3: run 'make deps', or install it (Debian: apt-get install python3-boto3)")
	}
	return name
}

// boto3 is AWS's SDK for Python.
func newBoto3(t *testing.T, a caller) client {
	t.Helper()
	cmd := exec.Command(python(t), "-c", boto3Client)
	cmd.Env = a.environment()
	return startScript(t, cmd)
}
