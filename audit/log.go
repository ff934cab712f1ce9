// Package audit keeps the audit log: JSON lines in the layout of CloudTrail's
// records, each chained to the one before by SHA-256, in files rotated by size.
//
// It promises that a record whose Append has returned without error is in the log
// as durably as Options.Sync says, that sequence numbers are never used twice, and
// that Verify finds the first altered, missing or reordered record. It fails
// closed: after a write or sync has failed every later Append fails, until the log
// is opened again. What a crash left half-written is moved aside at Open, reported
// by Findings and recorded in the log itself.
//
// The chain has no key. Whoever can rewrite the files can make another valid
// chain, and cut off the newest records unnoticed; the anchors that go to the
// database now and then betray him, unless he can change those too. Whoever must
// not trust the machine copies the Head that Verify reports to a place outside it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

// SyncMode says when a record counts as written.
type SyncMode int

const (
	// Every makes Append return when the record is on the disk: neither a crash
	// nor a power failure loses it. Concurrent appends share one sync.
	Every SyncMode = iota
	// Interval does the same for records of what will change something (not
	// ReadOnly, no ErrorCode, not Decided). For all others Append returns when the
	// operating system has the record, and they are synced at least every
	// Options.Interval: a crash of the process loses nothing, one of the machine
	// the uses and refusals, and the outcomes of decided changes, since the last sync.
	Interval
)

// Options are the settings of a log. Zero values mean the defaults.
type Options struct {
	Sync     SyncMode
	Interval time.Duration // for Interval; default 100 ms
	MaxSize  int64         // a file that has reached so many bytes is the last's predecessor; default 64 MiB
	Now      func() time.Time
}

const (
	defaultInterval = 100 * time.Millisecond
	defaultMaxSize  = 64 << 20
	anchorInterval  = time.Minute
)

// ErrClosed is returned by Append after Close.
var ErrClosed = errors.New("audit log is closed")

// Log is an open audit log. It is safe for concurrent use.
type Log struct {
	dir      string
	node     string
	o        Options
	db       *sqldb.DB // nil: no anchors
	lock     *os.File
	findings []string

	mu     sync.Mutex // guards the two below
	open   *batch     // takes records until the writer takes it
	closed bool

	wake    chan struct{} // has one element when open may have records
	stopped chan struct{} // closed when the writer's goroutine has ended
	failure atomic.Pointer[error]

	// Of the writer's goroutine alone:
	file    file
	size    int64
	last    link
	dirty   bool // written and not synced
	line    []byte
	scratch []byte

	anchors anchors
}

// file is what the writer needs of a file of the log; tests make it fail.
type file interface {
	io.Writer
	Sync() error // content and size are on the disk when it returns
	Close() error
}

// diskFile is the file that does not fail on purpose.
type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return fdatasync(f.File) }

// batch is the records that share one write.
type batch struct {
	bodies []*[]byte
	sync   bool          // one of them must be on the disk before done
	done   chan struct{} // closed when err is set and the records are written
	err    error
}

