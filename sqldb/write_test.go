package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// together runs fns as one group on SQLite: they queue while another write holds
// the connection. It must be called in a bubble.
func together(t *testing.T, db *sqldb.DB, fns []func(*sqldb.Tx) error) []error {
	t.Helper()
	held, release := make(chan bool), make(chan bool)
	var all sync.WaitGroup
	all.Go(func() {
		begun := sync.OnceFunc(func() { close(held) })
		if err := db.Write(t.Context(), func(*sqldb.Tx) error { begun(); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	errs := make([]error, len(fns))
	for i, fn := range fns {
		all.Go(func() { errs[i] = db.Write(t.Context(), fn) })
		synctest.Wait() // keeps them in order
	}
	close(release)
	all.Wait()
	return errs
}

func TestGroupIsolatesFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sqldbtest.SQLite(t)
		makeTable(t, db)
		mine := errors.New("mine")
		fns := make([]func(*sqldb.Tx) error, 63)
		shared := 0
		for i := range fns {
			fns[i] = func(tx *sqldb.Tx) error {
				if _, err := tx.Exec(`INSERT INTO items (id, n) VALUES ($1, 0)`, fmt.Sprint("row", i)); err != nil {
					return err
				}
				var inside int
				if err := tx.QueryRow(`SELECT count(*) FROM items`).Scan(&inside); err != nil {
					return err
				}
				if outside := count(t, db); inside > outside+1 {
					shared++
				}
				switch i {
				case 10:
					return mine
				case 20:
					_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ('row0', 0)`)
					return err
				case 30:
					_, _ = tx.Exec(`INSERT INTO nowhere VALUES (1)`)
				}
				return nil
			}
		}
		errs := together(t, db, fns)
		for i, err := range errs {
			switch i {
			case 10:
				if !errors.Is(err, mine) {
					t.Errorf("write %d: %v, want its own error", i, err)
				}
			case 20:
				if !sqldb.IsUniqueViolation(err) {
					t.Errorf("write %d: %v, want a unique violation", i, err)
				}
			case 30:
				if err == nil {
					t.Errorf("write %d: a failed statement went unnoticed", i)
				}
			default:
				if err != nil {
					t.Errorf("write %d: %v", i, err)
				}
			}
		}
		if n := count(t, db); n != 60 {
			t.Errorf("%d rows, want 60", n)
		}
		if shared < 59 {
			t.Errorf("only %d writes shared the transaction of others", shared)
		}
	})
}

// TestNoRoom lets a group run into the size limit of the file: what fits is stored.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sqldbtest.SQLite(t)
		makeTable(t, db)
		limit := func(pages int) {
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				var set int
				return tx.QueryRow(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)).Scan(&set)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		limit(1) // means: as many as there are
		fns := make([]func(*sqldb.Tx) error, 20)
		for i := range fns {
			fns[i] = func(tx *sqldb.Tx) error {
				size := 1
				if i == 7 || i == 19 {
					size = 1 << 20
				}
				_, err := tx.Exec(`INSERT INTO items (id, n, data) VALUES ($1, 0, $2)`, fmt.Sprint("row", i), make([]byte, size))
				return err
			}
		}
		for i, err := range together(t, db, fns) {
			if large := i == 7 || i == 19; large && (err == nil || !strings.Contains(err.Error(), "no room")) || !large && err != nil {
				t.Errorf("write %d: %v", i, err)
			}
		}
		if n := count(t, db); n != 18 {
			t.Errorf("%d rows, want 18", n)
		}
		limit(1 << 30)
		if err := db.Write(t.Context(), fns[7]); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

func TestBubbleTimeDoesNotPassWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		db := sqldbtest.SQLite(t)
		makeTable(t, db)
		for i := range 50 {
			if err := insert(db, t, fmt.Sprint(i), 0); err != nil {
				t.Fatal(err)
			}
		}
		if passed := time.Since(start); passed != 0 {
			t.Errorf("%v of virtual time passed", passed)
		}
	})
}

func TestPanicUndoesAndGoesOn(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		func() {
			defer func() {
				if recover() != "boom" {
					t.Error("the panic did not reach the caller")
				}
			}()
			_ = db.Write(t.Context(), func(tx *sqldb.Tx) error {
				if _, err := tx.Exec(`INSERT INTO items (id, n) VALUES ('a', 1)`); err != nil {
					t.Error(err)
				}
				panic("boom")
			})
		}()
		done := make(chan bool)
		go func() {
			defer close(done)
			_ = db.Write(context.Background(), func(*sqldb.Tx) error { runtime.Goexit(); return nil })
		}()
		<-done
		if err := insert(db, t, "b", 1); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestFailedStatementFailsTheWrite(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		if err := insert(db, t, "a", 1); err != nil {
			t.Fatal(err)
		}
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if _, err := tx.Exec(`INSERT INTO items (id, n) VALUES ('b', 1)`); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO items (id, n) VALUES ('a', 1)`); err == nil {
				t.Error("the row was inserted twice")
			}
			if _, err := tx.Exec(`INSERT INTO items (id, n) VALUES ('c', 1)`); err == nil {
				t.Error("a statement after a failed one succeeded")
			}
			return nil // as if nothing had happened
		})
		if !sqldb.IsUniqueViolation(err) {
			t.Errorf("Write: %v, want the violation", err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestTxIsOverAfterwards(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		var leaked *sqldb.Tx
		var open *sql.Rows
		err := db.Write(t.Context(), func(tx *sqldb.Tx) (err error) {
			leaked = tx
			open, err = tx.Query(`SELECT id FROM items`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if open.Next() {
			t.Error("rows are open after the transaction")
		}
		if _, err := leaked.Exec(`INSERT INTO items (id, n) VALUES ('a', 1)`); err == nil {
			t.Error("Exec after the transaction succeeded")
		}
		if _, err := leaked.Query(`SELECT id FROM items`); err == nil {
			t.Error("Query after the transaction succeeded")
		}
		var id string
		if err := leaked.QueryRow(`SELECT 'x'`).Scan(&id); err == nil {
			t.Error("QueryRow after the transaction succeeded")
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	})
}

// TestSameStatementInside reads through rows of a statement while the same one
// runs again, as a careless loop does on SQLite.
func TestSameStatementInside(t *testing.T) {
	db := sqldbtest.SQLite(t)
	makeTable(t, db)
	for _, id := range []string{"a", "b", "c"} {
		if err := insert(db, t, id, 1); err != nil {
			t.Fatal(err)
		}
	}
	const query = `SELECT id FROM items WHERE n = $1 ORDER BY id`
	var seen []string
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		seen = nil
		outer, err := tx.Query(query, 1)
		if err != nil {
			return err
		}
		for outer.Next() {
			var id, first string
			if err := outer.Scan(&id); err != nil {
				return err
			}
			if err := tx.QueryRow(query, 1).Scan(&first); err != nil {
				return err
			}
			seen = append(seen, id+first)
		}
		return outer.Err()
	})
	if err != nil || !slices.Equal(seen, []string{"aa", "ba", "ca"}) {
		t.Errorf("saw %q, %v", seen, err)
	}
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		blobs := [][]byte{nil, {}, {0}, []byte("12345"), []byte("1e5"), {0xff, 0xfe}}
		for i, blob := range blobs {
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				_, err := tx.Exec(`INSERT INTO items (id, n, data) VALUES ($1, $2, $3)`, fmt.Sprint(i), int64(-1)<<63+int64(i), blob)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			var id string
			var n int64
			var data []byte
			var isNull bool
			err = db.QueryRow(t.Context(), `SELECT id, n, data, data IS NULL FROM items WHERE id = $1`, fmt.Sprint(i)).
				Scan(&id, &n, &data, &isNull)
			if err != nil || id != fmt.Sprint(i) || n != int64(-1)<<63+int64(i) || string(data) != string(blob) || isNull != (blob == nil) {
				t.Errorf("blob %d: %q %d %q null %v, %v", i, id, n, data, isNull, err)
			}
		}
		// A text that looks like a number stays a text.
		for _, text := range []string{"007", "1e5", "", "ü\u2028", "'; --"} {
			var back string
			if err := db.QueryRow(t.Context(), `SELECT CAST($1 AS TEXT)`, text).Scan(&back); err != nil || back != text {
				t.Errorf("%q came back as %q, %v", text, back, err)
			}
		}
	})
}

// TestWriteSkewIsImpossible lets writers that each read what the others write keep
// a rule that holds only if they run one after the other.
func TestWriteSkewIsImpossible(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		const limit = 5
		var all sync.WaitGroup
		var inserted atomic.Int64
		for worker := range 16 {
			all.Go(func() {
				err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
					var n int
					if err := tx.QueryRow(`SELECT count(*) FROM items`).Scan(&n); err != nil {
						return err
					}
					if n >= limit {
						return sqldb.ErrConflict
					}
					_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ($1, $2)`, fmt.Sprint(worker), n)
					return err
				})
				switch {
				case err == nil:
					inserted.Add(1)
				case !errors.Is(err, sqldb.ErrConflict):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := count(t, db); n != limit || inserted.Load() != limit {
			t.Errorf("%d rows and %d successes, want %d", n, inserted.Load(), limit)
		}
	})
}

// TestContendedCounter adds to one row from many goroutines, each announcing the
// same topic: all must get through.
func TestContendedCounter(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		if err := insert(db, t, "counter", 0); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for range 5 {
					err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
						var n int64
						if err := tx.QueryRow(`SELECT n FROM items`).Scan(&n); err != nil {
							return err
						}
						tx.Touch("counter")
						_, err := tx.Exec(`UPDATE items SET n = $1`, n+1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		var n int64
		if err := db.QueryRow(t.Context(), `SELECT n FROM items`).Scan(&n); err != nil || n != 80 {
			t.Errorf("counter %d, %v; want 80", n, err)
		}
	})
}

func TestEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sqldbtest.SQLite(t)
		makeTable(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		held, release := make(chan bool), make(chan bool)
		var first, second error
		var all sync.WaitGroup
		all.Go(func() {
			first = db.Write(ctx, func(tx *sqldb.Tx) error {
				close(held)
				<-release
				_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ('begun', 0)`)
				return err
			})
		})
		<-held
		all.Go(func() {
			second = db.Write(ctx, func(*sqldb.Tx) error { t.Error("a write ran after its context had ended"); return nil })
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(second, context.Canceled) {
			t.Errorf("the waiting write: %v, want canceled", second)
		}
		close(release)
		all.Wait()
		if first != nil || count(t, db) != 1 {
			t.Errorf("the write that had begun: %v, %d rows", first, count(t, db))
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := sqldb.Open(t.Context(), "sqlite:"+t.TempDir()+"/keyturn.db")
		if err != nil {
			t.Fatal(err)
		}
		makeTable(t, db)
		held, release := make(chan bool), make(chan bool)
		var begun, closing error
		var all sync.WaitGroup
		all.Go(func() {
			begun = db.Write(t.Context(), func(*sqldb.Tx) error { close(held); <-release; return nil })
		})
		<-held
		all.Go(func() { closing = db.Close() })
		synctest.Wait()
		if err := db.Write(t.Context(), func(*sqldb.Tx) error { return nil }); !errors.Is(err, sqldb.ErrClosed) {
			t.Errorf("Write while closing: %v, want ErrClosed", err)
		}
		close(release)
		all.Wait()
		if begun != nil || closing != nil {
			t.Errorf("the write that had begun: %v, Close: %v", begun, closing)
		}
		if err := db.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		// That the bubble ends shows that no goroutine is left.
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	junk := dir + "/junk.db"
	if err := os.WriteFile(junk, []byte(strings.Repeat("this is not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"sqlite:":                       "needs a file",
		"sqlite::memory:":               "needs a file",
		"mysql://root:hunter2@db/x":     "must begin with sqlite: or postgres://",
		"sqlite:" + dir + "/no/such/db": "no such file",
		"sqlite:" + junk:                "not a database",
		"postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=2": "PostgreSQL",
	} {
		_, err := sqldb.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): %v; want %q in it", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) reveals the password: %v", url, err)
		}
	}
}

func TestFileMode(t *testing.T) {
	// Also under a name that a URL would read otherwise.
	path := t.TempDir() + "/a b?c#d%20.db"
	db := sqldbtest.Open(t, "sqlite:"+path)
	makeTable(t, db)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
	}
}

// TestSettings asks SQLite whether it took what the data source name says: it
// ignores what it does not know.
func TestSettings(t *testing.T) {
	db := sqldbtest.SQLite(t)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1", "trusted_schema": "0", "busy_timeout": "5000",
	} {
		var writer, reader string
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error { return tx.QueryRow("PRAGMA " + pragma).Scan(&writer) })
		if err != nil || writer != want {
			t.Errorf("writer: %s is %q, %v; want %q", pragma, writer, err, want)
		}
		if err := db.QueryRow(t.Context(), "PRAGMA "+pragma).Scan(&reader); err != nil || reader != want {
			t.Errorf("reader: %s is %q, %v; want %q", pragma, reader, err, want)
		}
	}
	makeTable(t, db)
	rows, err := db.Query(t.Context(), `INSERT INTO items (id, n) VALUES ('a', 1) RETURNING id`)
	if err == nil {
		rows.Next()
		err = rows.Err()
		rows.Close()
	}
	if err == nil {
		t.Error("a reader could write")
	}
}
