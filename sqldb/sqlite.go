package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// maxGroup is how many writes share one commit at most.
const maxGroup = 64

// maxReaders bounds the read connections. It is far above what a machine can use:
// code that reads inside a loop over rows holds two.
const maxReaders = 64

// sqliteWriter owns the one connection that writes.
type sqliteWriter struct {
	pool    *sql.DB // of that one connection
	conn    *sql.Conn
	texts   *statements
	changes *changes
	lock    *lockFile

	queue   chan *write
	closing chan struct{}
	stopped chan struct{} // closed when the goroutine of run has ended
	closed  atomic.Bool
}

// write is one call of Write on its way through the writer's goroutine, which
// lends it the connection by sending tx and gets it back with fn's result.
type write struct {
	state   atomic.Int32 // waiting, then lent or abandoned
	turn    chan *Tx
	result  chan error
	done    chan error
	touched shardSet
	err     error // of the last run, or of the commit
}

const (
	waiting = iota
	lent
	abandoned
)

// errUnfinished stands for the result of an fn that panicked or ended its goroutine.
var errUnfinished = errors.New("the function did not return")

func openSQLite(ctx context.Context, path string) (*DB, error) {
	// Links are followed first, so that one file has one lock.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, err := acquireLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	db, err := openLocked(ctx, path, lock)
	if err != nil {
		return nil, errors.Join(explain(err), lock.release())
	}
	return db, nil
}

func openLocked(ctx context.Context, path string, lock *lockFile) (_ *DB, err error) {
	// SQLite gives its other files the mode of the first.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	w := &sqliteWriter{
		lock:    lock,
		queue:   make(chan *write, maxGroup),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	db := &DB{sqlite: w}
	w.changes = &db.changes
	defer func() {
		if err != nil {
			closeAll(w.conn, w.pool, db.reads)
		}
	}()
	if w.pool, err = sql.Open("sqlite", dataSource(path, false)); err != nil {
		return nil, err
	}
	w.pool.SetMaxOpenConns(1)
	if err := migrate(ctx, w.pool, false); err != nil {
		return nil, err
	}
	if w.conn, err = w.pool.Conn(ctx); err != nil {
		return nil, err
	}
	w.texts = newStatements(w.conn)
	if db.reads, err = sql.Open("sqlite", dataSource(path, true)); err != nil {
		return nil, err
	}
	db.reads.SetMaxOpenConns(maxReaders)
	db.reads.SetMaxIdleConns(8)
	if err := db.reads.PingContext(ctx); err != nil {
		return nil, err
	}
	db.texts = newStatements(db.reads)
	go w.run()
	return db, nil
}

