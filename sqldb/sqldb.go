// Package sqldb opens Keyturn's database, SQLite or PostgreSQL, and runs
// transactions in it.
//
// It promises that one SQL text with $N placeholders does the same on both
// engines: writes are serializable, durable when Write returns, and undone whole
// when fn fails. SQLite serves one process, which a lock file enforces, and
// commits concurrent writes in groups, so that one sync serves many. PostgreSQL
// serves any number of nodes; each learns within a second which topics another
// has changed, and Fresh says when it cannot.
//
// It trusts the engine and the disk to keep what they acknowledged. Correctness
// rests on transactions alone: never on advisory locks, LISTEN or FOR UPDATE. A
// failed write leaves the database as it was, with one exception that its error
// names: when the connection to PostgreSQL breaks during COMMIT, the change may
// have been stored.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// ErrConflict is for callers of Write whose compare-and-swap changed no row:
// somebody else was faster. This package never returns it by itself.
var ErrConflict = errors.New("the row was changed by somebody else meanwhile")

// ErrClosed is returned by Write after Close.
var ErrClosed = errors.New("database is closed")

// ErrInUse is in the error of Open when another process has the SQLite file.
var ErrInUse = errors.New("it is in use")

// DB is an open database. It is safe for concurrent use.
type DB struct {
	reads    *sql.DB
	texts    *statements // prepared reads; nil on PostgreSQL, where pgx keeps its own
	changes  changes
	sqlite   *sqliteWriter
	postgres *postgresWriter
}

// Open opens the database at url, "sqlite:/path/to/file" or
// "postgres://user@host/name", and brings its schema up to date. The SQLite file
// is made when it is missing, with mode 0600; its directory must exist. Several
// processes may open the same PostgreSQL database at once: one migrates, the
// others wait. A database that a newer version has migrated is refused.
//
// Inside a testing/synctest bubble a SQLite database must be opened, used and
// closed in that bubble.
func Open(ctx context.Context, url string) (*DB, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "sqlite":
		if rest == "" || rest == ":memory:" {
			return nil, errors.New("opening database: a SQLite database needs a file: sqlite:/path/to/file")
		}
		db, err := openSQLite(ctx, rest)
		if err != nil {
			return nil, fmt.Errorf("opening database %s: %w", rest, err)
		}
		return db, nil
	case "postgres", "postgresql":
		db, err := openPostgres(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("opening PostgreSQL database: %w", err)
		}
		return db, nil
	}
	// The URL may hold a password, so the message must not.
	return nil, errors.New("opening database: the URL must begin with sqlite: or postgres://")
}

// Close waits for writes that have begun, refuses the rest with ErrClosed, and
// closes the database. No goroutine of it is left afterwards.
func (db *DB) Close() error {
	if db.sqlite != nil {
		return db.sqlite.close(db)
	}
	return db.postgres.close(db)
}

// IsPostgres reports whether the database is PostgreSQL, shared between nodes.
func (db *DB) IsPostgres() bool { return db.postgres != nil }

// Query reads committed data. The caller closes the rows. To Scan: BIGINT gives
// int64, TEXT string, BYTEA []byte. A nil []byte argument is NULL on both engines.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if db.texts == nil {
		return db.reads.QueryContext(ctx, query, args...)
	}
	text := rewrite(query)
	args = normalize(args)
	if s := db.texts.find(ctx, text); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return db.reads.QueryContext(ctx, text, args...)
}

// QueryRow is Query for at most one row; its Scan returns sql.ErrNoRows when
// there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	if db.texts == nil {
		return db.reads.QueryRowContext(ctx, query, args...)
	}
	text := rewrite(query)
	args = normalize(args)
	if s := db.texts.find(ctx, text); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return db.reads.QueryRowContext(ctx, text, args...)
}

// Write runs fn in a read-write transaction, serializable against every other
// Write, and returns when its changes are durable and OnChange has been called
// for the topics it touched. When fn returns an error, or a statement of it
// failed, nothing is stored and the error is returned. fn runs on the caller's
// goroutine, may run more than once, and must have no other effects; it must
// neither call Write nor use tx after it has returned. Once fn has begun, ctx no
// longer ends a SQLite write; on PostgreSQL it ends the statements but not the
// commit.
//
// On SQLite writes that wait together share one commit, each in its own
// savepoint. On PostgreSQL a transaction that loses against another is tried
// again, a bounded number of times.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	if db.sqlite != nil {
		return db.sqlite.write(ctx, fn)
	}
	return db.postgres.write(ctx, db, fn)
}