// bodyPool keeps the buffers that records are encoded into.
var bodyPool = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Open opens the log in dir, made with mode 0700 when it is missing, for the node
// of that name, which no other running node may bear. One process at a time may
// have a directory open. db takes the anchors; without it (nil) a tail that was cut
// off goes unnoticed.
//
// A log that does not end where its newest anchor says goes on after the anchor, so
// that the hole stays to be seen; Findings and the log's next record say so.
func Open(ctx context.Context, dir string, db *sqldb.DB, node string, o Options) (*Log, error) {
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.MaxSize <= 0 {
		o.MaxSize = defaultMaxSize
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{
		dir: dir, node: node, o: o, db: db,
		open:    newBatch(),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	if err := l.start(ctx); err != nil {
		if l.file != nil {
			l.file.Close()
		}
		if l.lock != nil {
			l.lock.Close()
		}
		return nil, fmt.Errorf("opening audit log %s: %w", dir, err)
	}
	go l.run()
	l.anchors.start(l)
	if len(l.findings) > 0 {
		if err := l.Append(ctx, l.recovered()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// start takes the directory and finds where the log ends.
func (l *Log) start(ctx context.Context) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	var err error
	if l.lock, err = lockDirectory(l.dir); err != nil {
		return err
	}
	if err := l.recover(); err != nil {
		return err
	}
	return l.reconcile(ctx)
}

// Findings says what Open found wrong and did about it, in sentences for the
// operator; it is empty when all was well.
func (l *Log) Findings() []string { return l.findings }

// Healthy returns the error that made the log stop, or nil.
func (l *Log) Healthy() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Append writes r and returns when it is durable as Options.Sync says. r is not
// used after that. When ctx ends first, the record may be written all the same. Any
// other error means that the log cannot be written, and will come again: what r
// should have recorded must not be done.
func (l *Log) Append(ctx context.Context, r *Record) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := l.Healthy(); err != nil {
		return err
	}
	body := bodyPool.Get().(*[]byte)
	*body = r.appendTo((*body)[:0], l.o.Now())

	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	b := l.open
	b.bodies = append(b.bodies, body)
	b.sync = b.sync || l.o.Sync == Every || !r.ReadOnly && !r.Decided && r.ErrorCode == ""
	first := len(b.bodies) == 1
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default: // the writer will look anyway
		}
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run is the writer's goroutine; Close ends it.
func (l *Log) run() {
	defer close(l.stopped)
	var due <-chan time.Time // the next sync, in Interval mode
	for {
		select {
		case <-l.wake:
		case <-due:
			due = nil
			_ = l.sync() // every later Append says it
			continue
		}
		b, closed := l.take()
		if len(b.bodies) > 0 {
			b.err = l.write(b)
			close(b.done)
		}
		if closed {
			// Append refuses since closed was set, so nothing follows b; Close says how it went.
			_ = l.sync()
			return
		}
		if l.dirty && due == nil {
			due = time.After(l.o.Interval)
		}
	}
}

// take takes the records that wait. Those whose Append has just returned are about
// to come with the next one, so it lets them run first, as long as any comes; there
// is nothing to wait for when nobody is runnable.
func (l *Log) take() (b *batch, closed bool) {
	for n := -1; ; {
		l.mu.Lock()
		if len(l.open.bodies) == n || l.closed {
			b, closed = l.open, l.closed
			l.open = newBatch()
			l.mu.Unlock()
			return b, closed
		}
		n = len(l.open.bodies)
		l.mu.Unlock()
		runtime.Gosched()
	}
}

// write chains the bodies and writes them with one write and, where one of them
// asks for it, one sync.
func (l *Log) write(b *batch) error {
	if err := l.Healthy(); err != nil {
		return err
	}
	if err := l.rotate(); err != nil {
		return l.fail(err)
	}
	l.line = l.line[:0]
	last := l.last
	for _, body := range b.bodies {
		l.line, last = appendChained(l.line, *body, last, &l.scratch)
		if cap(*body) <= 64<<10 {
			bodyPool.Put(body)
		}
	}
	n, err := l.file.Write(l.line)
	l.size += int64(n)
	if err != nil {
		return l.fail(fmt.Errorf("writing audit log: %w", err))
	}
	l.last = last
	l.dirty = true
	if cap(l.line) > 4<<20 {
		l.line = nil
	}
	if b.sync {
		return l.sync()
	}
	return nil
}

// sync brings what has been written to the disk.
func (l *Log) sync() error {
	if !l.dirty || l.Healthy() != nil {
		return l.Healthy()
	}
	// After a failed sync the kernel may count the pages as clean: trying again
	// would report success without having written. So failing is final.
	if err := l.file.Sync(); err != nil {
		return l.fail(fmt.Errorf("syncing audit log: %w", err))
	}
	l.dirty = false
	l.anchors.synced(l.last)
	return nil
}

// rotate begins the next file when there is none or the present one is full.
func (l *Log) rotate() error {
	if l.file != nil && l.size < l.o.MaxSize {
		return nil
	}
	if l.file != nil {
		if err := l.sync(); err != nil {
			return err
		}
		if err := l.file.Close(); err != nil {
			return fmt.Errorf("closing audit file: %w", err)
		}
		l.file = nil
		l.anchors.rotated(l.last)
	}
	path := filepath.Join(l.dir, fileName(l.last.seq+1))
	created, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("beginning audit file: %w", err)
	}
	l.file, l.size = diskFile{created}, 0
	// Without this a power failure could lose the whole file.
	if err := syncDirectory(l.dir); err != nil {
		return fmt.Errorf("syncing audit directory: %w", err)
	}
	return nil
}

// fail makes err the answer to every later Append.
func (l *Log) fail(err error) error {
	l.failure.CompareAndSwap(nil, &err)
	return l.Healthy()
}

// Close writes what has been appended, syncs it, anchors it, and gives the
// directory free. It returns the error that made the log stop, if there was one.
func (l *Log) Close() error {
	l.mu.Lock()
	already := l.closed
	l.closed = true
	l.mu.Unlock()
	if already {
		return nil
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-l.stopped
	errs := []error{l.Healthy(), l.anchors.close()}
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	errs = append(errs, l.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing audit log: %w", err)
	}
	return nil
}

// recovered is the record about what Open found.
func (l *Log) recovered() *Record {
	b := []byte(`{"node":`)
	b = appendString(b, l.node)
	b = append(b, `,"findings":[`...)
	for i, finding := range l.findings {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, finding)
	}
	return &Record{
		UserIdentity:        Identity{Type: "AWSService", InvokedBy: "keyturn"},
		EventSource:         "keyturn",
		EventName:           "AuditLogRecovered",
		EventType:           ServiceEvent,
		AdditionalEventData: append(b, ']', '}'),
	}
}
