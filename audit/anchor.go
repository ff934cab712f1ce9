package audit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

// Anchor is what the database knows of a log: that it had a record Seq with this
// chain hash.
type Anchor struct {
	Seq  uint64
	Hash string // lower-case hex
	At   time.Time
}

// Anchors returns the anchors of the node's log, oldest first. To verify a log that
// is being written, read them before the files.
func Anchors(ctx context.Context, db *sqldb.DB, node string) ([]Anchor, error) {
	rows, err := db.Query(ctx, `SELECT seq, hash, at FROM audit_anchors WHERE node = $1 ORDER BY seq`, node)
	if err != nil {
		return nil, fmt.Errorf("reading audit anchors: %w", err)
	}
	defer rows.Close()
	var all []Anchor
	for rows.Next() {
		var a Anchor
		var seq, at int64
		if err := rows.Scan(&seq, &a.Hash, &at); err != nil {
			return nil, fmt.Errorf("reading audit anchors: %w", err)
		}
		a.Seq, a.At = uint64(seq), time.UnixMicro(at).UTC()
		all = append(all, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading audit anchors: %w", err)
	}
	return all, nil
}

// reconcile compares where the log ends with its newest anchor.
func (l *Log) reconcile(ctx context.Context) error {
	if l.db == nil {
		return nil
	}
	all, err := Anchors(ctx, l.db, l.node)
	if err != nil || len(all) == 0 {
		return err
	}
	newest := all[len(all)-1]
	var hash digest
	if !decodeDigest(&hash, []byte(newest.Hash)) {
		return fmt.Errorf("the anchor of record %d in the database is damaged", newest.Seq)
	}
	switch {
	case newest.Seq > l.last.seq:
		l.findings = append(l.findings, fmt.Sprintf("The log ends with record %d, but record %d was anchored at %s: "+
			"the records between are lost. The log goes on with record %d; keep what there is and verify it.",
			l.last.seq, newest.Seq, newest.At.Format(time.RFC3339), newest.Seq+1))
		// The anchored record takes the place of the last one, and a new file
		// begins, so that the hole is where it is and no number is used twice.
		l.last = link{seq: newest.Seq, hash: hash}
		if l.file != nil {
			err := l.file.Close()
			l.file = nil
			return err
		}
	case newest.Seq == l.last.seq && hash != l.last.hash:
		l.findings = append(l.findings, fmt.Sprintf("Record %d, the last one, is not the record that was anchored at %s: "+
			"the log was altered, or another log bears the node's name %q. Verify it.",
			newest.Seq, newest.At.Format(time.RFC3339), l.node))
	}
	return nil
}

// anchors sends the log's position to the database, on a goroutine of its own so
// that a slow database does not slow the log. A failure is not the log's: it is
// tried again, and only lengthens the tail whose loss would go unnoticed.
type anchors struct {
	log     *Log
	stop    chan struct{}
	stopped chan struct{}
	wake    chan struct{}

	mu     sync.Mutex // guards the next two
	newest link       // synced and not yet anchored
	full   []link     // last records of finished files, whose anchors stay

	interim int64 // seq of an anchor that the next one replaces; of the goroutine alone
}

// start begins anchoring, if the log has a database.
func (a *anchors) start(l *Log) {
	if l.db == nil {
		return
	}
	a.log = l
	a.stop, a.stopped, a.wake = make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	go a.run()
}

// synced notes that the record last, and with it all before, are on the disk.
func (a *anchors) synced(last link) {
	if a.log == nil {
		return
	}
	a.mu.Lock()
	a.newest = last
	a.mu.Unlock()
}

// rotated notes that the file that ends with the record last is finished.
func (a *anchors) rotated(last link) {
	if a.log == nil {
		return
	}
	a.mu.Lock()
	a.full = append(a.full, last)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *anchors) run() {
	defer close(a.stopped)
	tick := time.NewTicker(anchorInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.stop:
			return
		case <-tick.C:
		case <-a.wake:
		}
		ctx, cancel := context.WithTimeout(context.Background(), anchorInterval)
		_ = a.flush(ctx) // tried again at the next tick
		cancel()
	}
}

// close anchors the end of the log.
func (a *anchors) close() error {
	if a.log == nil {
		return nil
	}
	close(a.stop)
	<-a.stopped
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return a.flush(ctx)
}

// flush stores the anchors that are due. An anchor that is not the end of a file
// is replaced by the next one.
func (a *anchors) flush(ctx context.Context) error {
	a.mu.Lock()
	newest, full := a.newest, a.full
	a.newest, a.full = link{}, nil
	a.mu.Unlock()
	if newest.seq == 0 && len(full) == 0 {
		return nil
	}
	links := full
	if newest.seq > 0 && (len(full) == 0 || full[len(full)-1].seq != newest.seq) {
		links = append(links[:len(links):len(links)], newest)
	}
	// A file may end with the very record that was anchored in between: a flush came
	// after its sync and before it was known to be the last.
	replaced := a.interim
	if slices.ContainsFunc(links, func(l link) bool { return int64(l.seq) == replaced }) {
		replaced = 0
	}
	now := a.log.o.Now().UnixMicro()
	err := a.log.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, l := range links {
			if err := a.put(tx, l, now); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM audit_anchors WHERE node = $1 AND seq = $2`, a.log.node, replaced)
		return err
	})
	if err != nil {
		a.mu.Lock()
		if a.newest.seq == 0 {
			a.newest = newest
		}
		a.full = append(full[:len(full):len(full)], a.full...)
		a.mu.Unlock()
		return fmt.Errorf("anchoring audit log: %w", err)
	}
	a.interim = 0
	if newest.seq > 0 && (len(full) == 0 || full[len(full)-1].seq != newest.seq) {
		a.interim = int64(newest.seq)
	}
	return nil
}

// put stores one anchor. Another hash under its number means that another log
// writes under the node's name: the log stops, since no anchor would prove
// anything any more.
func (a *anchors) put(tx *sqldb.Tx, l link, now int64) error {
	_, err := tx.Exec(`INSERT INTO audit_anchors (node, seq, hash, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (node, seq) DO NOTHING`, a.log.node, int64(l.seq), l.hash.String(), now)
	if err != nil {
		return err
	}
	var hash string
	if err := tx.QueryRow(`SELECT hash FROM audit_anchors WHERE node = $1 AND seq = $2`,
		a.log.node, int64(l.seq)).Scan(&hash); err != nil {
		return err
	}
	if hash != l.hash.String() {
		return a.log.fail(fmt.Errorf("another audit log is being written under the node's name %q: its record %d differs",
			a.log.node, l.seq))
	}
	return nil
}
