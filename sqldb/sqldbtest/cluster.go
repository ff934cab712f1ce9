//go:build unix

package sqldbtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// keptCluster names the directory where what initdb makes is kept for the next test
// process, because it takes a second and copying it takes none. It is one that only
// this user can write to, so that nobody else can put a cluster there. Empty: there
// is no such place.
func keptCluster(initdb string) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	version, err := exec.Command(initdb, "--version").Output()
	if err != nil {
		return ""
	}
	parent := filepath.Join(cache, "keyturn-test")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return ""
	}
	return filepath.Join(parent, fmt.Sprintf("cluster-%x", sha256.Sum256(append(version, initdb+watch...)))[:40])
}

// copyCluster copies a cluster with its owner and modes; half a copy is removed again.
func copyCluster(from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	if err := exec.Command("cp", "-Rp", from, to).Run(); err != nil {
		return errors.Join(err, os.RemoveAll(to))
	}
	return nil
}

// keep keeps a cluster that was just made, if one was. When that fails, or another
// process was faster, the next one finds or makes another.
func keep(fresh, kept string) {
	defer os.RemoveAll(fresh)
	if _, err := os.Stat(fresh); err != nil || kept == "" {
		return
	}
	part := fmt.Sprintf("%s.%d", kept, os.Getpid())
	if copyCluster(fresh, part) == nil && os.Rename(part, kept) != nil {
		_ = os.RemoveAll(part)
	}
}
