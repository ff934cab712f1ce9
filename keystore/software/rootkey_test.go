package software_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const passphrase = "correct horse battery staple"

// keysets returns what the database holds of keysets.
func keysets(t *testing.T, db *sqldb.DB) string {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT name, sealed, created_at FROM keysets ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var name string
		var sealed []byte
		var at int64
		if err := rows.Scan(&name, &sealed, &at); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s %x %d\n", name, sealed, at)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// files returns the names, modes and contents of a directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		content, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		fmt.Fprintf(&all, "%s %v %x\n", e.Name(), info.Mode(), content)
	}
	return all.String()
}

func TestRootKeyFileIsMadeForTheOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	open(t, sqldbtest.SQLite(t), software.RootKeyFile(path))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 || info.Size() != 32 {
		t.Errorf("mode %v, %d bytes", info.Mode(), info.Size())
	}
}

// A crash between making the root key and storing the keyset leaves a root key
// and an empty database.
func TestRootKeyFileThatExistsIsUsed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "root.key")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0x5a}, 32), 0o400); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	db := sqldbtest.SQLite(t)
	open(t, db, software.RootKeyFile(path))
	open(t, db, software.RootKeyFile(path))
	if after := files(t, dir); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
}

// Every way in which a root key can be unusable: its own error, a hint, and
// neither file nor database changed.
func TestUnusableRootKeys(t *testing.T) {
	write := func(t *testing.T, path string, content []byte, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	good := bytes.Repeat([]byte{0x5a}, 32)
	fromFile := func(path string) software.RootKey { return software.RootKeyFile(path) }

	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		root  func(path string) software.RootKey
		want  error
		hint  string
	}{
		{"missing", func(t *testing.T, path string) { _ = os.Remove(path) }, fromFile, software.ErrRootKeyMissing, "put the root key of this database there"},
		{"another", func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte{0x5b}, 32), 0o600) }, fromFile, software.ErrRootKeyWrong, "put the right file there"},
		{"truncated", func(t *testing.T, path string) { write(t, path, good[:31], 0o600) }, fromFile, software.ErrRootKeyDamaged, "restore it from its backup"},
		{"empty", func(t *testing.T, path string) { write(t, path, nil, 0o600) }, fromFile, software.ErrRootKeyDamaged, "restore it from its backup"},
		{"too long", func(t *testing.T, path string) { write(t, path, append(good[:32:32], '\n'), 0o600) }, fromFile, software.ErrRootKeyDamaged, "exactly 32 bytes"},
		{"group may read", func(t *testing.T, path string) { write(t, path, good, 0o640) }, fromFile, software.ErrRootKeyExposed, "chmod 600"},
		{"others may read", func(t *testing.T, path string) { write(t, path, good, 0o604) }, fromFile, software.ErrRootKeyExposed, "chmod 600"},
		{"group may write", func(t *testing.T, path string) { write(t, path, good, 0o620) }, fromFile, software.ErrRootKeyExposed, "chmod 600"},
		{"a passphrase instead", func(*testing.T, string) {}, func(string) software.RootKey { return software.WeakPassphrase(passphrase) }, software.ErrRootKeyWrong, "root key file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "root.key")
			write(t, path, good, 0o600)
			db := sqldbtest.SQLite(t)
			open(t, db, software.RootKeyFile(path))

			c.spoil(t, path)
			beforeFiles, beforeRows := files(t, dir), keysets(t, db)
			_, err := software.Open(t.Context(), db, c.root(path))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.hint) {
				t.Errorf("got %v; want %q with hint %q", err, c.want, c.hint)
			}
			if files(t, dir) != beforeFiles || keysets(t, db) != beforeRows {
				t.Error("something was changed")
			}

			write(t, path, good, 0o600)
			open(t, db, software.RootKeyFile(path)) // and all is well again
		})
	}
}

