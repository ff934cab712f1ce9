//go:build unix

package sqldbtest

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
)

// borrow returns the URL of a database with the schema and nothing in it, which the
// end of the test empties for the next one: that costs a quarter of making one.
func (s *Server) borrow(t testing.TB) (url string) {
	t.Helper()
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		url, s.free = s.free[n-1], s.free[:n-1]
	}
	s.mu.Unlock()
	if url == "" {
		url = s.NewDatabase(t)
		db, err := sqldb.Open(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	before, err := shape(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A test that failed, or that has changed the schema, leaves its database behind.
		if t.Failed() {
			return
		}
		if after, err := shape(url); err != nil || after != before {
			return
		}
		if err := wipe(url); err != nil {
			t.Errorf("emptying the database for the next test: %v", err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free = append(s.free, url)
	})
	return url
}

// shape is a digest of all tables and their columns, and of the schema's version.
func shape(url string) (digest string, err error) {
	err = with(url, func(db *sql.DB) error {
		return db.QueryRow(`SELECT md5(string_agg(c.relname || ' ' || a.attname || ' ' || a.atttypid || ' ' || a.attnotnull, ',' ORDER BY c.relname, a.attnum))
			|| (SELECT count(*) || ' ' || max(version_id) FROM goose_db_version)
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
			WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i', 'S', 'v') AND a.attnum > 0`).Scan(&digest)
	})
	return digest, err
}

// wipe deletes every row, in whatever order, once all others have left the database.
func wipe(url string) error {
	return with(url, func(db *sql.DB) error {
		_, err := db.Exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if err != nil {
			return err
		}
		_, err = db.Exec(`DO $$
			DECLARE name TEXT;
			BEGIN
				SET LOCAL session_replication_role = replica;
				FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version' LOOP
					EXECUTE format('DELETE FROM %I', name);
				END LOOP;
			END $$`)
		return err
	})
}

func with(url string, do func(*sql.DB) error) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := do(db); err != nil {
		return fmt.Errorf("at %s: %w", url, err)
	}
	return nil
}
