package sqldb_test

import (
	"errors"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func makeTable(t testing.TB, db *sqldb.DB) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`CREATE TABLE items (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, data BYTEA)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func insert(db *sqldb.DB, t testing.TB, id string, n int64) error {
	return db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ($1, $2)`, id, n)
		return err
	})
}

func count(t testing.TB, db *sqldb.DB) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM items`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWriteAndRead(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		if err := insert(db, t, "a", 7); err != nil {
			t.Fatal(err)
		}
		var n int64
		if err := db.QueryRow(t.Context(), `SELECT n FROM items WHERE id = $1`, "a").Scan(&n); err != nil || n != 7 {
			t.Fatalf("read %d, %v; want 7", n, err)
		}
		if err := insert(db, t, "a", 8); !sqldb.IsUniqueViolation(err) {
			t.Fatalf("second insert: %v; want a unique violation", err)
		}
		mine := errors.New("mine")
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if rows, err := tx.Exec(`UPDATE items SET n = n + 1`); err != nil || rows != 1 {
				t.Errorf("update: %d rows, %v", rows, err)
			}
			return mine
		})
		if !errors.Is(err, mine) {
			t.Fatalf("Write returned %v, want the function's own error", err)
		}
		if err := db.QueryRow(t.Context(), `SELECT n FROM items`).Scan(&n); err != nil || n != 7 {
			t.Fatalf("after a failed write: %d, %v; want 7", n, err)
		}
	})
}