func TestUnusableRootKeysOfANewDatabase(t *testing.T) {
	dir := t.TempDir()
	exposed := filepath.Join(dir, "exposed.key")
	if err := os.WriteFile(exposed, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(exposed, 0o644); err != nil {
		t.Fatal(err)
	}
	truncated := filepath.Join(dir, "truncated.key")
	if err := os.WriteFile(truncated, make([]byte, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	for name, c := range map[string]struct {
		root software.RootKey
		want error
	}{
		"exposed":          {software.RootKeyFile(exposed), software.ErrRootKeyExposed},
		"truncated":        {software.RootKeyFile(truncated), software.ErrRootKeyDamaged},
		"short passphrase": {software.WeakPassphrase("hunter2"), software.ErrPassphrase},
		"no directory":     {software.RootKeyFile(filepath.Join(dir, "no", "root.key")), os.ErrNotExist},
		"not a file":       {software.RootKeyFile(dir), nil},
	} {
		db := sqldbtest.SQLite(t)
		_, err := software.Open(t.Context(), db, c.root)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if rows := keysets(t, db); rows != "" {
			t.Errorf("%s: a keyset was stored: %s", name, rows)
		}
	}
	if after := files(t, dir); after != before {
		t.Errorf("files changed:\n%s\n%s", before, after)
	}
}

func TestPassphrase(t *testing.T) {
	db := sqldbtest.SQLite(t)
	root := software.WeakPassphrase(passphrase)
	ref := keystore.Ref{Account: "111122223333", KeyID: "k", MaterialID: "m"}
	handle, err := open(t, db, root).Generate(t.Context(), ref, keystore.HMAC256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, db, root).Open(t.Context(), ref, keystore.HMAC256, handle); err != nil {
		t.Error(err)
	}
	before := keysets(t, db)
	_, err = software.Open(t.Context(), db, software.WeakPassphrase(passphrase+"!"))
	if !errors.Is(err, software.ErrRootKeyWrong) || !strings.Contains(err.Error(), "give the one") {
		t.Errorf("wrong passphrase: %v", err)
	}
	path := filepath.Join(t.TempDir(), "root.key")
	_, err = software.Open(t.Context(), db, software.RootKeyFile(path))
	if !errors.Is(err, software.ErrRootKeyWrong) || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("a file instead: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("a root key file was made for a database that has a keyset")
	}
	if keysets(t, db) != before {
		t.Error("the keyset was changed")
	}
	for _, text := range []string{fmt.Sprint(root), fmt.Sprintf("%v %+v %#v %s", root, root, root, root), fmt.Sprint(*root)} {
		if strings.Contains(text, "horse") {
			t.Errorf("the passphrase is printed: %s", text)
		}
	}
}

func TestPassphraseSources(t *testing.T) {
	t.Setenv("KEYTURN_TEST_PASSPHRASE", passphrase)
	path := filepath.Join(t.TempDir(), "passphrase")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	db := sqldbtest.SQLite(t)
	open(t, db, software.WeakPassphrase(passphrase))

	fromEnv, err := software.PassphraseFromEnv("KEYTURN_TEST_PASSPHRASE")
	if err != nil {
		t.Fatal(err)
	}
	open(t, db, fromEnv)
	for _, ending := range []string{"", "\n", "\r\n"} {
		write(passphrase+ending, 0o600)
		fromFile, err := software.PassphraseFromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		open(t, db, fromFile)
	}

	if _, err := software.PassphraseFromEnv("KEYTURN_TEST_NOT_SET"); !errors.Is(err, software.ErrPassphrase) {
		t.Errorf("not set: %v", err)
	}
	write(passphrase, 0o644)
	if _, err := software.PassphraseFromFile(path); !errors.Is(err, software.ErrRootKeyExposed) {
		t.Errorf("exposed: %v", err)
	}
	write("\n", 0o600)
	if _, err := software.PassphraseFromFile(path); !errors.Is(err, software.ErrPassphrase) {
		t.Errorf("empty: %v", err)
	}
	write(strings.Repeat("x", 2000), 0o600)
	if _, err := software.PassphraseFromFile(path); !errors.Is(err, software.ErrPassphrase) {
		t.Errorf("longer than is read: %v", err)
	}
	if _, err := software.PassphraseFromFile(path + ".none"); !errors.Is(err, software.ErrRootKeyMissing) {
		t.Errorf("missing: %v", err)
	}
}

// What an attacker with the database changes in the keyset is noticed.
func TestDamagedKeyset(t *testing.T) {
	for name, root := range map[string]software.RootKey{
		"file":       software.RootKeyFile(filepath.Join(t.TempDir(), "root.key")),
		"passphrase": software.WeakPassphrase(passphrase),
	} {
		t.Run(name, func(t *testing.T) {
			db := sqldbtest.SQLite(t)
			open(t, db, root)
			var sealed []byte
			if err := db.QueryRow(t.Context(), `SELECT sealed FROM keysets`).Scan(&sealed); err != nil {
				t.Fatal(err)
			}
			put := func(b []byte) {
				t.Helper()
				err := db.Write(context.Background(), func(tx *sqldb.Tx) error {
					_, err := tx.Exec(`UPDATE keysets SET sealed = $1`, b)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			damaged := map[string][]byte{
				"last byte": append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1),
				"cut":       sealed[:len(sealed)-1],
				"tiny":      sealed[:8],
				"empty":     {},
			}
			for what, b := range damaged {
				put(b)
				if _, err := software.Open(t.Context(), db, root); !errors.Is(err, software.ErrKeysetDamaged) {
					t.Errorf("%s: %v", what, err)
				}
			}
			put(sealed)
			open(t, db, root)
		})
	}
}

// What every root key does, of whatever kind.
func TestRootKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	for name, root := range map[string]software.RootKey{
		"file":       software.RootKeyFile(path),
		"passphrase": software.WeakPassphrase(passphrase),
	} {
		t.Run(name, func(t *testing.T) {
			secret := []byte("the keyset")
			sealed, err := root.Seal(secret, []byte("row"))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(sealed, secret) {
				t.Error("not sealed")
			}
			if got, err := root.Open(sealed, []byte("row")); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%q, %v", got, err)
			}
			again, err := root.Seal(secret, []byte("row"))
			if err != nil || bytes.Equal(again, sealed) {
				t.Errorf("sealing twice gives the same: %v", err)
			}
			for _, row := range []string{"", "ro", "row2", "another"} {
				if got, err := root.Open(sealed, []byte(row)); err == nil {
					t.Errorf("sealed for another row, opened for %q as %q", row, got)
				}
			}
		})
	}
}
