package sqldb_test

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// TestProcessesMigrateOnce starts four processes at once on an empty database.
func TestProcessesMigrateOnce(t *testing.T) {
	for range 3 {
		url := sqldbtest.Postgres(t)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				// It prints how many migrations were entered twice.
				if out, err := task("open", url).CombinedOutput(); err != nil || string(out) != "0\n" {
					t.Errorf("%v, %s", err, out)
				}
			})
		}
		all.Wait()
	}
}

func TestOpenAgain(t *testing.T) {
	for _, url := range []string{"sqlite:" + t.TempDir() + "/keyturn.db", sqldbtest.Postgres(t)} {
		for range 2 {
			db, err := sqldb.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	for _, url := range []string{"sqlite:" + t.TempDir() + "/keyturn.db", sqldbtest.Postgres(t)} {
		db, err := sqldb.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)`, 9999, true)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = sqldb.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), "9999") || !strings.Contains(err.Error(), "newer Keyturn") {
			t.Errorf("Open of a newer database: %v", err)
		}
	}
}

// TestDurabilityIsInsistedOn uses a database whose server acknowledges commits that
// are not on its disk.
func TestDurabilityIsInsistedOn(t *testing.T) {
	url := sqldbtest.Postgres(t)
	admin, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	var name string
	if err := admin.QueryRow(`SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(`ALTER DATABASE ` + name + ` SET synchronous_commit = off`); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, url)
	var setting string
	err = db.Write(t.Context(), func(tx *sqldb.Tx) error { return tx.QueryRow(`SHOW synchronous_commit`).Scan(&setting) })
	if err != nil || setting != "on" {
		t.Errorf("synchronous_commit is %q, %v", setting, err)
	}
}
