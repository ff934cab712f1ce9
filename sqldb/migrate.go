package sqldb

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *sql.DB, postgres bool) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return migrateWith(ctx, db, postgres, files)
}

func migrateWith(ctx context.Context, db *sql.DB, postgres bool, files fs.FS) error {
	dialect, options := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if postgres {
		dialect = goose.DialectPostgres
		options = append(options, goose.WithSessionLocker(advisoryLock{}))
	}
	provider, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	// The advisory lock makes the others wait, but engines exist on which it does
	// nothing. A migration and its entry are one transaction, so whoever loses
	// against another process has changed nothing and can look again.
	const attempts = 5
	for attempt := 1; ; attempt++ {
		if _, err = provider.Up(ctx); err == nil {
			return checkVersion(ctx, provider)
		}
		if !postgres || attempt == attempts || ctx.Err() != nil {
			return fmt.Errorf("migrating: %w", err)
		}
		select {
		case <-time.After(time.Duration(attempt) * 100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// checkVersion refuses a database that knows migrations we do not. It comes after
// Up, which has nothing to do in such a one.
func checkVersion(ctx context.Context, provider *goose.Provider) error {
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading schema version: %w", err)
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	if version > newest {
		return fmt.Errorf("its schema has version %d and this program knows %d: a newer Keyturn has migrated it; "+
			"run that version, or restore a backup made before", version, newest)
	}
	return nil
}

// advisoryLock makes processes that start together migrate one after the other.
// It belongs to the session, so it ends with the process.
type advisoryLock struct{}

const advisoryLockID = 0x6b657974 // "keyt"

func (advisoryLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(advisoryLockID))
	return err
}

func (advisoryLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(advisoryLockID))
	return err
}
