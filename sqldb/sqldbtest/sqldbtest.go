// Package sqldbtest gives tests their databases: SQLite files, and databases on a
// real PostgreSQL server.
//
// The server is started when the first test of a process asks for it, on a free
// loopback port, with its data in a temporary directory and without syncs. A
// watcher stops it and removes the directory when the test process ends, however
// it ends. What is dear to make and always the same is kept: the empty cluster in the
// user's cache directory, databases that a test has left as it found them, emptied,
// for the tests after it. A machine without PostgreSQL fails the test with what to install: a
// test that is skipped proves nothing.
package sqldbtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
)

// Each runs a test on a fresh database of each engine, as subtests "sqlite" and
// "postgres".
func Each(t *testing.T, run func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { run(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { run(t, Open(t, borrowed(t))) })
}

func borrowed(t *testing.T) (url string) {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	return server.borrow(t)
}

// SQLite opens a fresh SQLite database that the end of the test closes. It works
// inside a testing/synctest bubble.
func SQLite(t testing.TB) *sqldb.DB {
	t.Helper()
	content, err := migrated()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(Dir(t), "keyturn.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(t, "sqlite:"+path)
}

// migrated is a SQLite file with the schema and nothing in it. To open one takes a
// tenth of what it takes to make one.
var migrated = sync.OnceValues(func() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "sqldbtest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keyturn.db")
	db, err := sqldb.Open(context.Background(), "sqlite:"+path)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil { // leaves nothing beside the file
		return nil, err
	}
	return os.ReadFile(path)
})

// Dir makes a directory that the end of the test removes, in memory where there is
// such a place: what is tested is not the disk, and thousands of syncs are most of
// what a test of a whole server waits for.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "keyturn-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Open opens the database at url until the end of the test.
func Open(t testing.TB, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Postgres makes a database without even the schema and returns its URL.
func Postgres(t testing.TB) (url string) {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	return server.NewDatabase(t)
}
