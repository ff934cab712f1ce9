package sqldb

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsUniqueViolation reports whether a statement failed because a row with the
// same key exists.
func IsUniqueViolation(err error) bool {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
			return true
		}
	}
	return sqlState(err) == "23505"
}

// sqlState is PostgreSQL's code of err, or "".
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// isSerializationFailure reports whether the transaction lost against another one
// and may be tried again: serialization_failure and deadlock_detected.
func isSerializationFailure(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01"
}

// isFull reports whether SQLite had no room; it has stored nothing then.
func isFull(err error) bool {
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_FULL
}

// explain adds to the errors an operator must act upon what they mean.
func explain(err error) error {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("no room to write: the disk is full, or the file is as large as it may be: %w", err)
		case sqlite3.SQLITE_READONLY:
			return fmt.Errorf("the database file, or its directory, is read-only: %w", err)
		case sqlite3.SQLITE_IOERR:
			return fmt.Errorf("the disk failed or is full: %w", err)
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("the file is damaged or not a database: %w", err)
		case sqlite3.SQLITE_BUSY:
			return fmt.Errorf("another program holds the database locked: %w", err)
		}
	}
	switch sqlState(err) {
	case "53100":
		return fmt.Errorf("no room to write: the disk of the database server is full: %w", err)
	case "25006":
		return fmt.Errorf("the database server is read-only, perhaps a standby: %w", err)
	case "53300":
		return fmt.Errorf("the database server has no connection left: %w", err)
	}
	return err
}

// discard closes conn and the connection under it, which must not be used again.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	conn.Close()
}
