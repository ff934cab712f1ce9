package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	maxConns = 32
	// A transaction that still loses after so many attempts gives up; with the
	// waits between them that takes some seconds.
	maxAttempts = 24
	// commitTime bounds a whole transaction, so that a server that has stopped
	// answering does not hold its callers for ever.
	commitTime = 30 * time.Second
)

// postgresWriter runs transactions on PostgreSQL.
type postgresWriter struct {
	pool   *sql.DB // also reads from it
	feed   *feed
	closed atomic.Bool
}

func openPostgres(ctx context.Context, url string) (_ *DB, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err // it hides the password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	pool := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(insistOnDurability))
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns / 2)
	pool.SetConnMaxLifetime(30 * time.Minute)
	db := &DB{reads: pool}
	polls := stdlib.OpenDB(*config)
	polls.SetMaxOpenConns(1)
	db.postgres = &postgresWriter{pool: pool, feed: &feed{pool: polls, changes: &db.changes}}
	if err = migrate(ctx, pool, true); err == nil {
		err = db.postgres.feed.start(ctx)
	}
	if err != nil {
		closeAll(nil, pool, polls)
		return nil, explain(err)
	}
	return db, nil
}

// insistOnDurability overrides a server that acknowledges commits before they are
// on its disk. Stronger settings stay.
func insistOnDurability(ctx context.Context, conn *pgx.Conn) error {
	var setting string
	if err := conn.QueryRow(ctx, "SHOW synchronous_commit").Scan(&setting); err != nil {
		return err
	}
	if setting != "off" {
		return nil
	}
	_, err := conn.Exec(ctx, "SET synchronous_commit = on")
	return err
}

func (w *postgresWriter) write(ctx context.Context, db *DB, fn func(*Tx) error) error {
	if w.closed.Load() {
		return ErrClosed
	}
	for attempt := 1; ; attempt++ {
		err := w.once(ctx, db, fn)
		if err == nil || !isSerializationFailure(err) {
			return err
		}
		if attempt == maxAttempts {
			return fmt.Errorf("giving up after %d attempts: %w", attempt, err)
		}
		// Up to 2, 4, 8 … 256 ms, at random, so that those who collided part.
		wait := time.NewTimer(rand.N(time.Millisecond << min(attempt, 8)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
	}
}

// once runs one attempt. Its error is a serialization failure also when fn has
// put another error in its place.
func (w *postgresWriter) once(ctx context.Context, db *DB, fn func(*Tx) error) error {
	// The end of ctx must not cut a commit in two: then nobody would know.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	sqlTx, err := w.pool.BeginTx(whole, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return explain(err)
	}
	defer func() { _ = sqlTx.Rollback() }() // also when fn panics; after Commit it does nothing
	statements, stop := context.WithTimeout(ctx, commitTime)
	defer stop()
	tx := &Tx{ctx: statements, on: sqlTx}
	err = tx.finish(fn(tx))
	if isSerializationFailure(tx.err) {
		return tx.err
	}
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	epochs, err := advance(whole, sqlTx, &tx.touched)
	if err != nil {
		return explain(err)
	}
	err = sqlTx.Commit()
	// Also after an error, since the change may have been stored.
	db.changes.announce(&tx.touched)
	if err != nil {
		if sqlState(err) != "" {
			return explain(err)
		}
		return fmt.Errorf("committing (the change may have been stored): %w", err)
	}
	for _, e := range epochs {
		w.feed.own(Shard(e.shard), e.epoch)
	}
	return nil
}

type shardEpoch struct{ shard, epoch int64 }

// advance adds one to the epochs of the touched shards. In ascending order, so
// that two writers cannot wait for each other; as an upsert, because an UPDATE
// may scan the small table, and under serializable isolation having read a
// neighbour's row is a conflict with its writer.
func advance(ctx context.Context, tx *sql.Tx, touched *shardSet) ([]shardEpoch, error) {
	if touched.empty() {
		return nil, nil
	}
	var shards []int64
	touched.each(func(n Shard) { shards = append(shards, int64(n)) })
	rows, err := tx.QueryContext(ctx, `
		INSERT INTO change_epochs (shard, epoch) SELECT s, 1 FROM unnest($1::bigint[]) AS s
		ON CONFLICT (shard) DO UPDATE SET epoch = change_epochs.epoch + 1
		RETURNING shard, epoch`, shards)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var epochs []shardEpoch
	for rows.Next() {
		var e shardEpoch
		if err := rows.Scan(&e.shard, &e.epoch); err != nil {
			return nil, err
		}
		epochs = append(epochs, e)
	}
	return epochs, errors.Join(rows.Err(), rows.Close())
}

func (w *postgresWriter) close(db *DB) error {
	if w.closed.Swap(true) {
		return nil
	}
	w.feed.close()
	return w.pool.Close()
}