// dataSource is the driver's name of the file at path with our settings. FULL
// syncs the log at each commit; secure_delete overwrites what is deleted, so that
// a destroyed key leaves no sealed copy in free pages.
func dataSource(path string, readOnly bool) string {
	q := url.Values{"_pragma": {
		"busy_timeout(5000)",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		"secure_delete(1)",
		"temp_store(MEMORY)",
		"trusted_schema(0)",
		"journal_size_limit(16777216)",
	}}
	if readOnly {
		q.Add("_pragma", "cache_size(-512)")
		q.Add("_pragma", "query_only(1)")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (w *sqliteWriter) write(ctx context.Context, fn func(*Tx) error) error {
	job := &write{
		turn:   make(chan *Tx, 1),
		result: make(chan error, 1),
		done:   make(chan error, 1),
	}
	select {
	case <-w.closing:
		return ErrClosed
	default:
	}
	select {
	case w.queue <- job:
	case <-w.closing:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ended := ctx.Done()
	for {
		select {
		case tx := <-job.turn:
			job.run(tx, fn)
		case err := <-job.done:
			return err
		case <-ended:
			if job.state.CompareAndSwap(waiting, abandoned) {
				return context.Cause(ctx)
			}
			ended = nil // fn has begun: its outcome is what counts
		case <-w.stopped:
			select {
			case err := <-job.done:
				return err
			default:
				return ErrClosed
			}
		}
	}
}

// run calls fn with the lent connection and gives it back whatever happens. A
// panic goes on to the caller of Write.
func (job *write) run(tx *Tx, fn func(*Tx) error) {
	err := errUnfinished
	defer func() { job.result <- err }()
	err = fn(tx)
}

// run is the writer's goroutine; close ends it.
func (w *sqliteWriter) run() {
	defer close(w.stopped)
	for {
		select {
		case job := <-w.queue:
			w.group(job)
		case <-w.closing:
			for {
				select {
				case job := <-w.queue:
					job.done <- ErrClosed
				default:
					return
				}
			}
		}
	}
}

// group commits job and those that queue up behind it meanwhile together, and
// tells each its outcome, also the failed ones only then: what they saw may have
// been the work of others in the group.
func (w *sqliteWriter) group(job *write) {
	if err := w.begin(); err != nil {
		job.finish(err)
		return
	}
	var jobs []*write
	for ; job != nil && len(jobs) < maxGroup; job = w.next() {
		if job.state.CompareAndSwap(waiting, lent) {
			jobs = append(jobs, job)
			if !w.savepoint(job) {
				w.rollback()
				w.separately(jobs)
				return
			}
		}
	}
	if err := w.exec("COMMIT"); err != nil {
		w.rollback()
		if len(jobs) > 1 && isFull(err) {
			// Nothing has been stored; a smaller write may still fit.
			w.separately(jobs)
			return
		}
		for _, job := range jobs {
			job.err = fmt.Errorf("committing: %w", explain(err))
		}
	}
	// At this point the group is durable, or gone.
	var touched shardSet
	for _, job := range jobs {
		touched.addAll(&job.touched)
	}
	w.changes.announce(&touched)
	for _, job := range jobs {
		job.finish(job.err)
	}
}

// next takes a write that waits, or nil. Those whose Write has just returned are
// about to come with the next one, so it lets them run first; when nobody is
// runnable that takes no time.
func (w *sqliteWriter) next() *write {
	for range 2 {
		select {
		case job := <-w.queue:
			return job
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// separately runs each of jobs again in its own transaction, except the last one
// when that is what broke the transaction they shared.
func (w *sqliteWriter) separately(jobs []*write) {
	for i, job := range jobs {
		if i == len(jobs)-1 && job.err != nil {
			job.finish(job.err)
			continue
		}
		if err := w.begin(); err != nil {
			job.finish(err)
			continue
		}
		if !w.savepoint(job) {
			w.rollback()
		} else if err := w.exec("COMMIT"); err != nil {
			w.rollback()
			job.err = fmt.Errorf("committing: %w", explain(err))
		}
		w.changes.announce(&job.touched)
		job.finish(job.err)
	}
}

// savepoint lends job the connection inside a savepoint and keeps or undoes what
// it did. It returns false when SQLite has given up the whole transaction, as it
// may when the disk is full; job.err then says why.
func (w *sqliteWriter) savepoint(job *write) (whole bool) {
	if err := w.exec("SAVEPOINT w"); err != nil {
		job.err = explain(err)
		return false
	}
	tx := &Tx{ctx: context.Background(), on: w.conn, texts: w.texts}
	job.turn <- tx
	job.err = tx.finish(<-job.result)
	job.touched = shardSet{}
	if job.err == nil {
		job.touched = tx.touched
		if err := w.exec("RELEASE w"); err != nil {
			job.err = explain(err)
			return false
		}
		return true
	}
	return w.exec("ROLLBACK TO w") == nil && w.exec("RELEASE w") == nil
}

func (w *sqliteWriter) begin() error {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return explain(err)
	}
	return nil
}

// rollback undoes the transaction, which SQLite may have done already; then there
// is nothing to say.
func (w *sqliteWriter) rollback() { _ = w.exec("ROLLBACK") }

func (w *sqliteWriter) exec(text string) error {
	ctx := context.Background()
	if s := w.texts.find(ctx, text); s != nil {
		_, err := s.ExecContext(ctx)
		return err
	}
	_, err := w.conn.ExecContext(ctx, text)
	return err
}

// finish tells the caller of Write how it ended.
func (job *write) finish(err error) { job.done <- err }

func (w *sqliteWriter) close(db *DB) error {
	if w.closed.Swap(true) {
		return nil
	}
	close(w.closing)
	<-w.stopped
	errs := []error{db.texts.close(), db.reads.Close(), w.texts.close(), w.conn.Close(), w.pool.Close()}
	// Last: from here on another process may have the file.
	errs = append(errs, w.lock.release())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing database: %w", err)
	}
	return nil
}

func closeAll(conn *sql.Conn, pools ...*sql.DB) {
	if conn != nil {
		conn.Close()
	}
	for _, pool := range pools {
		if pool != nil {
			pool.Close()
		}
	}
}
