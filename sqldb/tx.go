package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

var errTxOver = errors.New("the transaction is over")

// querier is what *sql.Tx and *sql.Conn share.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx is a transaction inside Write. It is not safe for concurrent use. After a
// statement has failed the transaction can only fail: PostgreSQL insists on that,
// and SQLite is held to the same. While rows of Query are open no other statement
// may run, which only PostgreSQL reports.
type Tx struct {
	ctx     context.Context // ends the statements, never the commit
	on      querier
	texts   *statements // prepared on the connection on; nil on PostgreSQL
	touched shardSet
	open    []*sql.Rows
	busy    map[string]bool // texts whose prepared statement open rows may be using
	err     error           // of the first statement that failed
	over    bool
}

// Exec runs a statement and returns the number of rows it changed.
func (tx *Tx) Exec(query string, args ...any) (rows int64, err error) {
	if err := tx.usable(); err != nil {
		return 0, err
	}
	var result sql.Result
	if tx.texts == nil {
		result, err = tx.on.ExecContext(tx.ctx, query, args...)
	} else {
		text := rewrite(query)
		args = normalize(args)
		if s := tx.prepared(text); s != nil {
			result, err = s.ExecContext(tx.ctx, args...)
		} else {
			result, err = tx.on.ExecContext(tx.ctx, text, args...)
		}
	}
	if err == nil {
		rows, err = result.RowsAffected()
	}
	if err != nil {
		tx.err = explain(err)
		return 0, tx.err
	}
	return rows, nil
}

// Query reads what the transaction sees, its own changes included. Rows left open
// are closed when fn returns.
func (tx *Tx) Query(query string, args ...any) (rows *sql.Rows, err error) {
	if err := tx.usable(); err != nil {
		return nil, err
	}
	if tx.texts == nil {
		rows, err = tx.on.QueryContext(tx.ctx, query, args...)
	} else {
		text := rewrite(query)
		args = normalize(args)
		if s := tx.prepared(text); s != nil {
			if tx.busy == nil {
				tx.busy = make(map[string]bool)
			}
			tx.busy[text] = true
			rows, err = s.QueryContext(tx.ctx, args...)
		} else {
			rows, err = tx.on.QueryContext(tx.ctx, text, args...)
		}
	}
	if err != nil {
		tx.err = explain(err)
		return nil, tx.err
	}
	tx.open = append(tx.open, rows)
	return rows, nil
}

// QueryRow is Query for at most one row. Its result must be scanned before the
// next statement runs.
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row {
	ctx := tx.ctx
	if tx.usable() != nil {
		// There is no other way to make a Row that fails.
		canceled, cancel := context.WithCancelCause(context.Background())
		cancel(tx.usable())
		ctx = canceled
	}
	if tx.texts == nil {
		return tx.on.QueryRowContext(ctx, query, args...)
	}
	text := rewrite(query)
	args = normalize(args)
	if s := tx.prepared(text); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return tx.on.QueryRowContext(ctx, text, args...)
}

// Touch announces, when the transaction commits, that what topic names has
// changed: on this process before Write returns, on other nodes within a second.
// A topic is an ARN or another name; see ShardOf.
func (tx *Tx) Touch(topic string) { tx.touched.add(ShardOf(topic)) }

func (tx *Tx) usable() error {
	if tx.over {
		return errTxOver
	}
	if tx.err != nil {
		return fmt.Errorf("an earlier statement of the transaction failed: %w", tx.err)
	}
	return nil
}

// prepared finds the prepared statement of text, or nil when open rows may be
// using it: SQLite would rewind it under them.
func (tx *Tx) prepared(text string) *sql.Stmt {
	if tx.busy[text] {
		return nil
	}
	return tx.texts.find(context.Background(), text)
}

// finish ends the use of tx: fn returned err. The result is err, or what failed
// although fn said nothing.
func (tx *Tx) finish(err error) error {
	tx.over = true
	for _, rows := range tx.open {
		if e := rows.Err(); e != nil && tx.err == nil {
			tx.err = explain(e)
		}
		rows.Close()
	}
	tx.open, tx.busy = nil, nil
	if err == nil && tx.err != nil {
		return fmt.Errorf("a statement of the transaction failed: %w", tx.err)
	}
	return err
}
