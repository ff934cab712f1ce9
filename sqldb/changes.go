package sqldb

import (
	"context"
	"database/sql"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Shard is one of 256 groups of topics.
type Shard uint8

// ShardOf returns the shard of a topic: the 32-bit FNV-1a hash of its bytes, its
// four bytes xored together. It must never change, since nodes of different
// versions share the epochs.
//
// The ARNs of a Multi-Region key, one a Region, are one topic: what is announced of
// one of them concerns all, and who announces it need not know the Regions.
func ShardOf(topic string) Shard {
	if key := strings.Index(topic, ":key/mrk-"); key >= 0 {
		topic = topic[strings.LastIndexByte(topic[:key], ':')+1:]
	}
	h := uint32(2166136261)
	for i := range len(topic) {
		h ^= uint32(topic[i])
		h *= 16777619
	}
	return Shard(h ^ h>>8 ^ h>>16 ^ h>>24)
}

// shardSet is a set of shards, a bit each.
type shardSet [4]uint64

func (s *shardSet) add(n Shard) { s[n>>6] |= 1 << (n & 63) }
func (s *shardSet) empty() bool { return *s == shardSet{} }

func (s *shardSet) addAll(o *shardSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

// each calls fn for each shard of the set in ascending order.
func (s *shardSet) each(fn func(Shard)) {
	for i, word := range s {
		for word != 0 {
			fn(Shard(i<<6 + bits.TrailingZeros64(word)))
			word &= word - 1
		}
	}
}

// changes tells the listeners what changed.
type changes struct {
	mu        sync.Mutex // guards adding
	listeners atomic.Pointer[[]func(Shard)]
}

// OnChange registers fn to be called with each shard that changed: before Write
// returns for writes of this process, and within a second for those of other
// nodes. A call may come without a change. fn is called from several goroutines
// at once, must be quick and must not call Write; it stays registered until Close.
//
// Whoever keeps what he has read must mind one race: a read that began before the
// call may return the old state after it. So note before reading how many calls
// there were for the shard, and keep the result only when there were no more.
func (db *DB) OnChange(fn func(Shard)) {
	c := &db.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []func(Shard)
	if old := c.listeners.Load(); old != nil {
		all = append(all, *old...)
	}
	all = append(all, fn)
	c.listeners.Store(&all)
}

func (c *changes) announce(set *shardSet) {
	all := c.listeners.Load()
	if all == nil || set.empty() {
		return
	}
	set.each(func(n Shard) {
		for _, fn := range *all {
			fn(n)
		}
	})
}

// Fresh reports whether every change that other nodes committed more than a
// second ago has been announced to OnChange. While it is false, what was read
// earlier must not be trusted. It is always true on SQLite, and cheap.
func (db *DB) Fresh() bool {
	return db.postgres == nil || db.postgres.feed.fresh()
}

const (
	pollInterval = 250 * time.Millisecond
	freshFor     = time.Second
)

// feed polls the epochs that other nodes have advanced.
type feed struct {
	pool    *sql.DB // of its own, so that busy callers cannot starve it
	changes *changes
	known   atomic.Pointer[time.Time] // when the newest successful poll began; nil: none yet
	stop    context.CancelFunc
	stopped chan struct{}

	mu     sync.Mutex // guards epochs
	epochs [256]int64 // shard → epoch last seen
}

func (f *feed) fresh() bool {
	known := f.known.Load()
	if known == nil {
		return false
	}
	// Both clocks must agree: the monotonic one stands still while a machine is
	// suspended, the other one may be set back.
	now := time.Now()
	wall := now.Round(0).Sub(known.Round(0))
	return now.Sub(*known) <= freshFor && wall <= freshFor
}

// start reads the epochs once and then keeps polling until close.
func (f *feed) start(ctx context.Context) error {
	conn, err := f.pool.Conn(ctx)
	if err != nil {
		return err
	}
	if err := f.poll(ctx, conn, false); err != nil {
		conn.Close()
		return err
	}
	ctx, f.stop = context.WithCancel(context.Background())
	f.stopped = make(chan struct{})
	go f.run(ctx, conn)
	return nil
}

func (f *feed) close() {
	f.stop()
	<-f.stopped
	f.pool.Close()
}

// run polls until ctx ends. The connection is its own: when it breaks there may
// be another server behind the next one, whose epochs say nothing about what this
// node has missed, so every shard counts as changed.
func (f *feed) run(ctx context.Context, conn *sql.Conn) {
	defer close(f.stopped)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, freshFor)
		conn = f.pollOnce(attempt, conn)
		cancel()
	}
}

// pollOnce polls on conn, on a new connection when that is nil, and returns the
// connection to use next time, or nil.
func (f *feed) pollOnce(ctx context.Context, conn *sql.Conn) *sql.Conn {
	all := conn == nil
	if all {
		var err error
		if conn, err = f.pool.Conn(ctx); err != nil {
			return nil
		}
	}
	if err := f.poll(ctx, conn, all); err != nil {
		discard(conn)
		return nil
	}
	return conn
}

// poll reads the epochs, announces those that differ from the known ones, or all,
// and then notes when it began.
func (f *feed) poll(ctx context.Context, conn *sql.Conn, all bool) error {
	began := time.Now()
	rows, err := conn.QueryContext(ctx, `SELECT shard, epoch FROM change_epochs`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var read [256]int64
	for rows.Next() {
		var shard, epoch int64
		if err := rows.Scan(&shard, &epoch); err != nil {
			return err
		}
		read[uint8(shard)] = epoch
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var changed shardSet
	f.mu.Lock()
	for n, epoch := range read {
		// Not only larger: after a fail-over to a server that lags behind,
		// epochs go back and with them the data.
		if all || epoch != f.epochs[n] {
			f.epochs[n] = epoch
			changed.add(Shard(n))
		}
	}
	f.mu.Unlock()
	f.changes.announce(&changed)
	f.known.Store(&began)
	return nil
}

// own notes that this process has moved shard to epoch and announced it, so that
// the next poll need not, unless another node has moved it too.
func (f *feed) own(shard Shard, epoch int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epochs[shard] == epoch-1 {
		f.epochs[shard] = epoch
	}
}
