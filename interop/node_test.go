//go:build unix

package interop_test

import (
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

//go:embed node/*.mjs node/package.json node/package-lock.json node/.npmrc
var nodeFiles embed.FS

func nodeFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := nodeFiles.ReadFile("node/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// nodeModules is the folder of the packages that the lock names, installed once
// for each lock, in the user's cache. Nothing that a package would run at its
// installation is run.
var nodeModules = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	lock, err := nodeFiles.ReadFile("node/package-lock.json")
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, "keyturn-interop", fmt.Sprintf("%x", sha256.Sum256(lock)))
	modules := filepath.Join(home, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return "", err
	}
	// Whoever is interrupted leaves no half of it under the final name.
	tmp, err := os.MkdirTemp(filepath.Dir(home), "installing-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		content, err := nodeFiles.ReadFile("node/" + name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(tmp, name), content, 0o600); err != nil {
			return "", err
		}
	}
	npm := exec.Command("npm", "ci", "--prefer-offline", "--no-progress")
	npm.Dir = tmp
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(tmp, home); err != nil {
		if _, other := os.Stat(modules); other != nil {
			return "", err
		}
	}
	return modules, nil
})

// nodeFolder is a folder of the test's own from which Node finds the packages.
func nodeFolder(t *testing.T) string {
	t.Helper()
	need(t, "node", "nodejs")
	need(t, "npm", "npm")
	modules, err := nodeModules()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// node is a script of node/, as a command that calls the server as a.
func node(t *testing.T, a caller, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir := nodeFolder(t)
	for _, file := range []string{name, "lines.mjs"} {
		if err := os.WriteFile(filepath.Join(dir, file), nodeFile(t, file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("node", append([]string{filepath.Join(dir, name)}, args...)...)
	cmd.Env = append(a.environment(), "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE=1")
	return cmd
}

func newNode(name string) func(*testing.T, caller) client {
	return func(t *testing.T, a caller) client {
		t.Helper()
		return startScript(t, node(t, a, name))
	}
}

// The lock names versions and hashes and no place to get them from, so that
// whoever installs uses the registry that they trust.
func TestLockNamesNoRegistry(t *testing.T) {
	var lock struct {
		Packages map[string]struct{ Version, Resolved, Integrity string }
	}
	if err := json.Unmarshal(nodeFile(t, "package-lock.json"), &lock); err != nil {
		t.Fatal(err)
	}
	if len(lock.Packages) < 50 {
		t.Errorf("only %d packages in the lock", len(lock.Packages))
	}
	for name, p := range lock.Packages {
		if name == "" {
			continue
		}
		if p.Resolved != "" || !strings.HasPrefix(p.Integrity, "sha512-") {
			t.Errorf("%s %s: resolved %s, integrity %s", name, p.Version, strconv.Quote(p.Resolved), p.Integrity)
		}
	}
}
