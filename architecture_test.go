// Package keyturn_test holds the rules of the house that no package can hold
// for itself: who may import whom, and that the map in the documents is the
// map on disk. It parses the source rather than asking `go list`, because the
// test cache does not notice a new import that only `go list` has seen.
package keyturn_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keyturn/keyturn/"

// importTable reads the table under "Who may import whom" in ARCHITECTURE.md:
// package → packages it may import. "everything" is kept as that one word.
func importTable(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "## Who may import whom")
	if !ok {
		t.Fatal(`ARCHITECTURE.md has no section "Who may import whom"`)
	}
	section, _, _ = strings.Cut(section, "\n## ")

	table := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `([^|]+)` \\| ([^|]+) \\|")
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		var may []string
		for word := range strings.SplitSeq(m[2], ",") {
			word = strings.Trim(strings.TrimSpace(word), "`")
			if word != "nothing" {
				may = append(may, word)
			}
		}
		for pkg := range strings.SplitSeq(m[1], "`, `") {
			table[pkg] = may
		}
	}
	if len(table) < 10 {
		t.Fatalf("only %d packages read from the import table; has its form changed?", len(table))
	}
	return table
}

// sources walks the module's Go files: directory → file names.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	dirs := map[string][]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(p, ".go"):
			dir := filepath.ToSlash(filepath.Dir(p))
			dirs[dir] = append(dirs[dir], d.Name())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func TestImportsFollowTheTable(t *testing.T) {
	table := importTable(t)
	dirs := sources(t)
	for dir, files := range dirs {
		if dir == "." {
			continue
		}
		may, listed := table[dir]
		if !listed {
			t.Errorf("package %s is not in the import table of ARCHITECTURE.md", dir)
			continue
		}
		for _, file := range files {
			// A test may use any package: it plays the outside world. What
			// ships may not.
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			name := path.Join(dir, file)
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, imp := range f.Imports {
				full, _ := strconv.Unquote(imp.Path.Value)
				ours, ok := strings.CutPrefix(full, module)
				if ok && !slices.Contains(may, ours) && !slices.Contains(may, "everything") {
					t.Errorf("%s imports %s, which the table does not allow (it may import: %s)", name, ours, strings.Join(may, ", "))
				}
			}
		}
	}
	for pkg := range table {
		if _, there := dirs[pkg]; !there {
			t.Errorf("the import table lists %s, which has no Go files", pkg)
		}
	}
}

// forbidden are package names that say nothing about what is inside.
var forbidden = []string{"pkg", "internal", "util", "utils", "common", "models", "helpers", "types", "misc", "base"}

func TestPackageNamesSayWhatIsInside(t *testing.T) {
	for dir := range sources(t) {
		for part := range strings.SplitSeq(dir, "/") {
			if slices.Contains(forbidden, part) {
				t.Errorf("directory %s: %q names no noun of the house", dir, part)
			}
		}
	}
}

// TestMapIsTheTerritory compares the map in README.md with the folders at the
// root, both ways.
func TestMapIsTheTerritory(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "## The map")
	if !ok {
		t.Fatal(`README.md has no section "The map"`)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z]+)/`).FindAllStringSubmatch(section, -1) {
		listed[m[1]] = true
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || e.Name() == "bin" || e.Name() == "dist" {
			continue
		}
		if !listed[e.Name()] {
			t.Errorf("folder %s/ is not on the map in README.md", e.Name())
		}
		delete(listed, e.Name())
	}
	for name := range listed {
		t.Errorf("the map in README.md shows %s/, which does not exist", name)
	}
}
