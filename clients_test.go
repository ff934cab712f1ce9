package keyturn_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snippet is a block of docs/clients.md, and where its code is from: a file of
// interop/, or an example in one.
var snippet = regexp.MustCompile("(?s)<!-- (interop/\\S+?)(?: (\\w+))? -->\n```\\w+\n(.*?)```")

// TestClientsPageShowsWhatIsTested compares the code in docs/clients.md with that
// which the tests in interop/ run, both ways.
func TestClientsPageShowsWhatIsTested(t *testing.T) {
	page, err := os.ReadFile("docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, m := range snippet.FindAllStringSubmatch(string(page), -1) {
		file, example, code := m[1], m[2], m[3]
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := string(source)
		if example != "" {
			_, want, _ = strings.Cut(want, "func "+example+"() {\n")
			want, _, _ = strings.Cut(want, "\t// Output:")
			want = strings.ReplaceAll("\n"+want, "\n\t", "\n")[1:]
		}
		if want == "" || code != want {
			t.Errorf("docs/clients.md shows other code than %s %s:\n%s", file, example, want)
		}
		shown = append(shown, path.Base(file)+example)
	}
	files, err := os.ReadDir("interop/examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(shown, f.Name()) {
			t.Errorf("docs/clients.md does not show interop/examples/%s", f.Name())
		}
	}
	source, err := os.ReadFile("interop/examples_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`func (Example_\w+)\(`).FindAllSubmatch(source, -1) {
		if !slices.Contains(shown, "examples_test.go"+string(m[1])) {
			t.Errorf("docs/clients.md does not show %s", m[1])
		}
	}
}
